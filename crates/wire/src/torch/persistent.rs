//! Persistent ids: how a pickle refers to a storage.

use super::types::StorageType;
use super::{count, key};
use modelferry_core::error::{Error, Result};
use modelferry_core::tree::{Object, ObjectId, Tree};

/// A reference to a storage, as a pickle has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageRef {
    /// Which storage.
    pub key: Box<str>,
    /// What it is made of.
    pub storage_type: StorageType,
    /// How many elements it has.
    pub n_elements: u64,
    /// Which part of it is meant, if not all. Only old streams have such.
    pub view: Option<View>,
}

/// A part of a storage, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// First element.
    pub offset: u64,
    /// Number of elements.
    pub len: u64,
}

impl StorageRef {
    /// The elements that may be used.
    pub fn range(&self) -> View {
        self.view.unwrap_or(View { offset: 0, len: self.n_elements })
    }
}

/// What an [`Object::External`] refers to; `None` where that is no storage.
///
/// The tuple is `('storage', class, key, location, n_elements)`, in old streams with `None` or
/// `(view_key, offset, len)` behind.
///
/// Errors: of kind [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for a tuple that begins like this and
/// goes on otherwise, and a part that lies outside of its storage.
pub fn storage_ref(tree: &Tree, id: ObjectId) -> Result<Option<StorageRef>> {
    let Object::External(of) = tree[id] else { return Ok(None) };
    let Some(parts) = tree.sequence(of) else { return Ok(None) };
    let Some((&first, parts)) = parts.split_first() else { return Ok(None) };
    if tree.text(first) != Some("storage") {
        return Ok(None);
    }
    let fault = |what: &'static str| Error::malformed(what);
    let (class, key_id, n_elements, view) = match *parts {
        [class, key, _location, n_elements] => (class, key, n_elements, None),
        [class, key, _location, n_elements, view] => (class, key, n_elements, Some(view)),
        _ => {
            return Err(fault("a reference to a storage has the wrong number of parts")
                .expected("5 or 6")
                .found(parts.len() + 1));
        }
    };
    let storage_type = tree.global(class).and_then(|(module, name)| StorageType::from_global(module, name));
    let storage_type = storage_type.ok_or_else(|| {
        let error = Error::unsupported("a storage is of a class that we do not know");
        match tree.global(class) {
            Some((module, name)) => {
                error.found(format_args!("{:?}", crate::shown(&format!("{module}.{name}"))))
            }
            None => error,
        }
    })?;
    let key = key(tree, key_id).ok_or_else(|| fault("the key of a storage is no text"))?;
    let n_elements =
        count(tree, n_elements).ok_or_else(|| fault("the length of a storage is no whole number"))?;
    let view = match view.map(|view| (&tree[view], tree.sequence(view))) {
        None | Some((Object::None, _)) => None,
        Some((_, Some(&[_, offset, len]))) => {
            let part = count(tree, offset).zip(count(tree, len)).map(|(offset, len)| View { offset, len });
            let part = part
                .filter(|part| part.offset.checked_add(part.len).is_some_and(|end| end <= n_elements))
                .ok_or_else(|| {
                    fault("a part of a storage lies outside of it")
                        .expected(format_args!("at most {n_elements} elements"))
                })?;
            Some(part)
        }
        Some(_) => return Err(fault("a part of a storage is no tuple of three")),
    };
    Ok(Some(StorageRef { key, storage_type, n_elements, view }))
}
