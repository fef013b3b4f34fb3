//! q4_0: 32 elements as an f16 scale and 4 bits each, with 8 for zero (ggml, `block_q4_0` in ggml-common.h).

use super::decode::{self, Arithmetic};
use super::encode::{clip, codes, half, inverse, largest, pack_nibbles};

const ELEMENTS: usize = 32;
const BYTES: usize = 2 + ELEMENTS / 2;

per_cpu! {
    /// As `quantize_row_q4_0_ref` of ggml-quants.c.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
            let d = largest(floats) / -8.0;
            let inverse = inverse(d);
            let (scale, quants) = block.split_at_mut(2);
            scale.copy_from_slice(&half(d));
            pack_nibbles(&codes(floats, |x| clip(x * inverse + 8.5, 15)), quants);
        }
    }
}

decoder! {
    /// As `dequantize_row_q4_0`.
    dequantize: BYTES to ELEMENTS by elements, plain if |block| decode::is_finite(block, 0)
}

#[inline(always)]
fn elements<A: Arithmetic>(block: &[u8; BYTES], floats: &mut [decode::Word; ELEMENTS]) {
    let d = decode::half(block, 0);
    let element = |code: u8| A::mul(f32::from(code as i8 - 8), d).to_le_bytes();
    let (low, high) = floats.split_at_mut(ELEMENTS / 2);
    for ((quant, low), high) in block[2..].iter().zip(low).zip(high) {
        *low = element(quant & 15);
        *high = element(quant >> 4);
    }
}
