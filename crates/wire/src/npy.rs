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

use crate::shown;
use crate::zip::extra_field;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{ByteOrder, volume};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;

/// First bytes of every array file.
pub const MAGIC: [u8; 6] = *b"\x93NUMPY";

/// Header id of the zip extra field that names the element type of a void array: the letters `FM`, which APPNOTE
/// 6.3.10 section 4.6 and Info-ZIP's list leave free. Its payload is a version byte, 1, and the type's name as
/// [`DType::from_name`] knows it.
pub const DTYPE_FIELD_ID: u16 = u16::from_le_bytes(*b"FM");
const DTYPE_FIELD_VERSION: u8 = 1;

/// A header of a plain array has a few hundred bytes; only structured types need more, and those are refused.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// numpy aligns the data to this (`ARRAY_ALIGN`).
const ALIGN: usize = 64;
/// numpy leaves room for the first extent to grow to this many digits (`GROWTH_AXIS_MAX_DIGITS`).
const GROWTH_DIGITS: usize = 21;

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

/// Parses the header at the start of `prefix`, the first bytes of an array file.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed),
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for element types with the reason by name,
/// [`Limit`](modelferry_core::error::ErrorKind::Limit). Offsets count from the start of the array file.
pub fn parse(prefix: &[u8], limits: &Limits) -> Result<Parsed> {
    parse_at(prefix, limits, 0)
}

/// [`parse`] for an array file that begins at byte `base` of its file.
fn parse_at(prefix: &[u8], limits: &Limits, base: u64) -> Result<Parsed> {
    let place = |error: Error, at: usize| error.offset(base.saturating_add(at as u64));
    let magic = &prefix[..prefix.len().min(MAGIC.len())];
    if !MAGIC.starts_with(magic) {
        let found = magic.escape_ascii();
        return Err(place(Error::malformed("this is no npy file"), 0).expected("\\x93NUMPY").found(found));
    }
    let Some(&[major, minor]) = prefix.get(6..8).and_then(|version| version.first_chunk()) else {
        return Ok(Parsed::NeedMore(10));
    };
    let length_bytes = match (major, minor) {
        (1, 0) => 2,
        (2 | 3, 0) => 4,
        _ => {
            return Err(place(Error::unsupported("unknown npy version"), 6)
                .expected("1.0, 2.0 or 3.0")
                .found(format_args!("{major}.{minor}")));
        }
    };
    let text_at = 8 + length_bytes;
    let Some(length) = prefix.get(8..text_at) else {
        return Ok(Parsed::NeedMore(text_at as u64));
    };
    let text_len = length.iter().rev().fold(0, |len, &byte| len << 8 | u64::from(byte));
    Limits::check("the npy header is too long", text_len, limits.header_bytes.min(MAX_TEXT_BYTES))
        .map_err(|error| place(error, 8))?;
    // Cannot overflow or be cut by the cast: the length is at most MAX_TEXT_BYTES.
    let data_at = text_at as u64 + text_len;
    let Some(text) = prefix.get(text_at..data_at as usize) else {
        return Ok(Parsed::NeedMore(data_at));
    };
    // numpy decodes versions 1 and 2 as Latin-1, where anything goes.
    if major == 3
        && let Err(error) = std::str::from_utf8(text)
    {
        return Err(place(Error::malformed("the npy header is not UTF-8"), text_at + error.valid_up_to()));
    }
    let mut scanner = Scanner { text, at: 0 };
    let header = scanner.header(limits, data_at);
    header.map(Parsed::Header).map_err(|error| place(error, text_at + scanner.at))
}

