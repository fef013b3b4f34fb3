//! Numbers that cross the boundary. They are never given another meaning and never used again.

#![allow(
    missing_docs,
    reason = "element types are explained in modelferry_core::dtype, kinds where they are used"
)]

use modelferry_core::DType;
use modelferry_core::error::ErrorKind;
use modelferry_core::loss::LossKind;

/// Major version: it stands in the name of the entry.
pub const MF_ABI_MAJOR: u32 = 1;
/// Minor version: what was added since.
pub const MF_ABI_MINOR: u32 = 0;

/// All went well.
pub const MF_OK: i32 = 0;
/// It did not, and the report was told why.
pub const MF_FAILED: i32 = 1;

/// No position, no offset.
pub const MF_NONE: u64 = u64::MAX;
/// No file.
pub const MF_NO_FILE: u32 = u32::MAX - 1;
/// The folder itself, where a folder is what the user named.
pub const MF_FOLDER: u32 = u32::MAX;

/// Not this format.
pub const MF_VERDICT_NO: u32 = 0;
/// The name fits, the content says nothing either way.
pub const MF_VERDICT_NAME: u32 = 1;
/// The content fits.
pub const MF_VERDICT_CONTENT: u32 = 2;

/// Bytes of an input file.
pub const MF_DATA_FILE: u32 = 1;
/// A node.
pub const MF_DATA_NODE: u32 = 2;
/// Bytes that the plugin makes.
pub const MF_DATA_MADE: u32 = 3;
/// To a writer: bytes that are computed, or moved.
pub const MF_DATA_UNSEEN: u32 = 4;

/// `n` bytes of file `p` from byte `q` on.
pub const MF_OP_REGION: u32 = 1;
/// The bytes of blob `p`.
pub const MF_OP_INLINE: u32 = 2;
/// The `n` inflated bytes (RFC 1951) of `of`.
pub const MF_OP_INFLATE: u32 = 3;
/// `n` integers from the protobuf varints in `of`; `p` is the tag before each, or `MF_NONE`. `MF_FLAG_ZIGZAG`.
pub const MF_OP_VARINTS: u32 = 4;
/// `n` bytes that source `q` makes, under the token `p`; `list` is the preferred multiple of bytes, empty for a source
/// that is read in order only.
pub const MF_OP_MADE: u32 = 5;
/// `n` items out of the bytes `of`. `MF_FLAG_BIG_ENDIAN`, `MF_FLAG_HIGH_BITS_FIRST`.
pub const MF_OP_DECODE: u32 = 6;
/// A strided selection of `of` from item `p` on; `list` is the extent and the stride (two's complement) of each axis.
pub const MF_OP_VIEW: u32 = 7;
/// A box put together from parts; `p` is the rank; `list` is the shape, then of each part its node, its first index on
/// each axis, its extent on each axis.
pub const MF_OP_ASSEMBLE: u32 = 8;
/// Groups of `p` items of `of`; `list` says which.
pub const MF_OP_GATHER: u32 = 9;
/// A function of items: `p` is one of `MF_MAP_…`, `q` the bits of its constant, `list` its arguments.
pub const MF_OP_MAP: u32 = 10;
/// The f32 elements of the blocks `of`; `p` is the number of elements in a row.
pub const MF_OP_DEQUANTIZE: u32 = 11;

pub const MF_FLAG_BIG_ENDIAN: u32 = 1;
pub const MF_FLAG_HIGH_BITS_FIRST: u32 = 2;
pub const MF_FLAG_ZIGZAG: u32 = 4;

/// To the node's type, rounded once to nearest even.
pub const MF_MAP_CAST: u64 = 1;
/// `-x`.
pub const MF_MAP_NEG: u64 = 2;
/// The complex conjugate.
pub const MF_MAP_CONJ: u64 = 3;
/// `x + c`.
pub const MF_MAP_ADD: u64 = 4;
/// `x * c`.
pub const MF_MAP_MUL: u64 = 5;
/// `-exp(x)`.
pub const MF_MAP_NEG_EXP: u64 = 6;
/// `(q - z) * s` of `q, z, s`.
pub const MF_MAP_SUB_MUL: u64 = 7;
/// `q * s + z` of `q, s, z`.
pub const MF_MAP_MUL_ADD: u64 = 8;

