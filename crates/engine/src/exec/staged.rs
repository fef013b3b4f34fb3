//! A complete output under its temporary name: what is looked at, and completed, before it is published.

use super::{FileSet, Plan};
use crate::eval::Seen;
use crate::io::{failed, retry, write_all_at};
use crate::publish::Staging;
use modelferry_core::model::TensorIdx;
use modelferry_core::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A complete output under its temporary name, and what writing it has shown. What its layouts promise is still to be
/// [written](Staged::write_promised).
pub struct Staged<'a> {
    plan: &'a Plan<'a>,
    staging: &'a Staging,
    set: &'a FileSet,
    /// Per part, and tensor with casts or quantization, what they met.
    pub seen: &'a [BTreeMap<TensorIdx, Seen>],
    /// Per part whose layout promises files, the bytes of its digests.
    pub digests: &'a [Vec<Vec<u8>>],
    /// Lengths of the promised files that are written, by their places among those of all parts.
    written: RefCell<BTreeMap<usize, u64>>,
}

impl<'a> Staged<'a> {
    pub(super) fn new(
        plan: &'a Plan<'a>,
        staging: &'a Staging,
        set: &'a FileSet,
        seen: &'a [BTreeMap<TensorIdx, Seen>],
        digests: &'a [Vec<Vec<u8>>],
    ) -> Staged<'a> {
        Staged { plan, staging, set, seen, digests, written: RefCell::default() }
    }

    /// Where file `idx` of the layout of part `part` is now.
    pub fn path(&self, part: usize, idx: usize) -> PathBuf {
        self.staging.path(self.set.first_files[part] + idx)
    }

    /// The folder they are in now.
    pub fn folder(&self) -> PathBuf {
        self.staging.staged_folder()
    }

    /// Writes all of file `idx` of those that the layout of part `part` promises.
    ///
    /// Errors: it is longer than promised; [`Io`](modelferry_core::ErrorKind::Io).
    pub fn write_promised(&self, part: usize, idx: usize, bytes: &[u8]) -> Result<()> {
        let place = self.set.first_files[part] + self.plan.parts[part].layout.files.len() + idx;
        let at_most = self.set.lengths[place].1;
        let file = self.staging.file(place)?;
        if bytes.len() as u64 > at_most {
            let error =
                Error::plugin("a file is longer than its layout promises").file(file.path().display());
            return Err(error.expected(format_args!("at most {at_most}")).found(bytes.len()));
        }
        write_all_at(&*self.plan.io, &file, 0, bytes)?;
        retry(|| self.plan.io.set_len(&file, bytes.len() as u64))
            .map_err(|error| failed("setting its length", file.path(), error))?;
        self.written.borrow_mut().insert(place, bytes.len() as u64);
        Ok(())
    }

    /// The lengths of all files, in their order.
    ///
    /// Errors: a promised file is not written.
    pub(super) fn into_lengths(self) -> Result<Vec<u64>> {
        let written = self.written.into_inner();
        let mut lengths: Vec<u64> = self.set.lengths.iter().map(|(_, len)| *len).collect();
        for (part, first) in self.plan.parts.iter().zip(&self.set.first_files) {
            for (idx, promise) in part.layout.promises.iter().enumerate() {
                let place = first + part.layout.files.len() + idx;
                lengths[place] = *written.get(&place).ok_or_else(|| {
                    Error::plugin("a file that a layout promises was not made").file(&promise.path)
                })?;
            }
        }
        Ok(lengths)
    }
}
