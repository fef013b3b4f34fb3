//! Casts to integers and booleans: toward zero, and to the nearest end of the range from outside of it.

use super::CastStats;
use crate::lanes::Item;
use modelferry_core::dtype::{Class, DType};

/// A float as it lies in memory.
pub(super) trait Real: Item {
    /// The value, exactly.
    fn value(self) -> f64;
}

impl Real for [u8; 4] {
    #[inline(always)]
    fn value(self) -> f64 {
        f64::from(f32::from_le_bytes(self))
    }
}

impl Real for [u8; 8] {
    #[inline(always)]
    fn value(self) -> f64 {
        f64::from_le_bytes(self)
    }
}

/// An integer type.
pub(super) trait Int {
    /// The smallest value; a power of two or zero, so exact.
    const MIN: f64;
    /// One more than the largest value; a power of two, so exact.
    const END: f64;
    /// What an item is in memory.
    type Item: Item;
    /// The item for a value that is cut and clipped here.
    fn cut(value: f64) -> Self::Item;
}

macro_rules! ints {
    ($($name:ident $word:ident $bytes:literal $min:expr, $max:expr, $mask:expr;)*) => {$(
        pub(super) struct $name;
        impl Int for $name {
            const MIN: f64 = $min as f64;
            const END: f64 = ($max / 2 + 1) as f64 * 2.0;
            type Item = [u8; $bytes];
            #[inline(always)]
            fn cut(value: f64) -> Self::Item {
                ((value as $word).clamp($min, $max) & $mask).to_le_bytes()
            }
        }
    )*};
}

ints! {
    I8 i8 1 i8::MIN, i8::MAX, -1;
    I16 i16 2 i16::MIN, i16::MAX, -1;
    I32 i32 4 i32::MIN, i32::MAX, -1;
    I64 i64 8 i64::MIN, i64::MAX, -1;
    U8 u8 1 u8::MIN, u8::MAX, u8::MAX;
    U16 u16 2 u16::MIN, u16::MAX, u16::MAX;
    U32 u32 4 u32::MIN, u32::MAX, u32::MAX;
    U64 u64 8 u64::MIN, u64::MAX, u64::MAX;
    I4 i8 1 -8i8, 7i8, 15;
    I2 i8 1 -2i8, 1i8, 3;
    U4 u8 1 0u8, 15u8, 15;
    U2 u8 1 0u8, 3u8, 3;
}

per_cpu! {
    /// Float to integer. NaN becomes zero.
    pub(super) fn to_int<S: Real, T: Int>(src: &[u8], dst: &mut [u8]) -> CastStats {
        let (mut over, mut under, mut nan) = (0u32, 0u32, 0u32);
        for (from, to) in S::split(src).iter().zip(T::Item::split_mut(dst)) {
            let value = from.value();
            // Everything above MIN - 1 is cut to MIN or more; near MIN the subtraction is exact.
            let inside = (value - T::MIN > -1.0) & (value < T::END);
            let is_nan = value.is_nan();
            over += u32::from(!inside & !is_nan);
            under += u32::from((value.abs() < 1.0) & (value != 0.0));
            nan += u32::from(is_nan);
            *to = T::cut(value);
        }
        CastStats { overflow: u64::from(over), underflow: u64::from(under), nan: u64::from(nan) }
    }
}

per_cpu! {
    /// Float to bool: whether it is not zero; NaN is not zero.
    pub(super) fn to_bool<S: Real>(src: &[u8], dst: &mut [u8]) -> CastStats {
        let mut nan = 0u32;
        for (from, to) in S::split(src).iter().zip(dst) {
            let value = from.value();
            nan += u32::from(value.is_nan());
            *to = u8::from(value != 0.0);
        }
        CastStats { nan: u64::from(nan), ..CastStats::default() }
    }
}

/// Integer of 64 bits to any integer or bool, without a float in between.
pub(super) fn wide(from: DType, to: DType, src: &[u8], dst: &mut [u8]) -> CastStats {
    let mut stats = CastStats::default();
    let width = to.item_bytes() as usize;
    let bits = to.bits().unwrap_or(8).min(64);
    let (low, high) = match to.class() {
        Class::Bool => (0, 1),
        Class::Signed => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        _ => (0, (1i128 << bits) - 1),
    };
    for (item, out) in <[u8; 8]>::split(src).iter().zip(dst.chunks_exact_mut(width)) {
        let value = match from {
            DType::I64 => i128::from(i64::from_le_bytes(*item)),
            _ => i128::from(u64::from_le_bytes(*item)),
        };
        let cut = match to {
            DType::Bool => i128::from(value != 0),
            _ => value.clamp(low, high),
        };
        stats.overflow += u64::from(to != DType::Bool && cut != value);
        let masked = cut as u128 & ((1 << bits) - 1);
        out.copy_from_slice(&masked.to_le_bytes()[..width]);
    }
    stats
}
