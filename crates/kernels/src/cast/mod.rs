//! Casts between scalar types, with one rounding and an exact count of what it cost.
//!
//! # Behaviour
//!
//! - **Rounding**: once, to nearest even, straight from the source value. (torch goes through f32 from f64 to f16,
//!   bf16 and float8, so it rounds twice; that is the one place where finite results differ from torch.)
//! - **Out of range**: as torch 2.15 does. f16, bf16, f32 and `f8_e5m2` become infinity; `f8_e4m3` becomes the
//!   largest value, infinity too (earlier releases of torch made it NaN); `f8_e4m3fnuz` and `f8_e5m2fnuz` become NaN
//!   (0x80). `f8_e8m0` drops the sign, and what is too large becomes NaN (0xff), zero and what is too small 2^-127.
//!   For types torch has no cast to, as ml_dtypes 0.6 does: `f8_e3m4` and `f8_e4m3ieee` become infinity,
//!   `f8_e4m3b11fnuz` NaN, float6 and float4 the largest value.
//! - **NaN** to f16, f32, f64 and bf16: sign and top bits of the payload are kept and the quiet bit is set, as the
//!   machine's own conversions do. torch agrees for f16 and f32; for bf16 it writes 0x7fc0 or 0xffff, depending on
//!   its code path, so no rule can be the same as torch there. bf16 to f32 moves the bits and changes nothing else.
//!   float8: 0x7f with the sign for `f8_e4m3` and `f8_e5m2`, the type's own NaN elsewhere. float6 and float4 have
//!   none: a zero of the opposite sign (ml_dtypes), counted as NaN.
//! - **To integers**: toward zero; the end of the range from outside of it; NaN becomes 0. To bool: not zero.
//! - **Complex**: both parts.
//! - A type to itself: the bytes, untouched and uncounted.

mod format;
mod integer;
mod round;
mod widen;

#[cfg(test)]
mod tests;

use format as f;
use integer as i;
use modelferry_core::dtype::{Class, DType};
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::{Arc, PoisonError, RwLock};

/// What a cast did to values, exactly counted. Complex numbers count as two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CastStats {
    /// Values outside of the target's range: finite ones that became infinity, NaN or an end of the range, infinities
    /// in a type that has none, and negative ones in a type without a sign.
    pub overflow: u64,
    /// Values other than zero that became zero (for `f8_e8m0`: values below 2^-127, zero included).
    pub underflow: u64,
    /// NaN in the source.
    pub nan: u64,
}

impl AddAssign for CastStats {
    fn add_assign(&mut self, other: CastStats) {
        self.overflow += other.overflow;
        self.underflow += other.underflow;
        self.nan += other.nan;
    }
}

/// f32 bits to f16 bits, as every cast does it.
#[inline(always)]
pub(crate) fn f32_to_f16(bits: u32) -> u16 {
    round::from_f32::encode::<f::F16>(bits) as u16
}

/// A loop over dense items.
type Kernel = fn(&[u8], &mut [u8]) -> CastStats;

/// Values per call of a kernel: few enough that its 32-bit counters cannot overflow.
const RUN: usize = 1 << 16;

/// Values per call where a cast goes through f32 or f64: both sides stay in the first-level cache.
const STAGE: usize = 512;

/// A cast from one type to another, resolved. Cheap to make (microseconds) and to clone, and shared freely.
///
/// ```
/// use modelferry_core::dtype::DType;
/// use modelferry_kernels::cast::{CastStats, Caster};
/// let caster = Caster::new(DType::F32, DType::F16).expect("both are floats");
/// let mut out = [0; 4];
/// let mut stats = CastStats::default();
/// caster.run(&[1.0f32.to_le_bytes(), 1e6f32.to_le_bytes()].concat(), &mut out, &mut stats);
/// assert_eq!(out, [0x00, 0x3c, 0x00, 0x7c]);
/// assert_eq!(stats.overflow, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Caster {
    from: DType,
    to: DType,
    /// Bytes of one value: of an item, or of half a complex one.
    from_bytes: usize,
    to_bytes: usize,
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Copy,
    One(Kernel),
    /// Through values of that many bytes.
    Two(Kernel, usize, Kernel),
    Table(Arc<Table>),
    WideInt,
}

/// The results for all 256 sources of one byte.
#[derive(Debug)]
struct Table {
    items: [u64; 256],
    stats: [CastStats; 256],
    /// Whether anything is to be counted.
    counts: bool,
}

