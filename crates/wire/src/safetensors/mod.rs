//! The safetensors header, parsed and written.
//!
//! A file is a little-endian `u64` (the header's length in bytes), a JSON object that maps each tensor's name to its
//! `dtype`, `shape` and `data_offsets`, and the tensors' bytes, which the offsets tile without hole or overlap
//! (huggingface/safetensors 0.8.0, README.md "Format" and safetensors/src/tensor.rs). The `safetensors` crate gives
//! the element types and judges our output in the tests; its parser is not used because it wants the whole file as
//! one slice, loses the header's order, and lets the last of two equal keys win.
//!
//! ```
//! use modelferry_core::{dtype::DType, inputs::{Inputs, MemInputs}, limits::Limits};
//! use modelferry_wire::safetensors::{NewEntry, parse_header, write_header};
//!
//! let entries = [NewEntry { name: "weight", dtype: DType::Bf16, shape: &[2, 3] }];
//! let written = write_header(entries, None).unwrap();
//! let mut file = written.bytes;
//! file.resize(file.len() + written.data_len as usize, 0);
//!
//! let inputs = MemInputs::new("model.safetensors", file);
//! let header = parse_header(&inputs, inputs.root(), &Limits::default()).unwrap();
//! assert_eq!(header.tensors[0].name, "weight");
//! assert_eq!((header.tensors[0].begin, header.tensors[0].end), (0, 12));
//! ```

mod read;
mod write;

pub use read::parse_header;
pub use write::{NewEntry, WrittenHeader, rewrite_header, write_header};

use modelferry_core::dtype::DType;
use safetensors::Dtype;

/// Bytes of the length field before the JSON text.
pub const LENGTH_BYTES: u64 = 8;

/// The longest header that the format's own readers accept (`MAX_HEADER_SIZE` in safetensors/src/tensor.rs), padding
/// included, length field not.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The header's key that holds text instead of a tensor; no tensor can have this name.
pub const METADATA_KEY: &str = "__metadata__";

/// One tensor of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name, unique in its file.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// Extents, slowest first. The data is row-major and little-endian.
    pub shape: Box<[u64]>,
    /// First byte, counted from [`Header::data_at`].
    pub begin: u64,
    /// One past the last byte, counted from [`Header::data_at`].
    pub end: u64,
}

/// A whole header, proven to describe its file exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `__metadata__` in the file's order; `None` where the file has none, which is not the same as an empty one.
    pub metadata: Option<Vec<(String, String)>>,
    /// The tensors in the order of the JSON text; [`data_order`](Header::data_order) gives that of the data.
    pub tensors: Vec<Entry>,
    /// Byte of the file at which the data begins.
    pub data_at: u64,
    /// Bytes of data, from [`data_at`](Header::data_at) to the end of the file.
    pub data_len: u64,
    /// Keys inside tensor entries that the format does not define, the first few by name. The format's own reader
    /// ignores them, so they are no error.
    pub ignored_keys: Vec<String>,
}

impl Header {
    /// Indices into [`tensors`](Header::tensors) by position in the data, empty tensors before what follows them.
    pub fn data_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(|&idx| (self.tensors[idx].begin, self.tensors[idx].end));
        order
    }
}

/// The format's element type for ours; `None` where it has none.
#[rustfmt::skip]
pub fn to_wire(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::Bool => Dtype::BOOL,
        DType::F4E2M1 => Dtype::F4, DType::F6E2M3 => Dtype::F6_E2M3, DType::F6E3M2 => Dtype::F6_E3M2,
        DType::U8 => Dtype::U8, DType::I8 => Dtype::I8,
        DType::F8E5M2 => Dtype::F8_E5M2, DType::F8E4M3 => Dtype::F8_E4M3, DType::F8E8M0 => Dtype::F8_E8M0,
        DType::F8E4M3Fnuz => Dtype::F8_E4M3FNUZ, DType::F8E5M2Fnuz => Dtype::F8_E5M2FNUZ,
        DType::I16 => Dtype::I16, DType::U16 => Dtype::U16, DType::F16 => Dtype::F16, DType::Bf16 => Dtype::BF16,
        DType::I32 => Dtype::I32, DType::U32 => Dtype::U32, DType::F32 => Dtype::F32,
        DType::C64 => Dtype::C64, DType::F64 => Dtype::F64, DType::I64 => Dtype::I64, DType::U64 => Dtype::U64,
        _ => return None,
    })
}

/// Our element type for the format's; `None` for one that a later version of the crate adds.
#[rustfmt::skip]
pub fn from_wire(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::BOOL => DType::Bool,
        Dtype::F4 => DType::F4E2M1, Dtype::F6_E2M3 => DType::F6E2M3, Dtype::F6_E3M2 => DType::F6E3M2,
        Dtype::U8 => DType::U8, Dtype::I8 => DType::I8,
        Dtype::F8_E5M2 => DType::F8E5M2, Dtype::F8_E4M3 => DType::F8E4M3, Dtype::F8_E8M0 => DType::F8E8M0,
        Dtype::F8_E4M3FNUZ => DType::F8E4M3Fnuz, Dtype::F8_E5M2FNUZ => DType::F8E5M2Fnuz,
        Dtype::I16 => DType::I16, Dtype::U16 => DType::U16, Dtype::F16 => DType::F16, Dtype::BF16 => DType::Bf16,
        Dtype::I32 => DType::I32, Dtype::U32 => DType::U32, Dtype::F32 => DType::F32,
        Dtype::C64 => DType::C64, Dtype::F64 => DType::F64, Dtype::I64 => DType::I64, Dtype::U64 => DType::U64,
        _ => return None,
    })
}

/// Bytes of a tensor; `None` on overflow, or where sub-byte elements do not fill whole bytes, which the format
/// refuses (`MisalignedSlice`). Like the format's own reader this multiplies from the left, so that `[2^40, 2^40, 0]`
/// overflows although it is empty.
pub fn byte_len(dtype: DType, shape: &[u64]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &extent| product.checked_mul(extent))?;
    let bits = elements.checked_mul(u64::from(dtype.bits()?))?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

#[cfg(test)]
mod tests;
