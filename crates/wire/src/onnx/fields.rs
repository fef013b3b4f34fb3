//! Protobuf messages in memory, field by field.

use modelferry_core::{Error, Result};

/// How a field's value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A varint.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length and as many bytes.
    Bytes,
    /// Four bytes.
    Fixed32,
}

/// Field number and wire type of a tag.
///
/// Errors: number zero; groups, which no version of ONNX has; wire types that do not exist.
pub(super) fn split_tag(tag: u64) -> Result<(u32, Wire)> {
    let wire = match tag & 7 {
        0 => Wire::Varint,
        1 => Wire::Fixed64,
        2 => Wire::Bytes,
        5 => Wire::Fixed32,
        other => {
            return Err(Error::malformed("a field has a wire type that ONNX does not use").found(other));
        }
    };
    match u32::try_from(tag >> 3) {
        Ok(number @ 1..0x2000_0000) => Ok((number, wire)),
        _ => Err(Error::malformed("a field has a number that protobuf does not allow").found(tag >> 3)),
    }
}

/// The tag of a field.
pub(super) fn tag(number: u32, wire: Wire) -> u64 {
    let wire = match wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Bytes => 2,
        Wire::Fixed32 => 5,
    };
    u64::from(number) << 3 | wire
}

/// Value and length of the varint that `bytes` begin with; `None` where they end too early.
///
/// Errors: more than 64 bits.
pub(super) fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>> {
    let mut value = 0u64;
    for (idx, &byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte holds the 64th bit only.
        if idx == 9 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * idx);
        if byte < 0x80 {
            return Ok(Some((value, idx + 1)));
        }
    }
    match bytes.len() {
        0..10 => Ok(None),
        _ => Err(Error::malformed("a varint is longer than 64 bits")),
    }
}

/// How many varints `bytes` are.
pub(super) fn count_varints(mut bytes: &[u8]) -> Result<u64> {
    let mut n = 0;
    while !bytes.is_empty() {
        let (_, len) = varint(bytes)?.ok_or_else(|| Error::malformed("packed numbers end within one"))?;
        bytes = &bytes[len..];
        n += 1;
    }
    Ok(n)
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// One field of a message in memory.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// How its value is stored.
    pub wire: Wire,
    /// First byte, which is its tag's, counted from the start of the message.
    pub begin: usize,
    /// First byte of the value.
    pub at: usize,
    /// The value's bytes, without length.
    pub value: &'a [u8],
    /// All of its bytes.
    pub whole: &'a [u8],
}

impl<'a> Field<'a> {
    /// The value as a number, if it is a varint.
    pub fn number_value(&self) -> Option<u64> {
        (self.wire == Wire::Varint)
            .then(|| varint(self.value).ok().flatten())
            .flatten()
            .map(|(value, _)| value)
    }

    /// The value as text, if it is such.
    pub fn text(&self) -> Option<&'a str> {
        (self.wire == Wire::Bytes).then(|| std::str::from_utf8(self.value).ok()).flatten()
    }
}

/// The fields of a message in memory, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// The fields of `bytes`.
    pub fn of(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0 }
    }

    fn field(&mut self) -> Result<Field<'a>> {
        let cut = || Error::malformed("a message ends within a field");
        let begin = self.at;
        let (tag, n) = varint(&self.bytes[begin..])?.ok_or_else(cut)?;
        let (number, wire) = split_tag(tag)?;
        let mut at = begin + n;
        let len = match wire {
            Wire::Varint => varint(&self.bytes[at..])?.ok_or_else(cut)?.1,
            Wire::Fixed64 => 8,
            Wire::Fixed32 => 4,
            Wire::Bytes => {
                let (len, n) = varint(&self.bytes[at..])?.ok_or_else(cut)?;
                at += n;
                usize::try_from(len).map_err(|_| cut())?
            }
        };
        let end = at.checked_add(len).filter(|&end| end <= self.bytes.len()).ok_or_else(cut)?;
        self.at = end;
        Ok(Field { number, wire, begin, at, value: &self.bytes[at..end], whole: &self.bytes[begin..end] })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>>;

    fn next(&mut self) -> Option<Result<Field<'a>>> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}
