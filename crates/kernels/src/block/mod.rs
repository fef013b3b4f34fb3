//! Block codecs, and pruning, which works on groups too.
//!
//! Decoders and encoders give the bytes of llama.cpp's plain x86-64 build (ggml-quants.c without fused
//! multiply-add) on every machine, also where C leaves a result open: NaN, infinity, and values so small that the
//! inverse of their scale is infinite. Any bits are a legal block.

#[macro_use]
mod decode;
mod encode;
mod error;
mod fp4;
mod grids;
mod iq1;
mod iq2;
mod iq3;
mod iq4_dequantize;
mod k_dequantize;
mod prune;
mod q1_0;
mod q2_0;
mod q4_0;
mod q4_1;
mod q5;
mod q8_0;
mod searched;
mod ternary;

#[cfg(test)]
mod tests;

pub use error::QuantStats;
pub use prune::prune_nm;

use modelferry_core::dtype::DType;

/// Blocks to elements, or elements to blocks.
type Recode = fn(&[u8], &mut [u8]);

/// Rows to blocks under importance weights: elements, elements per row, weights of a row, blocks.
type RecodeRows = fn(&[u8], usize, &[u8], &mut [u8]);

/// The codec of one block-quantized type.
#[derive(Clone, Copy, Debug)]
pub struct BlockCodec {
    dtype: DType,
    quantize: Option<Recode>,
    quantize_weighted: Option<RecodeRows>,
    dequantize: Recode,
}

impl BlockCodec {
    /// The codec of `dtype`; `None` for types without one: every block type of ggml that has a decoder there has one
    /// here (`q8_1`, which is for dot products only, has not).
    ///
    /// ```
    /// use modelferry_core::dtype::DType;
    /// use modelferry_kernels::block::BlockCodec;
    /// let codec = BlockCodec::new(DType::Iq2Xxs).expect("it can be read");
    /// assert!(!codec.can_quantize());
    /// ```
    pub fn new(dtype: DType) -> Option<BlockCodec> {
        let (quantize, dequantize): (Option<Recode>, Recode) = match dtype {
            DType::Q1_0 => (Some(q1_0::quantize), q1_0::dequantize),
            DType::Q2_0 => (Some(q2_0::quantize), q2_0::dequantize),
            DType::Q4_0 => (Some(q4_0::quantize), q4_0::dequantize),
            DType::Q4_1 => (Some(q4_1::quantize), q4_1::dequantize),
            DType::Q5_0 => (Some(q5::quantize_0), q5::dequantize_0),
            DType::Q5_1 => (Some(q5::quantize_1), q5::dequantize_1),
            DType::Q8_0 => (Some(q8_0::quantize), q8_0::dequantize),
            DType::Q2K => (None, k_dequantize::q2),
            DType::Q3K => (None, k_dequantize::q3),
            DType::Q4K => (None, k_dequantize::q4),
            DType::Q5K => (None, k_dequantize::q5),
            DType::Q6K => (None, k_dequantize::q6),
            DType::Q8K => (None, k_dequantize::q8),
            DType::Iq1S => (None, iq1::s),
            DType::Iq1M => (None, iq1::m),
            DType::Iq2Xxs => (None, iq2::xxs),
            DType::Iq2Xs => (None, iq2::xs),
            DType::Iq2S => (None, iq2::s),
            DType::Iq3Xxs => (None, iq3::xxs),
            DType::Iq3S => (None, iq3::s),
            DType::Iq4Nl => (None, iq4_dequantize::nl),
            DType::Iq4Xs => (None, iq4_dequantize::xs),
            DType::Tq1_0 => (Some(ternary::quantize_1), ternary::dequantize_1),
            DType::Tq2_0 => (Some(ternary::quantize_2), ternary::dequantize_2),
            DType::Mxfp4 => (Some(fp4::quantize_mx), fp4::dequantize_mx),
            DType::Nvfp4 => (Some(fp4::quantize_nv), fp4::dequantize_nv),
            _ => return None,
        };
        let quantize = quantize.or(searched::quantizer(dtype));
        Some(BlockCodec {
            dtype,
            quantize,
            quantize_weighted: searched::weighted_quantizer(dtype),
            dequantize,
        })
    }

    /// The type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether there is an encoder that needs no weights.
    pub fn can_quantize(&self) -> bool {
        self.quantize.is_some()
    }

    /// Whether there is an encoder that minds importance weights. Where there is none, ggml has none either: it passes
    /// the weights over.
    pub fn can_quantize_weighted(&self) -> bool {
        self.quantize_weighted.is_some()
    }

    /// Quantizes dense f32 into dense blocks. Rows are whole blocks, so any number of rows may be given at once.
    ///
    /// `src` has 4 bytes for each of [`DType::item_elements`] elements of each block of [`DType::item_bytes`] in
    /// `dst`. Without an encoder ([`can_quantize`](BlockCodec::can_quantize)) nothing is written.
    pub fn quantize(&self, src: &[u8], dst: &mut [u8]) {
        self.check(dst.len(), src.len());
        debug_assert!(self.can_quantize(), "no encoder for {}", self.dtype);
        if let Some(quantize) = self.quantize {
            quantize(src, dst);
        }
    }

    /// Quantizes whole rows of `row_elements` dense f32 under importance weights, one f32 for each element of a row.
    ///
    /// `src` and `dst` are as in [`quantize`](BlockCodec::quantize), and `weights` has 4 bytes for each element of a
    /// row. Without such an encoder ([`can_quantize_weighted`](BlockCodec::can_quantize_weighted)) nothing is written.
    pub fn quantize_weighted(&self, src: &[u8], row_elements: usize, weights: &[u8], dst: &mut [u8]) {
        self.check(dst.len(), src.len());
        debug_assert_eq!(weights.len(), row_elements * 4, "weights of a row");
        debug_assert!(row_elements > 0 && src.len().is_multiple_of(row_elements * 4), "whole rows");
        debug_assert!(self.can_quantize_weighted(), "no encoder for {}", self.dtype);
        if let Some(quantize) = self.quantize_weighted {
            quantize(src, row_elements, weights, dst);
        }
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
