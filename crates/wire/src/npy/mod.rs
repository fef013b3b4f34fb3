//! numpy's array header, parsed and written, and the note beside void arrays that says what they hold.
//!
//! A `.npy` file is a magic, a version, the length of a text, the text (a Python dictionary with `descr`,
//! `fortran_order` and `shape`), and the elements (numpy 2.4.6, numpy/lib/_format_impl.py). Text is parsed here as
//! data; nothing is evaluated, and object arrays, which are pickles, are refused.
//!
//! Element types that numpy does not know (bf16, float8) come from ml_dtypes, which makes numpy write them as void
//! types with a byte order, `<V2` and `<V1`: their width survives and their meaning is lost. [`encode_dtype`] keeps
//! the meaning in an extra field of the zip entry, which numpy does not look at.
//!
//! ```
//! use modelferry_core::{dtype::DType, limits::Limits};
//! use modelferry_wire::npy::{Descr, MemoryOrder, Parsed, parse, write_header};
//!
//! let bytes = write_header(DType::F32, MemoryOrder::C, &[2, 3]).unwrap();
//! let Parsed::Header(header) = parse(&bytes, &Limits::default()).unwrap() else { panic!("the header is whole") };
//! assert_eq!(header.shape, [2, 3]);
//! assert_eq!((header.data_at, header.data_len), (128, 24));
//! ```

mod field;
mod read;
mod write;

pub use field::{DTYPE_FIELD_ID, decode_dtype, encode_dtype};
pub use read::{parse, read_header};
pub use write::{type_string, write_header};

use modelferry_core::dtype::DType;
use modelferry_core::expr::ByteOrder;

/// First bytes of every array file.
pub const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// Element type of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descr {
    /// Numbers or truth values.
    Scalar(DType, ByteOrder),
    /// Bytes of which numpy knows only the width.
    Void {
        /// Bytes of one element, not 0.
        bytes: u16,
        /// The byte order before the `V`. numpy's own void arrays have none (`|V2`); one means that ml_dtypes made
        /// the array, which has a single type of 2 bytes, `bf16`, and many of 1.
        order: Option<ByteOrder>,
    },
}

impl Descr {
    /// Bytes of one element.
    pub fn item_bytes(self) -> u64 {
        match self {
            Descr::Scalar(dtype, _) => dtype.item_bytes(),
            Descr::Void { bytes, .. } => bytes.into(),
        }
    }
}

/// Order of the elements in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOrder {
    /// The last index runs fastest.
    C,
    /// The first index runs fastest.
    Fortran,
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The element type.
    pub descr: Descr,
    /// The order of the elements.
    pub order: MemoryOrder,
    /// Extents as numpy shows them, whatever the order.
    pub shape: Vec<u64>,
    /// Byte, from the start of the array file, at which the elements begin.
    pub data_at: u64,
    /// Bytes of the elements. The caller compares it with what follows the header.
    pub data_len: u64,
}

/// What [`parse`] made of the bytes it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header.
    Header(Header),
    /// The file begins well; call again with this many bytes from its start, or report that it is cut short.
    NeedMore(u64),
}

#[cfg(test)]
mod tests;
