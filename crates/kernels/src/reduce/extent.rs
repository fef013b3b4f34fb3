//! Smallest, largest, and largest magnitude in one pass.

use modelferry_core::dtype::{Class, DType};
use modelferry_core::expr::ReduceFn;

/// Of at least one item. Signed keys are ordered like the values; for floats they are the bits, those below the sign
/// inverted for negative ones, and NaN lies beyond both infinities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    low: i128,
    high: i128,
    /// The largest magnitude of a float, as bits: NaN is larger than infinity.
    magnitude: u64,
}

macro_rules! extents {
    ($($word:ident $signed:ident $width:literal $floats:ident $ints:ident $naturals:ident;)*) => {$(
        per_cpu! {
            fn $floats(src: &[u8]) -> Option<Extent> {
                let (mut low, mut high, mut magnitude) = ($signed::MAX, $signed::MIN, 0);
                let items = src.as_chunks::<$width>().0;
                for item in items {
                    let bits = $signed::from_le_bytes(*item);
                    let key = bits ^ (((bits >> ($word::BITS - 1)) as $word) >> 1) as $signed;
                    low = low.min(key);
                    high = high.max(key);
                    magnitude = magnitude.max(bits & $signed::MAX);
                }
                let extent = Extent { low: low.into(), high: high.into(), magnitude: magnitude as u64 };
                (!items.is_empty()).then_some(extent)
            }
        }
        extents! { @ints $ints $signed $width }
        extents! { @ints $naturals $word $width }
    )*};
    (@ints $name:ident $word:ident $width:literal) => {
        per_cpu! {
            fn $name(src: &[u8]) -> Option<Extent> {
                let (mut low, mut high) = ($word::MAX, $word::MIN);
                let items = src.as_chunks::<$width>().0;
                for item in items {
                    let value = $word::from_le_bytes(*item);
                    low = low.min(value);
                    high = high.max(value);
                }
                (!items.is_empty()).then_some(Extent { low: low.into(), high: high.into(), magnitude: 0 })
            }
        }
    };
}

extents! {
    u16 i16 2 floats16 ints16 naturals16;
    u32 i32 4 floats32 ints32 naturals32;
    u64 i64 8 floats64 ints64 naturals64;
}

impl Extent {
    /// Of the items of a type of two bytes or more; `None` if there are none.
    pub(super) fn of(dtype: DType, src: &[u8]) -> Option<Extent> {
        match (dtype.class(), dtype.item_bytes()) {
            (Class::Float, 2) => floats16(src),
            (Class::Float, 4) => floats32(src),
            (Class::Float, _) => floats64(src),
            (Class::Signed, 2) => ints16(src),
            (Class::Signed, 4) => ints32(src),
            (Class::Signed, _) => ints64(src),
            (_, 2) => naturals16(src),
            (_, 4) => naturals32(src),
            _ => naturals64(src),
        }
    }

    /// Of both.
    pub(super) fn join(a: Option<Extent>, b: Option<Extent>) -> Option<Extent> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Extent {
                low: a.low.min(b.low),
                high: a.high.max(b.high),
                magnitude: a.magnitude.max(b.magnitude),
            }),
            (some, None) | (None, some) => some,
        }
    }

    /// The bits of the item of `dtype` that `f` asks for.
    pub(super) fn item(self, f: ReduceFn, dtype: DType) -> u64 {
        let bits = dtype.bits().unwrap_or(64);
        let mask = u64::MAX >> (64 - bits);
        if dtype.class() != Class::Float {
            let highest = match dtype.class() {
                Class::Signed => i128::from(mask >> 1),
                _ => i128::from(mask),
            };
            let value = match f {
                ReduceFn::Min => self.low,
                ReduceFn::Max => self.high,
                _ => self.low.abs().max(self.high.abs()).min(highest),
            };
            return value as u64 & mask;
        }
        let infinity = infinity(dtype);
        if self.magnitude > infinity {
            // The top bit of the mantissa.
            return infinity | (infinity & infinity.wrapping_neg()) >> 1;
        }
        let key = match f {
            ReduceFn::Min => self.low,
            ReduceFn::Max => self.high,
            _ => i128::from(self.magnitude),
        };
        let below_sign = mask >> 1;
        let key = key as u64 & mask;
        if key > below_sign { key ^ below_sign } else { key }
    }
}

/// The bits of infinity of a float of two bytes or more.
pub(super) fn infinity(dtype: DType) -> u64 {
    match dtype {
        DType::F16 => 0x7c00,
        DType::Bf16 => 0x7f80,
        DType::F32 => 0x7f80_0000,
        _ => 0x7ff0_0000_0000_0000,
    }
}
