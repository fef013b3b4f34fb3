//! A nested document, written as it is but for what the format does not hold.

use crate::output::Output;
use modelferry_core::layout::Piece;
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::tree::{Instance, Object, ObjectId, Tree, describe, join};
use modelferry_core::{Error, Result};
use modelferry_wire::msgpack::{CHUNKED, COMPLEX_CLASS, EXTENSION_CLASS, Emitter};
use std::collections::HashSet;

/// How many values may be written for those that stand in several places, in objects of the document.
const MAX_COPIES: usize = 8;

/// What became of a document.
pub(crate) enum Outcome {
    Written(Written),
    /// It cannot be written as it is, and why.
    Unfit(&'static str),
}

/// A document's bytes.
pub(crate) struct Written {
    pub(crate) pieces: Vec<Piece>,
    /// What is left out.
    pub(crate) losses: Vec<Loss>,
    /// Tensors in the order in which they are written.
    pub(crate) order: Vec<TensorIdx>,
    pub(crate) n_tuples: u64,
}

/// The bytes of a document. `Unfit` where a tensor of the model would not be in it once, or where it cannot be written
/// out in nested values.
///
/// Errors: a tensor or a dictionary that the format cannot hold.
pub(crate) fn write(view: &ModelView<'_>, tree: &Tree, limits: &Limits) -> Result<Outcome> {
    let Some(root) = tree.root() else { return Ok(Outcome::Unfit("it is nothing")) };
    if !is_held(tree, root) {
        return Ok(Outcome::Unfit("it is an object that flax does not write"));
    }
    let mut writer = Writer {
        tree,
        limits,
        out: Output::new(view),
        places: vec![],
        losses: vec![],
        order: vec![],
        n_tuples: 0,
    };
    match writer.all(root) {
        Ok(()) => {}
        Err(Stop::Unfit(why)) => return Ok(Outcome::Unfit(why)),
        Err(Stop::Error(error)) => return Err(error),
    }
    let mut is_written = vec![false; view.tensors().len()];
    let is_twice = writer.order.iter().any(|&idx| std::mem::replace(&mut is_written[idx], true));
    if is_twice || !is_written.iter().all(|&is_written| is_written) {
        return Ok(Outcome::Unfit("its tensors do not stand in it once each"));
    }
    let Writer { out, losses, order, n_tuples, .. } = writer;
    Ok(Outcome::Written(Written { pieces: out.finish(), losses, order, n_tuples }))
}

/// Whether the format holds an object. What it does not hold of a container's members is left out.
fn is_held(tree: &Tree, id: ObjectId) -> bool {
    match &tree[id] {
        Object::LooseText(_) | Object::Set(_) | Object::FrozenSet(_) => false,
        Object::Global(_) | Object::External(_) => false,
        Object::BigInt(bytes) => unsigned(bytes).is_some(),
        Object::Instance(instance) => {
            tree.tensor(id).is_some()
                || tree.mapping(id).is_some()
                || complex(tree, instance).is_some()
                || extension(tree, instance).is_some()
        }
        _ => true,
    }
}

/// A number of nine bytes that fits into 64 bits without its sign.
fn unsigned(bytes: &[u8]) -> Option<u64> {
    match bytes.split_last_chunk::<1>()? {
        (low, [0]) => Some(u64::from_le_bytes(low.try_into().ok()?)),
        _ => None,
    }
}

/// The arguments of a call of `class`.
fn arguments<'a>(tree: &'a Tree, instance: &Instance, class: (&str, &str)) -> Option<&'a [ObjectId]> {
    match tree.global(instance.callable)? == class {
        true => tree.sequence(instance.args),
        false => None,
    }
}

fn complex(tree: &Tree, instance: &Instance) -> Option<(f64, f64)> {
    let classes = [COMPLEX_CLASS, ("__builtin__", COMPLEX_CLASS.1)];
    let args = classes.into_iter().find_map(|class| arguments(tree, instance, class))?;
    match args {
        [re, im] => match (&tree[*re], &tree[*im]) {
            (Object::Float(re), Object::Float(im)) => Some((*re, *im)),
            _ => None,
        },
        _ => None,
    }
}

