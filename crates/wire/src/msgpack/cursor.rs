//! A document read front to back by positioned reads, with payload stepped over.

use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};

/// Bytes read at a time: what stands between two arrays is a few dozen.
const CHUNK: u64 = 1 << 13;

/// What a value is, with the bytes or values that follow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token {
    Nil,
    Bool(bool),
    /// A number that is not negative.
    Uint(u64),
    /// A number that may be negative.
    Int(i64),
    Float(f64),
    /// Text of so many bytes.
    Text(u64),
    /// So many bytes.
    Bytes(u64),
    /// So many values.
    List(u64),
    /// So many keys, each with a value.
    Map(u64),
    /// So many bytes of an extension of this code.
    Extension(i8, u64),
}

impl Token {
    /// What it is, for a message.
    pub(super) fn what(self) -> String {
        let word = match self {
            Token::Nil => "nothing",
            Token::Bool(_) => "a truth value",
            Token::Uint(_) | Token::Int(_) => "a whole number",
            Token::Float(_) => "a floating-point number",
            Token::Text(n) => return format!("a text of {n} bytes"),
            Token::Bytes(n) => return format!("{n} bytes"),
            Token::List(n) => return format!("a list of {n}"),
            Token::Map(n) => return format!("a dictionary of {n}"),
            Token::Extension(code, _) => return format!("extension {code}"),
        };
        word.to_owned()
    }
}

/// A place in a file, and the bytes around it.
pub(super) struct Cursor<'a> {
    inputs: &'a dyn Inputs,
    file: FileId,
    /// Where the value ends that is being read: the file, or an extension.
    end: u64,
    at: u64,
    /// Bytes of the file from `loaded` on.
    buffer: Vec<u8>,
    loaded: u64,
}

