//! tq1_0 and tq2_0: 256 elements that are -1, 0 or 1 times an f16 scale (ggml, `block_tq1_0` and `block_tq2_0` in
//! ggml-common.h).
//!
//! tq1_0 has five elements in a byte, as 256/243 of a number of five digits to the base 3, the first element highest:
//! so a digit comes out on top of a multiplication by 3. 160 elements lie in 32 bytes, byte `n` holding every 32nd from
//! the n-th on, then 80 in 16 bytes, then 16 in 4 bytes of four. tq2_0 has four in a byte, every 32nd element too, the
//! first lowest.

use super::decode::{self, Arithmetic};
use super::encode::{Word, forgetful_magnitude, get, half, inverse, round};

const ELEMENTS: usize = 256;
const BYTES_1: usize = 54;
const BYTES_2: usize = 66;
/// Where the scales are.
const SCALE_1: usize = 52;
const SCALE_2: usize = 64;

per_cpu! {
    /// As `quantize_row_tq1_0_ref` of ggml-quants.c.
    pub(super) fn quantize_1(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES_1>().0) {
            let d = forgetful_magnitude(floats);
            let inverse = inverse(d);
            let (quants, scale) = block.split_at_mut(SCALE_1);
            scale.copy_from_slice(&half(d));
            let (wide, rest) = quants.split_at_mut(32);
            let (narrow, last) = rest.split_at_mut(16);
            fives::<32, 5>(&floats[..160], inverse, wide);
            fives::<16, 5>(&floats[160..240], inverse, narrow);
            fives::<4, 4>(&floats[240..], inverse, last);
        }
    }
}

/// `WIDTH` bytes of `DIGITS` elements each.
#[inline(always)]
#[allow(clippy::manual_div_ceil, reason = "in 16 bits, where it is one multiplication")]
fn fives<const WIDTH: usize, const DIGITS: usize>(floats: &[Word], inverse: f32, quants: &mut [u8]) {
    for (idx, quant) in quants.iter_mut().enumerate() {
        let mut number = 0u8;
        for digit in 0..DIGITS {
            number = number.wrapping_mul(3).wrapping_add(trit(&floats[idx + digit * WIDTH], inverse));
        }
        for _ in DIGITS..5 {
            number = number.wrapping_mul(3);
        }
        // 256/243, rounded up.
        *quant = ((u16::from(number) * 256 + 242) / 243) as u8;
    }
}

/// The low byte of the element's code: 0, 1 or 2, unless there is a NaN.
#[inline(always)]
fn trit(float: &Word, inverse: f32) -> u8 {
    (round(get(float) * inverse) as u8).wrapping_add(1)
}

per_cpu! {
    /// As `quantize_row_tq2_0_ref`.
    pub(super) fn quantize_2(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES_2>().0) {
            let d = forgetful_magnitude(floats);
            let inverse = inverse(d);
            let (quants, scale) = block.split_at_mut(SCALE_2);
            scale.copy_from_slice(&half(d));
            for (floats, quants) in floats.as_chunks::<128>().0.iter().zip(quants.as_chunks_mut::<32>().0) {
                for (idx, quant) in quants.iter_mut().enumerate() {
                    let code = |digit: usize| (trit(&floats[idx + digit * 32], inverse) & 3) << (2 * digit);
                    *quant = code(0) | code(1) | code(2) | code(3);
                }
            }
        }
    }
}

decoder! {
    /// As `dequantize_row_tq1_0`.
    dequantize_1: BYTES_1 to ELEMENTS by elements_1, plain if |block| decode::is_finite(block, SCALE_1)
}

#[inline(always)]
fn elements_1<A: Arithmetic>(block: &[u8; BYTES_1], floats: &mut [decode::Word; ELEMENTS]) {
    let d = decode::half(block, SCALE_1);
    let (wide, rest) = floats.split_at_mut(160);
    let (narrow, last) = rest.split_at_mut(80);
    for (quants, floats) in [(&block[..32], wide), (&block[32..48], narrow), (&block[48..52], last)] {
        let mut power = 1u8;
        for floats in floats.chunks_exact_mut(quants.len()) {
            for (quant, float) in quants.iter().zip(floats) {
                let digit = (u16::from(quant.wrapping_mul(power)) * 3) >> 8;
                *float = A::mul(f32::from(digit as i16 - 1), d).to_le_bytes();
            }
            power = power.wrapping_mul(3);
        }
    }
}

decoder! {
    /// As `dequantize_row_tq2_0`.
    dequantize_2: BYTES_2 to ELEMENTS by elements_2, plain if |block| decode::is_finite(block, SCALE_2)
}

#[inline(always)]
fn elements_2<A: Arithmetic>(block: &[u8; BYTES_2], floats: &mut [decode::Word; ELEMENTS]) {
    let d = decode::half(block, SCALE_2);
    let quants = block[..SCALE_2].as_chunks::<32>().0;
    for (quants, floats) in quants.iter().zip(floats.as_chunks_mut::<128>().0) {
        for (digit, floats) in floats.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (quant, float) in quants.iter().zip(floats) {
                *float = A::mul(f32::from((quant >> (2 * digit) & 3) as i8 - 1), d).to_le_bytes();
            }
        }
    }
}
