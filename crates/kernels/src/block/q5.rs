//! q5_0 and q5_1: 32 elements as an f16 scale, in q5_1 an f16 minimum, 32 fifth bits, and 4 bits each (ggml,
//! `block_q5_0` and `block_q5_1` in ggml-common.h).

use super::decode::{self, Arithmetic, LikeX86, Plain, each_block};
use super::encode::{cut, extent, get, half, inverse, largest};

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
            pack(floats, quants, |float| i32::from(cut(get(float) * inverse + 16.5) as i8).min(31));
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
            pack(floats, quants, |float| cut((get(float) - min) * inverse + 0.5));
        }
    }
}

/// Codes of 5 bits: first the fifth bits, one each, then the others, element `n` below element `n + 16`.
#[inline(always)]
fn pack(floats: &[[u8; 4]; ELEMENTS], quants: &mut [u8], code: impl Fn(&[u8; 4]) -> i32) {
    let (high_bits, quants) = quants.split_at_mut(4);
    let (low, high) = floats.split_at(ELEMENTS / 2);
    let (mut low_fifths, mut high_fifths) = (0u32, 0u32);
    for (idx, ((low, high), quant)) in low.iter().zip(high).zip(quants).enumerate() {
        let (low, high) = (code(low) as u32, code(high) as u32);
        *quant = (low & 15 | high << 4) as u8;
        low_fifths |= if low & 16 != 0 { 1 << idx } else { 0 };
        high_fifths |= if high & 16 != 0 { 1 << idx } else { 0 };
    }
    high_bits.copy_from_slice(&(low_fifths | high_fifths << 16).to_le_bytes());
}

per_cpu! {
    /// As `dequantize_row_q5_0`.
    pub(super) fn dequantize_0(src: &[u8], dst: &mut [u8]) {
        each_block(src, dst, |block| decode::is_finite(block, 0), elements_0::<Plain>, elements_0::<LikeX86>);
    }
}

per_cpu! {
    /// As `dequantize_row_q5_1`.
    pub(super) fn dequantize_1(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_1]| decode::is_finite(block, 0) && decode::is_finite(block, 2);
        each_block(src, dst, is_plain, elements_1::<Plain>, elements_1::<LikeX86>);
    }
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
