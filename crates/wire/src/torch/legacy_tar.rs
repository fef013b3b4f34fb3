//! The tar archive of torch 0.1: storages, then tensors, then the objects that refer to both by number.
//!
//! What is read is put into the form of later versions: where the objects refer to a tensor, the tree gets the call of
//! `torch._utils._rebuild_tensor` that 0.2 wrote.

use super::exported::{global, push};
use super::persistent::{StorageRef, View};
use super::types::StorageType;
use super::{Checkpoint, Kind, Record, all_read, count, key};
use crate::pickle::{self, Source};
use crate::{shown, tar};
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{Inputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Global, Instance, Object, ObjectId, Tree};
use std::collections::HashMap;

/// A storage, or part of one.
#[derive(Clone)]
struct Known {
    reference: StorageRef,
    class: Global,
}

/// A tensor of one of them.
struct Tensor {
    storage: Box<str>,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

pub(super) fn read(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Checkpoint> {
    let members = tar::read(inputs, window, limits)?;
    let member = |name: &str| {
        let found = members.iter().find(|member| member.name == name);
        found
            .map(|member| member.window)
            .ok_or_else(|| Error::malformed(format!("the archive has no member {name:?}")).offset(window.at))
    };
    let (known, records) = storages(inputs, member("storages")?, limits)?;
    let tensors = tensors(inputs, member("tensors")?, limits)?;
    let mut source = Source::new(inputs, member("pickle")?);
    let tree = pickle::read(&mut source, limits)?;
    all_read(&source)?;
    let mut rewriter = Rewriter { tree, known, tensors, storage_ids: HashMap::new(), args: HashMap::new() };
    rewriter.run()?;
    Ok(Checkpoint::new(inputs, window, Kind::Tar, rewriter.tree, records))
}

type Storages = (HashMap<Box<str>, Known>, Vec<(Box<str>, Record)>);

/// How many, then for each a key, a place and a class, a count and the elements; then the parts of storages that are
/// storages themselves.
fn storages(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<Storages> {
    let mut source = Source::new(inputs, window);
    let (mut known, mut records) = (HashMap::new(), vec![]);
    for _ in 0..number(&mut source, limits)? {
        let at = source.position();
        let tree = pickle::read(&mut source, limits)?;
        let fault = |source: &Source<'_>, what: &'static str| source.place(at, Error::malformed(what));
        let parts = tree.root().and_then(|root| tree.sequence(root));
        let Some(&[key_id, _location, class]) = parts else {
            return Err(fault(&source, "a storage is not described by three values"));
        };
        let key = key(&tree, key_id).ok_or_else(|| fault(&source, "the key of a storage is no number"))?;
        let (module, name) =
            tree.global(class).ok_or_else(|| fault(&source, "the class of a storage is none"))?;
        let class = Global { module: module.into(), name: name.into() };
        let storage_type = StorageType::from_global(module, name).ok_or_else(|| {
            let error = Error::unsupported("a storage is of a class that we do not know");
            source.place(at, error.found(format_args!("{:?}", shown(name))))
        })?;
        let count_at = source.position();
        let n_elements = u64::from_le_bytes(source.array()?);
        let data_at = source.position();
        let len = n_elements.checked_mul(storage_type.bytes()).ok_or_else(|| {
            source.place(count_at, Error::malformed("a storage is too long").found(n_elements))
        })?;
        source.skip(len)?;
        let record = Record::stored(Window { file: window.file, at: window.at + data_at, len });
        let reference = StorageRef { key: key.clone(), storage_type, n_elements, view: None };
        if known.insert(key.clone(), Known { reference, class }).is_some() {
            return Err(fault(&source, "two storages have one key"));
        }
        records.push((key, record));
    }
    let views_at = source.position();
    let views = pickle::read(&mut source, limits)?;
    for &id in views.root().and_then(|root| views.sequence(root)).unwrap_or_default() {
        let view = view(&views, id, &known).map_err(|error| source.place(views_at, error))?;
        known.insert(view.0, view.1);
    }
    all_read(&source)?;
    Ok((known, records))
}

/// Its own key, the storage that it is a part of, first element, number of elements.
fn view(views: &Tree, id: ObjectId, known: &HashMap<Box<str>, Known>) -> Result<(Box<str>, Known)> {
    let fault = || Error::malformed("a part of a storage is malformed");
    let Some(&[target, root, offset, len]) = views.sequence(id) else { return Err(fault()) };
    let target = key(views, target).ok_or_else(fault)?;
    let of = key(views, root).and_then(|root| known.get(&root)).ok_or_else(fault)?;
    let view = count(views, offset).zip(count(views, len)).map(|(offset, len)| View { offset, len });
    let view = view
        .filter(|_| of.reference.view.is_none())
        .filter(|view| view.offset.checked_add(view.len).is_some_and(|end| end <= of.reference.n_elements))
        .ok_or_else(fault)?;
    let reference = StorageRef { view: Some(view), ..of.reference.clone() };
    Ok((target, Known { reference, class: of.class.clone() }))
}

/// How many, then for each a key, the key of its storage and a class, and numbers: rank, extents, strides, offset.
fn tensors(inputs: &dyn Inputs, window: Window, limits: &Limits) -> Result<HashMap<Box<str>, Tensor>> {
    let mut source = Source::new(inputs, window);
    let mut tensors = HashMap::new();
    for _ in 0..number(&mut source, limits)? {
        let at = source.position();
        let tree = pickle::read(&mut source, limits)?;
        let fault = |source: &Source<'_>, what: &'static str| source.place(at, Error::malformed(what));
        let parts = tree.root().and_then(|root| tree.sequence(root));
        let Some(&[key_id, storage, _class]) = parts else {
            return Err(fault(&source, "a tensor is not described by three values"));
        };
        let keys = key(&tree, key_id).zip(key(&tree, storage));
        let (key, storage) = keys.ok_or_else(|| fault(&source, "the key of a tensor is no number"))?;
        // Written as eight bytes of which four were never set.
        let rank = u32::from_le_bytes(source.array()?);
        source.skip(4)?;
        Limits::check("a tensor has too many dimensions", rank.into(), limits.rank as u64)
            .map_err(|error| source.place(at, error))?;
        let mut numbers =
            |n: u32| -> Result<Vec<i64>> { (0..n).map(|_| source.array().map(i64::from_le_bytes)).collect() };
        let (size, stride) = (numbers(rank)?, numbers(rank)?);
        let offset = i64::from_le_bytes(source.array()?);
        if tensors.insert(key, Tensor { storage, offset, size, stride }).is_some() {
            return Err(fault(&source, "two tensors have one key"));
        }
    }
    all_read(&source)?;
    Ok(tensors)
}

/// A pickle that is a count.
fn number(source: &mut Source<'_>, limits: &Limits) -> Result<u64> {
    let at = source.position();
    let tree = pickle::read(source, limits)?;
    let n = tree.root().and_then(|root| count(&tree, root));
    let n = n.ok_or_else(|| source.place(at, Error::malformed("a count in the archive is none")))?;
    Limits::check("too many tensors", n, limits.tensors).map_err(|error| source.place(at, error))?;
    Ok(n)
}

struct Rewriter {
    tree: Tree,
    known: HashMap<Box<str>, Known>,
    tensors: HashMap<Box<str>, Tensor>,
    /// Storages that are in the tree already, as the tuples of their persistent ids.
    storage_ids: HashMap<Box<str>, ObjectId>,
    /// Tensors that are, as the arguments of the call: however often one is referred to, it is described once.
    args: HashMap<Box<str>, ObjectId>,
}

impl Rewriter {
    fn run(&mut self) -> Result<()> {
        let references: Vec<(ObjectId, Box<str>)> = (self.tree.iter())
            .filter_map(|(id, object)| match object {
                // Others are classes with their source text.
                Object::External(of) => Some((id, key(&self.tree, *of)?)),
                _ => None,
            })
            .collect();
        let rebuild = global(&mut self.tree, "torch._utils", "_rebuild_tensor")?;
        for (id, key) in references {
            let object = match self.tensors.contains_key(&key) {
                true => Object::Instance(Box::new(Instance::new(rebuild, self.tensor(&key)?))),
                false => Object::External(self.storage(&key)?),
            };
            *self.tree.get_mut(id) = object;
        }
        Ok(())
    }

    fn tensor(&mut self, key: &str) -> Result<ObjectId> {
        if let Some(&id) = self.args.get(key) {
            return Ok(id);
        }
        let Some(tensor) = self.tensors.remove(key) else { return Err(missing(key)) };
        let of = self.storage(&tensor.storage)?;
        let storage = push(&mut self.tree, Object::External(of))?;
        let offset = push(&mut self.tree, Object::Int(tensor.offset))?;
        let (size, stride) = (self.ints(&tensor.size)?, self.ints(&tensor.stride)?);
        let args = push(&mut self.tree, Object::Tuple([storage, offset, size, stride].into()))?;
        self.tensors.insert(key.into(), tensor);
        self.args.insert(key.into(), args);
        Ok(args)
    }

    fn storage(&mut self, key: &str) -> Result<ObjectId> {
        if let Some(&id) = self.storage_ids.get(key) {
            return Ok(id);
        }
        let Some(Known { reference, class }) = self.known.get(key).cloned() else { return Err(missing(key)) };
        let int = |tree: &mut Tree, value: u64| push(tree, Object::Int(value.try_into().unwrap_or(i64::MAX)));
        let tree = &mut self.tree;
        let mut parts = vec![
            push(tree, Object::Text("storage".into()))?,
            push(tree, Object::Global(Box::new(class)))?,
            push(tree, Object::Text(reference.key))?,
            push(tree, Object::Text("cpu".into()))?,
            int(tree, reference.n_elements)?,
        ];
        if let Some(view) = reference.view {
            let view = [push(tree, Object::Text(key.into()))?, int(tree, view.offset)?, int(tree, view.len)?];
            parts.push(push(tree, Object::Tuple(view.into()))?);
        }
        let id = push(tree, Object::Tuple(parts.into()))?;
        self.storage_ids.insert(key.into(), id);
        Ok(id)
    }

    fn ints(&mut self, values: &[i64]) -> Result<ObjectId> {
        let ids: Result<Vec<ObjectId>> =
            values.iter().map(|&value| push(&mut self.tree, Object::Int(value))).collect();
        push(&mut self.tree, Object::Tuple(ids?.into()))
    }
}

fn missing(key: &str) -> Error {
    Error::malformed("a tensor or storage is referred to and not there")
        .found(format_args!("{:?}", shown(key)))
}
