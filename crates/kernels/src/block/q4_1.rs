//! q4_1: 32 elements as an f16 scale, an f16 minimum and 4 bits each (ggml, `block_q4_1` in ggml-common.h).

use super::decode::{self, Arithmetic};
use super::encode::{clip, codes, extent, half, inverse, pack_nibbles};

const ELEMENTS: usize = 32;
const BYTES: usize = 4 + ELEMENTS / 2;

per_cpu! {
    /// As `quantize_row_q4_1_ref` of ggml-quants.c.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
            let (min, max) = extent(floats);
            let d = (max - min) / 15.0;
            let inverse = inverse(d);
            let (scales, quants) = block.split_at_mut(4);
            scales[..2].copy_from_slice(&half(d));
            scales[2..].copy_from_slice(&half(min));
            pack_nibbles(&codes(floats, |x| clip((x - min) * inverse + 0.5, 15)), quants);
        }
    }
}

decoder! {
    /// As `dequantize_row_q4_1`.
    dequantize: BYTES to ELEMENTS by elements, plain if |block| decode::is_finite(block, 0) && decode::is_finite(block, 2)
}

#[inline(always)]
fn elements<A: Arithmetic>(block: &[u8; BYTES], floats: &mut [decode::Word; ELEMENTS]) {
    let (d, min) = (decode::half(block, 0), decode::half(block, 2));
    let element = |code: u8| A::add(A::mul(f32::from(code), d), min).to_le_bytes();
    let (low, high) = floats.split_at_mut(ELEMENTS / 2);
    for ((quant, low), high) in block[4..].iter().zip(low).zip(high) {
        *low = element(quant & 15);
        *high = element(quant >> 4);
    }
}
