//! Names for one storage, where some of them have taken other values.

use super::Storage;
use modelferry_core::model::{Model, TensorIdx};
use std::collections::{BTreeMap, HashMap};

/// Settles the ties of a model whose tensors have taken the values of storages of another, which has ties of its own.
///
/// Tensors that share a storage go on doing so if they took the same values, or none of them any; one that had none of
/// its own to take takes those of the first that had. What was one storage in the other model is one here.
pub(super) fn settle(model: &mut Model, storages: &mut [Option<Storage>], their_ties: &[Vec<TensorIdx>]) {
    let mut ties = vec![];
    for group in std::mem::take(&mut model.ties) {
        let Some(first) = group.iter().copied().find(|&idx| storages[idx].is_some()) else {
            ties.push(group);
            continue;
        };
        let (data, dtype) = (model.tensors[first].data, model.tensors[first].dtype);
        for idx in group {
            if storages[idx].is_none() {
                storages[idx] = storages[first].clone();
                (model.tensors[idx].data, model.tensors[idx].dtype) = (data, dtype);
            }
        }
    }
    let first_of = their_ties.iter().flat_map(|group| group.iter().map(|&idx| (idx, group[0])));
    let first_of: HashMap<TensorIdx, TensorIdx> = first_of.collect();
    let mut groups: BTreeMap<Storage, Vec<TensorIdx>> = BTreeMap::new();
    for (idx, storage) in storages.iter().enumerate() {
        if let Some((from, axes)) = storage {
            let first = first_of.get(from).copied().unwrap_or(*from);
            groups.entry((first, axes.clone())).or_default().push(idx);
        }
    }
    ties.extend(groups.into_values().filter(|group| group.len() > 1));
    ties.sort_unstable();
    model.ties = ties;
}
