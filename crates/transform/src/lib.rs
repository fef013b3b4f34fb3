//! Model → Model, on descriptions alone.
//!
//! [`apply`] performs the edits of one conversion in the order that DESIGN section 6 fixes (select, include and
//! exclude, strip, the weights of another model, rename, architecture, dtype and quantize; ties last, since only then is known which tensors
//! still agree). No number is touched: a cast is one more node over the tensor's expression, or two where that is
//! blocks. Whatever is changed is returned as a [`Loss`], marked as asked for when an option asked for exactly it.
//!
//! Two things are looked up in the model's config, where it has one: whether its class ties its output head to its
//! embedding, and whether it is quantized in its own way. A cast changes the type that the config names; of that the
//! caller, who knows whether a config is written at all, makes a loss.
//!
//! Before that, [`restore`] gives the tensors of a program that the target does not carry the names they had before it
//! was exported, so that all patterns are about those.
//!
//! The result is a pure function of model, edits and the answers of the host. The one question asked is whether two
//! tensors of one storage or one name that are not the same node hold the same bytes, and only before one of them is
//! dropped.

#![forbid(unsafe_code)]

mod codes;
mod dtype;
mod edits;
mod glob;
mod graph;
mod names;
mod originals;
pub mod quantize;
mod quantized;
mod scales;
mod select;
mod ties;
mod tree;
mod weights;

pub use dtype::{holds_floats, is_castable};
pub use edits::{Edits, Names, Rename, StripPrefix, Ties};
pub use glob::Glob;
pub use originals::restore;
pub use select::select;
pub use weights::Weights;

use modelferry_core::loss::Loss;
use modelferry_core::model::Model;
use modelferry_core::plugin::{Carries, Host};
use modelferry_core::{DType, Result};

/// What a target keeps of a model, as far as edits depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Keeps {
    /// Two names for one storage.
    pub ties: Carries,
    /// The program that the model came with.
    pub graph: bool,
}

impl Keeps {
    /// All of it, as where nothing is written.
    pub const ALL: Keeps = Keeps { ties: Carries::Yes, graph: true };
}

/// Applies `edits` to `model`, for a target, whose tensors take the values of `weights`.
///
/// Returns the edited model, its tensors in the same order, and what was changed. Subjects of
/// [`LossKind::Tensor`](modelferry_core::loss::LossKind::Tensor),
/// [`LossKind::Name`](modelferry_core::loss::LossKind::Name), [`LossKind::State`](modelferry_core::loss::LossKind::State)
/// and [`LossKind::Tree`](modelferry_core::loss::LossKind::Tree) are source names, of all others target names.
///
/// Errors: [`Ambiguous`](modelferry_core::ErrorKind::Ambiguous) for a checkpoint with several sets of weights;
/// [`Usage`](modelferry_core::ErrorKind::Usage) for a pattern that matches nothing, and for names that
/// collide; [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for a cast of a checkpoint that is quantized in
/// its own way; [`Target`](modelferry_core::ErrorKind::Target) for ties that must be kept and cannot be, or that must
/// be dropped and differ; and those of `weights`: nothing in it that has a name here, another shape, another type.
pub fn apply(
    mut model: Model,
    edits: &Edits,
    weights: Option<&mut Weights>,
    keeps: Keeps,
    host: &mut dyn Host,
) -> Result<(Model, Vec<Loss>)> {
    let mut losses = vec![];
    let wrappers = names::wrappers(&model);
    let parts = model.graph.as_ref().map(|graph| graph.parts.clone());
    select(&mut model, edits, &mut losses)?;
    names::choose(&mut model, edits, &mut losses)?;
    let scaled = scales::find(&model);
    names::strip(&mut model, edits, &wrappers, &mut losses)?;
    if let Some(weights) = weights {
        weights::replace(&mut model, weights, edits, host, &mut losses)?;
    }
    names::rename(&mut model, edits, &mut losses)?;
    // What is quantized is not cast before: it is rounded once.
    let mut kept = dtype::kept(&model, edits)?;
    if !keeps.graph || model.graph.is_none() {
        kept = codes::dequantize(&mut model, edits, kept, &mut losses)?;
    }
    let choices = quantize::plan(&model, &edits.quantize, &kept)?;
    let changes =
        |idx: usize| choices[idx].is_some() || !kept[idx] && edits.dtype.is_some_and(|to| to != DType::Nvfp4);
    // What a tensor was, for the account: one that has its scale in it is f32 in between.
    let before: Vec<DType> = model.tensors.iter().map(|tensor| tensor.dtype).collect();
    let gone = scales::fold(&mut model, scaled, changes, &mut losses)?;
    kept.iter_mut().zip(&choices).for_each(|(kept, choice)| *kept |= choice.is_some());
    gone.iter().for_each(|&idx| kept[idx] = true);
    dtype::cast(&mut model, edits, &kept, &before, host.limits(), &mut losses)?;
    quantize::apply(&mut model, &edits.quantize, choices, &before, host.limits(), &mut losses)?;
    if !gone.is_empty() {
        let keep: Vec<bool> = (0..model.tensors.len()).map(|idx| gone.binary_search(&idx).is_err()).collect();
        retain(&mut model, &keep);
    }
    ties::settle(&mut model, edits.ties, keeps.ties, host, &mut losses)?;
    if model.graph.is_none() {
        graph::report(parts.into_iter().flatten(), edits, &mut losses);
    }
    Ok((model, losses))
}

/// Keeps the tensors for which `keep` is true, and remaps ties to what is left.
fn retain(model: &mut Model, keep: &[bool]) {
    let mut new_idx = Vec::with_capacity(keep.len());
    let mut n_kept = 0usize;
    for &kept in keep {
        new_idx.push(kept.then_some(n_kept));
        n_kept += usize::from(kept);
    }
    let mut flags = keep.iter();
    model.tensors.retain(|_| flags.next().copied().unwrap_or(false));
    for group in &mut model.ties {
        *group = group.iter().filter_map(|&idx| new_idx.get(idx).copied().flatten()).collect();
    }
    model.ties.retain(|group| group.len() > 1);
    let renumbered = |old: usize| new_idx.get(old).copied().flatten();
    model.codes.retain_mut(|codes| {
        codes.scale = codes.scale.and_then(renumbered);
        codes.zero_point = codes.zero_point.and_then(renumbered);
        renumbered(codes.tensor).map(|new| codes.tensor = new).is_some()
    });
    if let Some(tree) = &mut model.tree {
        tree::retain(tree, &new_idx);
    }
    graph::retain(model, &new_idx);
}

#[cfg(test)]
mod tests;
