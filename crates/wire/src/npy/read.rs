//! The header, parsed.

use super::{Descr, Header, MAGIC, MemoryOrder, Parsed};
use crate::shown;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{ByteOrder, volume};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;

/// A header of a plain array has a few hundred bytes; only structured types need more, and those are refused.
const MAX_TEXT_BYTES: u64 = 1 << 20;

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
