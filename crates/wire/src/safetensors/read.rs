//! The header, parsed.

use super::{Entry, Header, LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY, byte_len, from_wire};
use crate::shown;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

/// What to think of a file that ends before what its header promises.
const CUT: &str = "a download that was cut short?";

/// How many distinct unknown keys [`Header::ignored_keys`] names at most.
const MAX_IGNORED_KEYS: usize = 16;

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