/// Bytes of a blob.
pub const MF_PIECE_BLOB: u32 = 1;
/// Packed bytes of a tensor.
pub const MF_PIECE_TENSOR: u32 = 2;
/// Bytes of an asset.
pub const MF_PIECE_ASSET: u32 = 3;
/// Zeros.
pub const MF_PIECE_ZERO: u32 = 4;

pub const MF_DIGEST_CRC32: u32 = 1;
pub const MF_DIGEST_SHA256: u32 = 2;

/// The bytes of the digest; a CRC-32 as a little-endian number.
pub const MF_FORM_RAW: u32 = 1;
/// Lower-case hexadecimal.
pub const MF_FORM_HEX: u32 = 2;

/// One file.
pub const MF_SHARDS_ONE: u32 = 0;
/// Files of at most so many bytes of tensors.
pub const MF_SHARDS_MAX: u32 = 1;
/// As they were in the source.
pub const MF_SHARDS_KEEP: u32 = 2;

/// Are two sequences the same bytes?
pub const MF_QUERY_EQUAL: u32 = 1;
/// Some items of a sequence, as bytes.
pub const MF_QUERY_SMALL: u32 = 2;
/// Are all its bytes zero?
pub const MF_QUERY_ALL_ZERO: u32 = 3;
/// The largest magnitude.
pub const MF_QUERY_ABS_MAX: u32 = 4;
/// How many items are not zero.
pub const MF_QUERY_NNZ: u32 = 5;

pub const MF_ERROR_DIFFERENCE: u32 = 1;
pub const MF_ERROR_USAGE: u32 = 2;
pub const MF_ERROR_EXISTS: u32 = 3;
pub const MF_ERROR_AMBIGUOUS: u32 = 4;
pub const MF_ERROR_MALFORMED: u32 = 5;
pub const MF_ERROR_UNSUPPORTED: u32 = 6;
pub const MF_ERROR_TARGET: u32 = 7;
pub const MF_ERROR_LIMIT: u32 = 8;
pub const MF_ERROR_IO: u32 = 9;
pub const MF_ERROR_PLUGIN: u32 = 10;
pub const MF_ERROR_INTERRUPTED: u32 = 11;

pub const MF_LOSS_DTYPE: u32 = 1;
pub const MF_LOSS_OVERFLOW: u32 = 2;
pub const MF_LOSS_UNDERFLOW: u32 = 3;
pub const MF_LOSS_NON_FINITE: u32 = 4;
pub const MF_LOSS_FALLBACK: u32 = 5;
pub const MF_LOSS_TENSOR: u32 = 6;
pub const MF_LOSS_UNMATCHED: u32 = 17;
pub const MF_LOSS_NAME: u32 = 7;
pub const MF_LOSS_TIE_COPIED: u32 = 8;
pub const MF_LOSS_TIE_DROPPED: u32 = 9;
pub const MF_LOSS_ORDER: u32 = 10;
pub const MF_LOSS_METADATA: u32 = 11;
pub const MF_LOSS_STATE: u32 = 12;
pub const MF_LOSS_TREE: u32 = 13;
pub const MF_LOSS_GRAPH: u32 = 14;
pub const MF_LOSS_ASSET: u32 = 15;
pub const MF_LOSS_LAYOUT: u32 = 16;

