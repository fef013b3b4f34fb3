//! Nested values on their way across: objects that name each other by position.
//!
//! There may be millions of them. So what is written is borrowed from the tree, and what is read becomes objects in the
//! memory that it was read into.

use super::{bits64, blob, of_bits64, whole, wrong};
use crate::nodes::Blobs;
use modelferry_core::expr::Blob;
use modelferry_core::tree::{Global, Instance, Making, Object, ObjectId, Tree};
use modelferry_core::{Error, Result};
use serde::ser::{Error as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// Nested values.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JsonTree<'a> {
    #[serde(borrow)]
    objects: Objects<'a>,
    root: Option<u32>,
}

/// The objects: those of a tree, each of which is described when it is written, or those that were read.
#[derive(Debug)]
enum Objects<'a> {
    /// Their blobs lie behind each other, from this one on.
    Ours(&'a Tree, u64),
    Theirs(Vec<JsonObject<'a>>),
}

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Objects::Ours(tree, first_blob) => {
                let mut next = *first_blob..;
                let mut blob = |_| next.next().unwrap_or(u64::MAX);
                let mut list = serializer.serialize_seq(Some(tree.len()))?;
                for (_, object) in tree.iter() {
                    list.serialize_element(&JsonObject::of(object, &mut blob).map_err(S::Error::custom)?)?;
                }
                list.end()
            }
            Objects::Theirs(list) => serializer.collect_seq(list),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Objects<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Objects::Theirs)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum JsonObject<'a> {
    None,
    Bool(bool),
    Int(Cow<'a, str>),
    /// A blob: two's complement, least significant byte first.
    BigInt(u64),
    Float(Cow<'a, str>),
    #[serde(borrow)]
    Text(Cow<'a, str>),
    /// A blob: WTF-8.
    LooseText(u64),
    /// A blob.
    Bytes(u64),
    List(Places<'a, ObjectId>),
    Tuple(Places<'a, ObjectId>),
    Set(Places<'a, ObjectId>),
    FrozenSet(Places<'a, ObjectId>),
    Dict(Places<'a, Entry>),
    /// Module and name.
    Global(Box<(Cow<'a, str>, Cow<'a, str>)>),
    Instance(Box<JsonInstance<'a>>),
    External(u32),
    Tensor(usize),
}

#[derive(Debug, Serialize, Deserialize)]
struct JsonInstance<'a> {
    /// Whether it is made without running its initializer.
    is_new: bool,
    callable: u32,
    args: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kwargs: Option<u32>,
    #[serde(default, skip_serializing_if = "Places::is_empty")]
    states: Places<'a, ObjectId>,
    #[serde(default, skip_serializing_if = "Places::is_empty")]
    items: Places<'a, ObjectId>,
    #[serde(default, skip_serializing_if = "Places::is_empty")]
    entries: Places<'a, Entry>,
}

/// Key and value.
type Entry = (ObjectId, ObjectId);

/// What is made of positions in the list of objects.
trait Placed: Copy {
    /// As it crosses. Of the same size, so that a list of these becomes one of those where it is.
    type Json;

    fn json(self) -> Self::Json;

    /// Errors: it names an object that is not in the tree.
    fn of(json: Self::Json, tree: &Tree) -> Result<Self>;
}

impl Placed for ObjectId {
    type Json = u32;

    fn json(self) -> u32 {
        self.idx() as u32
    }

    fn of(json: u32, tree: &Tree) -> Result<ObjectId> {
        tree.id(json as usize).ok_or_else(|| wrong("an object that is not there", json))
    }
}

impl Placed for Entry {
    type Json = (u32, u32);

    fn json(self) -> (u32, u32) {
        (self.0.json(), self.1.json())
    }

    fn of((key, value): (u32, u32), tree: &Tree) -> Result<Entry> {
        Ok((ObjectId::of(key, tree)?, ObjectId::of(value, tree)?))
    }
}

/// A list of references: one of ours that is being written, or one that was read.
#[derive(Debug)]
enum Places<'a, T: Placed> {
    Ours(&'a [T]),
    Theirs(Vec<T::Json>),
}

impl<T: Placed> Default for Places<'_, T> {
    fn default() -> Self {
        Places::Ours(&[])
    }
}

impl<T: Placed> Places<'_, T> {
    fn is_empty(&self) -> bool {
        match self {
            Places::Ours(list) => list.is_empty(),
            Places::Theirs(list) => list.is_empty(),
        }
    }

    fn list(self, tree: &Tree) -> Result<Vec<T>> {
        match self {
            Places::Ours(list) => Ok(list.to_vec()),
            Places::Theirs(list) => list.into_iter().map(|json| T::of(json, tree)).collect(),
        }
    }
}

impl<T: Placed<Json: Serialize>> Serialize for Places<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Places::Ours(list) => serializer.collect_seq(list.iter().map(|place| place.json())),
            Places::Theirs(list) => serializer.collect_seq(list),
        }
    }
}

impl<'de, T: Placed<Json: Deserialize<'de>>> Deserialize<'de> for Places<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Places::Theirs)
    }
}

