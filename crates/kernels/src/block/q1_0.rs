//! q1_0: 128 elements as an f16 scale and their signs (ggml, `block_q1_0` in ggml-common.h).

use super::encode::{Word, codes, get, half, pack_bits};
use crate::lanes::f16_to_f32;

const ELEMENTS: usize = 128;
const BYTES: usize = 2 + ELEMENTS / 8;
/// Blocks whose sums are taken side by side: each sum alone is a chain of 128 additions in the order of C.
const ABREAST: usize = 8;

per_cpu! {
    /// As `quantize_row_q1_0_ref` of ggml-quants.c.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        let blocks = dst.as_chunks_mut::<BYTES>().0;
        for (floats, blocks) in floats.chunks(ABREAST).zip(blocks.chunks_mut(ABREAST)) {
            let mut sums = [0f32; ABREAST];
            if let Some(floats) = floats.first_chunk::<ABREAST>() {
                for idx in 0..ELEMENTS {
                    for (sum, floats) in sums.iter_mut().zip(floats) {
                        *sum += get(&floats[idx]).abs();
                    }
                }
            } else {
                for (sum, floats) in sums.iter_mut().zip(floats) {
                    *sum = floats.iter().fold(0.0, |sum, float| sum + get(float).abs());
                }
            }
            for ((floats, block), sum) in floats.iter().zip(blocks).zip(sums) {
                encode(floats, block, sum);
            }
        }
    }
}

#[inline(always)]
fn encode(floats: &[Word; ELEMENTS], block: &mut [u8; BYTES], sum: f32) {
    let (scale, quants) = block.split_at_mut(2);
    // A sum of magnitudes is never a negative NaN on x86-64.
    scale.copy_from_slice(&half((sum / ELEMENTS as f32).abs()));
    let codes = codes(floats, |x| i32::from(x >= 0.0));
    for (codes, quant) in codes.as_chunks::<8>().0.iter().zip(quants) {
        *quant = pack_bits(codes, 0);
    }
}

per_cpu! {
    /// As `dequantize_row_q1_0`: the scale or, sign bit and all, its negative.
    pub(super) fn dequantize(src: &[u8], dst: &mut [u8]) {
        let floats = dst.as_chunks_mut::<4>().0.as_chunks_mut::<ELEMENTS>().0;
        for (block, floats) in src.as_chunks::<BYTES>().0.iter().zip(floats) {
            let d = f16_to_f32(u16::from_le_bytes([block[0], block[1]]));
            for (quant, floats) in block[2..].iter().zip(floats.as_chunks_mut::<8>().0) {
                for (idx, float) in floats.iter_mut().enumerate() {
                    *float = (d ^ if quant & 1 << idx == 0 { 1 << 31 } else { 0 }).to_le_bytes();
                }
            }
        }
    }
}
