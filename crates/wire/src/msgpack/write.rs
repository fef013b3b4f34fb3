//! Values as the msgpack package writes them: each in the shortest form there is.

use super::{ARRAY, COMPLEX, name_of};
use modelferry_core::DType;
use modelferry_core::error::{Error, Result};

/// Bytes of a document in the making.
#[derive(Clone, Debug, Default)]
pub struct Emitter {
    bytes: Vec<u8>,
}

impl Emitter {
    /// What was written since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing.
    pub fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(if value { 0xc3 } else { 0xc2 });
    }

    /// A number that is not negative.
    pub fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.bytes.push(value as u8),
            0x80..=0xff => self.bytes.extend([0xcc, value as u8]),
            _ => match (u16::try_from(value), u32::try_from(value)) {
                (Ok(short), _) => self.tagged(0xcd, &short.to_be_bytes()),
                (_, Ok(short)) => self.tagged(0xce, &short.to_be_bytes()),
                _ => self.tagged(0xcf, &value.to_be_bytes()),
            },
        }
    }

    /// A number.
    pub fn int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            return self.uint(value);
        }
        match (i8::try_from(value), i16::try_from(value), i32::try_from(value)) {
            (Ok(short @ -0x20..), ..) => self.bytes.extend(short.to_be_bytes()),
            (Ok(short), ..) => self.tagged(0xd0, &short.to_be_bytes()),
            (_, Ok(short), _) => self.tagged(0xd1, &short.to_be_bytes()),
            (.., Ok(short)) => self.tagged(0xd2, &short.to_be_bytes()),
            _ => self.tagged(0xd3, &value.to_be_bytes()),
        }
    }

    /// A floating-point number.
    pub fn float(&mut self, value: f64) {
        self.tagged(0xcb, &value.to_be_bytes());
    }

    /// Text. Errors: 4 GiB or more.
    pub fn text(&mut self, text: &str) -> Result<()> {
        let len = short("text", text.len() as u64)?;
        match len {
            0..=0x1f => self.bytes.push(0xa0 | len as u8),
            _ => self.length([Some(0xd9), Some(0xda), Some(0xdb)], len),
        }
        self.bytes.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Bytes. Errors: 4 GiB or more.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let len = short("bytes", bytes.len() as u64)?;
        self.length([Some(0xc4), Some(0xc5), Some(0xc6)], len);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The start of a list of `n` values. Errors: 2^32 or more.
    pub fn list(&mut self, n: u64) -> Result<()> {
        let n = short("a list", n)?;
        match n {
            0..=0x0f => self.bytes.push(0x90 | n as u8),
            _ => self.length([None, Some(0xdc), Some(0xdd)], n),
        }
        Ok(())
    }

    /// The start of a dictionary of `n` keys, each with its value behind it. Errors: 2^32 or more.
    pub fn map(&mut self, n: u64) -> Result<()> {
        let n = short("a dictionary", n)?;
        match n {
            0..=0x0f => self.bytes.push(0x80 | n as u8),
            _ => self.length([None, Some(0xde), Some(0xdf)], n),
        }
        Ok(())
    }

    /// The start of an extension of `len` bytes. Errors: 4 GiB or more.
    pub fn extension(&mut self, code: i8, len: u64) -> Result<()> {
        let len = short("an extension", len)?;
        match len {
            1 | 2 | 4 | 8 | 16 => self.bytes.push(0xd4 + len.trailing_zeros() as u8),
            _ => self.length([Some(0xc7), Some(0xc8), Some(0xc9)], len),
        }
        self.bytes.extend(code.to_be_bytes());
        Ok(())
    }

    /// A complex number.
    pub fn complex(&mut self, re: f64, im: f64) -> Result<()> {
        self.extension(COMPLEX, 1 + 2 * 9)?;
        self.list(2)?;
        self.float(re);
        self.float(im);
        Ok(())
    }

    /// An array up to its elements, `len` bytes that follow.
    ///
    /// Errors: a type that numpy has no name for; 4 GiB or more.
    pub fn array(&mut self, dtype: DType, shape: &[u64], len: u64) -> Result<()> {
        let name = name_of(dtype).ok_or_else(|| Error::target("numpy has no such type").found(dtype))?;
        let mut inner = Emitter::default();
        inner.list(3)?;
        inner.list(shape.len() as u64)?;
        shape.iter().for_each(|&extent| inner.uint(extent));
        inner.text(name)?;
        let short_len = short("an array that is not split", len)?;
        inner.length([Some(0xc4), Some(0xc5), Some(0xc6)], short_len);
        self.extension(ARRAY, inner.bytes.len() as u64 + len)?;
        self.bytes.append(&mut inner.bytes);
        Ok(())
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(bytes);
    }

    /// A length behind the tag for its width in bytes: one, where there is such a tag, two or four.
    fn length(&mut self, tags: [Option<u8>; 3], len: u32) {
        let [one, two, four] = tags;
        match (u8::try_from(len), one, u16::try_from(len), two) {
            (Ok(len), Some(tag), ..) => self.bytes.extend([tag, len]),
            (.., Ok(len), Some(tag)) => self.tagged(tag, &len.to_be_bytes()),
            _ => self.tagged(four.unwrap_or_default(), &len.to_be_bytes()),
        }
    }
}

/// A length in the 32 bits that the format has for it.
fn short(what: &'static str, len: u64) -> Result<u32> {
    u32::try_from(len).map_err(|_| {
        Error::target("the format counts to 2^32").expected(format_args!("less in {what}")).found(len)
    })
}
