//! mxfp4 and nvfp4: elements of 4 bits (E2M1: 0, 0.5, 1, 1.5, 2, 3, 4 and 6, with a sign) under scales that are floats
//! of 8 bits (ggml, `block_mxfp4` and `block_nvfp4` in ggml-common.h).
//!
//! mxfp4 has 32 elements under one power of two (E8M0), nvfp4 four times 16 under one unsigned E4M3 each. As ggml does,
//! elements are doubled and scales halved, so that elements are integers.

use super::decode::{Plain, Word, scaled};
use super::encode::{codes, magnitude, pack_nibbles};

const HALF: usize = 16;
const MX_BYTES: usize = 1 + HALF;
/// Elements under one scale of nvfp4, and how many scales there are.
const NV_PART: usize = 16;
const NV_PARTS: usize = 4;
const NV_BYTES: usize = NV_PARTS + NV_PARTS * NV_PART / 2;

/// Doubled elements by their codes, in the order in which ggml tries them.
const LEVELS: [f32; 16] =
    [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 0.0, -1.0, -2.0, -3.0, -4.0, -6.0, -8.0, -12.0];

per_cpu! {
    /// As `quantize_row_mxfp4_ref` of ggml-quants.c.
    pub(super) fn quantize_mx(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<{ 2 * HALF }>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<MX_BYTES>().0) {
            let largest = magnitude(floats);
            let scale = match largest {
                0.0 | f32::INFINITY => 0,
                // Cut to 8 bits, so that what is too small gets a scale that is too large.
                _ => (floor_log2(largest) - 2 + 127) as u8,
            };
            let (scale_byte, quants) = block.split_at_mut(1);
            scale_byte[0] = scale;
            pack_nibbles(&encode(floats, half_e8m0(scale), largest), quants);
        }
    }
}

per_cpu! {
    /// As `quantize_row_nvfp4_ref`.
    pub(super) fn quantize_nv(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<{ NV_PARTS * NV_PART }>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<NV_BYTES>().0) {
            let (scales, quants) = block.split_at_mut(NV_PARTS);
            let parts = floats.as_chunks::<NV_PART>().0.iter().zip(quants.as_chunks_mut::<{ NV_PART / 2 }>().0);
            for ((floats, quants), scale) in parts.zip(scales) {
                let largest = magnitude(floats);
                *scale = ue4m3(largest / 6.0);
                pack_nibbles(&encode(floats, half_ue4m3(*scale), largest), quants);
            }
        }
    }
}

/// The code nearest to each element, the first of equally near ones.
#[inline(always)]
fn encode<const N: usize>(floats: &[Word; N], d: f32, largest: f32) -> [u8; N] {
    // Half way between two neighbouring levels. Products and distances are exact there, so that comparing with it gives
    // what comparing the distances would, unless rounding makes all distances the same, or a level infinite.
    let limits = [0.5 * d, 1.5 * d, 2.5 * d, 3.5 * d, 5.0 * d, 7.0 * d, 10.0 * d];
    if largest <= 64.0 * d && 12.0 * d < f32::INFINITY {
        codes(floats, |x| {
            let level = limits.iter().fold(0, |level, limit| level + i32::from(x.abs() > *limit));
            let sign = (x.to_bits() >> 28) as i32 & 8;
            level | if level > 0 { sign } else { 0 }
        })
    } else {
        encode_one_by_one(floats, d)
    }
}

#[cold]
#[inline(never)]
fn encode_one_by_one<const N: usize>(floats: &[Word; N], d: f32) -> [u8; N] {
    codes(floats, |x| {
        let mut nearest = 0;
        let mut distance = (LEVELS[0] * d - x).abs();
        for (code, level) in (0..).zip(LEVELS) {
            let other = (level * d - x).abs();
            if other < distance {
                (nearest, distance) = (code, other);
            }
        }
        nearest
    })
}

