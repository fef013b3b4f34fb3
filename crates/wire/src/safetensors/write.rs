//! The header, written.

use super::{LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY, byte_len, to_wire};
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The element type.
    pub dtype: DType,
    /// Extents, slowest first.
    pub shape: &'a [u64],
}

/// A header ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenHeader {
    /// Everything before the data: length field, JSON text, padding to a multiple of 8.
    pub bytes: Vec<u8>,
    /// Bytes of data that follow: each tensor's in the order given, without gaps.
    pub data_len: u64,
}

/// Makes the header of `tensors`, whose data will follow in the order given.
///
/// The text is what the format's own writer makes of the same order (serde_json without spaces, `__metadata__` first,
/// keys in the order dtype, shape, data_offsets, padded with spaces), except that metadata keys are sorted, where
/// that writer's order changes from run to run.
///
/// The caller owes distinct names, as a model has them. Errors of kind
/// [`Target`](modelferry_core::error::ErrorKind::Target): an element type the format lacks, sub-byte elements that do
/// not fill whole bytes, a tensor named `__metadata__`, a header above [`MAX_HEADER_BYTES`].
pub fn write_header<'a>(
    tensors: impl IntoIterator<Item = NewEntry<'a>>,
    metadata: Option<&BTreeMap<String, String>>,
) -> Result<WrittenHeader> {
    header_text(tensors, metadata).and_then(|(bytes, data_len)| padded(bytes, data_len, None))
}

/// As [`write_header`], for a file that has been there before: metadata in the order given, and where the data began
/// at byte `data_at`, an aligned one, it begins at the same place of a page. File systems that share blocks between
/// files can then share those of the data, and who changes a value back gets the same file back.
pub fn rewrite_header<'a>(
    tensors: impl IntoIterator<Item = NewEntry<'a>>,
    metadata: &[(&str, &str)],
    data_at: u64,
) -> Result<WrittenHeader> {
    struct InOrder<'m>(&'m [(&'m str, &'m str)]);
    impl Serialize for InOrder<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().copied())
        }
    }
    let metadata = (!metadata.is_empty()).then_some(InOrder(metadata));
    let (bytes, data_len) = header_text(tensors, metadata.as_ref())?;
    padded(bytes, data_len, data_at.is_multiple_of(ALIGN).then_some(data_at))
}

/// Alignment of the data: what the format's own writer pads to.
const ALIGN: u64 = 8;
/// What file systems share blocks by.
const PAGE: u64 = 4096;

/// Length field (still zero) and text of a header, and the bytes of data behind it.
fn header_text<'a>(
    tensors: impl IntoIterator<Item = NewEntry<'a>>,
    metadata: Option<&impl Serialize>,
) -> Result<(Vec<u8>, u64)> {
    let mut bytes = vec![0; LENGTH_BYTES as usize];
    bytes.push(b'{');
    if let Some(metadata) = metadata {
        put(&mut bytes, METADATA_KEY)?;
        bytes.push(b':');
        put(&mut bytes, metadata)?;
    }
    let mut data_len = 0u64;
    for tensor in tensors {
        let dtype = to_wire(tensor.dtype).ok_or_else(|| {
            Error::target("safetensors has no such element type").tensor(tensor.name).found(tensor.dtype)
        })?;
        if tensor.name == METADATA_KEY {
            return Err(Error::target("safetensors keeps this name for itself").tensor(tensor.name));
        }
        let len = byte_len(tensor.dtype, tensor.shape);
        let end = len.and_then(|len| data_len.checked_add(len)).ok_or_else(|| {
            Error::target("safetensors needs a whole number of bytes below 2^64")
                .tensor(tensor.name)
                .found(format_args!("{} {:?}", tensor.dtype, tensor.shape))
        })?;
        if bytes.len() > LENGTH_BYTES as usize + 1 {
            bytes.push(b',');
        }
        put(&mut bytes, tensor.name)?;
        bytes.extend_from_slice(b":{\"dtype\":");
        put(&mut bytes, &dtype)?;
        bytes.extend_from_slice(b",\"shape\":");
        put(&mut bytes, tensor.shape)?;
        bytes.extend_from_slice(b",\"data_offsets\":");
        put(&mut bytes, &(data_len, end))?;
        bytes.push(b'}');
        data_len = end;
        check_header_len(&bytes)?;
    }
    bytes.push(b'}');
    Ok((bytes, data_len))
}

/// Completes a header: spaces up to the alignment, and if there is such, to the place of `like` in its page.
fn padded(mut bytes: Vec<u8>, data_len: u64, like: Option<u64>) -> Result<WrittenHeader> {
    let mut len = (bytes.len() as u64).next_multiple_of(ALIGN);
    if let Some(like) = like {
        len += (like % PAGE + PAGE - len % PAGE) % PAGE;
    }
    bytes.resize(len as usize, b' ');
    check_header_len(&bytes)?;
    let header_len = bytes.len() as u64 - LENGTH_BYTES;
    bytes[..LENGTH_BYTES as usize].copy_from_slice(&header_len.to_le_bytes());
    Ok(WrittenHeader { bytes, data_len })
}

fn check_header_len(bytes: &[u8]) -> Result<()> {
    let header_len = bytes.len() as u64 - LENGTH_BYTES;
    if header_len <= MAX_HEADER_BYTES {
        return Ok(());
    }
    Err(Error::target("the header is longer than any safetensors reader accepts")
        .expected(format_args!("at most {MAX_HEADER_BYTES} bytes"))
        .found(format_args!("{header_len} bytes or more"))
        .hint("pass --shard-size to split it"))
}

fn put(bytes: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<()> {
    serde_json::to_writer(bytes, value)
        .map_err(|error| Error::target("JSON cannot hold a value").source(error))
}
