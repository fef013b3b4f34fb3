//! A protobuf document in a file, read by position through a small buffer.

use super::fields::{self, Wire};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::{Error, Result};

/// Bytes fetched after a jump, most often over payload; what follows without one is fetched in larger pieces.
const FEW: u64 = 4 << 10;
const MANY: u64 = 64 << 10;

/// One field of a message in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) wire: Wire,
    /// First byte, which is its tag's.
    pub(super) begin: u64,
    /// First byte of the value.
    pub(super) at: u64,
    /// Behind the value.
    pub(super) end: u64,
    /// The value of a varint.
    pub(super) varint: u64,
}

impl Field {
    pub(super) fn len(&self) -> u64 {
        self.end - self.at
    }
}

/// A file and the part of it that was read last.
pub(super) struct Source<'a> {
    inputs: &'a dyn Inputs,
    pub(super) file: FileId,
    pub(super) len: u64,
    buffer: Vec<u8>,
    at: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(inputs: &'a dyn Inputs, file: FileId) -> Source<'a> {
        Source { inputs, file, len: inputs.len(file), buffer: vec![], at: 0 }
    }

    /// The next field of the message that ends at `end`, from `at` on; moves behind it. Nothing at the end.
    pub(super) fn field(&mut self, at: &mut u64, end: u64) -> Result<Option<Field>> {
        if *at >= end {
            return Ok(None);
        }
        let begin = *at;
        let (number, wire) = fields::split_tag(self.varint(at, end)?).map_err(|error| error.offset(begin))?;
        let mut value = 0;
        let len = match wire {
            Wire::Varint => {
                let from = *at;
                value = self.varint(at, end)?;
                let len = *at - from;
                *at = from;
                len
            }
            Wire::Fixed64 => 8,
            Wire::Fixed32 => 4,
            Wire::Bytes => self.varint(at, end)?,
        };
        let Some(behind) = at.checked_add(len).filter(|&behind| behind <= end) else {
            return Err(Error::malformed("a field ends behind the message that it is in")
                .offset(begin)
                .expected(format_args!("at most {} bytes", end - *at))
                .found(format_args!("{len} bytes")));
        };
        let field = Field { number, wire, begin, at: *at, end: behind, varint: value };
        *at = behind;
        Ok(Some(field))
    }

    fn varint(&mut self, at: &mut u64, end: u64) -> Result<u64> {
        let begin = *at;
        let bytes = self.peek(begin, (end - begin).min(10))?;
        let found = fields::varint(bytes).map_err(|error| error.offset(begin))?;
        let (value, len) =
            found.ok_or_else(|| Error::malformed("a message ends within a number").offset(begin))?;
        *at += len as u64;
        Ok(value)
    }

    /// Up to ten bytes, which the file has.
    fn peek(&mut self, at: u64, len: u64) -> Result<&[u8]> {
        let is_held = at >= self.at && at + len <= self.at + self.buffer.len() as u64;
        if !is_held {
            let is_next =
                self.at <= at && at <= self.at + self.buffer.len() as u64 && !self.buffer.is_empty();
            let len = if is_next { MANY } else { FEW }.min(self.len - at);
            self.buffer.resize(len as usize, 0);
            self.at = at;
            if let Err(error) = self.inputs.read_at(self.file, at, &mut self.buffer) {
                self.buffer.clear();
                return Err(error);
            }
        }
        let from = (at - self.at) as usize;
        Ok(&self.buffer[from..from + len as usize])
    }

    /// Appends bytes of the file, which it has.
    pub(super) fn append(&mut self, at: u64, end: u64, out: &mut Vec<u8>) -> Result<()> {
        let len = (end - at) as usize;
        let from = out.len();
        out.try_reserve(len).map_err(|_| Error::limit("out of memory").offset(at))?;
        out.resize(from + len, 0);
        if at >= self.at && end <= self.at + self.buffer.len() as u64 {
            let start = (at - self.at) as usize;
            out[from..].copy_from_slice(&self.buffer[start..start + len]);
            return Ok(());
        }
        self.inputs.read_at(self.file, at, &mut out[from..])
    }
}
