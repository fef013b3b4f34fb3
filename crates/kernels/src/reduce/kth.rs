//! The k-th largest magnitude, in constant memory and few passes.

use super::is_real;
use crate::cast::{CastStats, Caster, histogram};
use crate::lanes::{Item, words64};
use modelferry_core::dtype::{Class, DType};

/// Bits that one pass settles.
const DIGIT: u32 = 16;

/// Items of at most this many bytes are kept and sorted: a table of counts would cost a small group, of which a
/// tensor may have millions, a thousand times its own size.
const FEW_BYTES: usize = 16 << 10;

/// A selection by radix: each pass counts one digit of the magnitudes that agree with the digits known so far, the
/// most significant first. Memory is 512 KiB; f16 and bf16 take one pass, f32 two, f64 four, types of one byte one.
/// Items that fit 16 KiB are kept instead, and take one pass and no more memory than that.
///
/// Call order: (`feed`* `next_pass`)+ until `next_pass` says that it is done, feeding all items in every pass, in any
/// order and by as many copies of the helper as there are threads, merged before `next_pass`.
///
/// ```
/// use modelferry_core::dtype::DType;
/// use modelferry_kernels::reduce::KthAbs;
/// let data = [1i16, -5, 3].map(i16::to_le_bytes).concat();
/// let mut kth = KthAbs::new(DType::I16, 1).expect("i16 has magnitudes");
/// loop {
///     kth.feed(&data);
///     if kth.next_pass() {
///         break;
///     }
/// }
/// let mut out = [0; 2];
/// kth.finish(&mut out);
/// assert_eq!(i16::from_le_bytes(out), 3);
/// ```
#[derive(Clone, Debug)]
pub struct KthAbs {
    dtype: DType,
    /// Rank among the magnitudes that agree with `prefix`.
    k: u64,
    /// The bits known so far, from the top.
    prefix: u64,
    /// How many bits are not known yet.
    left: u32,
    /// All items so far, while there are few of them.
    few: Vec<u8>,
    /// Empty while there are few items.
    counts: Vec<u64>,
}

impl KthAbs {
    /// The `k`-th largest magnitude, counted from 0; `None` for types that are no real scalars.
    pub fn new(dtype: DType, k: u64) -> Option<KthAbs> {
        let left = match dtype.item_bytes() {
            _ if !is_real(dtype) => return None,
            1 => 8,
            bytes => 8 * bytes as u32,
        };
        Some(KthAbs { dtype, k, prefix: 0, left, few: vec![], counts: vec![] })
    }

    /// Takes dense items in this pass.
    pub fn feed(&mut self, src: &[u8]) {
        debug_assert!((src.len() as u64).is_multiple_of(self.dtype.item_bytes()));
        if self.counts.is_empty() && self.few.len() + src.len() <= FEW_BYTES {
            self.few.extend_from_slice(src);
        } else {
            self.begin_to_count();
            self.tally(src);
        }
    }

    fn begin_to_count(&mut self) {
        if self.counts.is_empty() {
            self.counts = vec![0; 1 << DIGIT.min(self.left)];
            let few = std::mem::take(&mut self.few);
            self.tally(&few);
        }
    }

    fn tally(&mut self, src: &[u8]) {
        match self.dtype.item_bytes() {
            1 => {
                for src in src.chunks(1 << 30) {
                    let new = histogram(src);
                    self.counts.iter_mut().zip(new).for_each(|(count, new)| *count += u64::from(new));
                }
            }
            2 => self.count::<[u8; 2]>(src),
            4 => self.count::<[u8; 4]>(src),
            _ => self.count::<[u8; 8]>(src),
        }
    }

    fn count<T: Item>(&mut self, src: &[u8]) {
        match self.dtype.class() {
            Class::Float => self.count_by::<T>(src, float_magnitude::<T>),
            Class::Signed => self.count_by::<T>(src, signed_magnitude::<T>),
            _ => self.count_by::<T>(src, |item| item),
        }
    }

    fn count_by<T: Item>(&mut self, src: &[u8], magnitude: impl Fn(u64) -> u64) {
        let shift = self.left - DIGIT;
        for item in T::split(src) {
            // The digits above the one that is counted must be those known; what is left is a valid index.
            let digits = (magnitude(item.get()) >> shift) ^ (self.prefix >> shift);
            if let Some(count) = self.counts.get_mut(digits as usize) {
                *count += 1;
            }
        }
    }