/// Blocks that only the format knows: `block_elements` and `block_bytes` say how large they are.
pub const MF_DTYPE_OPAQUE: u32 = 0;
pub const MF_DTYPE_BOOL: u32 = 1;
pub const MF_DTYPE_I2: u32 = 2;
pub const MF_DTYPE_I4: u32 = 3;
pub const MF_DTYPE_I8: u32 = 4;
pub const MF_DTYPE_I16: u32 = 5;
pub const MF_DTYPE_I32: u32 = 6;
pub const MF_DTYPE_I64: u32 = 7;
pub const MF_DTYPE_U2: u32 = 8;
pub const MF_DTYPE_U4: u32 = 9;
pub const MF_DTYPE_U8: u32 = 10;
pub const MF_DTYPE_U16: u32 = 11;
pub const MF_DTYPE_U32: u32 = 12;
pub const MF_DTYPE_U64: u32 = 13;
pub const MF_DTYPE_F16: u32 = 14;
pub const MF_DTYPE_BF16: u32 = 15;
pub const MF_DTYPE_F32: u32 = 16;
pub const MF_DTYPE_F64: u32 = 17;
pub const MF_DTYPE_F8_E4M3: u32 = 18;
pub const MF_DTYPE_F8_E5M2: u32 = 19;
pub const MF_DTYPE_F8_E4M3FNUZ: u32 = 20;
pub const MF_DTYPE_F8_E5M2FNUZ: u32 = 21;
pub const MF_DTYPE_F8_E8M0: u32 = 22;
pub const MF_DTYPE_F8_E3M4: u32 = 23;
pub const MF_DTYPE_F8_E4M3IEEE: u32 = 24;
pub const MF_DTYPE_F8_E4M3B11FNUZ: u32 = 25;
pub const MF_DTYPE_F6_E2M3: u32 = 26;
pub const MF_DTYPE_F6_E3M2: u32 = 27;
pub const MF_DTYPE_F4_E2M1: u32 = 28;
pub const MF_DTYPE_C32: u32 = 29;
pub const MF_DTYPE_C64: u32 = 30;
pub const MF_DTYPE_C128: u32 = 31;
pub const MF_DTYPE_Q1_0: u32 = 32;
pub const MF_DTYPE_Q2_0: u32 = 33;
pub const MF_DTYPE_Q4_0: u32 = 34;
pub const MF_DTYPE_Q4_1: u32 = 35;
pub const MF_DTYPE_Q5_0: u32 = 36;
pub const MF_DTYPE_Q5_1: u32 = 37;
pub const MF_DTYPE_Q8_0: u32 = 38;
pub const MF_DTYPE_Q8_1: u32 = 39;
pub const MF_DTYPE_Q2_K: u32 = 40;
pub const MF_DTYPE_Q3_K: u32 = 41;
pub const MF_DTYPE_Q4_K: u32 = 42;
pub const MF_DTYPE_Q5_K: u32 = 43;
pub const MF_DTYPE_Q6_K: u32 = 44;
pub const MF_DTYPE_Q8_K: u32 = 45;
pub const MF_DTYPE_IQ1_S: u32 = 46;
pub const MF_DTYPE_IQ1_M: u32 = 47;
pub const MF_DTYPE_IQ2_XXS: u32 = 48;
pub const MF_DTYPE_IQ2_XS: u32 = 49;
pub const MF_DTYPE_IQ2_S: u32 = 50;
pub const MF_DTYPE_IQ3_XXS: u32 = 51;
pub const MF_DTYPE_IQ3_S: u32 = 52;
pub const MF_DTYPE_IQ4_NL: u32 = 53;
pub const MF_DTYPE_IQ4_XS: u32 = 54;
pub const MF_DTYPE_TQ1_0: u32 = 55;
pub const MF_DTYPE_TQ2_0: u32 = 56;
pub const MF_DTYPE_MXFP4: u32 = 57;
pub const MF_DTYPE_NVFP4: u32 = 58;

