//! The stream of torch before 1.6, and of `_use_new_zipfile_serialization=False`: five pickles, then the storages.

use super::persistent::{StorageRef, storage_ref};
use super::{Checkpoint, Kind, Record, all_read, key};
use crate::pickle::{self, Source};
use crate::shown;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::tree::Object;
use std::collections::HashMap;

/// `PROTOCOL_VERSION` of `torch/serialization.py`: the only one there has been.
const PROTOCOL_VERSION: i64 = 1001;

/// What follows the magic number, behind which `source` stands.
///
/// The bytes are little-endian whatever the third pickle says about the machine that wrote them: torch turns them on
/// the way out and on the way in (`torch/csrc/generic/serialization.cpp`, since 0.1), and never looks at what it says.
pub(super) fn read(
    inputs: &dyn Inputs,
    window: Window,
    mut source: Source<'_>,
    limits: &Limits,
) -> Result<Checkpoint> {
    let version_at = source.position();
    let version = pickle::read(&mut source, limits)?;
    if version.root().is_none_or(|root| version[root] != Object::Int(PROTOCOL_VERSION)) {
        let error = Error::unsupported("the stream is of a version that we do not know");
        return Err(source.place(version_at, error.expected(PROTOCOL_VERSION)));
    }
    pickle::read(&mut source, limits)?;
    let tree = pickle::read(&mut source, limits)?;

    // The first reference to a storage says what it is made of, as in torch.
    let mut known: HashMap<Box<str>, StorageRef> = HashMap::new();
    for (id, object) in tree.iter() {
        if matches!(object, Object::External(_))
            && let Some(reference) = storage_ref(&tree, id)?
        {
            known.entry(reference.key.clone()).or_insert(reference);
        }
    }
    let keys_at = source.position();
    let keys = pickle::read(&mut source, limits)?;
    let listed = keys.root().and_then(|root| keys.sequence(root));
    let listed = listed
        .ok_or_else(|| source.place(keys_at, Error::malformed("the keys of the storages are no list")))?;
    let mut storages = Vec::with_capacity(listed.len().min(known.len()));
    for &id in listed {
        let at = source.position();
        let place = |source: &Source<'_>, error: Error| source.place(at, error);
        let key = key(&keys, id)
            .ok_or_else(|| place(&source, Error::malformed("the key of a storage is no text")))?;
        let Some(reference) = known.remove(&key) else {
            let error = Error::malformed("a storage is listed twice, or belongs to nothing");
            return Err(place(&source, error.found(format_args!("{:?}", shown(&key)))));
        };
        let record = storage(&mut source, window, &reference)?;
        storages.push((key, record));
    }
    if let Some(key) = known.keys().min() {
        // torch loads such a file, and gives whatever was in memory.
        let error = Error::malformed("a storage is referred to and not there");
        return Err(source.place(source.position(), error.found(format_args!("{:?}", shown(key)))));
    }
    all_read(&source)?;
    Ok(Checkpoint::new(inputs, window, Kind::Legacy, tree, storages))
}

/// A count of elements, and the elements.
pub(super) fn storage(source: &mut Source<'_>, window: Window, reference: &StorageRef) -> Result<Record> {
    let at = source.position();
    let n_elements = u64::from_le_bytes(source.array()?);
    if n_elements != reference.n_elements {
        let error = Error::malformed(format!("storage {:?} has another length", shown(&reference.key)));
        let error = error
            .expected(format_args!("{} elements", reference.n_elements))
            .found(format_args!("{n_elements} elements"));
        return Err(source.place(at, error));
    }
    let data_at = source.position();
    let len = n_elements.checked_mul(reference.storage_type.bytes());
    let len = len.ok_or_else(|| {
        source
            .place(at, Error::malformed("a storage is too long").found(format_args!("{n_elements} elements")))
    })?;
    source.skip(len)?;
    // Within the window, or skipping would have failed.
    Ok(Record::stored(Window { file: window.file, at: window.at + data_at, len }))
}
