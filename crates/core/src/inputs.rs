//! What a reader sees of the outside: a set of files it may look into, read by position.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A file of an [`Inputs`], and of the [`Model`](crate::model::Model) read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

impl FileId {
    /// The folder itself, where a folder is what the user named: it has a name and no bytes.
    pub const FOLDER: FileId = FileId(u32::MAX);
}

/// The files a model is made of.
///
/// The engine's version opens files on disk, follows links by the containment rules of DESIGN section 6, and notices
/// when a file changes; [`MemInputs`] serves byte slices in tests and fuzzing. A reader cannot tell them apart.
/// Payload is read by position and never mapped: a mapped file that shrinks kills the process.
pub trait Inputs: Send + Sync {
    /// The file the user named, or [`FileId::FOLDER`].
    fn root(&self) -> FileId;

    /// Finds the file `relative` (`/` between folders) in the model's folder: the one named, or that of the file named.
    ///
    /// Errors: [`Malformed`](crate::error::ErrorKind::Malformed) when the name leaves the model's folder (absolute,
    /// `..`, NUL, or a link that resolves outside) or names no regular file.
    fn open(&self, relative: &str) -> Result<FileId>;

    /// Says that a file that was opened is not part of the model after all, until it is opened again: an index that
    /// turned out to be another model's may change, and be replaced, while this one is read.
    fn release(&self, file: FileId) {
        let _ = file;
    }

    /// What is in `folder` of the model's folder, which is the empty name: files by their names, folders with a `/`
    /// at the end. Sorted. Links count as files.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// The file's name relative to the model's folder, for messages and for [`open`](Inputs::open).
    fn name(&self, file: FileId) -> String;

    /// The file's length in bytes.
    fn len(&self, file: FileId) -> u64;

    /// Fills `out` from byte `offset` on. Errors: past the end, I/O.
    fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Reads `len` bytes at `offset` into memory, having checked both against the file and `limit` first.
    fn read_vec(&self, file: FileId, offset: u64, len: u64, limit: u64) -> Result<Vec<u8>> {
        let available = self.len(file).saturating_sub(offset);
        if len > available {
            return Err(Error::malformed("a range ends past the file")
                .file(self.name(file))
                .offset(offset)
                .expected(format_args!("{len} bytes"))
                .found(format_args!("{available} bytes")));
        }
        crate::limits::Limits::check("a part read whole is too large", len, limit)
            .map_err(|error| error.file(self.name(file)).offset(offset))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len as usize).map_err(|_| {
            Error::limit("out of memory").file(self.name(file)).expected(format_args!("{len} bytes"))
        })?;
        bytes.resize(len as usize, 0);
        self.read_at(file, offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// A contiguous part of one file: a record of an archive, a chunk of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
}

/// The same files, another of which is the root.
#[derive(Clone, Copy)]
pub struct Rooted<'a> {
    /// The files.
    pub inputs: &'a dyn Inputs,
    /// The one that is the root.
    pub root: FileId,
}

impl Inputs for Rooted<'_> {
    fn root(&self) -> FileId {
        self.root
    }

    fn open(&self, relative: &str) -> Result<FileId> {
        self.inputs.open(relative)
    }

    fn release(&self, file: FileId) {
        self.inputs.release(file);
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        self.inputs.list(folder)
    }

    fn name(&self, file: FileId) -> String {
        self.inputs.name(file)
    }

    fn len(&self, file: FileId) -> u64 {
        self.inputs.len(file)
    }

    fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        self.inputs.read_at(file, offset, out)
    }
}

/// [`Inputs`] over byte slices: the first file is the root, or the folder of all of them.
#[derive(Clone, Debug, Default)]
pub struct MemInputs {
    folder: Option<String>,
    names: Vec<String>,
    files: Vec<Arc<[u8]>>,
    by_name: BTreeMap<String, u32>,
}

impl MemInputs {
    /// Inputs whose root is `bytes` under the name `name`.
    pub fn new(name: &str, bytes: impl Into<Arc<[u8]>>) -> MemInputs {
        MemInputs::default().with(name, bytes)
    }

    /// Inputs whose root is the folder `name`.
    pub fn folder(name: &str) -> MemInputs {
        MemInputs { folder: Some(name.to_owned()), ..MemInputs::default() }
    }

    /// Adds a file to the folder.
    pub fn with(mut self, name: &str, bytes: impl Into<Arc<[u8]>>) -> MemInputs {
        self.by_name.insert(name.to_owned(), self.files.len() as u32);
        self.names.push(name.to_owned());
        self.files.push(bytes.into());
        self
    }
}

impl Inputs for MemInputs {
    fn root(&self) -> FileId {
        if self.folder.is_some() { FileId::FOLDER } else { FileId(0) }
    }

    fn open(&self, relative: &str) -> Result<FileId> {
        let missing = || Error::malformed("no such file beside the model").file(relative);
        self.by_name.get(relative).map(|&idx| FileId(idx)).ok_or_else(missing)
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = self.by_name.keys().filter_map(|name| name.strip_prefix(&*prefix));
        // What lies deeper stands for its folder.
        let mut names: Vec<String> =
            below.map(|name| name.split_inclusive('/').next().unwrap_or_default().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn name(&self, file: FileId) -> String {
        if file == FileId::FOLDER {
            return self.folder.clone().unwrap_or_default();
        }
        self.names.get(file.0 as usize).cloned().unwrap_or_default()
    }

    fn len(&self, file: FileId) -> u64 {
        self.files.get(file.0 as usize).map_or(0, |bytes| bytes.len() as u64)
    }

    fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        let bytes = self.files.get(file.0 as usize).map_or(&[][..], |bytes| bytes);
        let source = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(out.len())?))
            .ok_or_else(|| {
                Error::malformed("a read ends past the file").file(self.name(file)).offset(offset)
            })?;
        out.copy_from_slice(source);
        Ok(())
    }
}
