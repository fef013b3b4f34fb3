//! Decoders of q2_k to q6_k and q8_k: 256 elements in groups of 16 or 32, whose scales are quantized themselves (ggml,
//! `block_q2_K` to `block_q8_K` in ggml-common.h, `dequantize_row_*` in ggml-quants.c).

use super::decode::{Arithmetic, Word, half, is_finite, scaled};

const ELEMENTS: usize = 256;
const BYTES_2: usize = 84;
const BYTES_3: usize = 110;
const BYTES_4: usize = 144;
const BYTES_5: usize = 176;
const BYTES_6: usize = 210;
const BYTES_8: usize = 292;

decoder! {
    /// As `dequantize_row_q2_K`.
    q2: BYTES_2 to ELEMENTS by elements_2, plain if |block| is_finite(block, 80) && is_finite(block, 82)
}

/// 16 bytes with a scale and a minimum of 4 bits for each 16 elements; 2 bits each, a byte holding every 32nd of 128;
/// the scales of scales and minima.
#[inline(always)]
fn elements_2<A: Arithmetic>(block: &[u8; BYTES_2], floats: &mut [Word; ELEMENTS]) {
    let (d, min) = (half(block, 80), half(block, 82));
    let scales: [_; 16] = std::array::from_fn(|idx| {
        let codes = block[idx];
        (A::mul(d, f32::from(codes & 15)), A::mul(min, f32::from(codes >> 4)))
    });
    let levels = twos(&block[16..80]);
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
    for ((floats, levels), (scale, min)) in groups.zip(scales) {
        for (level, float) in levels.iter().zip(floats) {
            *float = A::sub(A::mul(scale, f32::from(*level)), min).to_le_bytes();
        }
    }
}

/// 2 bits for each element, a byte holding every 32nd of 128.
#[inline(always)]
fn twos(quants: &[u8]) -> [i8; ELEMENTS] {
    let mut levels = [0; ELEMENTS];
    let parts = levels.as_chunks_mut::<128>().0.iter_mut().zip(quants.as_chunks::<32>().0);
    for (levels, quants) in parts {
        for (idx, levels) in levels.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (level, quant) in levels.iter_mut().zip(quants) {
                *level = (quant >> (2 * idx) & 3) as i8;
            }
        }
    }
    levels
}

decoder! {
    /// As `dequantize_row_q3_K`.
    q3: BYTES_3 to ELEMENTS by elements_3, plain if |block| is_finite(block, 108)
}

/// 32 bytes with the third bits, a byte holding every 32nd; 2 bits each as in q2_k; 16 scales of 6 bits; their scale.
#[inline(always)]
fn elements_3<A: Arithmetic>(block: &[u8; BYTES_3], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 108);
    let mut levels = twos(&block[32..96]);
    for (idx, levels) in levels.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (level, bits) in levels.iter_mut().zip(&block[..32]) {
            *level -= if bits >> idx & 1 == 1 { 0 } else { 4 };
        }
    }
    let scales = &block[96..108];
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
    for (idx, (floats, levels)) in groups.enumerate() {
        // Of the low 4 bits eight lie below the other eight; of the high 2 bits every fourth lies in one byte.
        let low = scales[idx % 8] >> (idx / 8 * 4) & 15;
        let high = scales[8 + idx % 4] >> (idx / 4 * 2) & 3;
        scaled::<A>(A::mul(d, f32::from((low | high << 4) as i8 - 32)), levels, floats);
    }
}

decoder! {
    /// As `dequantize_row_q4_K`.
    q4: BYTES_4 to ELEMENTS by elements_4, plain if |block| is_finite(block, 0) && is_finite(block, 2)
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

decoder! {
    /// As `dequantize_row_q5_K`.
    q5: BYTES_5 to ELEMENTS by elements_5, plain if |block| is_finite(block, 0) && is_finite(block, 2)
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

decoder! {
    /// As `dequantize_row_q6_K`.
    q6: BYTES_6 to ELEMENTS by elements_6, plain if |block| is_finite(block, 208)
}

/// For each 128 elements 64 bytes with the low 4 bits, a byte holding every 64th; the same with the high 2 bits, 32
/// bytes, every 32nd; 16 signed scales of 8 bits; their scale.
#[inline(always)]
fn elements_6<A: Arithmetic>(block: &[u8; BYTES_6], floats: &mut [Word; ELEMENTS]) {
    let d = half(block, 208);
    let mut levels = twos(&block[128..192]);
    for (idx, levels) in levels.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = &block[..128].as_chunks::<32>().0[idx / 4 * 2 + idx % 2];
        for (level, low) in levels.iter_mut().zip(low) {
            *level = (*level << 4 | (low >> (idx % 4 / 2 * 4) & 15) as i8) - 32;
        }
    }
    let groups = floats.as_chunks_mut::<16>().0.iter_mut().zip(levels.as_chunks::<16>().0);
    for ((floats, levels), scale) in groups.zip(&block[192..208]) {
        scaled::<A>(A::mul(d, f32::from(*scale as i8)), levels, floats);
    }
}

decoder! {
    /// As `dequantize_row_q8_K`: an f32 scale, a signed byte each, and sums that are for dot products only.
    q8: BYTES_8 to ELEMENTS by elements_8, plain if |block| scale_8(block).is_finite()
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