/// Every element type with its number.
const DTYPES: &[(DType, u32)] = &[
    (DType::Bool, MF_DTYPE_BOOL),
    (DType::I2, MF_DTYPE_I2),
    (DType::I4, MF_DTYPE_I4),
    (DType::I8, MF_DTYPE_I8),
    (DType::I16, MF_DTYPE_I16),
    (DType::I32, MF_DTYPE_I32),
    (DType::I64, MF_DTYPE_I64),
    (DType::U2, MF_DTYPE_U2),
    (DType::U4, MF_DTYPE_U4),
    (DType::U8, MF_DTYPE_U8),
    (DType::U16, MF_DTYPE_U16),
    (DType::U32, MF_DTYPE_U32),
    (DType::U64, MF_DTYPE_U64),
    (DType::F16, MF_DTYPE_F16),
    (DType::Bf16, MF_DTYPE_BF16),
    (DType::F32, MF_DTYPE_F32),
    (DType::F64, MF_DTYPE_F64),
    (DType::F8E4M3, MF_DTYPE_F8_E4M3),
    (DType::F8E5M2, MF_DTYPE_F8_E5M2),
    (DType::F8E4M3Fnuz, MF_DTYPE_F8_E4M3FNUZ),
    (DType::F8E5M2Fnuz, MF_DTYPE_F8_E5M2FNUZ),
    (DType::F8E8M0, MF_DTYPE_F8_E8M0),
    (DType::F8E3M4, MF_DTYPE_F8_E3M4),
    (DType::F8E4M3Ieee, MF_DTYPE_F8_E4M3IEEE),
    (DType::F8E4M3B11Fnuz, MF_DTYPE_F8_E4M3B11FNUZ),
    (DType::F6E2M3, MF_DTYPE_F6_E2M3),
    (DType::F6E3M2, MF_DTYPE_F6_E3M2),
    (DType::F4E2M1, MF_DTYPE_F4_E2M1),
    (DType::C32, MF_DTYPE_C32),
    (DType::C64, MF_DTYPE_C64),
    (DType::C128, MF_DTYPE_C128),
    (DType::Q1_0, MF_DTYPE_Q1_0),
    (DType::Q2_0, MF_DTYPE_Q2_0),
    (DType::Q4_0, MF_DTYPE_Q4_0),
    (DType::Q4_1, MF_DTYPE_Q4_1),
    (DType::Q5_0, MF_DTYPE_Q5_0),
    (DType::Q5_1, MF_DTYPE_Q5_1),
    (DType::Q8_0, MF_DTYPE_Q8_0),
    (DType::Q8_1, MF_DTYPE_Q8_1),
    (DType::Q2K, MF_DTYPE_Q2_K),
    (DType::Q3K, MF_DTYPE_Q3_K),
    (DType::Q4K, MF_DTYPE_Q4_K),
    (DType::Q5K, MF_DTYPE_Q5_K),
    (DType::Q6K, MF_DTYPE_Q6_K),
    (DType::Q8K, MF_DTYPE_Q8_K),
    (DType::Iq1S, MF_DTYPE_IQ1_S),
    (DType::Iq1M, MF_DTYPE_IQ1_M),
    (DType::Iq2Xxs, MF_DTYPE_IQ2_XXS),
    (DType::Iq2Xs, MF_DTYPE_IQ2_XS),
    (DType::Iq2S, MF_DTYPE_IQ2_S),
    (DType::Iq3Xxs, MF_DTYPE_IQ3_XXS),
    (DType::Iq3S, MF_DTYPE_IQ3_S),
    (DType::Iq4Nl, MF_DTYPE_IQ4_NL),
    (DType::Iq4Xs, MF_DTYPE_IQ4_XS),
    (DType::Tq1_0, MF_DTYPE_TQ1_0),
    (DType::Tq2_0, MF_DTYPE_TQ2_0),
    (DType::Mxfp4, MF_DTYPE_MXFP4),
    (DType::Nvfp4, MF_DTYPE_NVFP4),
];

const ERRORS: &[(ErrorKind, u32)] = &[
    (ErrorKind::Difference, MF_ERROR_DIFFERENCE),
    (ErrorKind::Usage, MF_ERROR_USAGE),
    (ErrorKind::Exists, MF_ERROR_EXISTS),
    (ErrorKind::Ambiguous, MF_ERROR_AMBIGUOUS),
    (ErrorKind::Malformed, MF_ERROR_MALFORMED),
    (ErrorKind::Unsupported, MF_ERROR_UNSUPPORTED),
    (ErrorKind::Target, MF_ERROR_TARGET),
    (ErrorKind::Limit, MF_ERROR_LIMIT),
    (ErrorKind::Io, MF_ERROR_IO),
    (ErrorKind::Plugin, MF_ERROR_PLUGIN),
    (ErrorKind::Interrupted, MF_ERROR_INTERRUPTED),
];