impl Caster {
    /// Resolves a cast; `None` if the types have no common arithmetic (block and opaque types, real to complex).
    pub fn new(from: DType, to: DType) -> Option<Caster> {
        let (from_part, to_part) = match (from.class(), to.class()) {
            (Class::Block | Class::Opaque, _) | (_, Class::Block | Class::Opaque) if from != to => {
                return None;
            }
            (Class::Complex, Class::Complex) => (part(from), part(to)),
            (Class::Complex, _) | (_, Class::Complex) => return None,
            _ => (from, to),
        };
        let plan = if from == to { Plan::Copy } else { plan(from_part, to_part)? };
        let [from_bytes, to_bytes] = [from_part, to_part].map(|dtype| dtype.item_bytes() as usize);
        Some(Caster { from, to, from_bytes, to_bytes, plan })
    }

    /// The source type.
    pub fn from(&self) -> DType {
        self.from
    }

    /// The target type.
    pub fn to(&self) -> DType {
        self.to
    }

    /// Casts the dense items of `src` into `dst`, which has room for exactly as many, and adds to `stats`.
    pub fn run(&self, src: &[u8], dst: &mut [u8], stats: &mut CastStats) {
        debug_assert_eq!(
            src.len() * self.to_bytes,
            dst.len() * self.from_bytes,
            "{} to {}",
            self.from,
            self.to
        );
        if let Plan::Copy = self.plan {
            let n_bytes = src.len().min(dst.len());
            dst[..n_bytes].copy_from_slice(&src[..n_bytes]);
            return;
        }
        let n_values = match self.plan {
            Plan::Two(..) => STAGE,
            _ => RUN,
        };
        let pieces = src.chunks(n_values * self.from_bytes).zip(dst.chunks_mut(n_values * self.to_bytes));
        for (src, dst) in pieces {
            *stats += match &self.plan {
                Plan::Copy => CastStats::default(),
                Plan::One(kernel) => kernel(src, dst),
                Plan::Two(first, middle_bytes, second) => {
                    let mut middle = [0u8; STAGE * 8];
                    let middle = &mut middle[..src.len() / self.from_bytes * middle_bytes];
                    first(src, middle);
                    second(middle, dst)
                }
                Plan::Table(table) => table.run(self.to_bytes, src, dst),
                Plan::WideInt => i::wide(self.from, self.to, src, dst),
            };
        }
    }
}

/// The type of one half of a complex number.
fn part(complex: DType) -> DType {
    match complex {
        DType::C32 => DType::F16,
        DType::C64 => DType::F32,
        _ => DType::F64,
    }
}

fn plan(from: DType, to: DType) -> Option<Plan> {
    if from.item_bytes() == 1 {
        return Table::shared(from, to).map(Plan::Table);
    }
    if from == to {
        // The halves of equal complex types.
        return Some(Plan::Copy);
    }
    let is_wide = matches!(from, DType::I64 | DType::U64);
    if is_wide && to.class() != Class::Float {
        return Some(Plan::WideInt);
    }
    // Through f32 where it holds every source value, else through f64, else (64-bit integers) rounded to odd.
    let (first, middle): (Option<Kernel>, _) = match from {
        DType::F32 => (None, DType::F32),
        DType::F64 => (None, DType::F64),
        DType::F16 => (Some(widen::f16_f32), DType::F32),
        DType::Bf16 => (Some(widen::bf16_f32), DType::F32),
        DType::I16 => (Some(widen::i16_f32), DType::F32),
        DType::U16 => (Some(widen::u16_f32), DType::F32),
        DType::I32 => (Some(widen::i32_f64), DType::F64),
        DType::U32 => (Some(widen::u32_f64), DType::F64),
        DType::I64 if to == DType::F64 => (Some(widen::i64_f64), DType::F64),
        DType::U64 if to == DType::F64 => (Some(widen::u64_f64), DType::F64),
        DType::I64 => (Some(widen::i64_f64_odd), DType::F64),
        DType::U64 => (Some(widen::u64_f64_odd), DType::F64),
        _ => return None,
    };
    let second = if middle == to { None } else { Some(last(middle, to)?) };
    Some(match (first, second) {
        (None, None) => Plan::Copy,
        (Some(only), None) | (None, Some(only)) => Plan::One(only),
        (Some(first), Some(second)) => Plan::Two(first, middle.item_bytes() as usize, second),
    })
}

