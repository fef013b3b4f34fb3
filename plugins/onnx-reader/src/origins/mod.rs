//! What tensors were before an exporter renamed them.
//!
//! Exporters of PyTorch keep the names of parameters, but for those that they compute with: a linear layer's weight is
//! folded with the transpose that stands before it, and is then called after an operator. What it was is shown by where
//! it is used: by the module that the node says it belongs to, or the bias that is added behind it. Nothing is concluded
//! from shapes or values.
//!
//! Facts: `torch/onnx/utils.py` and `torch/onnx/_internal/exporter` of PyTorch 2.15, whose `dynamo=False` names nodes
//! after the way to their module, and whose `dynamo=True` notes it beside them;
//! `optimum/onnx/transformations_utils.py` of optimum-onnx for merged decoders.

mod evidence;
mod modules;
mod names;
mod scopes;

use evidence::{Claim, Evidence, Said, Weight};
use modelferry_core::dtype::Class;
use modelferry_core::graph::Origin;
use modelferry_core::model::TensorIdx;
use modelferry_wire::onnx::{Document, Found, Program, Value};
use modules::Modules;
use names::{is_made, unmerged};
use std::collections::{HashMap, HashSet};

/// What a document shows of its tensors' origins.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins {
    /// In the order of the tensors.
    pub(crate) known: Vec<Origin>,
    /// Tensors that an exporter named, of which it shows nothing.
    pub(crate) nameless: Vec<TensorIdx>,
}

/// A tensor of floating-point numbers that is a value of its graph.
struct Candidate<'a> {
    idx: TensorIdx,
    value: Value,
    found: &'a Found,
    /// Its name, as far as it may be the model's: without what a merge or a graph within a graph added.
    name: &'a str,
    is_made: bool,
}

/// Looks through a document; a tensor is known by its position in it.
pub(crate) fn find(document: &Document) -> Origins {
    let program = Program::of(document);
    let candidates: Vec<Candidate<'_>> = program
        .tensors
        .iter()
        .zip(&document.tensors)
        .enumerate()
        .filter_map(|(idx, (place, found))| candidate(idx, *place, found))
        .collect();
    let named = candidates.iter().filter(|candidate| !candidate.is_made);
    let kept: HashMap<Value, &str> =
        named.clone().map(|candidate| (candidate.value, candidate.name)).collect();
    let vectors = candidates.iter().filter_map(|candidate| match candidate.found.shape[..] {
        [n] => Some((candidate.value, n)),
        _ => None,
    });
    let vectors = vectors.collect();
    let modules = Modules::of(&program, &kept);
    let followed = vec![false; program.steps.len()];
    let mut evidence =
        Evidence { program: &program, modules: &modules, kept: &kept, vectors: &vectors, followed };
    let said: Vec<Said> = candidates
        .iter()
        .map(|candidate| {
            let (value, name, is_made) = (candidate.value, candidate.name, candidate.is_made);
            match &candidate.found.shape[..] {
                [] | [_] => Said::default(),
                shape => evidence.of(Weight { value, shape, name, is_made }),
            }
        })
        .collect();
    let taken: HashSet<&str> = named.map(|candidate| candidate.name).collect();
    let made = candidates.iter().zip(&said).filter(|(candidate, _)| candidate.is_made);
    let claimed: HashSet<&str> = made.flat_map(|(_, said)| &said.claims).map(|claim| &*claim.name).collect();
    let mut origins = Origins::default();
    for (candidate, said) in candidates.iter().zip(&said) {
        match candidate.is_made || said.is_made {
            true => origins.made(candidate, said),
            false => origins.kept(candidate, &said.claims, &claimed, &taken),
        }
    }
    origins
}

fn candidate<'a>(idx: TensorIdx, place: Option<(Value, &'a str)>, found: &'a Found) -> Option<Candidate<'a>> {
    let (value, local) = place?;
    // A graph within a graph may have had to be told apart by the way to it.
    let is_inside = found.name.len() > local.len() && found.name.contains(local);
    let name = if is_inside && (is_made(local) || local.contains('.')) { local } else { &found.name };
    let is_made = is_made(name);
    let name = if is_made { name } else { unmerged(name) };
    (found.dtype.class() == Class::Float).then_some(Candidate { idx, value, found, name, is_made })
}

impl Origins {
    fn push(&mut self, idx: TensorIdx, name: &str, is_turned: bool) {
        let axes: &[u8] = if is_turned { &[1, 0] } else { &[] };
        self.known.push(Origin { tensor: idx, name: name.into(), axes: axes.into() });
    }

    /// A tensor whose name is an exporter's. One of several numbers may be a parameter that the exporter reshaped or
    /// packed, whatever takes it; what stands in a `Constant` node (`/…`) is the program's own.
    fn made(&mut self, candidate: &Candidate<'_>, said: &Said) {
        let claims = &said.claims[..];
        let is_one_way = claims.windows(2).all(|pair| pair[0].is_turned == pair[1].is_turned);
        match is_one_way && !claims.is_empty() && candidate.is_made {
            true => claims.iter().for_each(|claim| self.push(candidate.idx, &claim.name, claim.is_turned)),
            false => {
                let is_several = candidate.found.shape.iter().any(|&extent| extent > 1);
                let may_be = candidate.is_made && is_several && !candidate.name.starts_with('/');
                self.nameless.extend((said.is_weight || may_be).then_some(candidate.idx));
            }
        }
    }

    /// A tensor whose name is the model's. It may be one of several that modules have for it: the exporter keeps the
    /// last, also where it stores that module's turned copy besides. Others are added where the name kept is shown to be
    /// one of them; a name that somebody gave it since is not.
    fn kept(
        &mut self,
        candidate: &Candidate<'_>,
        claims: &[Claim],
        claimed: &HashSet<&str>,
        taken: &HashSet<&str>,
    ) {
        let is_own = |claim: &&Claim| claim.name == candidate.name;
        let is_shown = claims.iter().any(|claim| is_own(&claim)) || claimed.contains(candidate.name);
        let others = claims.iter().filter(|claim| !is_own(claim) && !taken.contains(&*claim.name));
        let others: Vec<&Claim> = others.collect();
        let is_turned = claims.iter().any(|claim| claim.is_turned);
        let is_shown = is_shown && claims.iter().all(|claim| claim.is_turned == is_turned);
        let is_other = *candidate.name != *candidate.found.name;
        if is_shown && (is_turned || !others.is_empty()) || is_other {
            self.push(candidate.idx, candidate.name, is_shown && is_turned);
        }
        if is_shown {
            others.iter().for_each(|claim| self.push(candidate.idx, &claim.name, is_turned));
        }
    }
}

#[cfg(test)]
mod tests;