const LOSSES: &[(LossKind, u32)] = &[
    (LossKind::Dtype, MF_LOSS_DTYPE),
    (LossKind::Overflow, MF_LOSS_OVERFLOW),
    (LossKind::Underflow, MF_LOSS_UNDERFLOW),
    (LossKind::NonFinite, MF_LOSS_NON_FINITE),
    (LossKind::Fallback, MF_LOSS_FALLBACK),
    (LossKind::Tensor, MF_LOSS_TENSOR),
    (LossKind::Unmatched, MF_LOSS_UNMATCHED),
    (LossKind::Name, MF_LOSS_NAME),
    (LossKind::TieCopied, MF_LOSS_TIE_COPIED),
    (LossKind::TieDropped, MF_LOSS_TIE_DROPPED),
    (LossKind::Order, MF_LOSS_ORDER),
    (LossKind::Metadata, MF_LOSS_METADATA),
    (LossKind::State, MF_LOSS_STATE),
    (LossKind::Tree, MF_LOSS_TREE),
    (LossKind::Graph, MF_LOSS_GRAPH),
    (LossKind::Asset, MF_LOSS_ASSET),
    (LossKind::Layout, MF_LOSS_LAYOUT),
];

fn number_of<T: Copy + PartialEq>(table: &[(T, u32)], wanted: T) -> Option<u32> {
    table.iter().find(|(known, _)| *known == wanted).map(|(_, number)| *number)
}

fn of_number<T: Copy>(table: &[(T, u32)], number: u32) -> Option<T> {
    table.iter().find(|(_, known)| *known == number).map(|(value, _)| *value)
}

/// The number of an element type, and the size of its blocks if it is opaque.
pub fn of_dtype(dtype: DType) -> (u32, u16, u16) {
    match dtype {
        DType::Opaque { elements, bytes } => (MF_DTYPE_OPAQUE, elements, bytes),
        named => (number_of(DTYPES, named).unwrap_or(u32::MAX), 0, 0),
    }
}

/// The element type of a number; `None` for one that this version does not know.
pub fn to_dtype(number: u32, elements: u16, bytes: u16) -> Option<DType> {
    match number {
        MF_DTYPE_OPAQUE => (elements > 0 && bytes > 0).then_some(DType::Opaque { elements, bytes }),
        named => of_number(DTYPES, named),
    }
}

/// The number of a kind of error.
pub fn of_error(kind: ErrorKind) -> u32 {
    number_of(ERRORS, kind).unwrap_or(MF_ERROR_PLUGIN)
}

/// The kind of error of a number. One that this version does not know is the plugin's.
pub fn to_error(number: u32) -> ErrorKind {
    of_number(ERRORS, number).unwrap_or(ErrorKind::Plugin)
}

/// The number of a kind of loss.
pub fn of_loss(kind: LossKind) -> u32 {
    number_of(LOSSES, kind).unwrap_or(u32::MAX)
}

/// The kind of loss of a number; `None` for one that this version does not know.
pub fn to_loss(number: u32) -> Option<LossKind> {
    of_number(LOSSES, number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_type_and_kind_has_a_number_of_its_own() {
        let opaque = DType::Opaque { elements: 3, bytes: 5 };
        for dtype in DType::all().chain([opaque]) {
            let (number, elements, bytes) = of_dtype(dtype);
            assert_eq!(to_dtype(number, elements, bytes), Some(dtype));
        }
        for kind in LossKind::ALL {
            assert_eq!(to_loss(of_loss(kind)), Some(kind));
        }
        for (kind, number) in ERRORS {
            assert_eq!((of_error(*kind), to_error(*number)), (*number, *kind));
        }
        let numbers = |table: &[u32]| table.iter().collect::<BTreeSet<_>>().len();
        let (dtypes, losses): (Vec<u32>, Vec<u32>) =
            (DTYPES.iter().map(|row| row.1).collect(), LOSSES.iter().map(|row| row.1).collect());
        assert_eq!((numbers(&dtypes), numbers(&losses)), (DTYPES.len(), LossKind::ALL.len()));
        assert_eq!((to_dtype(9999, 0, 0), to_dtype(0, 0, 1), to_loss(0)), (None, None, None));
        assert_eq!(to_error(77), ErrorKind::Plugin);
    }
}
