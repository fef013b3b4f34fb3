//! A header read front to back by positioned reads: how long it is shows only at its end.

use modelferry_core::error::{Error, Result};
use modelferry_core::expr::ByteOrder;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;

/// Bytes read at a time.
const CHUNK: usize = 1 << 16;

/// A place in a file, and the bytes around it.
pub(super) struct Cursor<'a> {
    inputs: &'a dyn Inputs,
    file: FileId,
    file_len: u64,
    max_len: u64,
    /// Order of the bytes of a number.
    pub(super) order: ByteOrder,
    /// Bytes of the file that end at `loaded`.
    buffer: Vec<u8>,
    /// The place in the buffer.
    place: usize,
    loaded: u64,
}

impl<'a> Cursor<'a> {
    /// The start of a file.
    pub(super) fn new(inputs: &'a dyn Inputs, file: FileId, limits: &Limits) -> Cursor<'a> {
        Cursor {
            inputs,
            file,
            file_len: inputs.len(file),
            max_len: limits.header_bytes,
            order: ByteOrder::Little,
            buffer: vec![],
            place: 0,
            loaded: 0,
        }
    }

    /// The byte of the file that comes next.
    pub(super) fn at(&self) -> u64 {
        self.loaded - (self.buffer.len() - self.place) as u64
    }

    /// Bytes of the file from here on.
    pub(super) fn remaining(&self) -> u64 {
        self.file_len - self.at()
    }

    /// Fails unless `n` more bytes are there and within the limit.
    pub(super) fn check(&self, n: u64) -> Result<()> {
        if n > self.remaining() {
            return Err(Error::malformed("the file ends inside its header")
                .offset(self.at())
                .expected(format_args!("{n} bytes"))
                .found(format_args!("{} bytes", self.remaining())));
        }
        // Both are below the file's length.
        let limit = Limits::check("the header is too long", self.at() + n, self.max_len);
        limit.map_err(|error| error.offset(self.at()))
    }

    /// Appends the next `n` bytes to `out`.
    pub(super) fn append(&mut self, n: u64, out: &mut Vec<u8>) -> Result<()> {
        self.check(n)?;
        let mut left = n as usize;
        // What is not there yet and is long goes where it belongs at once.
        loop {
            let known = &self.buffer[self.place..];
            let taken = left.min(known.len());
            out.extend_from_slice(&known[..taken]);
            self.place += taken;
            left -= taken;
            if left == 0 {
                return Ok(());
            }
            if left >= CHUNK {
                let start = out.len();
                out.try_reserve(left)
                    .map_err(|_| Error::limit("out of memory").expected(format_args!("{left} bytes")))?;
                out.resize(start + left, 0);
                self.inputs.read_at(self.file, self.loaded, &mut out[start..])?;
                self.loaded += left as u64;
                self.buffer.clear();
                self.place = 0;
                return Ok(());
            }
            self.load()?;
        }
    }

    /// Reads the next chunk; the last one is used up.
    fn load(&mut self) -> Result<()> {
        let n = (self.file_len - self.loaded).min(CHUNK as u64);
        self.buffer.resize(n as usize, 0);
        self.place = 0;
        self.inputs.read_at(self.file, self.loaded, &mut self.buffer)?;
        self.loaded += n;
        Ok(())
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        if let Some(bytes) = self.buffer[self.place..].first_chunk() {
            self.check(N as u64)?;
            self.place += N;
            return Ok(*bytes);
        }
        let mut bytes = Vec::with_capacity(N);
        self.append(N as u64, &mut bytes)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    /// The next four bytes as a number.
    pub(super) fn u32(&mut self) -> Result<u32> {
        let bytes = self.array()?;
        Ok(match self.order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    /// The next eight bytes as a number.
    pub(super) fn u64(&mut self) -> Result<u64> {
        let bytes = self.array()?;
        Ok(match self.order {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        })
    }

    /// The next `n` bytes, numbers of `width` bytes, little-endian.
    pub(super) fn numbers(&mut self, n: u64, width: usize) -> Result<Vec<u8>> {
        self.check(n)?;
        let mut bytes = vec![];
        self.append(n, &mut bytes)?;
        if self.order == ByteOrder::Big {
            bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }
}