/// Reads the header of the stored array file that fills `window`, and checks that the elements fill the rest of it.
///
/// Errors: those of [`parse`], with offsets in the file, and
/// [`Malformed`](modelferry_core::error::ErrorKind::Malformed) where the array is cut short or something follows it.
pub fn read_header(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Header> {
    let name = || inputs.name(window.file);
    let mut wanted = window.len.min(256);
    loop {
        // Bounded by `wanted`, which is at most a header's limit.
        let prefix = inputs.read_vec(window.file, window.at, wanted, u64::MAX)?;
        match parse_at(&prefix, limits, window.at).map_err(|error| error.file(name()))? {
            Parsed::Header(header) => {
                header.check_len(window.len).map_err(|error| error.file(name()).offset(window.at))?;
                return Ok(header);
            }
            Parsed::NeedMore(more) if more > window.len => {
                return Err(Error::malformed("the npy header is cut short")
                    .file(name())
                    .offset(window.at)
                    .expected(format_args!("{more} bytes or more"))
                    .found(format_args!("{} bytes", window.len)));
            }
            Parsed::NeedMore(more) => wanted = more,
        }
    }
}

impl Header {
    /// Whether an array file of `file_len` bytes holds exactly this header and its elements.
    pub fn check_len(&self, file_len: u64) -> Result<()> {
        // Checked: the length of the data is the file's word.
        let expected = self.data_at.checked_add(self.data_len);
        if expected == Some(file_len) {
            return Ok(());
        }
        let what = if expected.is_some_and(|expected| expected < file_len) {
            "bytes follow the array"
        } else {
            "the array is cut short"
        };
        Err(Error::malformed(what)
            .expected(format_args!("{} bytes of header and {} of data", self.data_at, self.data_len))
            .found(format_args!("{file_len} bytes")))
    }
}

/// Reads the one kind of Python literal that an npy header is.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn header(&mut self, limits: &Limits, data_at: u64) -> Result<Header> {
        let (mut descr, mut order, mut shape) = (None, None, None);
        self.expect(b'{')?;
        while self.peek() != Some(b'}') {
            let key_at = self.at;
            let key = self.string()?;
            self.expect(b':')?;
            let repeated = match &*key {
                "descr" => descr.replace(self.descr()?).is_some(),
                "fortran_order" => order.replace(self.order()?).is_some(),
                "shape" => shape.replace(self.shape(limits)?).is_some(),
                _ => {
                    self.at = key_at;
                    return Err(self
                        .fault("unknown key in the npy header")
                        .found(format_args!("{:?}", shown(&key))));
                }
            };
            if repeated {
                self.at = key_at;
                return Err(self
                    .fault("a key of the npy header appears twice")
                    .found(format_args!("{key:?}")));
            }
            if self.peek() != Some(b',') {
                break;
            }
            self.at += 1;
        }
        self.expect(b'}')?;
        if let Some(byte) = self.peek() {
            return Err(self.unexpected("nothing more", Some(byte)));
        }
        let missing = |key: &str| {
            Error::malformed(format!("the npy header has no {key:?}")).expected("descr, fortran_order, shape")
        };
        let descr: Descr = descr.ok_or_else(|| missing("descr"))?;
        let order = order.ok_or_else(|| missing("fortran_order"))?;
        let shape: Vec<u64> = shape.ok_or_else(|| missing("shape"))?;
        let data_len =
            volume(&shape).and_then(|volume| volume.checked_mul(descr.item_bytes())).ok_or_else(|| {
                Error::malformed("the array's bytes are more than 64 bits count")
                    .found(format_args!("{shape:?}"))
            })?;
        Ok(Header { descr, order, shape, data_at, data_len })
    }

    fn descr(&mut self) -> Result<Descr> {
        let text = match self.peek() {
            Some(b'\'' | b'"') => {
                let at = self.at;
                let text = self.string()?;
                self.at = at;
                let descr = descr_from(&text)?;
                self.string()?;
                return Ok(descr);
            }
            Some(b'[') => "structured arrays are not supported",
            Some(b'(') => "subarray types are not supported",
            byte => return Err(self.unexpected("a type string", byte)),
        };
        Err(Error::unsupported(text))
    }

    fn order(&mut self) -> Result<MemoryOrder> {
        let byte = self.peek();
        for (word, order) in [(&b"False"[..], MemoryOrder::C), (b"True", MemoryOrder::Fortran)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(order);
            }
        }
        Err(self.unexpected("True or False", byte))
    }

    fn shape(&mut self, limits: &Limits) -> Result<Vec<u64>> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        let mut comma = true;
        while let Some(byte) = self.peek().filter(|&byte| byte != b')') {
            if !comma {
                return Err(self.unexpected("',' or ')'", Some(byte)));
            }
            if shape.len() == limits.rank {
                return Err(
                    Error::limit("too many dimensions").expected(format_args!("at most {}", limits.rank))
                );
            }
            shape.push(self.integer()?);
            comma = self.peek() == Some(b',');
            self.at += usize::from(comma);
        }
        // Python takes `(3)` for a number, and numpy refuses it.
        if shape.len() == 1 && !comma {
            let byte = self.peek();
            return Err(self.unexpected("',' after the only extent", byte));
        }
        self.expect(b')')?;
        Ok(shape)
    }

    fn integer(&mut self) -> Result<u64> {
        let start = self.at;
        let byte = self.peek();
        if byte == Some(b'-') {
            return Err(self.fault("an extent is negative"));
        }
        let mut value = 0u64;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            let next = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0')));
            value = next.ok_or_else(|| self.fault("an extent is more than 64 bits hold"))?;
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected("an extent", byte));
        }
        // numpy counts in signed numbers, in empty arrays too.
        if value > i64::MAX as u64 {
            return Err(self.fault("an extent is more than 63 bits hold"));
        }
        // Python 3 takes `007` for a mistake, not for a number.
        if byte == Some(b'0') && value > 0 {
            return Err(self.fault("an extent begins with a zero"));
        }
        // Python 2 wrote long integers this way, which numpy still reads.
        if self.text.get(self.at) == Some(&b'L') {
            self.at += 1;
        }
        Ok(value)
    }

    /// A quoted string, each byte one character as in Latin-1. Nothing that numpy writes here needs an escape.
    fn string(&mut self) -> Result<String> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            byte => return Err(self.unexpected("a string", byte)),
        };
        let rest = &self.text[self.at + 1..];
        let Some(len) = rest.iter().position(|&byte| byte == quote || byte == b'\\' || byte == b'\n') else {
            return Err(self.fault("a string in the npy header does not end"));
        };
        if rest[len] != quote {
            self.at += 1 + len;
            return Err(self.unexpected("the end of a string", Some(rest[len])));
        }
        self.at += len + 2;
        Ok(rest[..len].iter().map(|&byte| char::from(byte)).collect())
    }

    /// The next byte that is not white space, left in place.
    fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c) {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        match self.peek() {
            Some(byte) if byte == wanted => {
                self.at += 1;
                Ok(())
            }
            byte => Err(self.unexpected(&format!("{:?}", char::from(wanted)), byte)),
        }
    }

    fn unexpected(&self, wanted: &str, byte: Option<u8>) -> Error {
        let error = self.fault("the npy header is not the dictionary it should be").expected(wanted);
        match byte {
            Some(byte) => error.found(format_args!("{:?}", char::from(byte))),
            None => error.found("its end"),
        }
    }

    /// The caller adds the place.
    fn fault(&self, what: &'static str) -> Error {
        Error::malformed(what)
    }
}

