//! Decoders of q2_k to q6_k and q8_k: 256 elements in groups of 16 or 32, whose scales are quantized themselves (ggml,
//! `block_q2_K` to `block_q8_K` in ggml-common.h, `dequantize_row_*` in ggml-quants.c).

use super::decode::{Arithmetic, LikeX86, Plain, Word, each_block, half, is_finite};

const ELEMENTS: usize = 256;
const BYTES_2: usize = 84;
const BYTES_3: usize = 110;
const BYTES_4: usize = 144;
const BYTES_5: usize = 176;
const BYTES_6: usize = 210;
const BYTES_8: usize = 292;

per_cpu! {
    /// As `dequantize_row_q2_K`.
    pub(super) fn q2(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_2]| is_finite(block, 80) && is_finite(block, 82);
        each_block(src, dst, is_plain, elements_2::<Plain>, elements_2::<LikeX86>);
    }
}

/// 16 bytes with a scale and a minimum of 4 bits for each 16 elements; 2 bits each, a byte holding every 32nd of 128;
/// the scales of scales and minima.
#[inline(always)]
fn elements_2<A: Arithmetic>(block: &[u8; BYTES_2], floats: &mut [Word; ELEMENTS]) {
    let (d, min) = (half(block, 80), half(block, 82));
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(&block[..16]);
    for (idx, (floats, scales)) in groups.enumerate() {
        let scale = A::mul(d, f32::from(scales & 15));
        let min = A::mul(min, f32::from(scales >> 4));
        let (quants, shift) = twos(&block[16..80], idx);
        for (quant, float) in quants.iter().zip(floats) {
            *float = A::sub(A::mul(scale, f32::from(quant >> shift & 3)), min).to_le_bytes();
        }
    }
}

/// The bytes that hold the 2 bits of group `idx` of 16 elements, and how far up they lie.
#[inline(always)]
fn twos(quants: &[u8], idx: usize) -> (&[u8; 16], usize) {
    let bytes = &quants.as_chunks::<16>().0[idx / 8 * 2 + idx % 2];
    (bytes, idx % 8 / 2 * 2)
}

per_cpu! {
    /// As `dequantize_row_q3_K`.
    pub(super) fn q3(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_3]| is_finite(block, 108);
        each_block(src, dst, is_plain, elements_3::<Plain>, elements_3::<LikeX86>);
    }
}

/// 32 bytes with the third bits, a byte holding every 32nd; 2 bits each as in q2_k; 16 scales of 6 bits; their scale.
#[inline(always)]
fn elements_3<A: Arithmetic>(block: &[u8; BYTES_3], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 108);
    let scales = &block[96..108];
    for (idx, floats) in floats.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        // Of the low 4 bits eight lie below the other eight; of the high 2 bits every fourth lies in one byte.
        let low = scales[idx % 8] >> (idx / 8 * 4) & 15;
        let high = scales[8 + idx % 4] >> (idx / 4 * 2) & 3;
        let scale = A::mul(d, f32::from((low | high << 4) as i8 - 32));
        let (quants, shift) = twos(&block[32..96], idx);
        let thirds = &block[..32].as_chunks::<16>().0[idx % 2];
        let third = 1 << (idx / 2);
        for ((quant, bits), float) in quants.iter().zip(thirds).zip(floats) {
            let offset = if bits & third != 0 { 0 } else { 4 };
            let level = (quant >> shift & 3) as i8 - offset;
            *float = A::mul(scale, f32::from(level)).to_le_bytes();
        }
    }
}

per_cpu! {
    /// As `dequantize_row_q4_K`.
    pub(super) fn q4(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_4]| is_finite(block, 0) && is_finite(block, 2);
        each_block(src, dst, is_plain, elements_4::<Plain>, elements_4::<LikeX86>);
    }
}

/// The scales of scales and minima; 8 of each with 6 bits; 4 bits each, a byte holding an element of each of two groups
/// of 32.
#[inline(always)]
fn elements_4<A: Arithmetic>(block: &[u8; BYTES_4], floats: &mut [Word; ELEMENTS]) {
    let scales = scales_and_minima::<A>(&block[..16]);
    let groups = floats.as_chunks_mut::<32>().0.iter_mut().zip(scales);
    for (idx, (floats, (scale, min))) in groups.enumerate() {
        let quants = &block[16..].as_chunks::<32>().0[idx / 2];
        let shift = idx % 2 * 4;
        for (quant, float) in quants.iter().zip(floats) {
            *float = A::sub(A::mul(scale, f32::from(quant >> shift & 15)), min).to_le_bytes();
        }
    }
}

