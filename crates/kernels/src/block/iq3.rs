//! Decoders of iq3_xxs and iq3_s: groups of 4 magnitudes out of a codebook, their signs, under scales of 4 bits and
//! their own scale (ggml, `block_iq3_*` in ggml-common.h, `dequantize_row_*` in ggml-quants.c).

use super::decode::{Arithmetic, LikeX86, Plain, Word, each_block, half, is_finite, signed};
use super::grids::{IQ3S, IQ3XXS, SIGNS};

const ELEMENTS: usize = 256;
const BYTES_XXS: usize = 98;
const BYTES_S: usize = 110;

per_cpu! {
    /// As `dequantize_row_iq3_xxs`.
    pub(super) fn xxs(src: &[u8], dst: &mut [u8]) {
        each_block(src, dst, |block| is_finite(block, 0), elements_xxs::<Plain>, elements_xxs::<LikeX86>);
    }
}

/// The scale of scales; 64 indices; for each 32 elements a word with 7 bits of signs for each 8, and their scale.
#[inline(always)]
fn elements_xxs<A: Arithmetic>(block: &[u8; BYTES_XXS], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    let groups = block[2..66].as_chunks::<8>().0.iter().zip(block[66..].as_chunks::<4>().0);
    for (floats, (indices, word)) in floats.as_chunks_mut::<32>().0.iter_mut().zip(groups) {
        let word = u32::from_le_bytes(*word);
        let scale = A::mul(A::mul(d, 0.5 + (word >> 28) as f32), 0.5);
        for (idx, floats) in floats.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let group = |at: usize| IQ3XXS[usize::from(indices[at])];
            let signs = SIGNS[(word >> (7 * idx) & 127) as usize];
            signed::<A>(scale, &joined(group(2 * idx), group(2 * idx + 1)), signs, floats);
        }
    }
}

per_cpu! {
    /// As `dequantize_row_iq3_s`.
    pub(super) fn s(src: &[u8], dst: &mut [u8]) {
        each_block(src, dst, |block| is_finite(block, 0), elements_s::<Plain>, elements_s::<LikeX86>);
    }
}

/// The scale of scales; the low 8 bits of 64 indices; their ninth bits, a byte for each 32 elements; a byte of signs for
/// each 8; a scale for each 32.
#[inline(always)]
fn elements_s<A: Arithmetic>(block: &[u8; BYTES_S], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    for (idx, floats) in floats.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let code = block[106 + idx / 8] >> (idx % 8 / 4 * 4) & 15;
        let scale = A::mul(d, f32::from(1 + 2 * code));
        let group = |at: usize| {
            let ninth = usize::from(block[66 + at / 8] >> (at % 8) & 1);
            IQ3S[usize::from(block[2 + at]) | ninth << 8]
        };
        signed::<A>(scale, &joined(group(2 * idx), group(2 * idx + 1)), block[74 + idx], floats);
    }
}

#[inline(always)]
fn joined([a, b, c, d]: [i8; 4], [e, f, g, h]: [i8; 4]) -> [i8; 8] {
    [a, b, c, d, e, f, g, h]
}
