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

use crate::shown;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use safetensors::Dtype;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

/// Bytes of the length field before the JSON text.
pub const LENGTH_BYTES: u64 = 8;

/// The longest header that the format's own readers accept (`MAX_HEADER_SIZE` in safetensors/src/tensor.rs), padding
/// included, length field not.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The header's key that holds text instead of a tensor; no tensor can have this name.
pub const METADATA_KEY: &str = "__metadata__";

/// What to think of a file that ends before what its header promises.
const CUT: &str = "a download that was cut short?";

/// How many distinct unknown keys [`Header::ignored_keys`] names at most.
const MAX_IGNORED_KEYS: usize = 16;

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

/// Reads and proves the header of `file`.
///
/// What is proven: the text is a JSON object without repeated keys anywhere; every dtype is known; every tensor's
/// bytes are as many as its shape says; all tensors together cover the rest of the file without hole or overlap.
/// Memory is the header's text and about 100 bytes a tensor; no JSON tree is built.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for a broken rule,
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for an unknown dtype,
/// [`Limit`](modelferry_core::error::ErrorKind::Limit) for header bytes, tensors, rank or name length.
pub fn parse_header(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Header> {
    read_header(inputs, file, limits).map_err(|error| error.file(inputs.name(file)))
}

fn read_header(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Header> {
    let file_len = inputs.len(file);
    let Some(available) = file_len.checked_sub(LENGTH_BYTES) else {
        return Err(Error::malformed("the file is too short for a header")
            .expected(format_args!("at least {LENGTH_BYTES} bytes"))
            .found(format_args!("{file_len} bytes")));
    };
    let mut length = [0; LENGTH_BYTES as usize];
    inputs.read_at(file, 0, &mut length)?;
    let header_len = u64::from_le_bytes(length);
    if header_len > available {
        let error = Error::malformed("the header is longer than the file")
            .offset(0)
            .expected(format_args!("at most {available} bytes"))
            .found(format_args!("{header_len} bytes"));
        // Where text begins as a header does, its length is not what is wrong.
        let mut begins = [0];
        let is_cut =
            available > 0 && inputs.read_at(file, LENGTH_BYTES, &mut begins).is_ok() && begins == *b"{";
        return Err(if is_cut && header_len <= MAX_HEADER_BYTES { error.hint(CUT) } else { error });
    }
    Limits::check("the header is too long", header_len, limits.header_bytes)
        .map_err(|error| error.offset(0))?;
    let text = inputs.read_vec(file, LENGTH_BYTES, header_len, limits.header_bytes)?;
    let mut header = parse_text(&text, limits)?;
    drop(text);
    header.data_at = LENGTH_BYTES + header_len;
    header.data_len = available - header_len;
    check_names(&header)?;
    check_tiling(&header)?;
    Ok(header)
}

/// The header's text without its place in a file: `data_at` and `data_len` stay 0.
fn parse_text(text: &[u8], limits: &Limits) -> Result<Header> {
    // The format demands the brace first, so that no other kind of file can be a header too.
    match text.first() {
        Some(b'{') => {}
        Some(byte) => {
            return Err(Error::malformed("the header does not begin with a brace")
                .offset(LENGTH_BYTES)
                .expected("'{'")
                .found(format_args!("{:?}", char::from(*byte))));
        }
        None => return Err(Error::malformed("the header is empty").offset(0)),
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        Error::malformed("the header is not UTF-8").offset(LENGTH_BYTES + error.valid_up_to() as u64)
    })?;
    let mut cx = Context { limits, fault: None, tensor: None, shape: Vec::new(), ignored: Vec::new() };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_map(HeaderVisitor(&mut cx)).and_then(|header| json.end().map(|()| header));
    match parsed {
        Ok(mut header) => {
            header.ignored_keys = cx.ignored;
            Ok(header)
        }
        Err(error) => Err(cx.into_error(text, &error)),
    }
}

/// What the visitors share: they report through it, because serde's error can carry nothing but text.
struct Context<'l> {
    limits: &'l Limits,
    fault: Option<Error>,
    tensor: Option<String>,
    shape: Vec<u64>,
    ignored: Vec<String>,
}

