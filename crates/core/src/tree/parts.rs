//! What a document holds beside its tensors, for a report.

use super::{Object, ObjectId, Tree};
use crate::one_line::shown;
use std::collections::HashSet;

/// A part of a nested document that holds no tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it is, keys joined by dots.
    pub path: String,
    /// What it is, for a person: `a number`, `42 entries`.
    pub what: String,
}

/// Joins a path and a key by a dot.
pub fn join(path: &str, key: &str) -> String {
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
pub fn describe(tree: &Tree, id: ObjectId) -> String {
    let counted = |n: usize, what: &str| format!("{n} {what}");
    match &tree[id] {
        Object::None => "nothing".to_owned(),
        Object::Bool(_) | Object::Int(_) | Object::BigInt(_) | Object::Float(_) | Object::Global(_) => {
            shown(&tree.key_text(id)).to_owned()
        }
        Object::Text(text) if text.chars().count() <= 40 => format!("{text:?}"),
        Object::Text(_) | Object::LooseText(_) => "text".to_owned(),
        Object::Bytes(bytes) => counted(bytes.len(), "bytes"),
        Object::List(members) | Object::Set(members) => counted(members.len(), "members"),
        Object::Tuple(members) | Object::FrozenSet(members) => counted(members.len(), "members"),
        Object::Dict(entries) => counted(entries.len(), "entries"),
        Object::Instance(instance) => match tree.mapping(id) {
            Some(entries) => counted(entries.len(), "entries"),
            None => format!("an object of {}", shown(&tree.key_text(instance.callable))),
        },
        _ => "an object".to_owned(),
    }
}