/// The kernel from f32 or f64 to `to`.
fn last(middle: DType, to: DType) -> Option<Kernel> {
    use round::{from_f32, from_f64};
    macro_rules! kernels {
        (floats $($float:ident $kind:ident)*; ints $($int:ident)*) => {
            match (middle, to) {
                $((DType::F32, DType::$float) => from_f32::round::<f::$kind>,
                (_, DType::$float) => from_f64::round::<f::$kind>,)*
                $((DType::F32, DType::$int) => i::to_int::<[u8; 4], i::$int>,
                (_, DType::$int) => i::to_int::<[u8; 8], i::$int>,)*
                (DType::F32, DType::F64) => widen::f32_f64,
                (_, DType::F32) => from_f64::round::<f::F32>,
                (DType::F32, DType::F8E8M0) => round::e8m0_from_f32,
                (_, DType::F8E8M0) => round::e8m0_from_f64,
                (DType::F32, DType::Bool) => i::to_bool::<[u8; 4]>,
                (_, DType::Bool) => i::to_bool::<[u8; 8]>,
                _ => return None,
            }
        };
    }
    Some(kernels! {
        floats F16 F16 Bf16 Bf16 F8E4M3 E4M3 F8E5M2 E5M2 F8E4M3Fnuz E4M3Fnuz F8E5M2Fnuz E5M2Fnuz F8E3M4 E3M4
            F8E4M3Ieee E4M3Ieee F8E4M3B11Fnuz E4M3B11Fnuz F6E2M3 E2M3 F6E3M2 E3M2 F4E2M1 E2M1;
        ints I2 I4 I8 I16 I32 I64 U2 U4 U8 U16 U32 U64
    })
}

/// The tables made so far, one for each pair of types that was asked for: a fold of tiny groups wants a caster for
/// every one of them, and making a table costs more than such a group.
static TABLES: RwLock<BTreeMap<(DType, DType), Arc<Table>>> = RwLock::new(BTreeMap::new());

impl Table {
    fn shared(from: DType, to: DType) -> Option<Arc<Table>> {
        // A table is put in whole, so a thread that panicked has left nothing half made.
        let known = TABLES.read().unwrap_or_else(PoisonError::into_inner).get(&(from, to)).cloned();
        if known.is_some() {
            return known;
        }
        let table = Arc::new(Table::new(from, to)?);
        TABLES.write().unwrap_or_else(PoisonError::into_inner).insert((from, to), Arc::clone(&table));
        Some(table)
    }

    fn new(from: DType, to: DType) -> Option<Table> {
        let kernel = if to == DType::F64 { None } else { Some(last(DType::F64, to)?) };
        let mut table = Table { items: [0; 256], stats: [CastStats::default(); 256], counts: false };
        for (item, (out, stats)) in table.items.iter_mut().zip(&mut table.stats).enumerate() {
            let value = format::decode_byte(from, item as u8)?;
            match kernel {
                Some(kernel) => {
                    let mut bytes = [0; 8];
                    *stats = kernel(&value.to_le_bytes(), &mut bytes[..to.item_bytes() as usize]);
                    *out = u64::from_le_bytes(bytes);
                }
                None => {
                    *stats =
                        CastStats { nan: u64::from(f64::from_bits(value).is_nan()), ..CastStats::default() };
                    *out = value;
                }
            }
            table.counts |= *stats != CastStats::default();
        }
        Some(table)
    }

    fn run(&self, width: usize, src: &[u8], dst: &mut [u8]) -> CastStats {
        match width {
            1 => look_up::<[u8; 1]>(&self.items, src, dst),
            2 => look_up::<[u8; 2]>(&self.items, src, dst),
            4 => look_up::<[u8; 4]>(&self.items, src, dst),
            _ => look_up::<[u8; 8]>(&self.items, src, dst),
        }
        let mut stats = CastStats::default();
        if self.counts {
            for (n, of_one) in histogram(src).into_iter().zip(&self.stats) {
                stats += CastStats {
                    overflow: of_one.overflow * u64::from(n),
                    underflow: of_one.underflow * u64::from(n),
                    nan: of_one.nan * u64::from(n),
                };
            }
        }
        stats
    }
}

fn look_up<T: crate::lanes::Item>(items: &[u64; 256], src: &[u8], dst: &mut [u8]) {
    for (from, to) in src.iter().zip(T::split_mut(dst)) {
        *to = T::of(items[usize::from(*from)]);
    }
}

/// How often each byte occurs; four counters per byte, so that equal neighbours do not wait for each other.
pub(crate) fn histogram(src: &[u8]) -> [u32; 256] {
    let mut counts = [[0u32; 256]; 4];
    let (quads, rest) = src.as_chunks::<4>();
    for quad in quads {
        for (counts, byte) in counts.iter_mut().zip(quad) {
            counts[usize::from(*byte)] += 1;
        }
    }
    for byte in rest {
        counts[0][usize::from(*byte)] += 1;
    }
    let mut sums = [0; 256];
    for (byte, sum) in sums.iter_mut().enumerate() {
        *sum = counts.iter().map(|counts| counts[byte]).sum();
    }
    sums
}