impl Context<'_> {
    /// Keeps `fault` and returns the stand-in that stops the parser.
    fn fail<E: de::Error>(&mut self, fault: Error) -> E {
        self.fault.get_or_insert(fault);
        E::custom("")
    }

    fn into_error(self, text: &str, error: &serde_json::Error) -> Error {
        let fault = self.fault.unwrap_or_else(|| {
            let message = error.to_string();
            // The position goes where every other offset goes.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            Error::malformed(format!("the header is not a tensor table: {}", shown_fault(message)))
        });
        let fault = match offset_of(text, error.line(), error.column()) {
            Some(offset) => fault.offset(LENGTH_BYTES + offset),
            None => fault,
        };
        match self.tensor {
            Some(tensor) => fault.tensor(tensor),
            None => fault,
        }
    }
}

/// serde_json repeats the string that it did not expect, which may be the whole header.
fn shown_fault(message: &str) -> Cow<'_, str> {
    const MOST: usize = 300;
    if message.len() <= MOST {
        return Cow::Borrowed(message);
    }
    // What it wanted comes last.
    let wanted = message.rsplit_once(", expected ").map_or("", |(_, wanted)| wanted);
    Cow::Owned(format!("{}, expected {}", shown(message), shown(wanted)))
}

/// Byte offset of a position of serde_json, whose columns count bytes from 1.
fn offset_of(text: &str, line: usize, column: usize) -> Option<u64> {
    let skipped: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    Some((skipped + column.saturating_sub(1)).min(text.len()) as u64)
}

/// A string, borrowed from the text unless it contains escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A value that nobody reads. It is parsed all the same, as the format's own reader does, which so refuses numbers and
/// escapes that serde's `IgnoredAny` would not look at.
struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Unread)
    }
}

impl<'de> Visitor<'de> for Unread {
    type Value = Unread;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Unread, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unread, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unread, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unread, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unread, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unread, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Unread, A::Error> {
        while seq.next_element::<Unread>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unread, A::Error> {
        while map.next_entry::<Unread, Unread>()?.is_some() {}
        Ok(self)
    }
}

struct HeaderVisitor<'c, 'l>(&'c mut Context<'l>);

impl<'de> Visitor<'de> for HeaderVisitor<'_, '_> {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let HeaderVisitor(cx) = self;
        let mut header =
            Header { metadata: None, tensors: Vec::new(), data_at: 0, data_len: 0, ignored_keys: Vec::new() };
        let mut metadata_seen = false;
        while let Some(Text(name)) = map.next_key()? {
            if name == METADATA_KEY {
                if metadata_seen {
                    return Err(cx.fail(Error::malformed("\"__metadata__\" appears twice")));
                }
                metadata_seen = true;
                header.metadata = map.next_value_seed(MetadataSeed(cx))?;
                continue;
            }
            if name.len() > cx.limits.name_bytes {
                let fault = Error::limit("a tensor name is too long")
                    .expected(format_args!("at most {} bytes", cx.limits.name_bytes))
                    .found(format_args!("{} bytes", name.len()));
                return Err(cx.fail(fault));
            }
            if let Err(fault) =
                Limits::check("too many tensors", header.tensors.len() as u64 + 1, cx.limits.tensors)
            {
                return Err(cx.fail(fault));
            }
            let name = name.into_owned();
            match map.next_value_seed(EntrySeed(cx)) {
                Ok((dtype, shape, begin, end)) => {
                    header.tensors.push(Entry { name, dtype, shape, begin, end });
                }
                Err(error) => {
                    cx.tensor = Some(name);
                    return Err(error);
                }
            }
        }
        Ok(header)
    }
}

/// `__metadata__`: an object of strings, or `null`, which the format's reader takes for none.
struct MetadataSeed<'c, 'l>(&'c mut Context<'l>);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_, '_> {
    type Value = Option<Vec<(String, String)>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_, '_> {
    type Value = Option<Vec<(String, String)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings under \"__metadata__\"")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut keys = HashSet::new();
        while let Some(Text(key)) = map.next_key()? {
            if !keys.insert(key.clone()) {
                return Err(self
                    .0
                    .fail(Error::malformed(format!("metadata key {:?} appears twice", shown(&key)))));
            }
            let Text(value) = map.next_value()?;
            pairs.push((key.into_owned(), value.into_owned()));
        }
        Ok(Some(pairs))
    }
}

/// The value of one tensor: dtype, shape, begin, end.
struct EntrySeed<'c, 'l>(&'c mut Context<'l>);

