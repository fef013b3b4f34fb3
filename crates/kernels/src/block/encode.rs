//! What several encoders of blocks need: the largest of a block, and roundings as x86-64 does them.

use crate::cast::f32_to_f16;

/// One f32 of the input.
pub(super) type Word = [u8; 4];

const INFINITY: u32 = 0x7f80_0000;

/// The value of one input.
#[inline(always)]
pub(super) fn get(word: &Word) -> f32 {
    f32::from_le_bytes(*word)
}

/// The bytes of the f16 nearest to `scale`; a NaN becomes 0x7e00 with its sign, as ggml has it.
#[inline(always)]
pub(super) fn half(scale: f32) -> [u8; 2] {
    let nan = 0x7e00 | (scale.to_bits() >> 16) as u16 & 0x8000;
    let half = if scale.is_nan() { nan } else { f32_to_f16(scale.to_bits()) };
    half.to_le_bytes()
}

/// `1 / scale`, or 0 for none.
#[inline(always)]
pub(super) fn inverse(scale: f32) -> f32 {
    if scale != 0.0 { 1.0 / scale } else { 0.0 }
}

/// `value` cut to an integer, whose low byte is that of the machine's own conversion: x86-64 makes -2^31 of NaN and of
/// what is out of range, and larger values of 64 bits are multiples of 256.
#[inline(always)]
pub(super) fn cut(value: f32) -> i32 {
    let value = if value.abs() < 2_147_483_648.0 { value } else { 0.0 };
    // SAFETY: within the range of i32, and not NaN.
    unsafe { value.to_int_unchecked() }
}

/// `value` rounded to the nearest integer, half away from zero; else as [`cut`].
#[inline(always)]
pub(super) fn round(value: f32) -> i32 {
    // The largest number below one half: one half itself would round 0.49999997 up.
    cut(value + f32::from_bits(0x3eff_ffff).copysign(value))
}

/// The value of the largest magnitude, the first of equal ones; NaN are passed over, and 0 is the largest of nothing.
#[inline(always)]
pub(super) fn largest(floats: &[Word]) -> f32 {
    // Magnitudes of floats are ordered like their bits.
    let (mut positive, mut negative) = (0i32, 0x8000_0000u32);
    for float in floats {
        let bits = u32::from_le_bytes(*float);
        positive = positive.max(bits as i32);
        negative = negative.max(bits);
    }
    let (positive, negative_magnitude) = (positive as u32, negative & !(1 << 31));
    if positive == negative_magnitude || positive > INFINITY || negative_magnitude > INFINITY {
        return first_largest(floats);
    }
    f32::from_bits(if positive > negative_magnitude { positive } else { negative })
}

/// The same, one by one: for zeros, NaN, and magnitudes that come with both signs.
#[cold]
fn first_largest(floats: &[Word]) -> f32 {
    floats.iter().map(get).fold(0.0, |largest: f32, x| if largest.abs() < x.abs() { x } else { largest })
}

/// The largest magnitude; NaN are passed over.
#[inline(always)]
pub(super) fn magnitude(floats: &[Word]) -> f32 {
    let largest = largest_bits(floats);
    if largest > INFINITY { first_largest(floats).abs() } else { f32::from_bits(largest) }
}

/// The largest magnitude by C's `MAX(amax, fabsf(x))`, which forgets a NaN, and all before it, at the next element.
#[inline(always)]
pub(super) fn forgetful_magnitude(floats: &[Word]) -> f32 {
    let largest = largest_bits(floats);
    if largest > INFINITY { magnitude_with_nan(floats) } else { f32::from_bits(largest) }
}

#[cold]
fn magnitude_with_nan(floats: &[Word]) -> f32 {
    floats.iter().map(get).fold(0.0, |largest: f32, x| if largest > x.abs() { largest } else { x.abs() })
}

#[inline(always)]
fn largest_bits(floats: &[Word]) -> u32 {
    floats.iter().fold(0, |largest, float| largest.max(u32::from_le_bytes(*float) & !(1 << 31)))
}

/// The smallest value, of zeros the first, and the largest; NaN are passed over. Both start where C has them start, at
/// `FLT_MAX` and `-FLT_MAX`: the smallest is never infinity, the largest never minus infinity.
#[inline(always)]
pub(super) fn extent(floats: &[Word]) -> (f32, f32) {
    // As integers that are ordered like the floats, -0 below 0.
    let order = |bits: u32| bits as i32 ^ ((bits as i32 >> 31) & i32::MAX);
    let (mut min, mut max) = (order(f32::MAX.to_bits()), order(f32::MIN.to_bits()));
    for float in floats {
        let key = order(u32::from_le_bytes(*float));
        min = min.min(key);
        max = max.max(key);
    }
    let value = |key: i32| f32::from_bits(order(key as u32) as u32);
    let (min, max) = (value(min), value(max));
    if min == 0.0 || min.is_nan() || max.is_nan() {
        return first_extent(floats);
    }
    (min, max)
}

/// The same, one by one: for NaN, and for zeros of either sign.
#[cold]
fn first_extent(floats: &[Word]) -> (f32, f32) {
    floats.iter().map(get).fold((f32::MAX, f32::MIN), |(min, max), x| {
        (if x < min { x } else { min }, if x > max { x } else { max })
    })
}
