//! The GGUF header, parsed and written.
//!
//! A file is the magic `GGUF`, a version, the number of tensors and of metadata entries, the entries (key, type, value),
//! a record for each tensor (name, extents with the contiguous one first, type, offset), and from the next multiple of
//! the alignment on the tensors' bytes, each padded to the alignment. All numbers are little-endian; a file of another
//! machine has them big-endian, which its version tells (ggml's docs/gguf.md, and what its loader insists on:
//! `gguf_init_from_reader` in ggml/src/gguf.cpp, llama.cpp 2026-11).
//!
//! ```
//! use modelferry_core::{dtype::DType, inputs::{Inputs, MemInputs}, limits::Limits, model::Value};
//! use modelferry_wire::gguf::{DEFAULT_ALIGNMENT, NewEntry, parse_header, write_header};
//!
//! let entries = [NewEntry { name: "weight", dtype: DType::Bf16, shape: &[2, 3] }];
//! let kind = Value::Text("llama".to_owned());
//! let written = write_header(&[("general.architecture", &kind)], entries, DEFAULT_ALIGNMENT).unwrap();
//! let mut file = written.parts.concat();
//! file.resize(file.len() + written.padding as usize + 12, 0);
//!
//! let inputs = MemInputs::new("model.gguf", file);
//! let header = parse_header(&inputs, inputs.root(), &Limits::default()).unwrap();
//! assert_eq!(header.metadata, [("general.architecture".to_owned(), kind)]);
//! assert_eq!((&*header.tensors[0].name, header.tensors[0].len), ("weight", 12));
//! ```

mod cursor;
mod read;
mod swap;
mod write;

pub use read::parse_header;
pub use swap::{Field, fields};
pub use write::{NewEntry, WrittenHeader, write_header};

use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::ByteOrder;
use modelferry_core::model::{Value, ValueType};

/// What every file begins with, in both byte orders.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The version that is written. Version 2 differs in nothing but that it knows one byte order only.
pub const VERSION: u32 = 3;

/// Multiple of which every tensor begins at, where [`ALIGNMENT`] does not say another.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Bytes of a tensor's name, at most (`GGML_MAX_NAME` in ggml.h, less one for the zero behind it).
pub const MAX_NAME_BYTES: usize = 63;

/// Dimensions of a tensor, at most (`GGML_MAX_DIMS`).
pub const MAX_DIMS: usize = 4;

/// Bytes of a text and items of a list, at most (`GGUF_MAX_STRING_LENGTH`, `GGUF_MAX_ARRAY_ELEMENTS` in gguf.cpp).
pub const MAX_LENGTH: u64 = 1 << 30;

/// The entry that sets the alignment: a `u32`, a power of two.
pub const ALIGNMENT: &str = "general.alignment";

/// The entry that says what program code the model is for. Without it llama.cpp runs nothing.
pub const ARCHITECTURE: &str = "general.architecture";

/// The entry that numbers the meaning of block types, demanded where there are such.
pub const QUANTIZATION_VERSION: &str = "general.quantization_version";

/// The current meaning of block types (`GGML_QNT_VERSION` in ggml.h).
pub const CURRENT_QUANTIZATION: u32 = 2;

/// Of a file that is one of several: which, counted from 0, a `u16`.
pub const SPLIT_NO: &str = "split.no";
/// Of a file that is one of several: how many, a `u16`.
pub const SPLIT_COUNT: &str = "split.count";
/// Of a file that is one of several: tensors in all of them, an `i32`.
pub const SPLIT_TENSORS: &str = "split.tensors.count";

/// Numbers of element types in a file (`ggml_type` in ggml.h), scalars first.
#[rustfmt::skip]
const TYPES: &[(u32, DType)] = &[
    (24, DType::I8), (25, DType::I16), (26, DType::I32), (27, DType::I64),
    (1, DType::F16), (30, DType::Bf16), (0, DType::F32), (28, DType::F64),
    (41, DType::Q1_0), (42, DType::Q2_0), (2, DType::Q4_0), (3, DType::Q4_1), (6, DType::Q5_0), (7, DType::Q5_1),
    (8, DType::Q8_0), (9, DType::Q8_1), (10, DType::Q2K), (11, DType::Q3K), (12, DType::Q4K), (13, DType::Q5K),
    (14, DType::Q6K), (15, DType::Q8K), (19, DType::Iq1S), (29, DType::Iq1M), (16, DType::Iq2Xxs), (17, DType::Iq2Xs),
    (22, DType::Iq2S), (18, DType::Iq3Xxs), (21, DType::Iq3S), (20, DType::Iq4Nl), (23, DType::Iq4Xs),
    (34, DType::Tq1_0), (35, DType::Tq2_0), (39, DType::Mxfp4), (40, DType::Nvfp4),
];