impl<'de> DeserializeSeed<'de> for EntrySeed<'_, '_> {
    type Value = (DType, Box<[u64]>, u64, u64);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_, '_> {
    type Value = (DType, Box<[u64]>, u64, u64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"dtype\", \"shape\" and \"data_offsets\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let EntrySeed(cx) = self;
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        let mut others: Vec<Cow<'de, str>> = Vec::new();
        while let Some(Text(key)) = map.next_key()? {
            let repeated = match &*key {
                "dtype" => dtype.replace(map.next_value_seed(DtypeSeed(cx))?).is_some(),
                "shape" => shape.replace(map.next_value_seed(ShapeSeed(cx))?).is_some(),
                "data_offsets" => offsets.replace(map.next_value::<(u64, u64)>()?).is_some(),
                _ => {
                    map.next_value::<Unread>()?;
                    // An entry that defines more keys than this is refused rather than compared key by key.
                    if others.len() == MAX_IGNORED_KEYS {
                        return Err(cx.fail(Error::malformed("an entry has too many unknown keys")));
                    }
                    let repeated = others.contains(&key);
                    if !repeated {
                        others.push(key.clone());
                    }
                    repeated
                }
            };
            if repeated {
                return Err(cx.fail(Error::malformed(format!("key {:?} appears twice", shown(&key)))));
            }
        }
        for key in others {
            if cx.ignored.len() < MAX_IGNORED_KEYS && !cx.ignored.iter().any(|known| *known == key) {
                cx.ignored.push(key.into_owned());
            }
        }
        let dtype = dtype.ok_or_else(|| cx.fail(missing("dtype")))?;
        let shape = shape.ok_or_else(|| cx.fail(missing("shape")))?;
        let (begin, end) = offsets.ok_or_else(|| cx.fail(missing("data_offsets")))?;
        if let Err(fault) = check_len(dtype, &shape, begin, end) {
            return Err(cx.fail(fault));
        }
        Ok((dtype, shape, begin, end))
    }
}

fn missing(key: &str) -> Error {
    Error::malformed(format!("key {key:?} is missing"))
}

/// Whether the offsets hold exactly what the shape says.
fn check_len(dtype: DType, shape: &[u64], begin: u64, end: u64) -> Result<()> {
    let Some(found) = end.checked_sub(begin) else {
        return Err(Error::malformed("data ends before it begins")
            .expected(format_args!("an end of at least {begin}"))
            .found(end));
    };
    let Some(expected) = byte_len(dtype, shape) else {
        return Err(Error::malformed("the shape does not give a whole number of bytes below 2^64")
            .found(format_args!("{dtype} {shape:?}")));
    };
    if found != expected {
        return Err(Error::malformed("data offsets do not fit the shape")
            .expected(format_args!("{expected} bytes for {dtype} {shape:?}"))
            .found(format_args!("{found} bytes from {begin} to {end}")));
    }
    Ok(())
}

struct DtypeSeed<'c, 'l>(&'c mut Context<'l>);

impl<'de> DeserializeSeed<'de> for DtypeSeed<'_, '_> {
    type Value = DType;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DType, D::Error> {
        let Text(name) = Text::deserialize(deserializer)?;
        let wire = Dtype::deserialize(StrDeserializer::<de::value::Error>::new(&name)).ok();
        wire.and_then(from_wire).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            self.0.fail(Error::unsupported("unknown dtype").found(format_args!("{shown:?}")))
        })
    }
}

struct ShapeSeed<'c, 'l>(&'c mut Context<'l>);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_, '_> {
    type Value = Box<[u64]>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Box<[u64]>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_, '_> {
    type Value = Box<[u64]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Box<[u64]>, A::Error> {
        let ShapeSeed(cx) = self;
        // One buffer serves every tensor, so that each shape is allocated once and at its exact size.
        cx.shape.clear();
        while let Some(extent) = seq.next_element()? {
            cx.shape.push(extent);
            if cx.shape.len() > cx.limits.rank {
                let fault =
                    Error::limit("too many dimensions").expected(format_args!("at most {}", cx.limits.rank));
                return Err(cx.fail(fault));
            }
        }
        Ok(cx.shape.as_slice().into())
    }
}

fn check_names(header: &Header) -> Result<()> {
    let mut names = HashSet::with_capacity(header.tensors.len());
    match header.tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        Some(tensor) => Err(Error::malformed("the name appears twice in the header").tensor(&*tensor.name)),
        None => Ok(()),
    }
}

