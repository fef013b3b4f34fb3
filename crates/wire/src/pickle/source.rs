//! Bytes in order, out of a file or out of memory.

use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{Inputs, Window};

/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A place in a stream of bytes: a window of a file, or bytes at hand.
///
/// Every reading function fails before it reserves anything where less is left than is asked for. Errors name file and
/// byte for a window; bytes at hand have neither, and the caller says where they come from.
pub struct Source<'a> {
    from: From<'a>,
    /// Bytes of the whole source.
    len: u64,
    /// Where reading must stop: the length, or what [`cap`](Source::cap) allows.
    end: u64,
    /// The last limit given, for messages.
    limit: u64,
    /// What is at hand, of which `at` bytes are spent.
    buffer: Vec<u8>,
    at: usize,
    /// Position of the buffer's first byte.
    buffer_at: u64,
}

#[derive(Clone, Copy)]
enum From<'a> {
    File(&'a dyn Inputs, Window),
    Memory(&'a [u8]),
}

impl<'a> Source<'a> {
    /// The bytes of `window`, of which the file must hold all.
    pub fn new(inputs: &'a dyn Inputs, window: Window) -> Source<'a> {
        Source::from(From::File(inputs, window), window.len)
    }

    /// Bytes at hand, an inflated record for one.
    pub fn memory(bytes: &'a [u8]) -> Source<'a> {
        Source::from(From::Memory(bytes), bytes.len() as u64)
    }

    fn from(from: From<'a>, len: u64) -> Source<'a> {
        Source { from, len, end: len, limit: u64::MAX, buffer: Vec::new(), at: 0, buffer_at: 0 }
    }

    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.buffer_at + self.at as u64
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> u64 {
        self.len - self.position()
    }

    /// Adds the file, and byte `position` of the source as a byte of the file.
    pub fn place(&self, position: u64, error: Error) -> Error {
        match self.from {
            From::File(inputs, window) => {
                error.file(inputs.name(window.file)).offset(window.at.saturating_add(position))
            }
            From::Memory(_) => error,
        }
    }

    /// Lets no more than `limit` bytes be read from here on.
    pub(crate) fn cap(&mut self, limit: u64) {
        self.limit = limit;
        self.end = self.len.min(self.position().saturating_add(limit));
    }

    /// Fails unless `n` more bytes may be read.
    pub fn check(&self, n: u64) -> Result<()> {
        let position = self.position();
        if n <= self.end - position {
            return Ok(());
        }
        let error = if n <= self.len - position {
            Error::limit("a pickle is too long").expected(format_args!("at most {} bytes", self.limit))
        } else {
            Error::malformed("the data is cut short")
                .expected(format_args!("{n} bytes more"))
                .found(format_args!("{} bytes", self.len - position))
        };
        Err(self.place(position, error))
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        if self.at == self.buffer.len() {
            self.fill(1)?;
        }
        let byte = self.buffer[self.at];
        self.at += 1;
        Ok(byte)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(bytes.first_chunk().copied().unwrap_or([0; N]))
    }

    /// The next `n` bytes, for as long as nothing else is read. For more than a chunk there is [`vec`](Source::vec).
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&[u8]> {
        if n > self.buffer.len() - self.at {
            self.fill(n)?;
        }
        self.at += n;
        Ok(&self.buffer[self.at - n..self.at])
    }

    /// The next `n` bytes, to be kept.
    pub fn vec(&mut self, n: u64) -> Result<Vec<u8>> {
        self.check(n)?;
        let position = self.position();
        let mut bytes = Vec::new();
        if usize::try_from(n).map_or(true, |n| bytes.try_reserve_exact(n).is_err()) {
            return Err(self.place(position, out_of_memory(n)));
        }
        let buffered = ((self.buffer.len() - self.at) as u64).min(n) as usize;
        bytes.extend_from_slice(&self.buffer[self.at..self.at + buffered]);
        bytes.resize(n as usize, 0);
        self.read(position + buffered as u64, &mut bytes[buffered..])?;
        self.skip(n)?;
        Ok(bytes)
    }

    /// The next bytes up to a line feed, without it.
    pub(crate) fn line(&mut self) -> Result<&[u8]> {
        let mut seen = 0;
        let len = loop {
            let unread = &self.buffer[self.at..];
            if let Some(idx) = unread[seen..].iter().position(|&byte| byte == b'\n') {
                break seen + idx;
            }
            seen = unread.len();
            // Twice as much as was in vain, so that a long line is not searched over and over.
            let wanted = (seen as u64 * 2).clamp(1, (self.end - self.position()).max(1));
            self.fill((wanted as usize).max(seen + 1))?;
        };
        self.at += len + 1;
        Ok(&self.buffer[self.at - len - 1..self.at - 1])
    }

    /// Passes over `n` bytes.
    pub fn skip(&mut self, n: u64) -> Result<()> {
        self.check(n)?;
        let buffered = (self.buffer.len() - self.at) as u64;
        if n <= buffered {
            self.at += n as usize;
        } else {
            self.buffer_at = self.position() + n;
            self.buffer.clear();
            self.at = 0;
        }
        Ok(())
    }

    /// Has at least `n` unread bytes in the buffer.
    fn fill(&mut self, n: usize) -> Result<()> {
        self.check(n as u64)?;
        let position = self.position();
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer_at = position;
        let held = self.buffer.len();
        let len = (self.end - position).min(n.max(CHUNK_BYTES) as u64) as usize;
        // `n` is what is there and what the limit allows, but not therefore what memory has.
        if self.buffer.try_reserve_exact(len.saturating_sub(held)).is_err() {
            return Err(self.place(position, out_of_memory(len as u64)));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(len, 0);
        // The buffer stays empty, not half read, where this fails.
        self.read(position + held as u64, &mut buffer[held..])?;
        self.buffer = buffer;
        Ok(())
    }

    /// Fills `out` from byte `at` of the source on, which the caller has checked.
    fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let outcome = match self.from {
            From::File(inputs, window) => match window.at.checked_add(at) {
                Some(at) => inputs.read_at(window.file, at, out),
                None => Err(Error::malformed("a window ends past the file")),
            },
            // In range, because `end` is at most the slice's length.
            From::Memory(bytes) => {
                out.copy_from_slice(&bytes[at as usize..][..out.len()]);
                Ok(())
            }
        };
        outcome.map_err(|error| self.place(at, error))
    }
}

fn out_of_memory(n: u64) -> Error {
    Error::limit("out of memory").expected(format_args!("{n} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::inputs::{FileId, MemInputs};

    fn numbers() -> Vec<u8> {
        (0..300_000u32).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn every_way_of_reading_gives_the_bytes_in_order() {
        let bytes = numbers();
        let inputs = MemInputs::new("m", [&[9; 7][..], &bytes, &[9; 3]].concat());
        let window = Window { file: FileId(0), at: 7, len: bytes.len() as u64 };
        for mut source in [Source::new(&inputs, window), Source::memory(&bytes)] {
            assert_eq!(source.byte().unwrap(), 0);
            assert_eq!(source.array().unwrap(), [1, 2, 3]);
            assert_eq!(source.take(65_535).unwrap(), &bytes[4..65_539]);
            assert_eq!(source.vec(100_000).unwrap(), &bytes[65_539..165_539]);
            source.skip(10).unwrap();
            assert_eq!(source.take(2).unwrap(), &bytes[165_549..165_551]);
            source.skip(100_000).unwrap();
            assert_eq!(source.position(), 265_551);
            let rest = source.remaining();
            assert_eq!(source.vec(rest).unwrap(), &bytes[265_551..]);
            assert!(source.byte().is_err());
            assert_eq!(source.take(0).unwrap(), b"");
        }
    }

    #[test]
    fn lines_may_be_longer_than_a_chunk() {
        let mut bytes = vec![b'a'; 200_000];
        bytes.extend_from_slice(b"\n\nb\nc");
        let mut source = Source::memory(&bytes);
        assert_eq!(source.line().unwrap().len(), 200_000);
        assert_eq!(source.line().unwrap(), b"");
        assert_eq!(source.line().unwrap(), b"b");
        assert!(source.line().is_err());
    }

    #[test]
    fn ends_and_limits_are_told_apart() {
        let inputs = MemInputs::new("m", vec![0; 100]);
        let window = Window { file: FileId(0), at: 40, len: 20 };
        let mut source = Source::new(&inputs, window);
        source.skip(5).unwrap();
        let error = source.vec(16).unwrap_err().to_string();
        assert_eq!(error, "m: byte 45: the data is cut short, expected 16 bytes more, found 15 bytes");
        source.cap(2);
        let error = source.take(3).unwrap_err().to_string();
        assert_eq!(error, "m: byte 45: a pickle is too long, expected at most 2 bytes");
        // A window past its file is the file's error, at the right place.
        let mut source = Source::new(&inputs, Window { file: FileId(0), at: 90, len: 20 });
        let error = source.byte().unwrap_err().to_string();
        assert_eq!(error, "m: byte 90: a read ends past the file");
    }
}
