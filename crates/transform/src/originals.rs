//! Names and axes that tensors had before an exporter changed them.

use modelferry_core::expr::NodeId;
use modelferry_core::graph::Origin;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, Tensor, TensorIdx};
use modelferry_core::plugin::Host;
use modelferry_core::{DType, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What each tensor that does not keep its name is to be; several where several were exported as one.
type Wanted = BTreeMap<TensorIdx, Vec<Origin>>;

/// An expression with its extents, and the axes that are taken of it.
type Turned = (NodeId, Vec<u64>, Box<[u8]>);

/// Type, shape and expression of a tensor.
type Described = (DType, Vec<u64>, NodeId);

/// Gives the tensors of a program that is not carried the names and axes that they had before it was exported, as far
/// as its reader has found them. Those that it could not tell are left in
/// [`Graph::nameless`](modelferry_core::graph::Graph::nameless), under the program's names.
///
/// Two tensors of one name are one weight that the exporter stored twice: the second is left out if it holds the same
/// bytes, which `host` is asked. If not, neither gets the name.
///
/// Returns what was changed, as asked for if `is_asked`. Errors are those of asking.
pub fn restore(model: &mut Model, is_asked: bool, host: &mut dyn Host) -> Result<Vec<Loss>> {
    let wanted = wanted(model);
    let Some(graph) = &mut model.graph else { return Ok(vec![]) };
    let nameless = std::mem::take(&mut graph.nameless).into_iter().collect();
    let mut names = Names { wanted, copies: BTreeMap::new(), nameless, nodes: HashMap::new() };
    names.give_up(model);
    names.settle(model, host)?;
    names.keep_apart(model);
    let losses = names.apply(model)?;
    Ok(losses.into_iter().map(|loss| if is_asked { loss.asked() } else { loss }).collect())
}

/// Origins that fit their tensors, by these.
fn wanted(model: &mut Model) -> Wanted {
    let mut wanted = Wanted::new();
    let origins = model.graph.as_mut().map(|graph| std::mem::take(&mut graph.origins));
    for mut origin in origins.unwrap_or_default() {
        let Some(tensor) = model.tensors.get(origin.tensor) else { continue };
        let axes: BTreeSet<usize> = origin.axes.iter().map(|&axis| usize::from(axis)).collect();
        let is_whole = origin.axes.len() == tensor.shape.len() && axes.into_iter().eq(0..tensor.shape.len());
        if origin.name.is_empty() || !origin.axes.is_empty() && !is_whole {
            continue;
        }
        if origin.axes.is_sorted() {
            origin.axes = Box::default();
        }
        wanted.entry(origin.tensor).or_default().push(origin);
    }
    wanted
}

struct Names {
    wanted: Wanted,
    /// Tensors that are left out, and the one that each is a copy of.
    copies: BTreeMap<TensorIdx, TensorIdx>,
    nameless: BTreeSet<TensorIdx>,
    /// Expressions with their axes as they were.
    nodes: HashMap<Turned, NodeId>,
}

impl Names {
    /// Every name that is wanted or kept, and the tensors that are to have it.
    fn claimants(&self, model: &Model) -> HashMap<Box<str>, Vec<TensorIdx>> {
        let mut claimants: HashMap<Box<str>, Vec<TensorIdx>> = HashMap::with_capacity(model.tensors.len());
        for (idx, tensor) in model.tensors.iter().enumerate() {
            match self.wanted.get(&idx) {
                Some(origins) => origins
                    .iter()
                    .for_each(|origin| claimants.entry(origin.name.clone()).or_default().push(idx)),
                None => claimants.entry(tensor.name.as_str().into()).or_default().push(idx),
            }
        }
        claimants
    }

    /// What was exported as one and as a copy besides has two names and two tensors: the one that may have either
    /// leaves the copy's to that.
    fn give_up(&mut self, model: &Model) {
        let mut n_claims: HashMap<Box<str>, usize> =
            self.claimants(model).into_iter().map(|(name, claimants)| (name, claimants.len())).collect();
        for origins in self.wanted.values_mut().filter(|origins| origins.len() > 1) {
            let is_own = |origin: &Origin| n_claims.get(&origin.name) == Some(&1);
            if !origins.iter().any(is_own) {
                continue;
            }
            let (own, others): (Vec<_>, Vec<_>) = std::mem::take(origins).into_iter().partition(is_own);
            *origins = own;
            for other in others {
                n_claims.entry(other.name).and_modify(|n| *n -= 1);
            }
        }
    }

    /// Decides who of several has a name.
    fn settle(&mut self, model: &mut Model, host: &mut dyn Host) -> Result<()> {
        let contested = self.claimants(model).into_iter().filter(|(_, claimants)| claimants.len() > 1);
        // In an order of their own, for what is asked is recorded.
        let contested: BTreeMap<Box<str>, Vec<TensorIdx>> = contested.collect();
        for (name, claimants) in contested {
            let is_kept = |idx: &TensorIdx| !self.wanted.contains_key(idx);
            let first = claimants.iter().copied().find(is_kept).unwrap_or(claimants[0]);
            let is_first_kept = is_kept(&first);
            let others: Vec<TensorIdx> = claimants.into_iter().filter(|&idx| idx != first).collect();
            let mut unlike = vec![];
            let mut copies = vec![];
            for other in others {
                match self.is_copy(model, first, other, &name, host)? {
                    true => copies.push(other),
                    false => unlike.push(other),
                }
            }
            if !is_first_kept && !unlike.is_empty() {
                unlike.push(first);
                unlike.append(&mut copies);
            }
            unlike.into_iter().for_each(|idx| self.lose(idx, &name));
            for idx in copies {
                // What has other names besides is needed for those.
                match self.wanted.get(&idx).map_or(0, Vec::len) {
                    1 => drop((self.wanted.remove(&idx), self.copies.insert(idx, first))),
                    _ => self.lose(idx, &name),
                }
            }
        }
        Ok(())
    }

    /// Whether two tensors are the same weight.
    fn is_copy(
        &mut self,
        model: &mut Model,
        first: TensorIdx,
        other: TensorIdx,
        name: &str,
        host: &mut dyn Host,
    ) -> Result<bool> {
        let (dtype, shape, node) = self.as_it_was(model, first, name)?;
        let (other_dtype, other_shape, other_node) = self.as_it_was(model, other, name)?;
        Ok((dtype, shape) == (other_dtype, other_shape)
            && crate::ties::is_equal(model, node, other_node, host)?)
    }

    /// Type, shape and expression of a tensor under one of the names that it is to have.
    fn as_it_was(&mut self, model: &mut Model, idx: TensorIdx, name: &str) -> Result<Described> {
        let mut origins = self.wanted.get(&idx).into_iter().flatten();
        let axes = origins.find(|origin| *origin.name == *name).map(|origin| origin.axes.clone());
        self.with_axes(model, idx, &axes.unwrap_or_default())
    }

    /// Type, shape and expression of a tensor whose axes are these of those it has; as it is without any.
    fn with_axes(&mut self, model: &mut Model, idx: TensorIdx, axes: &[u8]) -> Result<Described> {
        let Tensor { dtype, shape, data, .. } = &model.tensors[idx];
        let (dtype, before, data) = (*dtype, shape.clone(), *data);
        if axes.is_empty() {
            return Ok((dtype, before, data));
        }
        let shape: Vec<u64> = axes.iter().map(|&axis| before[usize::from(axis)]).collect();
        if shape.contains(&0) {
            return Ok((dtype, shape, data));
        }
        let key = (data, before, axes.into());
        if let Some(&node) = self.nodes.get(&key) {
            return Ok((dtype, shape, node));
        }
        let mut places = vec![0; axes.len()];
        for (place, &axis) in (0..).zip(axes) {
            places[usize::from(axis)] = place;
        }
        let node = model.nodes.transpose(data, &key.1, &places)?;
        self.nodes.insert(key, node);
        Ok((dtype, shape, node))
    }

    /// Takes a name from a tensor; one without any is nameless.
    fn lose(&mut self, idx: TensorIdx, name: &str) {
        let Some(origins) = self.wanted.get_mut(&idx) else { return };
        origins.retain(|origin| *origin.name != *name);
        if origins.is_empty() {
            self.wanted.remove(&idx);
            self.nameless.insert(idx);
        }
    }

    /// A tensor that keeps its name after all may have the one that another was to get, which then keeps its own.
    fn keep_apart(&mut self, model: &Model) {
        let mut holders: HashMap<Box<str>, TensorIdx> = HashMap::new();
        for (idx, origins) in &self.wanted {
            holders.extend(origins.iter().map(|origin| (origin.name.clone(), *idx)));
        }
        let mut left: Vec<TensorIdx> = self.nameless.iter().copied().collect();
        while let Some(idx) = left.pop() {
            let name = &model.tensors[idx].name;
            if let Some(holder) = holders.remove(name.as_str()) {
                self.lose(holder, name);
                left.extend(self.nameless.contains(&holder).then_some(holder));
            }
        }
    }

    fn apply(mut self, model: &mut Model) -> Result<Vec<Loss>> {
        let mut losses = vec![];
        let mut tied = vec![];
        for (idx, origins) in std::mem::take(&mut self.wanted) {
            let before = model.tensors[idx].name.clone();
            let mut made = vec![];
            for origin in &origins {
                let (dtype, shape, data) = self.with_axes(model, idx, &origin.axes)?;
                made.push(Tensor { name: origin.name.to_string(), dtype, shape, data });
            }
            for (position, (tensor, origin)) in made.into_iter().zip(&origins).enumerate() {
                if tensor.name != before {
                    losses.push(Loss::renamed(&before, &tensor.name, "its name before it was exported"));
                }
                if !origin.axes.is_empty() {
                    losses.push(Loss::turned(&tensor.name, origin.axes.clone()));
                }
                match position {
                    0 => model.tensors[idx] = tensor,
                    _ => {
                        tied.push((idx, model.tensors.len()));
                        model.tensors.push(tensor);
                    }
                }
            }
        }
        tie(model, &tied);
        for (idx, first) in &self.copies {
            let detail =
                format!("equal to {:?}, which it was before it was exported", model.tensors[*first].name);
            losses.push(Loss::declared(LossKind::TieDropped, &model.tensors[*idx].name, detail));
        }
        let is_copy = |idx: TensorIdx| self.copies.contains_key(&idx);
        if let Some(graph) = &mut model.graph {
            graph.nameless = self.nameless.into_iter().collect();
            // The program is not carried: that it lacks copies is no loss of its own.
            graph.bindings.retain(|binding| !is_copy(binding.tensor));
        }
        let keep: Vec<bool> = (0..model.tensors.len()).map(|idx| !is_copy(idx)).collect();
        if !self.copies.is_empty() {
            crate::retain(model, &keep);
        }
        Ok(losses)
    }
}

/// Adds names for one storage to the ties, and parts those whose axes are no longer the same.
fn tie(model: &mut Model, tied: &[(TensorIdx, TensorIdx)]) {
    let mut group_of: HashMap<TensorIdx, usize> = HashMap::new();
    let mut groups = std::mem::take(&mut model.ties);
    for (position, group) in groups.iter().enumerate() {
        group_of.extend(group.iter().map(|&idx| (idx, position)));
    }
    for &(idx, added) in tied {
        let position = *group_of.entry(idx).or_insert_with(|| {
            groups.push(vec![idx]);
            groups.len() - 1
        });
        groups[position].push(added);
    }
    for group in groups {
        let mut alike: BTreeMap<(&[u64], NodeId), Vec<TensorIdx>> = BTreeMap::new();
        for idx in group {
            let tensor = &model.tensors[idx];
            alike.entry((&tensor.shape, tensor.data)).or_default().push(idx);
        }
        model.ties.extend(alike.into_values().filter(|members| members.len() > 1));
    }
}

#[cfg(test)]
mod tests;
