//! Decoders of iq2_xxs, iq2_xs and iq2_s: groups of 8 magnitudes out of a codebook, their signs, under scales of 4 bits
//! and their own scale (ggml, `block_iq2_*` in ggml-common.h, `dequantize_row_*` in ggml-quants.c).

use super::decode::{Arithmetic, Word, half, is_finite, scaled_then_signed, with_signs};
use super::grids::{IQ2S, IQ2XS, IQ2XXS, SIGNS};

const ELEMENTS: usize = 256;
const BYTES_XXS: usize = 66;
const BYTES_XS: usize = 74;
const BYTES_S: usize = 82;

decoder! {
    /// As `dequantize_row_iq2_xxs`.
    xxs: BYTES_XXS to ELEMENTS by elements_xxs, plain if |block| is_finite(block, 0)
}

/// The scale of scales; for each 32 elements four indices, then a word with 7 bits of signs for each and their scale.
#[inline(always)]
fn elements_xxs<A: Arithmetic>(block: &[u8; BYTES_XXS], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    for (floats, part) in floats.as_chunks_mut::<32>().0.iter_mut().zip(block[2..].as_chunks::<8>().0) {
        let word = u32::from_le_bytes([part[4], part[5], part[6], part[7]]);
        let mut levels = [0; 32];
        for (idx, (levels, index)) in levels.as_chunks_mut::<8>().0.iter_mut().zip(part).enumerate() {
            let signs = SIGNS[(word >> (7 * idx) & 127) as usize];
            *levels = with_signs(IQ2XXS[usize::from(*index)], signs);
        }
        scaled_then_signed::<A>(scale::<A>(d, (word >> 28) as u8), &levels, floats);
    }
}

decoder! {
    /// As `dequantize_row_iq2_xs`.
    xs: BYTES_XS to ELEMENTS by elements_xs, plain if |block| is_finite(block, 0)
}

/// The scale of scales; for each 8 elements a word with 9 bits of index and 7 of signs; a scale for each 16.
#[inline(always)]
fn elements_xs<A: Arithmetic>(block: &[u8; BYTES_XS], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    let mut levels = [0; ELEMENTS];
    for (levels, word) in levels.as_chunks_mut::<8>().0.iter_mut().zip(block[2..66].as_chunks::<2>().0) {
        let word = usize::from(u16::from_le_bytes(*word));
        *levels = with_signs(IQ2XS[word & 511], SIGNS[word >> 9]);
    }
    sixteens::<A>(d, &levels, &block[66..], floats);
}

decoder! {
    /// As `dequantize_row_iq2_s`.
    s: BYTES_S to ELEMENTS by elements_s, plain if |block| is_finite(block, 0)
}

/// The scale of scales; for each 8 elements the low 8 bits of an index; a byte of signs; for each 32 the high 2 bits of
/// four indices; a scale for each 16.
#[inline(always)]
fn elements_s<A: Arithmetic>(block: &[u8; BYTES_S], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 0);
    let mut levels = [0; ELEMENTS];
    for (idx, levels) in levels.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = usize::from(block[66 + idx / 4] >> (idx % 4 * 2) & 3);
        *levels = with_signs(IQ2S[usize::from(block[2 + idx]) | high << 8], block[34 + idx]);
    }
    sixteens::<A>(d, &levels, &block[74..], floats);
}

/// Multiplies by a scale of 4 bits for each 16 elements.
#[inline(always)]
fn sixteens<A: Arithmetic>(d: f32, levels: &[i8; ELEMENTS], scales: &[u8], floats: &mut [Word; ELEMENTS]) {
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
    for (idx, (floats, levels)) in groups.enumerate() {
        let scale = scale::<A>(d, scales[idx / 2] >> (idx % 2 * 4) & 15);
        scaled_then_signed::<A>(scale, levels, floats);
    }
}

#[inline(always)]
fn scale<A: Arithmetic>(d: f32, code: u8) -> f32 {
    A::mul(A::mul(d, 0.5 + f32::from(code)), 0.25)
}