impl<'a> JsonTree<'a> {
    /// Errors: a value of a kind that is newer than the boundary.
    pub(crate) fn of(tree: &'a Tree, blobs: &mut Blobs) -> Result<JsonTree<'a>> {
        let first_blob = blobs.len();
        // Described once for the blobs alone; nothing is kept.
        for (_, object) in tree.iter() {
            JsonObject::of(object, &mut |blob| blobs.add(blob))?;
        }
        Ok(JsonTree { objects: Objects::Ours(tree, first_blob), root: tree.root().map(ObjectId::json) })
    }

    pub(crate) fn tree(self, blobs: &[Blob]) -> Result<Tree> {
        let objects = match self.objects {
            Objects::Ours(tree, _) => return Ok(tree.clone()),
            Objects::Theirs(objects) => objects,
        };
        // Objects may name later ones: each has its place before any is filled.
        let tree = Tree::of_nones(objects.len());
        let mut tree = tree.ok_or_else(|| Error::limit("too many objects"))?;
        for (idx, object) in objects.into_iter().enumerate() {
            let object = object.object(&tree, blobs)?;
            *tree.get_mut(ObjectId::of(idx as u32, &tree)?) = object;
        }
        if let Some(root) = self.root {
            let root = ObjectId::of(root, &tree)?;
            tree.set_root(root);
        }
        Ok(tree)
    }
}

impl<'a> JsonObject<'a> {
    /// `blob` gives the place of one that crosses.
    fn of(object: &'a Object, blob: &mut dyn FnMut(Blob) -> u64) -> Result<JsonObject<'a>> {
        Ok(match object {
            Object::None => JsonObject::None,
            Object::Bool(value) => JsonObject::Bool(*value),
            Object::Int(n) => JsonObject::Int(n.to_string().into()),
            Object::BigInt(bytes) => JsonObject::BigInt(blob((&**bytes).into())),
            Object::Float(n) => JsonObject::Float(bits64(*n).into()),
            Object::Text(text) => JsonObject::Text((&**text).into()),
            Object::LooseText(bytes) => JsonObject::LooseText(blob((&**bytes).into())),
            Object::Bytes(bytes) => JsonObject::Bytes(blob(bytes.clone())),
            Object::List(ids) => JsonObject::List(Places::Ours(ids)),
            Object::Tuple(ids) => JsonObject::Tuple(Places::Ours(ids)),
            Object::Set(ids) => JsonObject::Set(Places::Ours(ids)),
            Object::FrozenSet(ids) => JsonObject::FrozenSet(Places::Ours(ids)),
            Object::Dict(entries) => JsonObject::Dict(Places::Ours(entries)),
            Object::Global(global) => {
                JsonObject::Global(Box::new(((&*global.module).into(), (&*global.name).into())))
            }
            Object::Instance(instance) => JsonObject::Instance(Box::new(JsonInstance {
                is_new: instance.making == Making::New,
                callable: instance.callable.json(),
                args: instance.args.json(),
                kwargs: instance.kwargs.map(ObjectId::json),
                states: Places::Ours(&instance.states),
                items: Places::Ours(&instance.items),
                entries: Places::Ours(&instance.entries),
            })),
            Object::External(id) => JsonObject::External(id.json()),
            Object::Tensor(idx) => JsonObject::Tensor(*idx),
            _ => {
                return Err(Error::unsupported(
                    "a nested value that this version of plugins cannot be given",
                ));
            }
        })
    }

    fn object(self, tree: &Tree, blobs: &[Blob]) -> Result<Object> {
        let bytes = |idx: u64| blob(blobs, idx).map(|bytes| Box::<[u8]>::from(&*bytes));
        Ok(match self {
            JsonObject::None => Object::None,
            JsonObject::Bool(value) => Object::Bool(value),
            JsonObject::Int(text) => Object::Int(whole(&text)?),
            JsonObject::BigInt(idx) => Object::BigInt(bytes(idx)?),
            JsonObject::Float(text) => Object::Float(of_bits64(&text)?),
            JsonObject::Text(text) => Object::Text(text.into()),
            JsonObject::LooseText(idx) => Object::LooseText(bytes(idx)?),
            JsonObject::Bytes(idx) => Object::Bytes(blob(blobs, idx)?),
            JsonObject::List(items) => Object::List(items.list(tree)?),
            JsonObject::Tuple(items) => Object::Tuple(items.list(tree)?.into()),
            JsonObject::Set(items) => Object::Set(items.list(tree)?),
            JsonObject::FrozenSet(items) => Object::FrozenSet(items.list(tree)?.into()),
            JsonObject::Dict(entries) => Object::Dict(entries.list(tree)?),
            JsonObject::Global(names) => {
                let (module, name) = *names;
                Object::Global(Box::new(Global { module: module.into(), name: name.into() }))
            }
            JsonObject::Instance(instance) => Object::Instance(Box::new(Instance {
                making: if instance.is_new { Making::New } else { Making::Call },
                callable: ObjectId::of(instance.callable, tree)?,
                args: ObjectId::of(instance.args, tree)?,
                kwargs: instance.kwargs.map(|idx| ObjectId::of(idx, tree)).transpose()?,
                states: instance.states.list(tree)?,
                items: instance.items.list(tree)?,
                entries: instance.entries.list(tree)?,
            })),
            JsonObject::External(idx) => Object::External(ObjectId::of(idx, tree)?),
            JsonObject::Tensor(idx) => Object::Tensor(idx),
        })
    }
}
