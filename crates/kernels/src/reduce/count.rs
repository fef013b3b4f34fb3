//! Counts and comparisons.

use super::extent::infinity;
use crate::cast::{CastStats, Caster, histogram};
use crate::lanes::{Item, words64};
use modelferry_core::dtype::{Class, DType};

/// How many values are infinite or NaN; parts of complex numbers count on their own. Other types have none.
pub fn count_nonfinite(dtype: DType, src: &[u8]) -> u64 {
    match dtype {
        DType::C32 => count_nonfinite(DType::F16, src),
        DType::C64 => count_nonfinite(DType::F32, src),
        DType::C128 => count_nonfinite(DType::F64, src),
        _ if dtype.class() != Class::Float => 0,
        _ => match dtype.item_bytes() {
            1 => by_value(dtype, src, |value| !value.is_finite()),
            2 => at_least::<[u8; 2]>(infinity(dtype), src),
            4 => at_least::<[u8; 4]>(infinity(dtype), src),
            _ => at_least::<[u8; 8]>(infinity(dtype), src),
        },
    }
}

/// How many values are not zero: -0 is zero, NaN is not; parts of complex numbers count on their own.
///
/// Items of block and opaque types count if any of their bytes is not zero.
pub fn count_nonzero(dtype: DType, src: &[u8]) -> u64 {
    match (dtype, dtype.class()) {
        (DType::C32, _) => at_least::<[u8; 2]>(1, src),
        (DType::C64, _) => at_least::<[u8; 4]>(1, src),
        (DType::C128, _) => at_least::<[u8; 8]>(1, src),
        (_, Class::Block | Class::Opaque) => {
            let item = dtype.item_bytes().max(1) as usize;
            src.chunks(item).filter(|item| !all_zero(item)).count() as u64
        }
        (_, Class::Float) => match dtype.item_bytes() {
            1 => by_value(dtype, src, |value| value != 0.0),
            2 => at_least::<[u8; 2]>(1, src),
            4 => at_least::<[u8; 4]>(1, src),
            _ => at_least::<[u8; 8]>(1, src),
        },
        _ => match dtype.item_bytes() {
            1 => not_zero::<[u8; 1]>(src),
            2 => not_zero::<[u8; 2]>(src),
            4 => not_zero::<[u8; 4]>(src),
            _ => not_zero::<[u8; 8]>(src),
        },
    }
}

/// Whether every byte is zero. (-0 is not, for a float; ask [`count_nonzero`] about values.)
pub fn all_zero(src: &[u8]) -> bool {
    // In pieces, so that the first byte that is not ends it soon, and without branches inside of one.
    src.chunks(4096).all(|piece| or_all(piece) == 0)
}

/// Whether both hold the same bytes.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a == b
}

per_cpu! {
    fn or_all(src: &[u8]) -> u8 {
        src.iter().fold(0, |all, byte| all | byte)
    }
}

per_cpu! {
    /// Items whose bits below the sign are `threshold` or more.
    fn at_least<T: Item>(threshold: u64, src: &[u8]) -> u64 {
        let below_sign = u64::MAX >> (65 - size_of::<T>() * 8);
        T::split(src).iter().map(|item| u64::from(item.get() & below_sign >= threshold)).sum()
    }
}

per_cpu! {
    fn not_zero<T: Item>(src: &[u8]) -> u64 {
        T::split(src).iter().map(|item| u64::from(item.get() != 0)).sum()
    }
}

/// Items of one byte whose value has a property.
fn by_value(dtype: DType, src: &[u8], has: impl Fn(f64) -> bool) -> u64 {
    let Some(caster) = Caster::new(dtype, DType::F64) else {
        return 0;
    };
    let every: Vec<u8> = (0..=255).collect();
    let mut values = [0; 256 * 8];
    caster.run(&every, &mut values, &mut CastStats::default());
    // Counters have 32 bits.
    src.chunks(1 << 30)
        .flat_map(|src| histogram(src).into_iter().zip(words64(&values)))
        .filter(|(_, value)| has(f64::from_le_bytes(**value)))
        .map(|(n, _)| u64::from(n))
        .sum()
}