/// Numbers that ggml has given up, with their names there.
const DEAD: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// Numbers of value types in a file (`gguf_type` in gguf.h); a list is [`LIST`].
#[rustfmt::skip]
const VALUE_TYPES: &[(u32, ValueType)] = &[
    (0, ValueType::U8), (1, ValueType::I8), (2, ValueType::U16), (3, ValueType::I16), (4, ValueType::U32),
    (5, ValueType::I32), (6, ValueType::F32), (7, ValueType::Bool), (8, ValueType::Text), (10, ValueType::U64),
    (11, ValueType::I64), (12, ValueType::F64),
];

/// The number of a list among those of value types.
const LIST: u32 = 9;

/// Every element type that the format has.
pub const DTYPES: [DType; TYPES.len()] = {
    let mut dtypes = [DType::F32; TYPES.len()];
    let mut idx = 0;
    while idx < TYPES.len() {
        dtypes[idx] = TYPES[idx].1;
        idx += 1;
    }
    dtypes
};

/// The format's number of an element type; `None` where it has none.
pub fn to_wire(dtype: DType) -> Option<u32> {
    TYPES.iter().find(|(_, known)| *known == dtype).map(|(number, _)| *number)
}

/// The element type of a number.
///
/// Errors: [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported), by name for those that once were.
pub fn from_wire(number: u32) -> Result<DType> {
    if let Some((_, dtype)) = TYPES.iter().find(|(known, _)| *known == number) {
        return Ok(*dtype);
    }
    let dead = DEAD.iter().find(|(known, _)| *known == number);
    Err(match dead {
        Some((_, name)) => Error::unsupported("an element type that ggml has given up")
            .found(format_args!("{number}, which was {name}"))
            .hint("make the file anew with a current llama.cpp"),
        None => Error::unsupported("unknown element type").found(number),
    })
}

/// One tensor of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name, unique in its file.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// Extents, slowest first: the reverse of how the file has them. The data is row-major.
    pub shape: Box<[u64]>,
    /// First byte, counted from [`Header::data_at`].
    pub begin: u64,
    /// Bytes, without the padding behind them.
    pub len: u64,
}

/// A whole header. That the data it describes is there is proven by [`Header::check_len`].
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Order of the bytes of every number in the file, those of tensors included.
    pub order: ByteOrder,
    /// Keys and values in the file's order, keys unique.
    pub metadata: Vec<(String, Value)>,
    /// The tensors in the order of the file, which is that of their data.
    pub tensors: Vec<Entry>,
    /// Multiple of which every tensor begins at: a power of two.
    pub alignment: u64,
    /// Byte of the file at which the data begins, or with no tensors the header ends.
    pub data_at: u64,
    /// Byte of the file at which the last tensor ends, without its padding.
    pub data_end: u64,
}

impl Header {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The byte of the file at which the padding behind the last tensor, or behind a header without tensors, ends.
    pub fn padded_end(&self) -> u64 {
        self.data_end.checked_next_multiple_of(self.alignment).unwrap_or(u64::MAX)
    }

    /// Fails unless a file of `len` bytes holds all tensors. What may follow them is not looked at; neither does ggml.
    pub fn check_len(&self, len: u64) -> Result<()> {
        if self.data_end <= len {
            return Ok(());
        }
        let ends = |entry: &&Entry| self.data_at + entry.begin + entry.len > len;
        let error = Error::malformed("data ends past the file")
            .expected(format_args!("a file of at least {} bytes", self.data_end))
            .found(format_args!("{len} bytes"))
            .hint("a download that was cut short?");
        Err(match self.tensors.iter().find(ends) {
            Some(entry) => error.tensor(&*entry.name),
            None => error,
        })
    }
}

/// The alignment that an entry sets; `None` for a value that ggml does not take for one.
pub fn alignment(value: &Value) -> Option<u64> {
    match value {
        Value::U32(alignment) if alignment.is_power_of_two() => Some((*alignment).into()),
        _ => None,
    }
}

/// Elements of a tensor with these extents, the contiguous one first; `None` where ggml's count overflows. It takes
/// the extents in this order, so that `[2^40, 2^40, 0]` overflows and `[0, 2^40, 2^40]` is empty.
fn n_elements(dims: impl IntoIterator<Item = u64>) -> Option<u64> {
    let count = |product: i64, extent: u64| product.checked_mul(i64::try_from(extent).ok()?);
    dims.into_iter().try_fold(1, count).map(i64::unsigned_abs)
}

#[cfg(test)]
mod tests;
