//! Decoders of iq1_s and iq1_m: groups of 8 elements out of a codebook of -1, 0 and 1, shifted by an eighth, under scales
//! of 3 bits and their own scale (ggml, `block_iq1_s` and `block_iq1_m` in ggml-common.h, `dequantize_row_*` in
//! ggml-quants.c).

use super::decode::{Arithmetic, Word, half, is_finite};
use super::grids;
use crate::lanes::f16_to_f32;

const ELEMENTS: usize = 256;
const BYTES_S: usize = 50;
const BYTES_M: usize = 56;

decoder! {
    /// As `dequantize_row_iq1_s`.
    s: BYTES_S to ELEMENTS by elements_s, plain if |block| is_finite(block, 0)
}

/// The scale of scales; the low 8 bits of 32 indices; for each 32 elements a word with the high 3 bits of four indices,
/// the scale, and the direction of the shift.
#[inline(always)]
fn elements_s<A: Arithmetic>(block: &[u8; BYTES_S], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    let words = block[34..].as_chunks::<2>().0;
    let groups = floats.as_chunks_mut::<32>().0.iter_mut().zip(block[2..34].as_chunks::<4>().0).zip(words);
    for ((floats, low), word) in groups {
        let word = u16::from_le_bytes(*word);
        let mut levels = [0; 32];
        for (idx, (levels, low)) in levels.as_chunks_mut::<8>().0.iter_mut().zip(low).enumerate() {
            *levels = group(*low, word >> (3 * idx), word & 0x8000 != 0);
        }
        shifted::<A>(A::mul(d, f32::from(word >> 12 & 7) * 2.0 + 1.0), &levels, floats);
    }
}

decoder! {
    /// As `dequantize_row_iq1_m`.
    m: BYTES_M to ELEMENTS by elements_m, plain if |block| scale_m(block) & 0x7c00 != 0x7c00
}

/// The scale of scales, an f16: the high 4 bits of four words.
#[inline(always)]
fn scale_m(block: &[u8; BYTES_M]) -> u16 {
    let high = |idx: usize| u16::from(block[49 + 2 * idx] >> 4);
    high(0) | high(1) << 4 | high(2) << 8 | high(3) << 12
}

/// The low 8 bits of 32 indices; 4 bits for each, the high 3 and the direction of its shift; four words, each with a
/// quarter of the scale of scales above four scales, of 16 elements each.
#[inline(always)]
fn elements_m<A: Arithmetic>(block: &[u8; BYTES_M], floats: &mut [Word; ELEMENTS]) {
    let d = f32::from_bits(f16_to_f32(scale_m(block)));
    let mut levels = [0; ELEMENTS];
    for (idx, levels) in levels.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = block[32 + idx / 2] >> (idx % 2 * 4);
        *levels = group(block[idx], u16::from(high), high & 8 != 0);
    }
    let scales = block[48..].as_chunks::<2>().0;
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
    for (idx, (floats, levels)) in groups.enumerate() {
        let code = u16::from_le_bytes(scales[idx / 4]) >> (idx % 4 * 3) & 7;
        shifted::<A>(A::mul(d, f32::from(code) * 2.0 + 1.0), levels, floats);
    }
}

/// The values of a group with their shift, eight times, and 9 added: no byte carries into the next.
#[inline(always)]
fn group(low: u8, high: u16, is_down: bool) -> [u8; 8] {
    let group = grids::IQ1S[usize::from(low) | usize::from(high & 7) << 8];
    ((group << 3) + if is_down { 0 } else { 0x0202_0202_0202_0202 }).to_le_bytes()
}

#[inline(always)]
fn shifted<A: Arithmetic>(scale: f32, levels: &[u8], floats: &mut [Word]) {
    for (level, float) in levels.iter().zip(floats) {
        *float = A::mul(scale, (f32::from(*level) - 9.0) * 0.125).to_le_bytes();
    }
}