    /// The magnitudes of the few items.
    fn magnitudes<T: Item>(&self) -> Vec<u64> {
        let items = T::split(&self.few).iter().map(|item| item.get());
        match self.dtype.class() {
            Class::Float => items.map(float_magnitude::<T>).collect(),
            Class::Signed => items.map(signed_magnitude::<T>).collect(),
            _ => items.collect(),
        }
    }

    fn settle_few(&mut self) {
        self.left = 0;
        let mut magnitudes = match self.dtype.item_bytes() {
            1 => byte_magnitudes(self.dtype, &self.few),
            2 => self.magnitudes::<[u8; 2]>(),
            4 => self.magnitudes::<[u8; 4]>(),
            _ => self.magnitudes::<[u8; 8]>(),
        };
        let Some(last) = magnitudes.len().checked_sub(1) else { return };
        let nth = usize::try_from(self.k).map_or(last, |k| k.min(last));
        self.prefix = *magnitudes.select_nth_unstable_by(nth, |a, b| b.cmp(a)).1;
    }

    /// Adds the counts of a copy that was fed other items in the same pass.
    pub fn merge(&mut self, other: &KthAbs) {
        debug_assert!(self.dtype == other.dtype && self.left == other.left && self.prefix == other.prefix);
        if other.counts.is_empty() {
            return self.feed(&other.few);
        }
        self.begin_to_count();
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
    }

    /// Ends a pass. True if the result is known, false if all items are to be fed once more.
    ///
    /// A rank beyond the number of items gives the smallest magnitude.
    pub fn next_pass(&mut self) -> bool {
        if self.left == 0 {
            return true;
        }
        if self.counts.is_empty() {
            self.settle_few();
            return true;
        }
        if self.dtype.item_bytes() == 1 {
            self.settle_bytes();
            return true;
        }
        let mut chosen = None;
        for (digit, count) in self.counts.iter().enumerate().rev().filter(|(_, count)| **count > 0) {
            chosen = Some((digit, *count));
            if self.k < *count {
                break;
            }
            self.k -= count;
        }
        self.left -= DIGIT;
        if let Some((digit, count)) = chosen {
            self.prefix |= (digit as u64) << self.left;
            self.k = self.k.min(count - 1);
        }
        self.counts.fill(0);
        self.left == 0
    }

    /// Types of one byte: all values are known, so they are sorted.
    fn settle_bytes(&mut self) {
        self.left = 0;
        let every: Vec<u8> = (0..=255).collect();
        let mut present: Vec<(u64, u64)> = byte_magnitudes(self.dtype, &every)
            .into_iter()
            .zip(self.counts.iter().copied())
            .filter(|(_, count)| *count > 0)
            .collect();
        present.sort_unstable();
        for (magnitude, count) in present.into_iter().rev() {
            self.prefix = magnitude;
            if self.k < count {
                break;
            }
            self.k -= count;
        }
    }

    /// Writes the result, one item of the source's type, to the start of `dst`.
    pub fn finish(&self, dst: &mut [u8]) {
        let width = self.dtype.item_bytes() as usize;
        debug_assert!(self.left == 0 && dst.len() >= width);
        let bits = match (width, self.dtype.class()) {
            (1, _) => super::from_f64(self.prefix, self.dtype),
            (_, Class::Signed) => self.prefix.min(u64::MAX >> (65 - 8 * width)),
            _ => self.prefix,
        };
        dst.iter_mut().zip(&bits.to_le_bytes()[..width]).for_each(|(to, from)| *to = *from);
    }
}

/// The bits of a float without its sign.
fn float_magnitude<T: Item>(bits: u64) -> u64 {
    bits & (u64::MAX >> (65 - 8 * size_of::<T>()))
}

fn signed_magnitude<T: Item>(bits: u64) -> u64 {
    // Sign-extended from the item's width.
    let unused = 64 - 8 * size_of::<T>();
    (((bits << unused) as i64) >> unused).unsigned_abs()
}

/// Items of one byte as magnitudes in f64, which order as their bits do.
fn byte_magnitudes(dtype: DType, items: &[u8]) -> Vec<u64> {
    let mut values = vec![0; 8 * items.len()];
    if let Some(caster) = Caster::new(dtype, DType::F64) {
        caster.run(items, &mut values, &mut CastStats::default());
    }
    words64(&values).iter().map(|value| u64::from_le_bytes(*value) & !(1 << 63)).collect()
}
