//! Quantizers of ggml that search for scales: byte for byte what `ggml_quantize_chunk` writes on x86-64 without fused
//! multiply-add, with importance weights or without.
//!
//! Each quantizer works on batches of super-blocks: their groups are searched side by side ([`lanes`]), then every
//! super-block settles its scales and codes.

#![allow(clippy::needless_range_loop, reason = "a lane is an index into several arrays")]

mod affine;
mod descent;
mod iq4;
mod lanes;
mod legacy;
mod q2_k;
mod q3_k;
mod q4_k;
mod q6_k;
mod symmetric;
#[cfg(test)]
mod tests;
mod weigh;

use super::{Recode, RecodeRows};
use lanes::nearest;
use modelferry_core::dtype::DType;

/// Elements of a super-block.
const SUPER: usize = 256;

/// The quantizer of a searched type.
pub(super) fn quantizer(dtype: DType) -> Option<Recode> {
    Some(match dtype {
        DType::Q2K => q2_k::quantize,
        DType::Q3K => q3_k::quantize,
        DType::Q4K => q4_k::quantize_q4,
        DType::Q5K => q4_k::quantize_q5,
        DType::Q6K => q6_k::quantize,
        DType::Iq4Nl => iq4::quantize_nl,
        DType::Iq4Xs => iq4::quantize_xs,
        _ => return None,
    })
}

/// The quantizer of a type that heeds importance weights.
pub(super) fn weighted_quantizer(dtype: DType) -> Option<RecodeRows> {
    Some(match dtype {
        DType::Q4_0 => legacy::quantize_q4_0,
        DType::Q4_1 => legacy::quantize_q4_1,
        DType::Q5_0 => legacy::quantize_q5_0,
        DType::Q5_1 => legacy::quantize_q5_1,
        DType::Q2K => q2_k::quantize_weighted,
        DType::Q3K => q3_k::quantize_weighted,
        DType::Q4K => q4_k::quantize_q4_weighted,
        DType::Q5K => q4_k::quantize_q5_weighted,
        DType::Q6K => q6_k::quantize_weighted,
        DType::Iq4Nl => iq4::quantize_nl_weighted,
        DType::Iq4Xs => iq4::quantize_xs_weighted,
        _ => return None,
    })
}

/// The codes of a group for the scale and the minimum that were written, or as the search picked them where the scale
/// is zero.
#[inline(always)]
fn affine_codes<const N: usize>(
    floats: &[[u8; 4]; N],
    codes: &mut [u8; N],
    d: f32,
    min: f32,
    pick: affine::Pick,
    top: i32,
) {
    for l in 0..N {
        let x = f32::from_le_bytes(floats[l]);
        codes[l] = nearest((x + min) / d).min(top).max(0) as u8;
    }
    if d == 0.0 {
        for l in 0..N {
            codes[l] = pick.code(f32::from_le_bytes(floats[l]), top);
        }
    }
}

/// The codes of a group for a scale alone, or as `picked` where the scale is zero.
#[inline(always)]
fn signed_codes(
    floats: &[[u8; 4]; 16],
    codes: &mut [u8; 16],
    d: f32,
    half: i32,
    picked: impl Fn(usize, f32) -> u8,
) {
    for l in 0..16 {
        let x = f32::from_le_bytes(floats[l]);
        codes[l] = (nearest(x / d).min(half - 1).max(-half) + half) as u8;
    }
    if d == 0.0 {
        for l in 0..16 {
            codes[l] = picked(l, f32::from_le_bytes(floats[l]));
        }
    }
}

/// Two bits of each code: four codes to a byte, 32 apart.
#[inline(always)]
fn pack2(codes: &[u8; SUPER], bytes: &mut [u8]) {
    for (codes, bytes) in codes.as_chunks::<128>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        for l in 0..32 {
            bytes[l] =
                codes[l] & 3 | (codes[l + 32] & 3) << 2 | (codes[l + 64] & 3) << 4 | codes[l + 96] << 6;
        }
    }
}
