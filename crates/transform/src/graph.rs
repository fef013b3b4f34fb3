//! The program around the tensors, kept in step with them.

use crate::edits::{Edits, Ties};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::tree::Part;

/// Gives the tensors of the program their new positions. Where one of them goes, so does the program: without it, it
/// computes nothing.
pub(crate) fn retain(model: &mut Model, new_idx: &[Option<TensorIdx>]) {
    let Some(graph) = &mut model.graph else { return };
    for binding in &mut graph.bindings {
        match new_idx.get(binding.tensor).copied().flatten() {
            Some(new) => binding.tensor = new,
            None => {
                model.graph = None;
                return;
            }
        }
    }
    let renumbered = |old: TensorIdx| new_idx.get(old).copied().flatten();
    graph.origins.retain_mut(|origin| renumbered(origin.tensor).map(|new| origin.tensor = new).is_some());
    graph.nameless = graph.nameless.iter().filter_map(|&old| renumbered(old)).collect();
}

/// Names what is lost with a program that lacks tensors.
pub(crate) fn report(parts: impl Iterator<Item = Part>, edits: &Edits, losses: &mut Vec<Loss>) {
    let is_asked = !edits.include.is_empty() || !edits.exclude.is_empty() || edits.ties == Ties::Drop;
    losses.extend(parts.map(|part| {
        let detail = format!("{}, not carried, for it lacks tensors now", part.what);
        let loss = Loss::declared(LossKind::Graph, part.path, detail);
        if is_asked { loss.asked() } else { loss }
    }));
}
