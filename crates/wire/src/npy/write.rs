//! The header, written.

use super::{MAGIC, MemoryOrder};
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};

/// numpy aligns the data to this (`ARRAY_ALIGN`).
const ALIGN: usize = 64;
/// numpy leaves room for the first extent to grow to this many digits (`GROWTH_AXIS_MAX_DIGITS`).
const GROWTH_DIGITS: usize = 21;

/// The type string under which numpy knows `dtype`, little-endian; `None` where no array holds it.
///
/// bf16 and float8 get what numpy writes for ml_dtypes' arrays, `<V2` and `<V1`. `f8_e5m2` is the exception: numpy
/// writes it as `<f1` and then cannot read the file, so it becomes `<V1` like the others. Sub-byte types are refused,
/// because one byte an element would be another tensor than the packed one.
#[rustfmt::skip]
pub fn type_string(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "|b1", DType::I8 => "|i1", DType::U8 => "|u1",
        DType::I16 => "<i2", DType::I32 => "<i4", DType::I64 => "<i8",
        DType::U16 => "<u2", DType::U32 => "<u4", DType::U64 => "<u8",
        DType::F16 => "<f2", DType::F32 => "<f4", DType::F64 => "<f8",
        DType::C64 => "<c8", DType::C128 => "<c16",
        DType::Bf16 => "<V2",
        DType::F8E4M3 | DType::F8E5M2 | DType::F8E4M3Fnuz | DType::F8E5M2Fnuz | DType::F8E8M0 | DType::F8E3M4
        | DType::F8E4M3Ieee | DType::F8E4M3B11Fnuz => "<V1",
        _ => return None,
    })
}

/// The header of an array, byte for byte what numpy 2 writes for it.
///
/// numpy calls an array of one dimension, or of one element, `C` whatever its history. Errors of kind
/// [`Target`](modelferry_core::error::ErrorKind::Target): an element type without [`type_string`].
pub fn write_header(dtype: DType, order: MemoryOrder, shape: &[u64]) -> Result<Vec<u8>> {
    let descr =
        type_string(dtype).ok_or_else(|| Error::target("numpy has no such element type").found(dtype))?;
    let fortran = if order == MemoryOrder::Fortran { "True" } else { "False" };
    let extents: Vec<String> = shape.iter().map(u64::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': ({}{comma}), }}",
        extents.join(", ")
    );
    let growing = if order == MemoryOrder::Fortran { extents.last() } else { extents.first() };
    if let Some(extent) = growing {
        text.extend(std::iter::repeat_n(' ', GROWTH_DIGITS.saturating_sub(extent.len())));
    }
    let short = padded(&text, 10);
    let (version, text_at) = if u16::try_from(short).is_ok() { (1, 10) } else { (2, 12) };
    let text_len = padded(&text, text_at);
    let mut bytes = Vec::with_capacity(text_at + text_len);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[version, 0]);
    // A text of 4 GiB would need 200 million dimensions.
    bytes.extend_from_slice(&(text_len as u32).to_le_bytes()[..text_at - 8]);
    bytes.extend_from_slice(text.as_bytes());
    bytes.resize(text_at + text_len - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

/// Length of `text` with its newline and the spaces before it. numpy adds a whole [`ALIGN`] where none is missing.
fn padded(text: &str, text_at: usize) -> usize {
    let len = text.len() + 1;
    len + ALIGN - (text_at + len) % ALIGN
}
