//! The note beside a void array that says what it holds.

use crate::zip::extra_field;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};

/// Header id of the zip extra field that names the element type of a void array: the letters `FM`, which APPNOTE
/// 6.3.10 section 4.6 and Info-ZIP's list leave free. Its payload is a version byte, 1, and the type's name as
/// [`DType::from_name`] knows it.
pub const DTYPE_FIELD_ID: u16 = u16::from_le_bytes(*b"FM");
const DTYPE_FIELD_VERSION: u8 = 1;

/// The zip extra field that says what a void array holds; see [`DTYPE_FIELD_ID`]. Meant for the directory's extra
/// bytes of the entry.
pub fn encode_dtype(dtype: DType) -> Vec<u8> {
    let name = dtype.to_string();
    let mut field = DTYPE_FIELD_ID.to_le_bytes().to_vec();
    // The longest name has 14 bytes.
    field.extend_from_slice(&(1 + name.len() as u16).to_le_bytes());
    field.push(DTYPE_FIELD_VERSION);
    field.extend_from_slice(name.as_bytes());
    field
}

/// The element type that [`encode_dtype`] left in an entry's extra fields; `None` where there is no such field.
///
/// Errors of kind [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported): a field of a later version, or a
/// type that we do not know. The caller checks the type's width against the array's.
pub fn decode_dtype(extra: &[u8]) -> Result<Option<DType>> {
    let Some(payload) = extra_field(extra, DTYPE_FIELD_ID) else {
        return Ok(None);
    };
    let name = match payload.split_first() {
        Some((&DTYPE_FIELD_VERSION, name)) => name,
        Some((version, _)) => {
            return Err(Error::unsupported("the array's dtype field is of another version")
                .expected(DTYPE_FIELD_VERSION)
                .found(version));
        }
        None => return Err(Error::malformed("the array's dtype field is empty")),
    };
    let dtype = std::str::from_utf8(name).ok().and_then(DType::from_name);
    dtype.map(Some).ok_or_else(|| {
        Error::unsupported("the array's dtype field names an unknown type")
            .found(name[..name.len().min(64)].escape_ascii())
    })
}
