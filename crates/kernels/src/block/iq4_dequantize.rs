//! Decoders of iq4_nl and iq4_xs: 4 bits that name one of 16 levels, under an f16 scale for 32 elements, or under
//! scales of 6 bits and their own scale for 256 (ggml, `block_iq4_nl` and `block_iq4_xs` in ggml-common.h,
//! `dequantize_row_*` in ggml-quants.c).

use super::decode::{Arithmetic, Word, half, is_finite};

const ELEMENTS_NL: usize = 32;
const ELEMENTS_XS: usize = 256;
const BYTES_NL: usize = 18;
const BYTES_XS: usize = 136;

/// `kvalues_iq4nl` of ggml-common.h.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

decoder! {
    /// As `dequantize_row_iq4_nl`.
    nl: BYTES_NL to ELEMENTS_NL by elements_nl, plain if |block| is_finite(block, 0)
}

#[inline(always)]
fn elements_nl<A: Arithmetic>(block: &[u8; BYTES_NL], floats: &mut [Word; ELEMENTS_NL]) {
    group::<A>(half(block, 0), &block[2..], floats);
}

decoder! {
    /// As `dequantize_row_iq4_xs`.
    xs: BYTES_XS to ELEMENTS_XS by elements_xs, plain if |block| is_finite(block, 0)
}

/// The scale of scales; their high 2 bits, then their low 4.
#[inline(always)]
fn elements_xs<A: Arithmetic>(block: &[u8; BYTES_XS], floats: &mut [Word; ELEMENTS_XS]) {
    let d = half(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let groups = floats.as_chunks_mut::<32>().0.iter_mut().zip(block[8..].as_chunks::<16>().0);
    for (idx, (floats, quants)) in groups.enumerate() {
        let low = block[4 + idx / 2] >> (idx % 2 * 4) & 15;
        let scale = i16::from(low) + (high >> (2 * idx) & 3) as i16 * 16;
        group::<A>(A::mul(d, f32::from(scale - 32)), quants, floats);
    }
}

/// 32 elements of one scale, element `n` below element `n + 16`.
#[inline(always)]
fn group<A: Arithmetic>(scale: f32, quants: &[u8], floats: &mut [Word; 32]) {
    let products = LEVELS.map(|level| A::mul(scale, f32::from(level)).to_le_bytes());
    let (low, high) = floats.split_at_mut(16);
    for ((quant, low), high) in quants.iter().zip(low).zip(high) {
        *low = products[usize::from(quant & 15)];
        *high = products[usize::from(quant >> 4)];
    }
}