fn extension<'a>(tree: &'a Tree, instance: &Instance) -> Option<(i8, &'a [u8])> {
    match arguments(tree, instance, EXTENSION_CLASS)? {
        [code, bytes] => match (&tree[*code], &tree[*bytes]) {
            (Object::Int(code), Object::Bytes(bytes)) => Some((i8::try_from(*code).ok()?, bytes)),
            _ => None,
        },
        _ => None,
    }
}

/// A container on the way: the one around it, and its key in that.
struct Place {
    above: Option<usize>,
    key: String,
}

/// Something to be written.
enum Step {
    /// A key, as bytes.
    Key(Vec<u8>),
    Value(Value),
}

#[derive(Clone, Copy)]
struct Value {
    id: ObjectId,
    key: Key,
    /// The container that it is in, and how many there are down to that.
    within: Option<usize>,
    depth: usize,
    /// Whether those are dictionaries, all of them.
    is_in_maps: bool,
}

/// By what a container holds a value.
#[derive(Clone, Copy)]
enum Key {
    Root,
    Entry(ObjectId),
    Member(usize),
}

/// Why a document is not written.
enum Stop {
    Unfit(&'static str),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

struct Writer<'a, 't> {
    tree: &'t Tree,
    limits: &'t Limits,
    out: Output<'a>,
    places: Vec<Place>,
    losses: Vec<Loss>,
    order: Vec<TensorIdx>,
    n_tuples: u64,
}

impl Writer<'_, '_> {
    fn all(&mut self, root: ObjectId) -> Result<(), Stop> {
        let root = Value { id: root, key: Key::Root, within: None, depth: 0, is_in_maps: true };
        let mut waiting = vec![Step::Value(root)];
        let most = MAX_COPIES.saturating_mul(self.tree.len());
        let mut n_values = 0;
        while let Some(step) = waiting.pop() {
            match step {
                Step::Key(bytes) => self.out.values.raw(&bytes),
                Step::Value(value) => {
                    n_values += 1;
                    // Dictionaries that hold each other in a circle end here, or where they are too deep.
                    if n_values > most {
                        return Err(Stop::Unfit("its parts stand in too many places"));
                    }
                    self.value(value, &mut waiting)?;
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, value: Value, waiting: &mut Vec<Step>) -> Result<(), Stop> {
        let tree = self.tree;
        if !is_held(tree, value.id) {
            // In a list its place stays.
            self.lose(value.within, value.key, value.id);
            self.out.values.nil();
            return Ok(());
        }
        if let Some(idx) = tree.tensor(value.id) {
            self.order.push(idx);
            return Ok(self.out.tensor(idx, value.is_in_maps)?);
        }
        if let Some(entries) = tree.mapping(value.id) {
            return self.entries(value, entries, waiting);
        }
        if let Some(members) = tree.sequence(value.id) {
            return self.members(value, members, waiting);
        }
        let out = &mut self.out.values;
        match &tree[value.id] {
            Object::Bool(value) => out.bool(*value),
            Object::Int(value) => out.int(*value),
            Object::BigInt(bytes) => out.uint(unsigned(bytes).unwrap_or_default()),
            Object::Float(value) => out.float(*value),
            Object::Text(text) => out.text(text)?,
            Object::Bytes(bytes) => out.bytes(bytes)?,
            Object::Instance(instance) => {
                if let Some((re, im)) = complex(tree, instance) {
                    out.complex(re, im)?;
                } else if let Some((code, bytes)) = extension(tree, instance) {
                    out.extension(code, bytes.len() as u64)?;
                    out.raw(bytes);
                }
            }
            _ => out.nil(),
        }
        Ok(())
    }

    /// The place of a container.
    fn enter(&mut self, value: Value) -> Result<Option<usize>, Stop> {
        if value.depth >= self.limits.depth {
            return Err(Stop::Unfit("it is nested deeper than it could be read again"));
        }
        let key = self.text(value.key);
        self.places.push(Place { above: value.within, key });
        Ok(Some(self.places.len() - 1))
    }

    fn entries(
        &mut self,
        value: Value,
        entries: &[(ObjectId, ObjectId)],
        waiting: &mut Vec<Step>,
    ) -> Result<(), Stop> {
        let within = self.enter(value)?;
        if let Object::Instance(instance) = &self.tree[value.id] {
            // `_metadata` of a state dict, which tells modules the version of their own parameters.
            let path = self.path(within);
            let entries = instance.states.iter().flat_map(|state| self.tree.members(*state));
            let lost = entries.map(|(key, member)| left_out(join(&path, &key), self.tree, member));
            self.losses.extend(lost);
        }
        let start = waiting.len();
        let mut keys = HashSet::with_capacity(entries.len());
        for &(key, id) in entries {
            if !is_held(self.tree, id) {
                self.lose(within, Key::Entry(key), id);
                continue;
            }
            let bytes = self.key(key)?;
            if !keys.insert(bytes.clone()) {
                return Err(Stop::Unfit("one of its dictionaries holds a key twice"));
            }
            if value.is_in_maps && self.tree.text(key) == Some(CHUNKED) {
                let error = Error::target("flax takes a dictionary with this key for an array in parts");
                return Err(error.found(CHUNKED).into());
            }
            let inner = Value { id, key: Key::Entry(key), within, depth: value.depth + 1, ..value };
            waiting.extend([Step::Key(bytes), Step::Value(inner)]);
        }
        waiting[start..].reverse();
        Ok(self.out.values.map(keys.len() as u64)?)
    }

    fn members(&mut self, value: Value, members: &[ObjectId], waiting: &mut Vec<Step>) -> Result<(), Stop> {
        let within = self.enter(value)?;
        self.n_tuples += u64::from(matches!(self.tree[value.id], Object::Tuple(_)));
        waiting.extend(members.iter().enumerate().rev().map(|(idx, &id)| {
            let (key, depth) = (Key::Member(idx), value.depth + 1);
            Step::Value(Value { id, key, within, depth, is_in_maps: false })
        }));
        Ok(self.out.values.list(members.len() as u64)?)
    }

    /// A key as bytes. What is no key for the format is one as the text that names of tensors have for it.
    fn key(&self, id: ObjectId) -> Result<Vec<u8>> {
        let mut out = Emitter::default();
        match &self.tree[id] {
            Object::None => out.nil(),
            Object::Bool(value) => out.bool(*value),
            Object::Int(value) => out.int(*value),
            Object::Float(value) => out.float(*value),
            Object::Bytes(bytes) => out.bytes(bytes)?,
            _ => out.text(&self.tree.key_text(id))?,
        }
        Ok(out.take())
    }

    fn lose(&mut self, within: Option<usize>, key: Key, id: ObjectId) {
        let path = join(&self.path(within), &self.text(key));
        self.losses.push(left_out(path, self.tree, id));
    }

    fn text(&self, key: Key) -> String {
        match key {
            Key::Root => String::new(),
            Key::Entry(key) => self.tree.key_text(key),
            Key::Member(idx) => idx.to_string(),
        }
    }

    fn path(&self, mut at: Option<usize>) -> String {
        let mut keys = vec![];
        while let Some(place) = at.and_then(|idx| self.places.get(idx)) {
            // The root has no key.
            if place.above.is_some() {
                keys.push(&*place.key);
            }
            at = place.above;
        }
        keys.reverse();
        keys.join(".")
    }
}

fn left_out(path: String, tree: &Tree, id: ObjectId) -> Loss {
    let detail = format!("{}, left out: flax does not write it", describe(tree, id));
    Loss::declared(LossKind::Tree, path, detail)
}
