//! The nested document around the tensors, kept in step with them.

use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::tree::{Object, ObjectId, Tree};
use modelferry_core::{Error, Result};
use std::collections::HashSet;

/// A part of a nested document that holds no tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is, keys joined by dots.
    pub path: String,
    /// What it is, for a person: `a number`, `42 entries`.
    pub what: String,
}

/// Joins a path and a key.
pub(crate) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// What a document holds beside its tensors: each part as high up as it holds none of them.
pub fn beside_tensors(tree: &Tree) -> Vec<Part> {
    let Some(root) = tree.root() else { return vec![] };
    let holds = tree.holding_tensors();
    let mut parts = vec![];
    let mut waiting = vec![(String::new(), root)];
    let mut seen = HashSet::new();
    while let Some((path, id)) = waiting.pop() {
        if tree.tensor(id).is_some() || !seen.insert(id) {
            continue;
        }
        if !holds[id.idx()] {
            // A flat dictionary without tensors is an empty model, not a part of one.
            if !path.is_empty() {
                parts.push(Part { what: describe(tree, id), path });
            }
            continue;
        }
        if let Object::Instance(instance) = &tree[id] {
            // `_metadata` of a state dict, which tells modules the version of their own parameters.
            for state in &instance.states {
                let entries = tree.members(*state);
                let own = entries.iter().map(|(key, value)| (join(&path, key), *value));
                parts.extend(own.map(|(path, value)| Part { what: describe(tree, value), path }));
            }
        }
        waiting.extend(tree.members(id).into_iter().rev().map(|(key, value)| (join(&path, &key), value)));
    }
    parts
}

/// What an object is, for a person.
pub(crate) fn describe(tree: &Tree, id: ObjectId) -> String {
    let counted = |n: usize, what: &str| format!("{n} {what}");
    match &tree[id] {
        Object::None => "nothing".to_owned(),
        Object::Bool(_) | Object::Int(_) | Object::BigInt(_) | Object::Float(_) => tree.key_text(id),
        Object::Text(text) if text.chars().count() <= 40 => format!("{text:?}"),
        Object::Text(_) | Object::LooseText(_) => "text".to_owned(),
        Object::Bytes(bytes) => counted(bytes.len(), "bytes"),
        Object::List(members) | Object::Set(members) => counted(members.len(), "members"),
        Object::Tuple(members) | Object::FrozenSet(members) => counted(members.len(), "members"),
        Object::Dict(entries) => counted(entries.len(), "entries"),
        Object::Global(_) => tree.key_text(id),
        Object::Instance(instance) => match tree.mapping(id) {
            Some(entries) => counted(entries.len(), "entries"),
            None => format!("an object of {}", tree.key_text(instance.callable)),
        },
        _ => "an object".to_owned(),
    }
}

/// Takes a member out of a container.
pub(crate) fn remove(tree: &mut Tree, container: ObjectId, member: ObjectId) {
    match tree.get_mut(container) {
        Object::Dict(entries) => entries.retain(|(_, value)| *value != member),
        Object::Instance(instance) => instance.entries.retain(|(_, value)| *value != member),
        Object::List(members) => members.retain(|value| *value != member),
        Object::Tuple(members) => {
            *members = members.iter().copied().filter(|value| *value != member).collect()
        }
        _ => {}
    }
}

/// Keeps the tensors that have a new position, and gives them that.
pub(crate) fn retain(tree: &mut Tree, new_idx: &[Option<TensorIdx>]) {
    let ids: Vec<ObjectId> = tree.iter().map(|(id, _)| id).collect();
    let is_gone = |tree: &Tree, id: ObjectId| {
        tree.tensor(id).is_some_and(|idx| new_idx.get(idx).copied().flatten().is_none())
    };
    // What refers to a tensor that goes is looked for while all of them still have their old positions.
    for &id in &ids {
        let refers = tree.children(id).into_iter().any(|child| is_gone(tree, child));
        if !refers || is_gone(tree, id) {
            continue;
        }
        let keep: Vec<bool> = tree.members(id).iter().map(|(_, member)| !is_gone(tree, *member)).collect();
        let mut keep = keep.into_iter();
        let mut is_kept = || keep.next().unwrap_or(true);
        match tree.get_mut(id) {
            Object::Dict(entries) => entries.retain(|_| is_kept()),
            Object::Instance(instance) => instance.entries.retain(|_| is_kept()),
            Object::List(members) => members.retain(|_| is_kept()),
            Object::Tuple(members) => *members = members.iter().copied().filter(|_| is_kept()).collect(),
            _ => {}
        }
    }
    for id in ids {
        if let Object::Tensor(idx) = tree.get_mut(id) {
            match new_idx.get(*idx).copied().flatten() {
                Some(new) => *idx = new,
                // Nothing refers to it any more.
                None => *tree.get_mut(id) = Object::None,
            }
        }
    }
}

/// Gives the document the tensors' new names: a flat dictionary has its keys rewritten, and one that is nested is
/// flattened, for the names do not say any more where in it they belong.
pub(crate) fn rename(model: &mut Model, losses: &mut Vec<Loss>) -> Result<()> {
    let Some(tree) = &mut model.tree else { return Ok(()) };
    let Some(root) = tree.root() else { return Ok(()) };
    let too_many = || Error::limit("too many objects");
    let entries: Vec<(ObjectId, ObjectId)> = tree.mapping(root).unwrap_or_default().to_vec();
    let is_flat =
        entries.iter().filter(|(_, value)| tree.tensor(*value).is_some()).count() == model.tensors.len();
    if !is_flat {
        model.tree = None;
        let detail = "nested, and written flat, for its names were changed";
        losses.push(Loss::declared(LossKind::Tree, "the checkpoint", detail).asked());
        return Ok(());
    }
    let mut renamed = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let key = match tree.tensor(value).map(|idx| &model.tensors[idx].name) {
            Some(name) if tree.text(key) != Some(name) => {
                tree.push(Object::Text(name.as_str().into())).ok_or_else(too_many)?
            }
            _ => key,
        };
        renamed.push((key, value));
    }
    match tree.get_mut(root) {
        Object::Dict(entries) => *entries = renamed,
        Object::Instance(instance) => instance.entries = renamed,
        _ => {}
    }
    Ok(())
}
