//! What torch saves: objects in a pickle, and the storages that they refer to.
//!
//! [`read`] takes any window of a file apart, because files of other kinds are made of these archives. [`tensor()`]
//! then says of an object of the tree whether it is a tensor, and which bytes of which storage it is. Nothing is
//! executed: see [`pickle`].
//!
//! The facts are those of torch 2.15 (`torch/serialization.py`, `torch/_utils.py`,
//! `caffe2/serialize/inline_container.cc`), and of torch 0.1 and 1.5 for what newer ones no longer write.

mod archive;
mod distributed;
mod exported;
mod legacy;
mod legacy_tar;
mod numpy;
mod persistent;
mod rebuild;
mod tensor;
mod types;

pub use distributed::{Distributed, Placement};
pub use numpy::Inline;
pub use persistent::{StorageRef, View, storage_ref};
pub use tensor::{Data, Layout, Quantizer, Strided, TensorSpec, tensor};
pub use types::{ElementType, Packed, StorageType};

use crate::pickle::{self, Source};
use crate::tar;
use crate::zip::{END_MAGIC, LOCAL_MAGIC, Method};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::ByteOrder;
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::plugin::Host;
use modelferry_core::tree::{Object, ObjectId, Tree};

/// What holds a checkpoint's objects and storages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A zip archive, as torch writes since 1.6.
    Zip,
    /// One stream, as torch wrote before.
    Legacy,
    /// A tar archive, as torch 0.1 wrote.
    Tar,
    /// A zip archive of `torch.jit.save`: its objects are instances of classes under `__torch__`.
    TorchScript,
    /// A zip archive of `torch.export.save`: its tree is a dictionary from names to tensors, put together here.
    Exported,
    /// A pickle and nothing else.
    Pickle,
}

/// Objects and storages.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// What they came from.
    pub kind: Kind,
    /// The objects.
    pub tree: Tree,
    /// Order of the bytes in every storage.
    pub byte_order: ByteOrder,
    /// Everything in an archive that is no storage, by its name below the root folder: `data.pkl`, `version`, code.
    pub other: Vec<(Box<str>, Record)>,
    storages: Vec<(Box<str>, Record)>,
    file_name: String,
    /// Most dimensions a tensor may have, so that a tuple shared by a million tensors is not copied as often.
    max_rank: usize,
}

/// Bytes of a file that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where they lie.
    pub window: Window,
    /// Whether they lie there deflated.
    pub method: Method,
    /// How many there are, inflated.
    pub len: u64,
    /// Their CRC-32, inflated, where the archive states one. torch can be told to write 0 instead.
    pub crc32: Option<u32>,
}

impl Checkpoint {
    /// The storage that persistent ids call `key`.
    pub fn storage(&self, key: &str) -> Option<&Record> {
        self.storage_idx(key).map(|idx| &self.storages[idx].1)
    }

    /// Every storage by its key, sorted; [`Strided::storage`] is a position in this list.
    pub fn storages(&self) -> &[(Box<str>, Record)] {
        &self.storages
    }

    fn storage_idx(&self, key: &str) -> Option<usize> {
        self.storages.binary_search_by(|(other, _)| (**other).cmp(key)).ok()
    }

    fn new(
        inputs: &dyn Inputs,
        window: Window,
        kind: Kind,
        tree: Tree,
        mut storages: Vec<(Box<str>, Record)>,
    ) -> Checkpoint {
        storages.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Checkpoint {
            kind,
            tree,
            byte_order: ByteOrder::Little,
            other: vec![],
            storages,
            file_name: inputs.name(window.file),
            max_rank: Limits::default().rank,
        }
    }
}

impl Record {
    fn stored(window: Window) -> Record {
        Record { window, method: Method::Stored, len: window.len, crc32: None }
    }
}