impl<'a> Cursor<'a> {
    /// The start of a file.
    pub(super) fn new(inputs: &'a dyn Inputs, file: FileId) -> Cursor<'a> {
        Cursor { inputs, file, end: inputs.len(file), at: 0, buffer: vec![], loaded: 0 }
    }

    /// The byte of the file that comes next.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Bytes from here to the end.
    pub(super) fn remaining(&self) -> u64 {
        self.end - self.at
    }

    /// Makes the next `len` bytes, which have been checked, the whole; gives back what to [`leave`](Cursor::leave) to.
    pub(super) fn enter(&mut self, len: u64) -> u64 {
        std::mem::replace(&mut self.end, self.at + len)
    }

    /// Goes on behind what was entered, which must be used up.
    pub(super) fn leave(&mut self, end: u64) -> Result<()> {
        let left = self.remaining();
        self.end = end;
        if left == 0 {
            return Ok(());
        }
        Err(Error::malformed("an extension is longer than what is in it")
            .offset(self.at)
            .found(format_args!("{left} bytes more")))
    }

    /// Steps over `len` bytes, which have been checked.
    pub(super) fn skip(&mut self, len: u64) {
        self.at += len;
    }

    /// Fails unless there are `n` more bytes. `unit` says what is counted, a byte of each at least.
    pub(super) fn check(&self, n: u64, unit: &'static str) -> Result<()> {
        if n <= self.remaining() {
            return Ok(());
        }
        Err(Error::malformed("a value ends past what holds it")
            .offset(self.at)
            .expected(format_args!("{n} {unit}"))
            .found(format_args!("{} bytes", self.remaining())))
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.check(N as u64, "bytes")?;
        let known = self.at.checked_sub(self.loaded).and_then(|skipped| usize::try_from(skipped).ok());
        let found = known.and_then(|place| self.buffer.get(place..)?.first_chunk().copied());
        if let Some(bytes) = found {
            self.at += N as u64;
            return Ok(bytes);
        }
        let available = self.inputs.len(self.file).saturating_sub(self.at);
        self.buffer.resize(available.min(CHUNK) as usize, 0);
        self.inputs.read_at(self.file, self.at, &mut self.buffer)?;
        self.loaded = self.at;
        self.at += N as u64;
        let missing = || Error::malformed("the file is shorter than it was").offset(self.loaded);
        self.buffer.first_chunk().copied().ok_or_else(missing)
    }

    /// The next `len` bytes, which have been checked, in memory.
    pub(super) fn bytes(&mut self, len: u64) -> Result<Vec<u8>> {
        let place = self.at.checked_sub(self.loaded).and_then(|skipped| usize::try_from(skipped).ok());
        let known = place.and_then(|place| self.buffer.get(place..)?.get(..usize::try_from(len).ok()?));
        let bytes = match known {
            Some(bytes) => bytes.to_vec(),
            None => self.inputs.read_vec(self.file, self.at, len, u64::MAX)?,
        };
        self.at += len;
        Ok(bytes)
    }

    fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u64> {
        self.array().map(u16::from_be_bytes).map(u64::from)
    }

    fn u32(&mut self) -> Result<u64> {
        self.array().map(u32::from_be_bytes).map(u64::from)
    }

    /// What comes next. Its length is checked: a member takes a byte at least.
    pub(super) fn token(&mut self) -> Result<Token> {
        let token = self.unchecked()?;
        match token {
            Token::Text(len) | Token::Bytes(len) | Token::Extension(_, len) => self.check(len, "bytes")?,
            Token::List(n) => self.check(n, "values")?,
            Token::Map(n) => self.check(2 * n, "keys and values")?,
            _ => {}
        }
        Ok(token)
    }

    fn unchecked(&mut self) -> Result<Token> {
        let start = self.at;
        let first = self.u8()?;
        Ok(match first {
            0x00..=0x7f => Token::Uint(first.into()),
            0x80..=0x8f => Token::Map((first & 0x0f).into()),
            0x90..=0x9f => Token::List((first & 0x0f).into()),
            0xa0..=0xbf => Token::Text((first & 0x1f).into()),
            0xc0 => Token::Nil,
            0xc1 => {
                let error = Error::malformed("no value begins with this byte");
                return Err(error.offset(start).found(format_args!("{first:#04x}")));
            }
            0xc2 | 0xc3 => Token::Bool(first == 0xc3),
            0xc4 => Token::Bytes(self.u8()?.into()),
            0xc5 => Token::Bytes(self.u16()?),
            0xc6 => Token::Bytes(self.u32()?),
            0xc7 => {
                let len = self.u8()?.into();
                self.extension(len)?
            }
            0xc8 => {
                let len = self.u16()?;
                self.extension(len)?
            }
            0xc9 => {
                let len = self.u32()?;
                self.extension(len)?
            }
            0xca => Token::Float(f32::from_be_bytes(self.array()?).into()),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Uint(self.u8()?.into()),
            0xcd => Token::Uint(self.u16()?),
            0xce => Token::Uint(self.u32()?),
            0xcf => Token::Uint(u64::from_be_bytes(self.array()?)),
            0xd0 => Token::Int(i8::from_be_bytes(self.array()?).into()),
            0xd1 => Token::Int(i16::from_be_bytes(self.array()?).into()),
            0xd2 => Token::Int(i32::from_be_bytes(self.array()?).into()),
            0xd3 => Token::Int(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4))?,
            0xd9 => Token::Text(self.u8()?.into()),
            0xda => Token::Text(self.u16()?),
            0xdb => Token::Text(self.u32()?),
            0xdc => Token::List(self.u16()?),
            0xdd => Token::List(self.u32()?),
            0xde => Token::Map(self.u16()?),
            0xdf => Token::Map(self.u32()?),
            0xe0..=0xff => Token::Int((first as i8).into()),
        })
    }

    fn extension(&mut self, len: u64) -> Result<Token> {
        let [code] = self.array()?;
        Ok(Token::Extension(i8::from_be_bytes([code]), len))
    }
}
