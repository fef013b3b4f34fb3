//! The values of one model's tensors in the places of another's.
//!
//! A tensor takes the values of the one that has its name, or that was called so before an exporter renamed it
//! ([`Origin`](modelferry_core::graph::Origin)), laid out as it is now. It takes the type along: nothing is rounded that
//! `--dtype` did not ask for, and a graph casts what it takes.

use crate::dtype::{holds_floats, is_castable};
use crate::edits::Edits;
use crate::{quantized, ties};
use heads::Heads;
use modelferry_core::dtype::Class;
use modelferry_core::error::listed;
use modelferry_core::expr::{BlockFn, Moved, NodeId};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, Tensor, TensorIdx};
use modelferry_core::plugin::Host;
use modelferry_core::{DType, Error, Result};
use std::collections::HashSet;
use std::fmt::Display;

mod heads;
mod tied;

/// A model whose tensors give their values to another's of the same names.
#[derive(Clone)]
pub struct Weights {
    /// The model, edited as it is to be on its own: of a nested checkpoint the one set of weights.
    pub model: Model,
    /// The number that its first file has among those of the model that takes its values.
    pub files: u32,
    /// What it is called.
    pub name: String,
    /// Names of the tensors that took values of it, once they have.
    pub taken: Vec<String>,
}

/// Values that a tensor can take.
struct Offer {
    /// The tensor that has them, by its position in its model.
    from: TensorIdx,
    /// Where its axes are in the one that takes them; empty if they stay.
    axes: Box<[u8]>,
}

/// A storage of the other model and how it was laid out.
type Storage = (TensorIdx, Box<[u8]>);

/// Which is what in a tensor's error.
struct Pair<'a> {
    own: &'a Tensor,
    other: &'a Tensor,
    name: &'a str,
}

/// Gives the tensors of `model` the values of those of `weights`.
///
/// Errors: [`Target`](modelferry_core::ErrorKind::Target) for another shape, for a type that is not read as the other,
/// for two tensors that are one here and differ, and where nothing has a name of the other;
/// [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for one of a checkpoint that is quantized in its own way
/// which another type is wanted of.
pub(crate) fn replace(
    model: &mut Model,
    weights: &mut Weights,
    edits: &Edits,
    host: &mut dyn Host,
    losses: &mut Vec<Loss>,
) -> Result<()> {
    let Weights { model: other, files, name, taken } = weights;
    let offers = offers(model, other, &Heads::of(other, host.limits()));
    if offers.iter().all(Vec::is_empty) {
        return Err(nothing(model, other, name));
    }
    check(model, other, &offers, name, host)?;
    let mut used = vec![false; other.tensors.len()];
    offers.iter().flatten().for_each(|offer| used[offer.from] = true);

    let nodes = std::mem::take(&mut other.nodes);
    let (sources, claims) = (std::mem::take(&mut other.sources), std::mem::take(&mut other.claims));
    let moved = model.absorb(nodes, sources, claims, *files)?;
    let mut storages: Vec<Option<Storage>> = vec![None; model.tensors.len()];
    for (idx, offers) in offers.into_iter().enumerate() {
        let mut values: Option<NodeId> = None;
        for Offer { from, axes } in offers {
            let given = &other.tensors[from];
            let laid_out = laid_out(model, given, moved, &axes, edits);
            let (data, dtype) = laid_out.map_err(|error| error.tensor(&given.name))?;
            if let Some(first) = values {
                if first != data && !ties::is_equal(model, first, data, host)? {
                    let error = Error::target("--weights: several tensors are one here, and differ");
                    return Err(error
                        .tensor(&model.tensors[idx].name)
                        .found(format_args!("{:?} of {name}", given.name)));
                }
                continue;
            }
            values = Some(data);
            let tensor = &mut model.tensors[idx];
            (tensor.data, tensor.dtype) = (data, dtype);
            storages[idx] = Some((from, axes));
        }
    }
    tied::settle(model, &mut storages, &other.ties);
    let is_taken: Vec<bool> = storages.iter().map(Option::is_some).collect();
    let names = model.tensors.iter().zip(&is_taken).filter(|(_, is_taken)| **is_taken);
    taken.extend(names.map(|(tensor, _)| tensor.name.clone()));
    report(model, other, &is_taken, &used, name, losses);
    Ok(())
}

/// For each tensor those that could give it values: of its name first, then of what it was called.
fn offers(model: &Model, other: &Model, heads: &Heads<'_>) -> Vec<Vec<Offer>> {
    let find = |tensor: &Tensor, name: &str, axes: &[u8]| {
        let from = heads.find(name)?;
        // Its own name says what it is, whatever its shape; what is tied to it has the same.
        let is_named = other.tensors[from].name == name;
        let fits =
            is_named || original_shape(&tensor.shape, axes).as_ref() == Some(&other.tensors[from].shape);
        fits.then(|| Offer { from, axes: axes.into() })
    };
    let mut offers: Vec<Vec<Offer>> =
        model.tensors.iter().map(|tensor| find(tensor, &tensor.name, &[]).into_iter().collect()).collect();
    for origin in model.graph.iter().flat_map(|graph| &graph.origins) {
        let (Some(tensor), Some(own)) = (model.tensors.get(origin.tensor), offers.get_mut(origin.tensor))
        else {
            continue;
        };
        if let Some(offer) = find(tensor, &origin.name, &origin.axes)
            && own.iter().all(|known| known.from != offer.from)
        {
            own.push(offer);
        }
    }
    offers
}