/// What a type string of numpy means. An absent order, `=` and `|` are read as little-endian: numpy writes `|` for
/// single bytes only and never writes `=`.
fn descr_from(text: &str) -> Result<Descr> {
    let refuse = |what: &'static str| {
        let shown: String = text.chars().take(64).collect();
        Err(Error::unsupported(what).found(format_args!("{shown:?}")))
    };
    let (order, code) = match text.as_bytes().first() {
        Some(b'<') => (Some(ByteOrder::Little), &text[1..]),
        Some(b'>') => (Some(ByteOrder::Big), &text[1..]),
        Some(b'|' | b'=') => (None, &text[1..]),
        _ => (None, text),
    };
    let dtype = match code {
        "?" | "b1" => DType::Bool,
        "b" | "i1" => DType::I8,
        "B" | "u1" => DType::U8,
        "h" | "i2" => DType::I16,
        "H" | "u2" => DType::U16,
        "i" | "i4" => DType::I32,
        "I" | "u4" => DType::U32,
        // C's long, which has 8 bytes where numpy writes such codes at all.
        "l" | "q" | "i8" => DType::I64,
        "L" | "Q" | "u8" => DType::U64,
        "e" | "f2" => DType::F16,
        "f" | "f4" => DType::F32,
        "d" | "f8" => DType::F64,
        "F" | "c8" => DType::C64,
        "D" | "c16" => DType::C128,
        // ml_dtypes' float8_e5m2 is the only one that numpy writes as a float; it cannot read it back.
        "f1" => DType::F8E5M2,
        "g" | "f12" | "f16" => {
            return refuse("long double arrays are not supported, their layout is the machine's");
        }
        "G" | "c24" | "c32" => {
            return refuse("long double arrays are not supported, their layout is the machine's");
        }
        _ => {
            if code.starts_with('(') || code.starts_with(|first: char| first.is_ascii_digit()) {
                return refuse("subarray types are not supported");
            }
            if code.contains(',') {
                return refuse("structured arrays are not supported");
            }
            return match code.as_bytes().first() {
                Some(b'V') => match code[1..].parse::<u16>() {
                    Ok(bytes @ 1..) => Ok(Descr::Void { bytes, order }),
                    _ => refuse("void arrays of this width are not supported"),
                },
                Some(b'O') => refuse("object arrays are pickles, which are never run"),
                Some(b'M' | b'm') => refuse("dates and time differences are not supported"),
                Some(b'S' | b'U' | b'a' | b'T' | b'c') => refuse("arrays of strings are not supported"),
                _ => refuse("unknown array element type"),
            };
        }
    };
    Ok(Descr::Scalar(dtype, order.unwrap_or_default()))
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rng, every_bit_flip_returns, every_prefix_fails, file, same_messages};
    use modelferry_core::error::ErrorKind;

    fn with_text(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = [&MAGIC[..], &[version, 0]].concat();
        bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..if version == 1 { 2 } else { 4 }]);
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    fn header(text: &str) -> Result<Header> {
        match parse(&with_text(1, text), &Limits::default())? {
            Parsed::Header(header) => Ok(header),
            Parsed::NeedMore(_) => panic!("the header is whole"),
        }
    }

    fn fault(text: &str) -> String {
        header(text).unwrap_err().to_string()
    }

    fn descr(text: &str) -> Result<Descr> {
        header(&format!("{{'descr': '{text}', 'fortran_order': False, 'shape': ()}}"))
            .map(|header| header.descr)
    }

    #[test]
    fn headers_are_numpys_own_bytes() {
        // np.save of numpy 2.4.6: np.zeros((2, 3), "<f4"), np.zeros((3,), "?"), np.array(1j), and a transpose.
        let cases: [(DType, MemoryOrder, &[u64], &str); 4] = [
            (
                DType::F32,
                MemoryOrder::C,
                &[2, 3],
                "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
            ),
            (DType::Bool, MemoryOrder::C, &[3], "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }"),
            (DType::C128, MemoryOrder::C, &[], "{'descr': '<c16', 'fortran_order': False, 'shape': (), }"),
            (
                DType::I64,
                MemoryOrder::Fortran,
                &[3, 2],
                "{'descr': '<i8', 'fortran_order': True, 'shape': (3, 2), }",
            ),
        ];
        for (dtype, order, shape, text) in cases {
            let bytes = write_header(dtype, order, shape).unwrap();
            assert_eq!(bytes.len(), 128, "{text}");
            assert_eq!(bytes[..10], [&MAGIC[..], &[1, 0, 118, 0]].concat());
            let expected = format!("{text:<117}\n");
            assert_eq!(std::str::from_utf8(&bytes[10..]).unwrap(), expected);
        }
    }

    #[test]
    fn every_writable_type_comes_back() {
        for seed in 1..400 {
            let mut rng = Rng::new(seed);
            let order = if rng.below(2) > 0 { MemoryOrder::C } else { MemoryOrder::Fortran };
            let shape: Vec<u64> = (0..rng.below(9)).map(|_| rng.next() >> (58 + rng.below(6))).collect();
            for dtype in DType::all() {
                let Some(text) = type_string(dtype) else {
                    assert!(write_header(dtype, order, &shape).is_err());
                    continue;
                };
                let bytes = write_header(dtype, order, &shape).unwrap();
                assert!(bytes.len().is_multiple_of(64), "seed {seed}");
                let Ok(Parsed::Header(header)) = parse(&bytes, &Limits::default()) else {
                    panic!("seed {seed}")
                };
                assert_eq!((header.order, &header.shape), (order, &shape), "seed {seed}");
                assert_eq!(header.data_at, bytes.len() as u64, "seed {seed}");
                let item = dtype.item_bytes();
                assert_eq!(header.data_len, shape.iter().product::<u64>() * item, "seed {seed}");
                match header.descr {
                    Descr::Scalar(found, ByteOrder::Little) => assert_eq!(found, dtype),
                    Descr::Void { bytes, order: Some(ByteOrder::Little) } if text.contains('V') => {
                        assert_eq!(u64::from(bytes), item);
                    }
                    found => panic!("{dtype}: {found:?}"),
                }
            }
        }
        assert_eq!(DType::all().filter(|&dtype| type_string(dtype).is_some()).count(), 23);
    }

    #[test]
    fn long_headers_take_version_two() {
        let shape = vec![i64::MAX as u64; 4000];
        let bytes = write_header(DType::U8, MemoryOrder::C, &shape).unwrap();
        assert_eq!(bytes[6..8], [2, 0]);
        assert_eq!(bytes.len() % 64, 0);
        let limits = {
            let mut limits = Limits::default();
            limits.rank = 5000;
            limits
        };
        assert_eq!(
            parse(&bytes, &limits).unwrap_err().to_string().split(", found").next(),
            Some(&*format!("byte {}: the array's bytes are more than 64 bits count", bytes.len()))
        );
        assert_eq!(parse(&bytes, &Limits::default()).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn python_is_read_as_loosely_as_numpy_does() {
        let expected = header("{'descr': '>i4', 'fortran_order': True, 'shape': (4, 5), }   \n").unwrap();
        assert_eq!(expected.descr, Descr::Scalar(DType::I32, ByteOrder::Big));
        assert_eq!(
            (expected.order, &*expected.shape, expected.data_len),
            (MemoryOrder::Fortran, &[4, 5][..], 80)
        );
        for text in [
            "{'shape':(4,5),'descr':'>i4','fortran_order':True}",
            "  {\"shape\": (4L, 5L,), \"fortran_order\": True, \"descr\": \">i\"\n}",
        ] {
            let found = header(text).unwrap();
            assert_eq!(
                (found.descr, found.order, found.shape),
                (expected.descr, expected.order, expected.shape.clone())
            );
        }
        assert_eq!(*header("{'descr': 'u1', 'fortran_order': False, 'shape': (7,)}").unwrap().shape, [7]);
        let text = "{'descr': '<f2', 'fortran_order': False, 'shape': ()}";
        for version in 1..4 {
            let bytes = with_text(version, text);
            let Ok(Parsed::Header(found)) = parse(&bytes, &Limits::default()) else {
                panic!("version {version}")
            };
            assert_eq!((found.data_at, found.data_len), (bytes.len() as u64, 2));
        }
    }

    #[test]
    fn every_code_has_its_type() {
        let scalars = "? b B h H i I l L q Q e f d F D b1 i1 u1 i2 u2 i4 u4 i8 u8 f2 f4 f8 c8 c16 f1";
        for code in scalars.split(' ') {
            for (prefix, order) in [
                ("", ByteOrder::Little),
                ("<", ByteOrder::Little),
                ("|", ByteOrder::Little),
                (">", ByteOrder::Big),
            ] {
                let Ok(Descr::Scalar(dtype, found)) = descr(&format!("{prefix}{code}")) else {
                    panic!("{code}")
                };
                assert_eq!(found, order);
                if let Some(width) = code.get(1..).and_then(|width| width.parse::<u64>().ok()) {
                    assert_eq!(dtype.item_bytes(), width, "{code}");
                }
            }
        }
        assert_eq!(descr("|V2").unwrap(), Descr::Void { bytes: 2, order: None });
        assert_eq!(descr("<V2").unwrap(), Descr::Void { bytes: 2, order: Some(ByteOrder::Little) });
        assert_eq!(descr(">V1").unwrap(), Descr::Void { bytes: 1, order: Some(ByteOrder::Big) });
    }

    #[test]
    #[rustfmt::skip]
    fn what_is_not_supported_is_named() {
        let long = "long double arrays are not supported, their layout is the machine's";
        let strings = "arrays of strings are not supported";
        let dates = "dates and time differences are not supported";
        let void = "void arrays of this width are not supported";
        for (code, expected) in [
            ("<f16", long), ("g", long), ("<c32", long), ("G", long), ("|S3", strings), ("<U2", strings), ("a3", strings),
            ("T", strings), ("<M8[ns]", dates), ("<m8", dates), ("|V0", void), ("V", void), ("V65536", void),
            ("|O", "object arrays are pickles, which are never run"),
            ("O8", "object arrays are pickles, which are never run"),
            ("2f4", "subarray types are not supported"), ("(2,)f4", "subarray types are not supported"),
            ("f4,i4", "structured arrays are not supported"),
            ("x", "unknown array element type"), ("i3", "unknown array element type"), ("", "unknown array element type"),
            ("\u{e9}", "unknown array element type"),
        ] {
            let error = descr(code).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert_eq!(error.what(), expected, "{code}");
        }
        assert_eq!(descr("|O").unwrap_err().to_string(),
            "byte 20: object arrays are pickles, which are never run, found \"|O\"");
        assert_eq!(fault("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}"),
            "byte 20: structured arrays are not supported");
        assert_eq!(fault("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': ()}"),
            "byte 20: subarray types are not supported");
    }

    #[test]
    #[rustfmt::skip]
    fn every_rule_has_its_error() {
        let not = "the npy header is not the dictionary it should be";
        let f = |text: &str| fault(&format!("{{'descr': 'u1', 'fortran_order': False, {text}}}"));
        same_messages([
            (fault(""), format!("byte 10: {not}, expected '{{', found its end")),
            (fault("[]"), format!("byte 10: {not}, expected '{{', found '['")),
            (fault("{}"), "byte 12: the npy header has no \"descr\", expected descr, fortran_order, shape".into()),
            (fault("{'descr': 'u1'}"),
             "byte 25: the npy header has no \"fortran_order\", expected descr, fortran_order, shape".into()),
            (f(""), "byte 51: the npy header has no \"shape\", expected descr, fortran_order, shape".into()),
            (fault("{'descr': 'u1"), "byte 20: a string in the npy header does not end".into()),
            (fault("{'desc\\x72': 'u1'"), format!("byte 16: {not}, expected the end of a string, found '\\\\'")),
            (fault("{'descr': None}"), format!("byte 20: {not}, expected a type string, found 'N'")),
            (fault("{'descr' 'u1'}"), format!("byte 19: {not}, expected ':', found '\\''")),
            (fault("{'descr': 'u1' 'shape'}"), format!("byte 25: {not}, expected '}}', found '\\''")),
            (fault("{'a': 1}"), "byte 11: unknown key in the npy header, found \"a\"".into()),
            (fault("{'descr': 'u1', 'descr': 'u1'}"),
             "byte 26: a key of the npy header appears twice, found \"descr\"".into()),
            (fault("{'fortran_order': 0}"), format!("byte 28: {not}, expected True or False, found '0'")),
            (f("'shape': 3"), format!("byte 59: {not}, expected '(', found '3'")),
            (f("'shape': (3)"), format!("byte 61: {not}, expected ',' after the only extent, found ')'")),
            (f("'shape': [3]"), format!("byte 59: {not}, expected '(', found '['")),
            (f("'shape': (3 4)"), format!("byte 62: {not}, expected ',' or ')', found '4'")),
            (f("'shape': (,)"), format!("byte 60: {not}, expected an extent, found ','")),
            (f("'shape': (-1,)"), "byte 60: an extent is negative".into()),
            (f("'shape': (1.5,)"), format!("byte 61: {not}, expected ',' or ')', found '.'")),
            (f("'shape': (18446744073709551616,)"), "byte 79: an extent is more than 64 bits hold".into()),
            (f("'shape': (4294967296, 4294967296)"),
             "byte 84: the array's bytes are more than 64 bits count, found [4294967296, 4294967296]".into()),
            (f("'shape': ()} + {"), format!("byte 63: {not}, expected nothing more, found '+'")),
        ]);
        // An empty array is empty however large its other extents are.
        let text = "{'descr': 'u1', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}";
        assert_eq!(header(text).unwrap().data_len, 0);
        let limits = Limits::default();
        let parse = |bytes: &[u8]| parse(bytes, &limits).unwrap_err().to_string();
        assert_eq!(parse(b"PK\x03"), "byte 0: this is no npy file, expected \\x93NUMPY, found PK\\x03");
        assert_eq!(parse(b"\x93NUMPY\x04\x00"), "byte 6: unknown npy version, expected 1.0, 2.0 or 3.0, found 4.0");
        assert_eq!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
            "byte 8: the npy header is too long, expected at most 1048576, found 4294967295");
        assert_eq!(parse(&[&with_text(3, "{")[..8], b"\x01\0\0\0\xff"].concat()), "byte 12: the npy header is not UTF-8");
    }

    #[test]
    fn more_is_asked_for_until_the_header_is_whole() {
        let bytes = write_header(DType::F32, MemoryOrder::C, &[3]).unwrap();
        let limits = Limits::default();
        assert_eq!(parse(b"", &limits).unwrap(), Parsed::NeedMore(10));
        for len in 0..bytes.len() {
            let Parsed::NeedMore(more) = parse(&bytes[..len], &limits).unwrap() else { panic!("{len}") };
            assert!(more > len as u64 && more <= bytes.len() as u64);
        }
        assert_eq!(parse(b"\x93NUMPY\x02\x00", &limits).unwrap(), Parsed::NeedMore(12));
        assert_eq!(parse(b"\x93NUMPY\x02\x00\x00\x04\x00\x00", &limits).unwrap(), Parsed::NeedMore(1036));
    }

    #[test]
    fn a_stored_array_is_read_where_it_lies() {
        let array = [&*write_header(DType::I16, MemoryOrder::C, &[2, 100]).unwrap(), &[0; 400]].concat();
        let read = |bytes: &[u8]| {
            let inputs = file([&[9; 5], bytes].concat());
            let window = Window { file: inputs.root(), at: 5, len: bytes.len() as u64 };
            read_header(&inputs, window, &Limits::default())
        };
        assert_eq!(read(&array).unwrap().data_at, 128);
        assert_eq!(
            read(&array[..500]).unwrap_err().to_string(),
            "m: byte 5: the array is cut short, expected 128 bytes of header and 400 of data, found 500 bytes"
        );
        assert_eq!(
            read(&[&array, &[0][..]].concat()).unwrap_err().to_string(),
            "m: byte 5: bytes follow the array, expected 128 bytes of header and 400 of data, found 529 bytes"
        );
        assert_eq!(
            read(&array[..100]).unwrap_err().to_string(),
            "m: byte 5: the npy header is cut short, expected 128 bytes or more, found 100 bytes"
        );
        assert_eq!(
            read(b"zzzzzzzzzzz").unwrap_err().to_string(),
            "m: byte 5: this is no npy file, expected \\x93NUMPY, found zzzzzz"
        );
        every_prefix_fails(&array, |bytes| read(bytes).is_ok());
        every_bit_flip_returns(&array, |bytes| read(bytes).is_ok());
        let long =
            with_text(2, &format!("{{'descr': 'u1', 'fortran_order': False, 'shape': (),{:900}}}", ""));
        assert_eq!(read(&[&*long, b"x"].concat()).unwrap().data_at, long.len() as u64);
    }

    #[test]
    fn the_dtype_field_comes_back() {
        for dtype in DType::all() {
            let field = encode_dtype(dtype);
            assert_eq!(decode_dtype(&[&[1, 0, 1, 0, 9], &*field].concat()).unwrap(), Some(dtype));
            every_bit_flip_returns(&field, |field| decode_dtype(field).is_ok());
        }
        assert_eq!(encode_dtype(DType::Bf16), b"FM\x05\0\x01bf16");
        assert_eq!(decode_dtype(b"").unwrap(), None);
        assert_eq!(
            decode_dtype(b"FM\x05\0\x02bf16").unwrap_err().to_string(),
            "the array's dtype field is of another version, expected 1, found 2"
        );
        assert_eq!(
            decode_dtype(b"FM\x05\0\x01bf17").unwrap_err().to_string(),
            "the array's dtype field names an unknown type, found bf17"
        );
        assert_eq!(decode_dtype(b"FM\0\0").unwrap_err().to_string(), "the array's dtype field is empty");
    }
}
