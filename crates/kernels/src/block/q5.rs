//! q5_0 and q5_1: 32 elements as an f16 scale, in q5_1 an f16 minimum, 32 fifth bits, and 4 bits each (ggml,
//! `block_q5_0` and `block_q5_1` in ggml-common.h).

use super::decode::{self, Arithmetic};
use super::encode::{clip, codes, cut, extent, half, inverse, largest, pack_bits, pack_nibbles};

const ELEMENTS: usize = 32;
const BYTES_0: usize = 2 + 4 + ELEMENTS / 2;
const BYTES_1: usize = 4 + 4 + ELEMENTS / 2;

per_cpu! {
    /// As `quantize_row_q5_0_ref` of ggml-quants.c.
    pub(super) fn quantize_0(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES_0>().0) {
            let d = largest(floats) / -16.0;
            let inverse = inverse(d);
            let (scale, quants) = block.split_at_mut(2);
            scale.copy_from_slice(&half(d));
            pack(&codes(floats, |x| clip(x * inverse + 16.5, 31)), quants);
        }
    }
}

per_cpu! {
    /// As `quantize_row_q5_1_ref`.
    pub(super) fn quantize_1(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES_1>().0) {
            let (min, max) = extent(floats);
            let d = (max - min) / 31.0;
            let inverse = inverse(d);
            let (scales, quants) = block.split_at_mut(4);
            scales[..2].copy_from_slice(&half(d));
            scales[2..].copy_from_slice(&half(min));
            pack(&codes(floats, |x| cut((x - min) * inverse + 0.5)), quants);
        }
    }
}

/// Codes of 5 bits: first the fifth bits, one each, then the others, element `n` below element `n + 16`.
#[inline(always)]
fn pack(codes: &[u8; ELEMENTS], quants: &mut [u8]) {
    let (fifths, quants) = quants.split_at_mut(4);
    for (fifths, codes) in fifths.iter_mut().zip(codes.as_chunks::<8>().0) {
        *fifths = pack_bits(codes, 4);
    }
    pack_nibbles(&codes.map(|code| code & 15), quants);
}

decoder! {
    /// As `dequantize_row_q5_0`.
    dequantize_0: BYTES_0 to ELEMENTS by elements_0, plain if |block| decode::is_finite(block, 0)
}

decoder! {
    /// As `dequantize_row_q5_1`.
    dequantize_1: BYTES_1 to ELEMENTS by elements_1, plain if |block| decode::is_finite(block, 0) && decode::is_finite(block, 2)
}

#[inline(always)]
fn elements_0<A: Arithmetic>(block: &[u8; BYTES_0], floats: &mut [decode::Word; ELEMENTS]) {
    let d = decode::half(block, 0);
    unpack(&block[2..], floats, |code| A::mul(f32::from(code as i8 - 16), d));
}

#[inline(always)]
fn elements_1<A: Arithmetic>(block: &[u8; BYTES_1], floats: &mut [decode::Word; ELEMENTS]) {
    let (d, min) = (decode::half(block, 0), decode::half(block, 2));
    unpack(&block[4..], floats, |code| A::add(A::mul(f32::from(code), d), min));
}

/// The reverse of [`pack`].
#[inline(always)]
fn unpack(quants: &[u8], floats: &mut [decode::Word; ELEMENTS], element: impl Fn(u8) -> f32) {
    let fifths = u32::from_le_bytes([quants[0], quants[1], quants[2], quants[3]]);
    let fifth = |idx: usize| if fifths & 1 << idx != 0 { 16 } else { 0 };
    let (low, high) = floats.split_at_mut(ELEMENTS / 2);
    for (idx, ((quant, low), high)) in quants[4..].iter().zip(low).zip(high).enumerate() {
        *low = element(quant & 15 | fifth(idx)).to_le_bytes();
        *high = element(quant >> 4 | fifth(idx + ELEMENTS / 2)).to_le_bytes();
    }
}
