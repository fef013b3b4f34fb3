//! The header, written.

use super::{LIST, MAGIC, MAX_DIMS, MAX_LENGTH, MAX_NAME_BYTES, VALUE_TYPES, VERSION, n_elements, to_wire};
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::Blob;
use modelferry_core::model::{Value, ValueType};

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

impl NewEntry<'_> {
    /// Bytes of the tensor, if the format can hold it.
    ///
    /// Errors of kind [`Target`](modelferry_core::error::ErrorKind::Target): an element type the format lacks, a name
    /// that is too long or has a zero in it, too many dimensions, rows that do not hold whole blocks, a shape that
    /// overflows ggml's count.
    pub fn check(&self) -> Result<u64> {
        if to_wire(self.dtype).is_none() {
            return Err(Error::target("GGUF has no such element type").found(self.dtype));
        }
        if self.name.len() > MAX_NAME_BYTES {
            return Err(Error::target("ggml reads no name of so many bytes")
                .expected(format_args!("at most {MAX_NAME_BYTES}"))
                .found(self.name.len()));
        }
        if self.name.contains('\0') {
            return Err(Error::target("ggml ends a name at a zero").found(format_args!("{:?}", self.name)));
        }
        if self.shape.len() > MAX_DIMS {
            return Err(Error::target("ggml has no tensors of so many dimensions")
                .expected(format_args!("at most {MAX_DIMS}"))
                .found(self.shape.len()));
        }
        let row = self.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(self.dtype.item_elements()) {
            return Err(Error::target("rows do not hold whole blocks")
                .expected(format_args!("a multiple of {}", self.dtype.item_elements()))
                .found(format_args!("{row} elements in a row of {}", self.dtype)));
        }
        let n = n_elements(self.shape.iter().rev().copied());
        n.and_then(|n| self.dtype.packed_len(n)).ok_or_else(|| {
            Error::target("a shape that ggml cannot count").found(format_args!("{:?}", self.shape))
        })
    }
}

/// A header ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenHeader {
    /// Everything up to the last tensor's record. Long lists are the model's own bytes, not copies.
    pub parts: Vec<Blob>,
    /// Zeros that follow before the data.
    pub padding: u64,
}

/// Bytes of a list above which it is a part of its own.
const OWN_PART_BYTES: usize = 1 << 14;

/// Makes the header of `tensors`, whose data will follow in the order given, each padded to `alignment`. The caller
/// owes distinct keys and names, and an [`ALIGNMENT`](super::ALIGNMENT) entry for an alignment that is not the default.
///
/// Errors of kind [`Target`](modelferry_core::error::ErrorKind::Target): what [`NewEntry::check`] refuses, an empty
/// key, a text or list longer than ggml reads, data beyond 64 bits.
pub fn write_header<'a>(
    metadata: &[(&str, &Value)],
    tensors: impl IntoIterator<Item = NewEntry<'a>, IntoIter: ExactSizeIterator>,
    alignment: u64,
) -> Result<WrittenHeader> {
    let tensors = tensors.into_iter();
    let mut out = Parts::default();
    out.bytes.extend_from_slice(&MAGIC);
    out.number(VERSION);
    out.count(tensors.len() as u64);
    out.count(metadata.len() as u64);
    for (key, value) in metadata {
        if key.is_empty() {
            return Err(Error::target("GGUF has no empty key"));
        }
        out.entry(key, value).map_err(|error| error.found(format_args!("{key:?}")))?;
    }
    let mut begin = 0u64;
    for tensor in tensors {
        let len = tensor.check().map_err(|error| error.tensor(tensor.name))?;
        out.text(tensor.name.as_bytes());
        out.number(tensor.shape.len() as u32);
        tensor.shape.iter().rev().for_each(|&extent| out.count(extent));
        out.number(to_wire(tensor.dtype).unwrap_or_default());
        out.count(begin);
        let end = begin.checked_add(len).and_then(|end| end.checked_next_multiple_of(alignment));
        begin =
            end.ok_or_else(|| Error::target("GGUF counts no more bytes than 2^64").tensor(tensor.name))?;
    }
    Ok(out.finish(alignment))
}

/// A header in the making.
#[derive(Default)]
struct Parts {
    parts: Vec<Blob>,
    len: u64,
    bytes: Vec<u8>,
}

impl Parts {
    fn number(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn count(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.count(text.len() as u64);
        self.bytes.extend_from_slice(text);
    }

    fn entry(&mut self, key: &str, value: &Value) -> Result<()> {
        let too_long = || Error::target("ggml reads no text or list as long as this");
        self.text(key.as_bytes());
        match value {
            Value::List(list) => {
                if list.len() > MAX_LENGTH {
                    return Err(too_long());
                }
                self.number(LIST);
                self.number(number_of(list.item_type()));
                self.count(list.len());
                match list.bytes().len() {
                    0..OWN_PART_BYTES => self.bytes.extend_from_slice(list.bytes()),
                    _ => {
                        self.close();
                        self.push(Blob::clone(list.bytes()));
                    }
                }
            }
            single => {
                let start = self.bytes.len();
                self.number(number_of(single.item_type()));
                single.pack(&mut self.bytes);
                if (self.bytes.len() - start) as u64 > MAX_LENGTH {
                    return Err(too_long());
                }
            }
        }
        Ok(())
    }

    /// Makes a part of what has been written since the last one.
    fn close(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            self.push(bytes.into());
        }
    }

    fn push(&mut self, part: Blob) {
        self.len += part.len() as u64;
        self.parts.push(part);
    }

    fn finish(mut self, alignment: u64) -> WrittenHeader {
        self.close();
        WrittenHeader { padding: self.len.next_multiple_of(alignment) - self.len, parts: self.parts }
    }
}

fn number_of(kind: ValueType) -> u32 {
    VALUE_TYPES.iter().find(|(_, known)| *known == kind).map_or(LIST, |(number, _)| *number)
}
