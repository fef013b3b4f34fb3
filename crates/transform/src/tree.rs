//! The nested document around the tensors, kept in step with them.

use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::tree::{Object, ObjectId, Tree};
use modelferry_core::{Error, Result};

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
        let refers = tree.children(id).any(|child| is_gone(tree, child));
        if !refers || is_gone(tree, id) {
            continue;
        }
        let keep: Vec<bool> = tree.values(id).map(|member| !is_gone(tree, member)).collect();
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
