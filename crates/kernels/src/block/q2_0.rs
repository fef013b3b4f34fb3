//! q2_0: 64 elements as an f16 scale and 2 bits each, for -1, 0, 1 and 2 (ggml, `block_q2_0` in ggml-common.h).

use super::decode::{self, Arithmetic};
use super::encode::{codes, half, magnitude, round};

const ELEMENTS: usize = 64;
const BYTES: usize = 2 + ELEMENTS / 4;

per_cpu! {
    /// As `quantize_row_q2_0_ref` of ggml-quants.c.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
            let d = magnitude(floats);
            let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
            let (scale, quants) = block.split_at_mut(2);
            scale.copy_from_slice(&half(d));
            let codes = codes(floats, |x| {
                let scaled = x * inverse;
                // Out of range and NaN become -2^31, which is clamped.
                let scaled = if scaled.abs() < 2_147_483_648.0 { scaled } else { -1.0 };
                (round(scaled) + 1).clamp(0, 3)
            });
            for (codes, quant) in codes.as_chunks::<4>().0.iter().zip(quants) {
                *quant = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6;
            }
        }
    }
}

decoder! {
    /// As `dequantize_row_q2_0`.
    dequantize: BYTES to ELEMENTS by elements, plain if |block| decode::is_finite(block, 0)
}

#[inline(always)]
fn elements<A: Arithmetic>(block: &[u8; BYTES], floats: &mut [decode::Word; ELEMENTS]) {
    let d = decode::half(block, 0);
    for (quant, floats) in block[2..].iter().zip(floats.as_chunks_mut::<4>().0) {
        for (idx, float) in floats.iter_mut().enumerate() {
            *float = A::mul(f32::from((quant >> (2 * idx) & 3) as i8 - 1), d).to_le_bytes();
        }
    }
}
