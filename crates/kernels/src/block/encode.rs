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

/// `MIN(most, (int8_t)value)` of C.
#[inline(always)]
pub(super) fn clip(value: f32, most: i32) -> i32 {
    i32::from(cut(value) as i8).min(most)
}

/// `value` rounded to the nearest integer, half away from zero; else as [`cut`].
#[inline(always)]
pub(super) fn round(value: f32) -> i32 {
    // The largest number below one half: one half itself would round 0.49999997 up.
    cut(value + f32::from_bits(0x3eff_ffff).copysign(value))
}

/// The code of each element. Computed apart from being packed, which vectorizes best.
#[inline(always)]
pub(super) fn codes<const N: usize>(floats: &[Word; N], code: impl Fn(f32) -> i32) -> [u8; N] {
    let mut codes = [0; N];
    for (float, place) in floats.iter().zip(&mut codes) {
        *place = code(get(float)) as u8;
    }
    codes
}

/// Codes of 4 bits, those of the first half below those of the second.
#[inline(always)]
pub(super) fn pack_nibbles(codes: &[u8], quants: &mut [u8]) {
    let (low, high) = codes.split_at(quants.len());
    for ((low, high), quant) in low.iter().zip(high).zip(quants) {
        *quant = low | high << 4;
    }
}

/// Bit `bit` of each of eight codes, the first lowest.
#[inline(always)]
pub(super) fn pack_bits(codes: &[u8; 8], bit: u32) -> u8 {
    let bits = u64::from_le_bytes(*codes) >> bit & 0x0101_0101_0101_0101;
    // Each factor brings the bit of one byte to its place in the highest; no two meet elsewhere.
    (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// The value of the largest magnitude, the first of equal ones; NaN are passed over, and 0 is the largest of nothing.
#[inline(always)]
pub(super) fn largest(floats: &[Word; 32]) -> f32 {
    // The sign below the magnitude: as integers they are ordered like magnitudes, of equal ones the negative above.
    let key = |float: &Word| u32::from_le_bytes(*float).rotate_left(1);
    let largest = floats.iter().map(key).fold(0, u32::max);
    let has_twin = floats.iter().fold(false, |has, float| has | (key(float) == largest ^ 1));
    let is_a_number = (2..=INFINITY << 1 | 1).contains(&largest);
    if is_a_number && !has_twin {
        return f32::from_bits(largest.rotate_right(1));
    }
    first_largest(floats)
}

/// The same as [`largest`], one by one: where the largest comes with both signs, or is nothing, or where there is a NaN.
#[cold]
#[inline(never)]
fn first_largest(floats: &[Word]) -> f32 {
    floats.iter().map(get).fold(0.0, |largest: f32, x| if largest.abs() < x.abs() { x } else { largest })
}

/// The largest magnitude; NaN are passed over.
#[inline(always)]
pub(super) fn magnitude(floats: &[Word]) -> f32 {
    let largest = largest_bits(floats);
    if largest > INFINITY { magnitude_without_nan(floats) } else { f32::from_bits(largest) }
}

#[cold]
fn magnitude_without_nan(floats: &[Word]) -> f32 {
    floats.iter().map(|x| get(x).abs()).fold(0.0, f32::max)
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

/// The largest magnitude as bits, which are ordered like magnitudes; more than infinity's where there is a NaN.
#[inline(always)]
fn largest_bits(floats: &[Word]) -> u32 {
    let lanes = in_lanes(floats, 0, |largest: u32, bits| largest.max(bits & !(1 << 31)));
    lanes.into_iter().fold(0, u32::max)
}

/// Folds the bits of every eighth element, whose number is a multiple of eight: eight folds side by side make vectors.
#[inline(always)]
fn in_lanes<T: Copy>(floats: &[Word], start: T, fold: impl Fn(T, u32) -> T) -> [T; 8] {
    let mut lanes = [start; 8];
    for floats in floats.as_chunks::<8>().0 {
        for (lane, float) in lanes.iter_mut().zip(floats) {
            *lane = fold(*lane, u32::from_le_bytes(*float));
        }
    }
    lanes
}

/// The smallest value, of zeros the first, and the largest; NaN are passed over. Both start where C has them start, at
/// `FLT_MAX` and `-FLT_MAX`: the smallest is never infinity, the largest never minus infinity.
#[inline(always)]
pub(super) fn extent(floats: &[Word]) -> (f32, f32) {
    // As integers that are ordered like the floats, -0 below 0.
    let order = |bits: u32| bits as i32 ^ ((bits as i32 >> 31) & i32::MAX);
    let [least, most] = [f32::MAX, f32::MIN].map(|end| order(end.to_bits()));
    let min =
        in_lanes(floats, least, |min: i32, bits| min.min(order(bits))).into_iter().fold(least, i32::min);
    let max = in_lanes(floats, most, |max: i32, bits| max.max(order(bits))).into_iter().fold(most, i32::max);
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
