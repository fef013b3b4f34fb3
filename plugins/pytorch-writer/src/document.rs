//! A nested checkpoint, written as it is but for what torch would refuse.

use crate::accepted::{is_accepted, is_made};
use crate::state_dict::Storages;
use modelferry_core::Result;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::tree::{Object, ObjectId, Tree, beside_tensors, describe, join};
use modelferry_wire::pickle::{Emitter, emit_tree};
use std::borrow::Cow;

/// Whether objects stay whose classes torch does not take from strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foreign {
    Drop,
    Keep,
}

/// The pickle of a document. `None` where it cannot be kept: not all tensors would be in it. What is left out is added
/// to `losses`.
pub(crate) fn pickle(
    tree: &Tree,
    foreign: Foreign,
    storages: &mut Storages<'_>,
    losses: &mut Vec<Loss>,
) -> Result<Option<Vec<u8>>> {
    let Some(root) = tree.root() else { return Ok(None) };
    let left_out = left_out(tree, root, foreign);
    let mut own_losses = vec![];
    let mut kept = Cow::Borrowed(tree);
    let mut is_kept = true;
    if let Some(left_out) = left_out {
        is_kept = !left_out[root.idx()];
        own_losses = report(tree, root, &left_out);
        kept = Cow::Owned(without(tree.clone(), &left_out));
    }
    let mut out = Emitter::default();
    emit_tree(&kept, root, &mut out, &mut |idx, out| storages.tensor(idx, out))?;
    if !is_kept || !storages.has_written_all() {
        let detail = "held by objects that torch does not load from strangers: its tensors are written flat";
        losses.push(Loss::declared(LossKind::Tree, "the checkpoint", detail));
        losses.extend(flattened(tree));
        storages.clear();
        return Ok(None);
    }
    losses.extend(own_losses);
    Ok(Some(out.finish()))
}

/// What a plain dictionary of tensors does not hold of a document.
pub(crate) fn flattened(tree: &Tree) -> impl Iterator<Item = Loss> {
    beside_tensors(tree).into_iter().map(|part| {
        let detail = format!("{}, not carried into a plain dictionary of tensors", part.what);
        Loss::declared(LossKind::Tree, part.path, detail)
    })
}

/// Per object, whether it is left out; `None` if nothing is.
fn left_out(tree: &Tree, root: ObjectId, foreign: Foreign) -> Option<Vec<bool>> {
    let mut reached = vec![false; tree.len()];
    let mut waiting = vec![root];
    while let Some(id) = waiting.pop() {
        if !std::mem::replace(&mut reached[id.idx()], true) {
            waiting.extend(tree.children(id));
        }
    }
    let mut out = vec![false; tree.len()];
    let mut any = false;
    // What cannot be changed comes behind its parts in any pickle, so that the second round finds nothing more.
    loop {
        let mut is_done = true;
        for (id, object) in tree.iter() {
            let idx = id.idx();
            if reached[idx] && !out[idx] && is_left_out(tree, object, foreign, &out) {
                (out[idx], is_done, any) = (true, false, true);
            }
        }
        if is_done {
            return any.then_some(out);
        }
    }
}

/// Whether an object is left out, given that those in `out` are.
fn is_left_out(tree: &Tree, object: &Object, foreign: Foreign, out: &[bool]) -> bool {
    let is_out = |id: &ObjectId| out[id.idx()];
    match object {
        // It belongs to the archive that was read.
        Object::External(_) => true,
        Object::Tuple(members) => members.iter().any(is_out),
        // Longer ones need an instruction that torch's machine lacks.
        Object::BigInt(bytes) => bytes.len() > 255,
        Object::Instance(instance) if is_out(&instance.callable) || is_out(&instance.args) => true,
        Object::Instance(instance) if foreign == Foreign::Keep => instance.kwargs.is_some(),
        Object::Instance(instance) => !is_made(tree, instance),
        Object::FrozenSet(members) => foreign == Foreign::Drop || members.iter().any(is_out),
        Object::Global(global) => foreign == Foreign::Drop && !is_accepted(&global.module, &global.name),
        _ => false,
    }
}

/// Names what is left out, each as high up as all of it is.
fn report(tree: &Tree, root: ObjectId, left_out: &[bool]) -> Vec<Loss> {
    let mut losses = vec![];
    let mut seen = vec![false; tree.len()];
    let mut waiting = vec![(String::new(), root)];
    while let Some((path, id)) = waiting.pop() {
        if std::mem::replace(&mut seen[id.idx()], true) {
            continue;
        }
        if left_out[id.idx()] {
            let detail = format!("{}, left out: torch does not load it from strangers", describe(tree, id));
            losses.push(Loss::declared(LossKind::Tree, path, detail));
            continue;
        }
        let start = waiting.len();
        match &tree[id] {
            Object::Set(members) => waiting.extend(members.iter().map(|&member| (path.clone(), member))),
            Object::Instance(instance) => {
                // Attributes are named as if they were entries.
                let inside = instance.states.iter().chain([&instance.args]).chain(&instance.items);
                waiting.extend(inside.map(|&part| (path.clone(), part)));
            }
            _ => {}
        }
        waiting.extend(tree.members(id).into_iter().map(|(key, member)| (join(&path, &key), member)));
        waiting[start..].reverse();
    }
    losses
}

/// The document without some of its objects: what held one under a key does so no more, and in a list there is `None`
/// in its place.
fn without(mut tree: Tree, left_out: &[bool]) -> Tree {
    let is_kept = |id: &ObjectId| !left_out[id.idx()];
    let ids: Vec<ObjectId> = tree.iter().map(|(id, _)| id).collect();
    for id in ids {
        let object = tree.get_mut(id);
        match object {
            _ if !is_kept(&id) => *object = Object::None,
            Object::Dict(entries) => entries.retain(|(key, value)| is_kept(key) && is_kept(value)),
            Object::Set(members) => members.retain(is_kept),
            Object::Instance(instance) => {
                instance.entries.retain(|(key, value)| is_kept(key) && is_kept(value));
                instance.states.retain(is_kept);
            }
            _ => {}
        }
    }
    tree
}