/// Scale and minimum of each 32 elements, as q4_k and q5_k have them.
#[inline(always)]
fn scales_and_minima<A: Arithmetic>(head: &[u8]) -> [(f32, f32); 8] {
    let (d, min) = (half(head, 0), half(head, 2));
    let codes = &head[4..16];
    std::array::from_fn(|idx| {
        let (scale, minimum) = match idx {
            0..4 => (codes[idx] & 63, codes[idx + 4] & 63),
            _ => (codes[idx + 4] & 15 | codes[idx - 4] >> 6 << 4, codes[idx + 4] >> 4 | codes[idx] >> 6 << 4),
        };
        (A::mul(d, f32::from(scale)), A::mul(min, f32::from(minimum)))
    })
}

per_cpu! {
    /// As `dequantize_row_q5_K`.
    pub(super) fn q5(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_5]| is_finite(block, 0) && is_finite(block, 2);
        each_block(src, dst, is_plain, elements_5::<Plain>, elements_5::<LikeX86>);
    }
}

/// As q4_k, with 32 bytes of fifth bits between, a byte holding every 32nd.
#[inline(always)]
fn elements_5<A: Arithmetic>(block: &[u8; BYTES_5], floats: &mut [Word; ELEMENTS]) {
    let scales = scales_and_minima::<A>(&block[..16]);
    let groups = floats.as_chunks_mut::<32>().0.iter_mut().zip(scales);
    for (idx, (floats, (scale, min))) in groups.enumerate() {
        let quants = &block[48..].as_chunks::<32>().0[idx / 2];
        let shift = idx % 2 * 4;
        let fifth = 1 << idx;
        for ((quant, bits), float) in quants.iter().zip(&block[16..48]).zip(floats) {
            let code = (quant >> shift & 15) + if bits & fifth != 0 { 16 } else { 0 };
            *float = A::sub(A::mul(scale, f32::from(code)), min).to_le_bytes();
        }
    }
}

per_cpu! {
    /// As `dequantize_row_q6_K`.
    pub(super) fn q6(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_6]| is_finite(block, 208);
        each_block(src, dst, is_plain, elements_6::<Plain>, elements_6::<LikeX86>);
    }
}

/// For each 128 elements 64 bytes with the low 4 bits, a byte holding every 64th; the same with the high 2 bits, 32
/// bytes, every 32nd; 16 signed scales of 8 bits; their scale.
#[inline(always)]
fn elements_6<A: Arithmetic>(block: &[u8; BYTES_6], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 208);
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(&block[192..208]);
    for (idx, (floats, scale)) in groups.enumerate() {
        let scale = A::mul(d, f32::from(*scale as i8));
        let low = &block[..128].as_chunks::<16>().0[idx / 8 * 4 + idx % 4];
        let low_shift = idx % 8 / 4 * 4;
        let (high, high_shift) = twos(&block[128..192], idx);
        for ((low, high), float) in low.iter().zip(high).zip(floats) {
            let code = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
            *float = A::mul(scale, f32::from(code as i8 - 32)).to_le_bytes();
        }
    }
}

per_cpu! {
    /// As `dequantize_row_q8_K`: an f32 scale, a signed byte each, and sums that are for dot products only.
    pub(super) fn q8(src: &[u8], dst: &mut [u8]) {
        let is_plain = |block: &[u8; BYTES_8]| scale_8(block).is_finite();
        each_block(src, dst, is_plain, elements_8::<Plain>, elements_8::<LikeX86>);
    }
}

#[inline(always)]
fn scale_8(block: &[u8; BYTES_8]) -> f32 {
    f32::from_le_bytes([block[0], block[1], block[2], block[3]])
}

#[inline(always)]
fn elements_8<A: Arithmetic>(block: &[u8; BYTES_8], floats: &mut [Word; ELEMENTS]) {
    let d = scale_8(block);
    for (quant, float) in block[4..260].iter().zip(floats) {
        *float = A::mul(d, f32::from(*quant as i8)).to_le_bytes();
    }
}
