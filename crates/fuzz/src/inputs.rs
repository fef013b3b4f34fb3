//! A file that claims more bytes than there are: the rest is zeros.

use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};

/// One file of any length, of which only some parts are held.
#[derive(Clone, Debug)]
pub(crate) struct Sparse {
    name: &'static str,
    /// Where each part begins; ascending, disjoint.
    parts: Vec<(u64, Vec<u8>)>,
    len: u64,
}

impl Sparse {
    /// A file that begins with `bytes` and goes on with `zeros` zeros.
    pub(crate) fn new(name: &'static str, bytes: Vec<u8>, zeros: u64) -> Sparse {
        let len = (bytes.len() as u64).saturating_add(zeros);
        Sparse { name, parts: vec![(0, bytes)], len }
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) {
        let at = self.len;
        self.len = self.len.saturating_add(bytes.len() as u64);
        self.parts.push((at, bytes));
    }

    /// Adds zeros at the end.
    pub(crate) fn push_zeros(&mut self, n: u64) {
        self.len = self.len.saturating_add(n);
    }

    /// Bytes so far.
    pub(crate) fn end(&self) -> u64 {
        self.len
    }
}

impl Inputs for Sparse {
    fn root(&self) -> FileId {
        FileId(0)
    }

    fn open(&self, relative: &str) -> Result<FileId> {
        Err(Error::malformed("no such file beside the model").file(relative))
    }

    fn list(&self, _: &str) -> Result<Vec<String>> {
        Ok(vec![self.name.to_owned()])
    }

    fn name(&self, _: FileId) -> String {
        self.name.to_owned()
    }

    fn len(&self, _: FileId) -> u64 {
        self.len
    }

    fn read_at(&self, _: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.len);
        let Some(end) = end else {
            return Err(Error::malformed("a read ends past the file").file(self.name).offset(offset));
        };
        out.fill(0);
        for (at, bytes) in &self.parts {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let part = &bytes[(from - at) as usize..(to - at) as usize];
                out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(())
    }
}