/// torch's magic number, 0x1950a86a20f9469cfc6c.
const MAGIC_NUMBER: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads what torch saved into `window`, whichever way, or the pickle that fills it.
///
/// `host` is asked for the bytes of records that are deflated and must be read here. Memory is that of the objects
/// ([`pickle::read`]) and about 120 bytes a storage.
///
/// Errors: [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for what contradicts itself, names in an archive
/// that differ in case only, and bytes that belong to nothing;
/// [`Unsupported`](modelferry_core::error::ErrorKind::Unsupported) for versions that we do not know;
/// [`Limit`](modelferry_core::error::ErrorKind::Limit).
pub fn read(inputs: &dyn Inputs, window: Window, host: &mut dyn Host) -> Result<Checkpoint> {
    let mut start = [0; tar::BLOCK_BYTES];
    let len = window.len.min(start.len() as u64) as usize;
    let file_len = inputs.len(window.file);
    if window.at.checked_add(window.len).is_none_or(|end| end > file_len) {
        return Err(Error::malformed("a checkpoint ends past the file")
            .file(inputs.name(window.file))
            .offset(window.at)
            .expected(format_args!("at most {file_len} bytes"))
            .found(format_args!("{} bytes", window.len)));
    }
    let checkpoint = inputs
        .read_at(window.file, window.at, &mut start[..len])
        .and_then(|()| {
            let start = &start[..len];
            if start.starts_with(&LOCAL_MAGIC) || start.starts_with(&END_MAGIC) {
                archive::read(inputs, window, host)
            } else if tar::is_header(start) {
                legacy_tar::read(inputs, window, &object_limits(host.limits(), window))
            } else if start.starts_with(b"PYTORCH1") {
                Err(Error::unsupported("archives of the release candidate of torch 1.0 are not read"))
            } else {
                stream(inputs, window, &object_limits(host.limits(), window))
            }
        })
        .map_err(|error| error.file(inputs.name(window.file)))?;
    Ok(Checkpoint { max_rank: host.limits().rank, ..checkpoint })
}

/// The limits for pickles in a window: so many objects as torch's need, which are one in ten bytes, and a number that a
/// small file may have. A few kilobytes deflated could otherwise ask for gigabytes of empty lists.
fn object_limits(limits: &Limits, window: Window) -> Limits {
    const ANY_FILE: u64 = 250_000;
    let mut limits = limits.clone();
    limits.objects = limits.objects.min(ANY_FILE + window.len / 4);
    limits
}

/// A stream of pickles, of which the first says what follows.
fn stream(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Checkpoint> {
    let mut source = Source::new(inputs, window);
    let tree = pickle::read(&mut source, limits)?;
    if tree.root().is_some_and(|root| tree[root] == Object::BigInt(MAGIC_NUMBER.into())) {
        return legacy::read(inputs, window, source, limits);
    }
    all_read(&source)?;
    Ok(Checkpoint::new(inputs, window, Kind::Pickle, tree, vec![]))
}

/// Fails where bytes are left.
fn all_read(source: &Source<'_>) -> Result<()> {
    match source.remaining() {
        0 => Ok(()),
        more => {
            let error = Error::malformed("bytes follow what was saved").found(format_args!("{more} bytes"));
            Err(source.place(source.position(), error))
        }
    }
}

/// A whole number that counts something.
fn count(tree: &Tree, id: ObjectId) -> Option<u64> {
    match tree[id] {
        Object::Int(value) => u64::try_from(value).ok(),
        _ => None,
    }
}

/// Bytes of the longest key that a storage may have. torch's own are numbers.
const MAX_KEY_BYTES: usize = 1 << 10;

/// The text of a key, which may be a number: the address that a storage once had. `None` for one that is too long to
/// be copied as often as it is referred to.
fn key(tree: &Tree, id: ObjectId) -> Option<Box<str>> {
    match &tree[id] {
        Object::Text(text) if text.len() <= MAX_KEY_BYTES => Some(text.clone()),
        Object::Int(value) => Some(value.to_string().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
