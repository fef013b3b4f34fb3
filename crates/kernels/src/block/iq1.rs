//! Decoders of iq1_s and iq1_m: groups of 8 elements out of a codebook of -1, 0 and 1, shifted by an eighth, under scales
//! of 3 bits and their own scale (ggml, `block_iq1_s` and `block_iq1_m` in ggml-common.h, `dequantize_row_*` in
//! ggml-quants.c).

use super::decode::{Arithmetic, LikeX86, Plain, Word, each_block, half, is_finite};
use super::grids;
use crate::lanes::f16_to_f32;

const ELEMENTS: usize = 256;
const BYTES_S: usize = 50;
const BYTES_M: usize = 56;
const SHIFT: f32 = 0.125;

per_cpu! {
    /// As `dequantize_row_iq1_s`.
    pub(super) fn s(src: &[u8], dst: &mut [u8]) {
        each_block(src, dst, |block| is_finite(block, 0), elements_s::<Plain>, elements_s::<LikeX86>);
    }
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
        let scale = A::mul(d, f32::from(word >> 12 & 7) * 2.0 + 1.0);
        let shift = if word & 0x8000 != 0 { -SHIFT } else { SHIFT };
        for (idx, (floats, low)) in floats.as_chunks_mut::<8>().0.iter_mut().zip(low).enumerate() {
            group::<A>(scale, usize::from(*low) | usize::from(word >> (3 * idx) & 7) << 8, shift, floats);
        }
    }
}

per_cpu! {
    /// As `dequantize_row_iq1_m`.
    pub(super) fn m(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_M]| scale_m(block) & 0x7c00 != 0x7c00;
        each_block(src, dst, is_plain, elements_m::<Plain>, elements_m::<LikeX86>);
    }
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
    let scales = block[48..].as_chunks::<2>().0;
    for (idx, floats) in floats.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = u16::from_le_bytes(scales[idx / 8]);
        let scale = A::mul(d, f32::from(word >> (idx % 8 / 2 * 3) & 7) * 2.0 + 1.0);
        let high = block[32 + idx / 2] >> (idx % 2 * 4);
        let shift = if high & 8 != 0 { -SHIFT } else { SHIFT };
        group::<A>(scale, usize::from(block[idx]) | usize::from(high & 7) << 8, shift, floats);
    }
}

#[inline(always)]
fn group<A: Arithmetic>(scale: f32, idx: usize, shift: f32, floats: &mut [Word; 8]) {
    for (level, float) in grids::IQ1S[idx].iter().zip(floats) {
        *float = A::mul(scale, f32::from(*level) + shift).to_le_bytes();
    }
}