/// Whether the tensors cover the data without hole or overlap.
fn check_tiling(header: &Header) -> Result<()> {
    let (mut cursor, mut before): (u64, Option<&Entry>) = (0, None);
    for idx in header.data_order() {
        let tensor = &header.tensors[idx];
        if tensor.begin != cursor {
            let what = match before {
                _ if tensor.begin > cursor => Cow::from("a hole in the data comes before it"),
                Some(before) => Cow::from(format!("its data overlaps that of {:?}", shown(&before.name))),
                None => Cow::from("its data overlaps another's"),
            };
            return Err(Error::malformed(what)
                .tensor(&*tensor.name)
                .expected(format_args!("data from {cursor} on"))
                .found(tensor.begin));
        }
        // In this order an entry that ends past the data also hides whatever follows, so it is the one to name.
        if tensor.end > header.data_len {
            return Err(Error::malformed("data ends past the file")
                .tensor(&*tensor.name)
                .expected(format_args!(
                    "a file of at least {} bytes",
                    header.data_at.saturating_add(tensor.end)
                ))
                .found(format_args!("{} bytes", header.data_at + header.data_len))
                .hint(CUT));
        }
        cursor = tensor.end;
        before = Some(tensor);
    }
    if cursor != header.data_len {
        return Err(Error::malformed("bytes follow the last tensor")
            // Cannot overflow: the cursor was compared with the length of the data above.
            .offset(header.data_at + cursor)
            .expected(format_args!("a file of {} bytes", header.data_at + cursor))
            .found(format_args!("{} bytes", header.data_at + header.data_len)));
    }
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
    use ::safetensors::SafeTensors;
    use modelferry_core::error::ErrorKind;

    fn parse(bytes: &[u8]) -> Result<Header> {
        let inputs = file(bytes);
        parse_header(&inputs, inputs.root(), &Limits::default())
    }

    fn with_text(text: &str, data_len: usize) -> Vec<u8> {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len() + data_len, 0);
        bytes
    }

    fn fault(text: &str, data_len: usize) -> String {
        parse(&with_text(text, data_len)).unwrap_err().to_string()
    }

    #[test]
    fn every_dtype_maps_both_ways() {
        let mut n_mapped = 0;
        for dtype in DType::all() {
            if let Some(wire) = to_wire(dtype) {
                assert_eq!(from_wire(wire), Some(dtype));
                assert_eq!(Some(wire.bitsize() as u32), dtype.bits(), "{dtype}");
                n_mapped += 1;
            }
        }
        assert_eq!(n_mapped, 22);
    }

    #[test]
    fn order_metadata_and_empty_tensors_are_kept() {
        let text = r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[1,9]},"__metadata__":{"z":"1","a":"é\n"},
            "e":{"data_offsets":[1,1],"dtype":"I64","shape":[0,3]},"a\u0062":{"dtype":"U8","shape":[],"data_offsets":[0,1],"x":[1]}}   "#;
        let header = parse(&with_text(text, 9)).unwrap();
        assert_eq!(header.tensors.iter().map(|t| &*t.name).collect::<Vec<_>>(), ["b", "e", "ab"]);
        assert_eq!(header.data_order(), [2, 1, 0]);
        assert_eq!(header.metadata, Some(vec![("z".into(), "1".into()), ("a".into(), "é\n".into())]));
        assert_eq!(*header.tensors[1].shape, [0, 3]);
        assert_eq!(header.ignored_keys, ["x"]);
        assert_eq!((header.data_at, header.data_len), (8 + text.len() as u64, 9));
    }

    #[test]
    fn absent_null_and_empty_metadata_differ() {
        assert_eq!(parse(&with_text("{}", 0)).unwrap().metadata, None);
        assert_eq!(parse(&with_text(r#"{"__metadata__":null}"#, 0)).unwrap().metadata, None);
        assert_eq!(parse(&with_text(r#"{"__metadata__":{}}"#, 0)).unwrap().metadata, Some(vec![]));
    }

    #[test]
    #[rustfmt::skip]
    fn every_rule_has_its_error() {
        let one = |body: &str, len| fault(&format!("{{\"t\":{body}}}"), len);
        let cases = [
            (parse(b"1234567").unwrap_err().to_string(),
             "m: the file is too short for a header, expected at least 8 bytes, found 7 bytes"),
            (parse(b"version https://git-lfs").unwrap_err().to_string(),
             "m: byte 0: the header is longer than the file, expected at most 15 bytes, found 2336927755350992246 bytes"),
            (fault("", 0), "m: byte 0: the header is empty"),
            (fault(" {}", 0), "m: byte 8: the header does not begin with a brace, expected '{', found ' '"),
            (fault("{}x", 0), "m: byte 10: the header is not a tensor table: trailing characters"),
            (fault("{}\0", 0), "m: byte 10: the header is not a tensor table: trailing characters"),
            (fault("{\n\"t\":1}", 0), "m: tensor \"t\": byte 14: the header is not a tensor table: invalid type: integer `1`, \
              expected an object with \"dtype\", \"shape\" and \"data_offsets\""),
            (one(r#"["F32",[1],[0,4]]"#, 4), "m: tensor \"t\": byte 12: the header is not a tensor table: invalid type: \
              sequence, expected an object with \"dtype\", \"shape\" and \"data_offsets\""),
            (one(r#"{"dtype":"F33","shape":[],"data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 26: unknown dtype, found \"F33\""),
            (one(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 38: the header is not a tensor table: invalid value: integer `-1`, expected u64"),
            (one(r#"{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 39: the header is not a tensor table: invalid type: floating point `1.0`, expected u64"),
            (one(r#"{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 56: the header is not a tensor table: invalid type: floating point \
              `1.8446744073709552e+19`, expected u64"),
            (one(r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}"#, 4),
             "m: tensor \"t\": byte 60: the header is not a tensor table: trailing characters"),
            (one(r#"{"dtype":"F32","shape":[1]}"#, 4), "m: tensor \"t\": byte 39: key \"data_offsets\" is missing"),
            (one(r#"{"shape":[1],"data_offsets":[0,4]}"#, 4), "m: tensor \"t\": byte 46: key \"dtype\" is missing"),
            (one(r#"{"dtype":"F32","data_offsets":[0,4]}"#, 4), "m: tensor \"t\": byte 48: key \"shape\" is missing"),
            (one(r#"{"dtype":"F32","shape":[1],"dtype":"I32","data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 52: key \"dtype\" appears twice"),
            (one(r#"{"dtype":"F32","shape":[1],"x":1,"x":2,"data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 50: key \"x\" appears twice"),
            (one(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, 4),
             "m: tensor \"t\": byte 60: data ends before it begins, expected an end of at least 4, found 0"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, 4),
             "m: tensor \"t\": byte 60: data offsets do not fit the shape, expected 8 bytes for f32 [2], found 4 bytes from 0 to 4"),
            (one(r#"{"dtype":"F4","shape":[3],"data_offsets":[0,2]}"#, 2),
             "m: tensor \"t\": byte 59: the shape does not give a whole number of bytes below 2^64, found f4_e2m1 [3]"),
            (one(r#"{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#, 0),
             "m: tensor \"t\": byte 79: the shape does not give a whole number of bytes below 2^64, found u8 [4294967296, 4294967296]"),
            (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#, 3),
             "m: tensor \"t\": data ends past the file, expected a file of at least 65 bytes, found 64 bytes \
              (a download that was cut short?)"),
            (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[18446744073709551611,18446744073709551615]}"#, 3),
             "m: tensor \"t\": a hole in the data comes before it, expected data from 0 on, found 18446744073709551611"),
            (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#, 6),
             "m: byte 65: bytes follow the last tensor, expected a file of 65 bytes, found 67 bytes"),
            (one(r#"{"dtype":"U8","shape":[4],"data_offsets":[1,5]}"#, 5),
             "m: tensor \"t\": a hole in the data comes before it, expected data from 0 on, found 1"),
            (fault(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[3,7]}}"#, 7),
             "m: tensor \"b\": its data overlaps that of \"a\", expected data from 4 on, found 3"),
            (fault(r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#, 4),
             "m: tensor \"b\": its data overlaps that of \"a\", expected data from 4 on, found 0"),
            (fault(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, 0),
             "m: tensor \"a\": the name appears twice in the header"),
            (fault(r#"{"__metadata__":{"k":"1","k":"2"}}"#, 0), "m: byte 35: metadata key \"k\" appears twice"),
            (fault(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "m: byte 40: \"__metadata__\" appears twice"),
            (fault(r#"{"__metadata__":{"k":1}}"#, 0),
             "m: byte 29: the header is not a tensor table: invalid type: integer `1`, expected a string"),
            (fault(r#"{"__metadata__":[]}"#, 0), "m: byte 25: the header is not a tensor table: invalid type: sequence, \
              expected an object of strings under \"__metadata__\""),
        ];
        // Offsets say where the parser stood, which is at most a few bytes past the fault.
        same_messages(cases);
        let bytes = with_text("{\"a\u{e9}\":1}", 0);
        let cut = [&bytes[..12], &bytes[13..]].concat();
        let mut cut = cut;
        cut[0] -= 1;
        assert_eq!(parse(&cut).unwrap_err().to_string(), "m: byte 11: the header is not UTF-8");
    }

    #[test]
    fn limits_hold() {
        let bytes = with_text(
            r#"{"ab":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},"c":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}"#,
            1,
        );
        let inputs = file(&*bytes);
        let check = |change: fn(&mut Limits), expected: &str| {
            let mut limits = Limits::default();
            change(&mut limits);
            let error = parse_header(&inputs, inputs.root(), &limits).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Limit, expected));
        };
        check(|l| l.header_bytes = 50, "m: byte 0: the header is too long, expected at most 50, found 108");
        check(|l| l.tensors = 1, "m: byte 66: too many tensors, expected at most 1, found 2");
        check(|l| l.rank = 1, "m: tensor \"ab\": byte 40: too many dimensions, expected at most 1");
        check(
            |l| l.name_bytes = 1,
            "m: byte 12: a tensor name is too long, expected at most 1 bytes, found 2 bytes",
        );
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_hangs() {
        let deep = format!("{{\"t\":{{\"x\":{}1{}}}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(parse(&with_text(&deep, 0)).unwrap_err().kind(), ErrorKind::Malformed);
    }

    fn random_model(rng: &mut Rng) -> Vec<(String, DType, Vec<u64>)> {
        let dtypes: Vec<DType> = DType::all().filter(|&dtype| to_wire(dtype).is_some()).collect();
        let n = rng.below(9);
        let tensor = |idx, rng: &mut Rng| {
            let dtype = dtypes[rng.below(dtypes.len() as u64) as usize];
            let mut shape: Vec<u64> = (0..rng.below(5)).map(|_| rng.below(4)).collect();
            if dtype.is_sub_byte() {
                shape.push(8 * rng.below(3));
            }
            (format!("{}.\u{7}\"\\é{idx}", ["a", "layer", "\u{1f600}"][rng.below(3) as usize]), dtype, shape)
        };
        (0..n).map(|idx| tensor(idx, rng)).collect()
    }

    fn entries(model: &[(String, DType, Vec<u64>)]) -> impl Iterator<Item = NewEntry<'_>> {
        model.iter().map(|(name, dtype, shape)| NewEntry { name, dtype: *dtype, shape })
    }

    #[test]
    fn written_headers_come_back_and_the_reference_agrees() {
        for seed in 1..300 {
            let mut rng = Rng::new(seed);
            let model = random_model(&mut rng);
            let metadata: BTreeMap<String, String> =
                (0..rng.below(4)).map(|idx| (format!("k{idx}\n"), "v\"".repeat(idx as usize))).collect();
            let metadata = (rng.below(3) > 0).then_some(metadata);
            let written = write_header(entries(&model), metadata.as_ref()).unwrap();
            assert_eq!(written.bytes.len() % 8, 0, "seed {seed}");
            let mut bytes = written.bytes;
            bytes.resize(bytes.len() + written.data_len as usize, 0);

            let header = parse(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let tensors = header.tensors.iter();
            assert!(
                tensors.map(|t| (t.name.clone(), t.dtype, t.shape.to_vec())).eq(model.iter().cloned()),
                "seed {seed}"
            );
            assert_eq!(header.metadata.map(BTreeMap::from_iter), metadata, "seed {seed}");

            let (_, reference) =
                SafeTensors::read_metadata(&bytes).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(reference.tensors().len(), model.len(), "seed {seed}");
            for tensor in &header.tensors {
                let info = reference.info(&tensor.name).unwrap();
                assert_eq!(info.data_offsets, (tensor.begin as usize, tensor.end as usize), "seed {seed}");
            }
        }
    }

    #[test]
    fn the_text_is_the_reference_writers_own() {
        for seed in 1..200 {
            let mut rng = Rng::new(seed);
            let mut model = random_model(&mut rng);
            // The reference writes the widest types first.
            model.sort_by(|(a, at, _), (b, bt, _)| to_wire(*bt).cmp(&to_wire(*at)).then(a.cmp(b)));
            let metadata: Option<BTreeMap<String, String>> =
                (rng.below(2) > 0).then(|| BTreeMap::from([("format".into(), "pt".into())]));
            let written = write_header(entries(&model), metadata.as_ref()).unwrap();
            let zeros = vec![0; written.data_len as usize];
            let views = model.iter().map(|(name, dtype, shape)| {
                let data = &zeros[..byte_len(*dtype, shape).unwrap() as usize];
                let shape = shape.iter().map(|&extent| extent as usize).collect();
                let view =
                    ::safetensors::tensor::TensorView::new(to_wire(*dtype).unwrap(), shape, data).unwrap();
                (name, view)
            });
            let reference =
                ::safetensors::serialize(views, metadata.map(|m| m.into_iter().collect())).unwrap();
            assert!(reference.starts_with(&written.bytes), "seed {seed}");
            assert_eq!(reference.len() as u64, written.bytes.len() as u64 + written.data_len, "seed {seed}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let write = |name, dtype, shape: &[u64]| {
            write_header([NewEntry { name, dtype, shape }], None).unwrap_err().to_string()
        };
        assert_eq!(
            write("t", DType::Q8_0, &[32]),
            "tensor \"t\": safetensors has no such element type, found q8_0"
        );
        assert_eq!(
            write("__metadata__", DType::F32, &[]),
            "tensor \"__metadata__\": safetensors keeps this name for itself"
        );
        assert_eq!(
            write("t", DType::F6E2M3, &[3]),
            "tensor \"t\": safetensors needs a whole number of bytes below 2^64, found f6_e2m3 [3]"
        );
        assert_eq!(
            write("t", DType::F64, &[1 << 61]),
            "tensor \"t\": safetensors needs a whole number of bytes below 2^64, found f64 [2305843009213693952]"
        );
        let name = "n".repeat(1 << 20);
        let many = (0..100).map(|_| NewEntry { name: &name, dtype: DType::U8, shape: &[] });
        let error = write_header(many, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Target);
        assert!(error.to_string().starts_with("the header is longer than any safetensors reader accepts"));
    }

    #[test]
    fn damage_is_an_error_or_another_header_and_never_a_panic() {
        let model = [("a".to_owned(), DType::F32, vec![2, 1]), ("b".to_owned(), DType::Bool, vec![])];
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let written = write_header(entries(&model), Some(&metadata)).unwrap();
        let mut bytes = written.bytes;
        bytes.resize(bytes.len() + written.data_len as usize, 7);
        every_prefix_fails(&bytes, |bytes| parse(bytes).is_ok());
        every_bit_flip_returns(&bytes, |bytes| {
            let ours = parse(bytes).is_ok();
            // Whatever we accept, the format's own reader accepts.
            assert!(!ours || SafeTensors::read_metadata(bytes).is_ok());
            ours
        });
    }

    #[test]
    fn a_rewritten_header_keeps_the_data_at_its_place_of_a_page() {
        let entry = NewEntry { name: "w", dtype: DType::U8, shape: &[3] };
        let rewrite = |metadata: &[(&str, &str)], data_at: u64| {
            let bytes = rewrite_header([entry], metadata, data_at).unwrap().bytes;
            let header = parse(&[&bytes[..], &[0; 3]].concat()).unwrap();
            let found = header.metadata.unwrap_or_default();
            let wanted: Vec<_> = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            assert_eq!(found, wanted, "in their order");
            header.data_at
        };
        assert_eq!(rewrite(&[], 64), 64);
        assert_eq!(rewrite(&[("z", "1"), ("a", "2")], 64), 64 + 4096);
        assert_eq!(rewrite(&[], 64 + 4096), 64, "and back");
        assert_eq!(rewrite(&[("k", &"x".repeat(5000))], 8200), 8200);
        // One that was not aligned has no place worth keeping.
        assert_eq!(rewrite(&[], 65), 64);
    }
}