/// `floorf(log2f(x))` of a positive finite `x`, as a libm whose `log2f` rounds to nearest has it: the logarithm of what
/// lies just below a power of two may be rounded up to an integer.
fn floor_log2(x: f32) -> i32 {
    let bits = x.to_bits();
    let (exponent, significand) = if bits < 1 << 23 {
        let shift = bits.leading_zeros() as i32 - 8;
        (-126 - shift, bits << shift)
    } else {
        ((bits >> 23) as i32 - 127, bits & 0x007f_ffff | 1 << 23)
    };
    // log2(2^n * (1 - k * 2^-24)) is n - k * 2^-24 / ln 2, which is rounded to n while k is at most 2^p * ln 2, with 2^p
    // the highest bit of n; half of that below a positive power of two, where the numbers lie closer.
    const MOST: [u32; 8] = [0, 1, 2, 5, 11, 22, 44, 88];
    let n = exponent + 1;
    let place = match n {
        0 => 0,
        _ => n.unsigned_abs().ilog2() as usize,
    };
    let place = if n > 0 && n.count_ones() == 1 { place.saturating_sub(1) } else { place };
    if (1 << 24) - significand <= MOST[place] { n } else { exponent }
}

/// Half of 2^(scale - 127).
#[inline(always)]
fn half_e8m0(scale: u8) -> f32 {
    let scale = u32::from(scale);
    f32::from_bits(if scale < 2 { 0x0020_0000 << scale } else { (scale - 1) << 23 })
}

/// Half of an unsigned E4M3; its NaN, 0x7f, is 0, and its sign bit is passed over.
#[inline(always)]
fn half_ue4m3(scale: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(scale) >> 3 & 15, u32::from(scale) & 7);
    match exponent {
        _ if scale == 0x7f => 0.0,
        0 => mantissa as f32 / 1024.0,
        _ => f32::from_bits((exponent + 127 - 8) << 23 | mantissa << 20),
    }
}

/// The unsigned E4M3 of `x` as ggml rounds it: half up, to at most 448, and by 4 bits of mantissa alone.
fn ue4m3(x: f32) -> u8 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 7;
    if exponent <= 0 {
        return ((x * 512.0 + 0.5) as u8).min(7);
    }
    // A mantissa that is rounded up to 8 raises the exponent by itself; the largest exponent is all 448.
    let code = ((exponent as u32) << 3 | bits >> 20 & 7) + (bits >> 19 & 1);
    if code >= 15 << 3 { 0x7e } else { code as u8 }
}

per_cpu! {
    /// As `dequantize_row_mxfp4`.
    pub(super) fn dequantize_mx(src: &[u8], dst: &mut [u8]) {
        let floats = dst.as_chunks_mut::<4>().0.as_chunks_mut::<{ 2 * HALF }>().0;
        for (block, floats) in src.as_chunks::<MX_BYTES>().0.iter().zip(floats) {
            let d = half_e8m0(block[0]);
            let (low, high) = floats.split_at_mut(HALF);
            for ((quant, low), high) in block[1..].iter().zip(low).zip(high) {
                *low = (d * f32::from(level(quant & 15))).to_le_bytes();
                *high = (d * f32::from(level(quant >> 4))).to_le_bytes();
            }
        }
    }
}

per_cpu! {
    /// As `dequantize_row_nvfp4`.
    pub(super) fn dequantize_nv(src: &[u8], dst: &mut [u8]) {
        let floats = dst.as_chunks_mut::<4>().0.as_chunks_mut::<{ NV_PARTS * NV_PART }>().0;
        for (block, floats) in src.as_chunks::<NV_BYTES>().0.iter().zip(floats) {
            let (scales, quants) = block.split_at(NV_PARTS);
            let quants: [u8; NV_PARTS * NV_PART / 2] = std::array::from_fn(|idx| quants[idx]);
            let low = quants.map(|quant| level(quant & 15));
            let high = quants.map(|quant| level(quant >> 4));
            let levels = low.as_chunks::<{ NV_PART / 2 }>().0.iter().zip(high.as_chunks::<{ NV_PART / 2 }>().0);
            for ((floats, scale), (low, high)) in floats.as_chunks_mut::<NV_PART>().0.iter_mut().zip(scales).zip(levels) {
                // The scale is finite, so that no element is NaN.
                let d = half_ue4m3(*scale);
                let (low_floats, high_floats) = floats.split_at_mut(NV_PART / 2);
                scaled::<Plain>(d, low, low_floats);
                scaled::<Plain>(d, high, high_floats);
            }
        }
    }
}

/// The doubled element, computed rather than looked up, so that many are at once.
#[inline(always)]
fn level(code: u8) -> i8 {
    let bits = (code & 7) as i8;
    let magnitude = bits + (bits - 4).max(0) + if bits == 7 { 2 } else { 0 };
    if code & 8 != 0 { -magnitude } else { magnitude }
}
