//! The header, parsed.

use super::cursor::Cursor;
use super::{
    ALIGNMENT, DEFAULT_ALIGNMENT, Entry, Header, LIST, MAGIC, MAX_DIMS, MAX_LENGTH, MAX_NAME_BYTES,
    VALUE_TYPES, VERSION, alignment, from_wire, n_elements,
};
use crate::shown;
use modelferry_core::error::{Error, ErrorKind, Result};
use modelferry_core::expr::ByteOrder;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::{List, Value, ValueType};
use std::collections::HashSet;

/// Entries of metadata, at most. Files have fewer than a hundred; each costs us more than the fourteen bytes that it
/// may cost a file.
const MAX_ENTRIES: u64 = 1 << 20;

/// Bytes of the smallest entry: a key of one byte, its length, a type, a value of one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;

/// Bytes of the smallest record of a tensor: the length of a name that is empty, no extent, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// Reads and proves the header of `file`, with the strictness of ggml's own loader.
///
/// What is proven: every key and name is UTF-8, is there once, and a key is not empty; every type is known; rows are
/// whole blocks; each tensor begins where the padding of the one before it ends. What is left is whether the data is
/// there ([`Header::check_len`]). Memory is what the header's values take, and about 100 bytes a tensor.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for a broken rule,
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for versions, element types and lists of lists that
/// ggml does not read either, [`Limit`](modelferry_core::error::ErrorKind::Limit) for bytes, entries, tensors and keys.
pub fn parse_header(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Header> {
    let mut parser = Parser { cursor: Cursor::new(inputs, file, limits), limits };
    parser.header().map_err(|error| error.file(inputs.name(file)))
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    limits: &'a Limits,
}

impl Parser<'_> {
    fn header(&mut self) -> Result<Header> {
        let magic: [u8; 4] = self.cursor.array()?;
        if magic != MAGIC {
            return Err(Error::malformed("the file does not begin with GGUF")
                .offset(0)
                .found(format_args!("{:?}", String::from_utf8_lossy(&magic))));
        }
        let version = self.version()?;
        let n_tensors = self.count("tensors", MIN_TENSOR_BYTES)?;
        Limits::check("too many tensors", n_tensors, self.limits.tensors)?;
        let n_entries = self.count("metadata entries", MIN_ENTRY_BYTES)?;
        Limits::check("too many metadata entries", n_entries, MAX_ENTRIES)?;
        let metadata = (0..n_entries).map(|_| self.entry()).collect::<Result<Vec<_>>>()?;
        check_keys(&metadata)?;
        let alignment = match metadata.iter().find(|(key, _)| key == ALIGNMENT) {
            None => DEFAULT_ALIGNMENT,
            Some((_, value)) => alignment(value).ok_or_else(|| {
                Error::malformed(format!("{ALIGNMENT} is not what ggml takes"))
                    .expected("a u32, a power of two")
                    .found(format_args!("{} {value}", value.type_name()))
            })?,
        };
        let tensors = (0..n_tensors).map(|_| self.tensor()).collect::<Result<Vec<_>>>()?;
        check_names(&tensors)?;
        let mut header = Header {
            version,
            order: self.cursor.order,
            metadata,
            tensors,
            alignment,
            data_at: self.cursor.at(),
            data_end: self.cursor.at(),
        };
        if n_tensors > 0 {
            place(&mut header)?;
        }
        Ok(header)
    }

    /// The version, which also tells the byte order: no version has more than sixteen bits.
    fn version(&mut self) -> Result<u32> {
        let at = self.cursor.at();
        let mut version = self.cursor.u32()?;
        let mut order = "";
        if version & 0xffff == 0 && version != 0 {
            self.cursor.order = ByteOrder::Big;
            version = version.swap_bytes();
            order = ", big-endian";
        }
        match version {
            2 | VERSION => Ok(version),
            _ => Err(Error::unsupported("a version of GGUF that llama.cpp does not read either")
                .offset(at)
                .expected("2 or 3")
                .found(format_args!("{version}{order}"))),
        }
    }

    /// How many of something follow, each of at least `min_bytes`.
    fn count(&mut self, what: &'static str, min_bytes: u64) -> Result<u64> {
        let at = self.cursor.at();
        let n = self.cursor.u64()?;
        let most = self.cursor.remaining() / min_bytes;
        if n > most {
            return Err(Error::malformed(format!("the file is too short for so many {what}"))
                .offset(at)
                .expected(format_args!("at most {most}"))
                .found(n));
        }
        Ok(n)
    }

    /// The length of a text or list. `min_bytes` is what each item takes at least.
    fn length(&mut self, what: &'static str, min_bytes: u64) -> Result<u64> {
        let at = self.cursor.at();
        let n = self.cursor.u64()?;
        let fits = n.checked_mul(min_bytes).is_some_and(|bytes| bytes <= self.cursor.remaining());
        if !fits {
            return Err(Error::malformed(format!("{what} is longer than the file"))
                .offset(at)
                .expected(format_args!("at most {}", self.cursor.remaining() / min_bytes))
                .found(n));
        }
        if n > MAX_LENGTH {
            return Err(Error::malformed(format!("{what} is longer than ggml reads"))
                .offset(at)
                .expected(format_args!("at most {MAX_LENGTH}"))
                .found(n));
        }
        Ok(n)
    }

    fn bytes(&mut self, n: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        self.cursor.append(n, &mut bytes)?;
        Ok(bytes)
    }

    /// A key or a name.
    fn name(&mut self, what: &'static str, max_bytes: usize) -> Result<String> {
        let at = self.cursor.at();
        let n = self.length(what, 1)?;
        Limits::check("a key is too long", n, max_bytes as u64).map_err(|error| error.offset(at))?;
        let bytes = self.bytes(n)?;
        String::from_utf8(bytes).map_err(|error| {
            let text = String::from_utf8_lossy(error.as_bytes());
            let error = Error::malformed(format!("{what} is not UTF-8"));
            error.offset(at + 8).found(format_args!("{:?}", shown(&text)))
        })
    }

    fn entry(&mut self) -> Result<(String, Value)> {
        let at = self.cursor.at();
        let key = self.name("a key", self.limits.name_bytes)?;
        if key.is_empty() {
            return Err(Error::malformed("a key is empty").offset(at));
        }
        let value = self.value().map_err(|error| match error.kind() {
            ErrorKind::Io => error,
            _ => error.hint(format!("in the value of {:?}", shown(&key))),
        })?;
        Ok((key, value))
    }

    fn value_type(&mut self) -> Result<u32> {
        let at = self.cursor.at();
        let number = self.cursor.u32()?;
        let is_known = number == LIST || VALUE_TYPES.iter().any(|(known, _)| *known == number);
        match is_known {
            true => Ok(number),
            false => Err(Error::malformed("unknown type of a value").offset(at).found(number)),
        }
    }

    fn value(&mut self) -> Result<Value> {
        let single = |number| VALUE_TYPES.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind);
        let number = self.value_type()?;
        if let Some(kind) = single(number) {
            return self.single(kind);
        }
        let at = self.cursor.at();
        let number = self.value_type()?;
        match single(number) {
            Some(kind) => self.list(kind).map(Value::List),
            None => Err(Error::unsupported("a list of lists, which ggml does not read either").offset(at)),
        }
    }

    fn single(&mut self, kind: ValueType) -> Result<Value> {
        let Some(width) = kind.width() else {
            let n = self.length("a text", 1)?;
            return self.bytes(n).map(Value::text);
        };
        let bytes = self.cursor.numbers(width as u64, width)?;
        kind.unpack(&bytes).map(|(value, _)| value).ok_or_else(not_packed)
    }

    fn list(&mut self, kind: ValueType) -> Result<List> {
        let (n, bytes) = match kind.width() {
            Some(width) => {
                let n = self.length("a list", width as u64)?;
                (n, self.cursor.numbers(n * width as u64, width)?)
            }
            None => {
                let n = self.length("a list", 8)?;
                let mut bytes = vec![];
                for _ in 0..n {
                    let len = self.length("a text", 1)?;
                    bytes.extend_from_slice(&len.to_le_bytes());
                    self.cursor.append(len, &mut bytes)?;
                }
                (n, bytes)
            }
        };
        List::new(kind, n, bytes).ok_or_else(not_packed)
    }

    fn tensor(&mut self) -> Result<Entry> {
        let at = self.cursor.at();
        let len = self.length("a tensor's name", 1)?;
        if len > MAX_NAME_BYTES as u64 {
            return Err(Error::malformed("a tensor's name is longer than ggml reads")
                .offset(at)
                .expected(format_args!("at most {MAX_NAME_BYTES} bytes"))
                .found(format_args!("{len} bytes")));
        }
        let name = String::from_utf8(self.bytes(len)?)
            .map_err(|_| Error::malformed("a tensor's name is not UTF-8").offset(at + 8))?;
        let mut entry = self.described(at).map_err(|error| error.tensor(&*name))?;
        entry.name = name;
        Ok(entry)
    }

    /// All of a tensor's record but its name.
    fn described(&mut self, at: u64) -> Result<Entry> {
        let n_dims = self.cursor.u32()?;
        if n_dims > MAX_DIMS as u32 {
            return Err(Error::malformed("too many dimensions")
                .offset(at)
                .expected(format_args!("at most {MAX_DIMS}"))
                .found(n_dims));
        }
        let mut shape = (0..n_dims).map(|_| self.cursor.u64()).collect::<Result<Box<[u64]>>>()?;
        let n = n_elements(shape.iter().copied());
        let row = shape.first().copied().unwrap_or(1);
        shape.reverse();
        let n = n.ok_or_else(|| {
            Error::malformed("the shape overflows").offset(at).found(format_args!("{shape:?}"))
        })?;
        let dtype = from_wire(self.cursor.u32()?).map_err(|error| error.offset(at))?;
        if !row.is_multiple_of(dtype.item_elements()) {
            return Err(Error::malformed("rows do not hold whole blocks")
                .offset(at)
                .expected(format_args!("a multiple of {}", dtype.item_elements()))
                .found(format_args!("{row} elements in a row of {dtype}")));
        }
        let len = dtype.packed_len(n).ok_or_else(|| {
            Error::malformed("the shape overflows").offset(at).found(format_args!("{shape:?} of {dtype}"))
        })?;
        Ok(Entry { name: String::new(), dtype, shape, begin: self.cursor.u64()?, len })
    }
}