/// Whether shapes and types agree. Nothing has been changed yet.
fn check(model: &Model, other: &Model, offers: &[Vec<Offer>], name: &str, host: &dyn Host) -> Result<()> {
    let mut recast = vec![false; other.tensors.len()];
    for (own, offers) in model.tensors.iter().zip(offers) {
        for offer in offers {
            let given = &other.tensors[offer.from];
            let pair = Pair { own, other: given, name };
            let wanted = original_shape(&own.shape, &offer.axes);
            if wanted.as_ref() != Some(&given.shape) {
                let wanted = wanted.unwrap_or_else(|| own.shape.clone());
                return Err(pair.error(
                    "the tensor has another shape",
                    format_args!("{wanted:?}"),
                    format_args!("{:?}", given.shape),
                ));
            }
            if given.dtype == own.dtype {
                continue;
            }
            if !(is_castable(own.dtype) && holds_floats(given.dtype)) {
                return Err(pair.error("the tensor is of another type", own.dtype, given.dtype));
            }
            recast[offer.from] = true;
        }
    }
    match quantized::find(other, &recast, host.limits()) {
        None => Ok(()),
        Some(found) => Err(Error::unsupported("--weights: a quantized checkpoint gives no plain numbers")
            .tensor(found.tensor)
            .found(format_args!("{}, in {name}", found.scheme))),
    }
}

impl Pair<'_> {
    fn error(&self, what: &str, expected: impl Display, found: impl Display) -> Error {
        Error::target(format!("--weights: {what}"))
            .tensor(&self.own.name)
            .expected(expected)
            .found(format_args!("{found}, of {:?} in {}", self.other.name, self.name))
    }
}

/// The shape that a tensor had before its axis `k` went to `axes[k]`; nothing if these are no order of its axes.
fn original_shape(shape: &[u64], axes: &[u8]) -> Option<Vec<u64>> {
    if axes.is_empty() {
        return Some(shape.to_vec());
    }
    let original: Vec<u64> = axes.iter().filter_map(|&axis| shape.get(usize::from(axis)).copied()).collect();
    (original.len() == shape.len()).then_some(original)
}

/// A tensor's values with their axes in place. Blocks whose axes have to change places are taken apart, if another
/// type is asked for anyway.
fn laid_out(
    model: &mut Model,
    given: &Tensor,
    moved: Moved,
    axes: &[u8],
    edits: &Edits,
) -> Result<(NodeId, DType)> {
    let (mut data, mut dtype) = (moved.id(given.data), given.dtype);
    let is_moved = axes.iter().enumerate().any(|(k, &axis)| k != usize::from(axis));
    if is_moved && dtype.class() == Class::Block {
        if edits.dtype.is_none() {
            let error = Error::target("--weights: a tensor of blocks cannot be turned over as it is");
            return Err(error.found(dtype).hint("pass --dtype for numbers that can"));
        }
        let row = given.shape.last().copied().unwrap_or(1);
        data = model.nodes.block(BlockFn::Dequantize, data, DType::F32, row, None)?;
        dtype = DType::F32;
    }
    Ok((model.nodes.transpose(data, &given.shape, axes)?, dtype))
}

/// Names what of either model the other has nothing for.
fn report(model: &Model, other: &Model, taken: &[bool], used: &[bool], name: &str, losses: &mut Vec<Loss>) {
    for (tensor, _) in other.tensors.iter().zip(used).filter(|(_, used)| !**used) {
        let detail = format!("not taken from {name}: nothing here is called so");
        losses.push(Loss::declared(LossKind::Unmatched, &tensor.name, detail));
    }
    let nameless = model.graph.iter().flat_map(|graph| &graph.nameless);
    let nameless: HashSet<TensorIdx> = nameless.copied().collect();
    for (idx, tensor) in model.tensors.iter().enumerate() {
        // A single number is a constant of the program, not a weight.
        let is_weight = holds_floats(tensor.dtype) && !tensor.shape.is_empty();
        if !is_weight || taken[idx] {
            continue;
        }
        let detail = match nameless.contains(&idx) {
            true => "keeps its values: its name is the exporter's, and its own is not known".to_owned(),
            false => format!("keeps its values: nothing in {name} is called so"),
        };
        losses.push(Loss::declared(LossKind::Unmatched, &tensor.name, detail));
    }
}

/// What to say where no tensor of the one has a name of the other.
fn nothing(model: &Model, other: &Model, name: &str) -> Error {
    const SHOWN: usize = 4;
    let some = |model: &Model| {
        let names = listed(model.tensors.iter().take(SHOWN).map(|tensor| tensor.name.clone()));
        let more = if model.tensors.len() > SHOWN { ", …" } else { "" };
        if names.is_empty() { "no tensors".to_owned() } else { format!("{names}{more}") }
    };
    Error::target("--weights: no tensor has the name of one here")
        .file(name)
        .expected(some(model))
        .found(some(other))
}

#[cfg(test)]
mod tests;
