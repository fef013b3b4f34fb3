//! Decoders of iq3_xxs and iq3_s: groups of 4 magnitudes out of a codebook, their signs, under scales of 4 bits and
//! their own scale (ggml, `block_iq3_*` in ggml-common.h, `dequantize_row_*` in ggml-quants.c).

use super::decode::{Arithmetic, Word, half, is_finite, scaled_then_signed, with_signs};
use super::grids::{IQ3S, IQ3XXS, SIGNS};

const ELEMENTS: usize = 256;
const BYTES_XXS: usize = 98;
const BYTES_S: usize = 110;

decoder! {
    /// As `dequantize_row_iq3_xxs`.
    xxs: BYTES_XXS to ELEMENTS by elements_xxs, plain if |block| is_finite(block, 0)
}

/// The scale of scales; 64 indices; for each 32 elements a word with 7 bits of signs for each 8, and their scale.
#[inline(always)]
fn elements_xxs<A: Arithmetic>(block: &[u8; BYTES_XXS], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    let groups = block[2..66].as_chunks::<8>().0.iter().zip(block[66..].as_chunks::<4>().0);
    for (floats, (indices, word)) in floats.as_chunks_mut::<32>().0.iter_mut().zip(groups) {
        let word = u32::from_le_bytes(*word);
        let scale = A::mul(A::mul(d, 0.5 + (word >> 28) as f32), 0.5);
        let mut levels = [0; 32];
        for (idx, levels) in levels.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let group = |at: usize| u64::from(IQ3XXS[usize::from(indices[at])]);
            let signs = SIGNS[(word >> (7 * idx) & 127) as usize];
            *levels = with_signs(group(2 * idx) | group(2 * idx + 1) << 32, signs);
        }
        scaled_then_signed::<A>(scale, &levels, floats);
    }
}

decoder! {
    /// As `dequantize_row_iq3_s`.
    s: BYTES_S to ELEMENTS by elements_s, plain if |block| is_finite(block, 0)
}

/// The scale of scales; the low 8 bits of 64 indices; their ninth bits, a byte for each 32 elements; a byte of signs for
/// each 8; a scale for each 32.
#[inline(always)]
fn elements_s<A: Arithmetic>(block: &[u8; BYTES_S], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    let mut levels = [0; ELEMENTS];
    for (idx, levels) in levels.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let group = |at: usize| {
            let ninth = usize::from(block[66 + at / 8] >> (at % 8) & 1);
            u64::from(IQ3S[usize::from(block[2 + at]) | ninth << 8])
        };
        *levels = with_signs(group(2 * idx) | group(2 * idx + 1) << 32, block[74 + idx]);
    }
    let groups = floats.as_chunks_mut::<32>().0.iter_mut().zip(levels.as_chunks::<32>().0);
    for (idx, (floats, levels)) in groups.enumerate() {
        let code = block[106 + idx / 2] >> (idx % 2 * 4) & 15;
        scaled_then_signed::<A>(A::mul(d, f32::from(1 + 2 * code)), levels, floats);
    }
}
