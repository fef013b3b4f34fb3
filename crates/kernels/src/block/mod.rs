//! Block codecs, and pruning, which works on groups too.

mod error;
mod prune;
mod q8_0;

pub use error::QuantStats;
pub use prune::prune_nm;

use modelferry_core::dtype::DType;

/// The codec of one block-quantized type.
#[derive(Clone, Copy, Debug)]
pub struct BlockCodec {
    dtype: DType,
    quantize: fn(&[u8], &mut [u8]),
    dequantize: fn(&[u8], &mut [u8]),
}

impl BlockCodec {
    /// The codec of `dtype`; `None` for types without one.
    pub fn new(dtype: DType) -> Option<BlockCodec> {
        match dtype {
            DType::Q8_0 => Some(BlockCodec { dtype, quantize: q8_0::quantize, dequantize: q8_0::dequantize }),
            _ => None,
        }
    }

    /// The type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Quantizes dense f32 into dense blocks. Rows are whole blocks, so any number of rows may be given at once.
    ///
    /// `src` has 4 bytes for each of [`DType::item_elements`] elements of each block of [`DType::item_bytes`] in
    /// `dst`.
    pub fn quantize(&self, src: &[u8], dst: &mut [u8]) {
        self.check(dst.len(), src.len());
        (self.quantize)(src, dst);
    }

    /// The reverse: dense blocks into dense f32.
    pub fn dequantize(&self, src: &[u8], dst: &mut [u8]) {
        self.check(src.len(), dst.len());
        (self.dequantize)(src, dst);
    }

    fn check(&self, block_bytes: usize, float_bytes: usize) {
        debug_assert_eq!(
            Some(block_bytes as u64),
            self.dtype.packed_len(float_bytes as u64 / 4),
            "{} of {float_bytes} bytes",
            self.dtype
        );
    }
}
