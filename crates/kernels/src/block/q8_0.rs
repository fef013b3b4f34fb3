//! q8_0: 32 elements as an f16 scale and 32 signed bytes (ggml, `block_q8_0` in ggml-common.h).

use super::decode::{self, Arithmetic};
use super::encode::{codes, forgetful_magnitude, half, inverse, round};

const ELEMENTS: usize = 32;
const BYTES: usize = 2 + ELEMENTS;

per_cpu! {
    /// As `quantize_row_q8_0_ref` of ggml-quants.c, byte for byte; where C leaves the result open (a block that holds
    /// NaN or infinity, or whose largest magnitude is so small that its inverse is infinite), as x86-64 runs it.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
            let d = forgetful_magnitude(floats) / 127.0;
            let inverse = inverse(d);
            let (scale, quants) = block.split_at_mut(2);
            scale.copy_from_slice(&half(d));
            quants.copy_from_slice(&codes(floats, |x| round(x * inverse)));
        }
    }
}

decoder! {
    /// As `dequantize_row_q8_0`.
    dequantize: BYTES to ELEMENTS by elements, plain if |block| decode::is_finite(block, 0)
}

#[inline(always)]
fn elements<A: Arithmetic>(block: &[u8; BYTES], floats: &mut [decode::Word; ELEMENTS]) {
    let d = decode::half(block, 0);
    for (quant, float) in block[2..].iter().zip(floats) {
        *float = A::mul(f32::from(*quant as i8), d).to_le_bytes();
    }
}