/// What was read by its length is as long as that.
fn not_packed() -> Error {
    Error::malformed("a value does not have the length it says")
}

fn check_keys(metadata: &[(String, Value)]) -> Result<()> {
    let mut keys = HashSet::with_capacity(metadata.len());
    match metadata.iter().find(|(key, _)| !keys.insert(key.as_str())) {
        Some((key, _)) => {
            Err(Error::malformed("a key appears twice").found(format_args!("{:?}", shown(key))))
        }
        None => Ok(()),
    }
}

fn check_names(tensors: &[Entry]) -> Result<()> {
    let mut names = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|entry| !names.insert(entry.name.as_str())) {
        Some(entry) => Err(Error::malformed("the name appears twice in the header").tensor(&*entry.name)),
        None => Ok(()),
    }
}

/// Finds where the data begins and ends, and whether each tensor begins where it must.
fn place(header: &mut Header) -> Result<()> {
    let overflow = || Error::malformed("the data ends beyond 64 bits");
    header.data_at = header.data_at.checked_next_multiple_of(header.alignment).ok_or_else(overflow)?;
    let (mut begin, mut end) = (0u64, 0u64);
    for entry in &header.tensors {
        if entry.begin != begin {
            let what = match entry.begin > begin {
                true => "a hole in the data comes before it",
                false => "its data overlaps another's, or does not begin at a multiple of the alignment",
            };
            return Err(Error::malformed(what)
                .tensor(&*entry.name)
                .expected(format_args!("data from {begin} on"))
                .found(entry.begin));
        }
        let ends = |begin: u64| begin.checked_add(entry.len);
        end = ends(begin).ok_or_else(overflow)?;
        begin = end.checked_next_multiple_of(header.alignment).ok_or_else(overflow)?;
    }
    header.data_end = header.data_at.checked_add(end).ok_or_else(overflow)?;
    // What the padding behind it ends at fits too, so that nobody has to look again.
    header.data_at.checked_add(begin).map(|_| ()).ok_or_else(overflow)
}
