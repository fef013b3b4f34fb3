//! Several dictionaries of tensors that are the modules of one set: how flax nests what torch writes flat.

use super::{Set, WEIGHTS_KEYS, Walk};
use modelferry_core::tree::ObjectId;

impl Walk<'_> {
    /// Modules of one set in its place: what holds them is dictionaries, keys in which are no paths. Sets below keys that
    /// each call what they hold a model are several; what lies beside one such is a part of it: statistics of batches, a
    /// head.
    pub(super) fn gathered(&self, root: ObjectId, sets: Vec<Set>) -> Vec<Set> {
        let is_within =
            |set: &Set| sets.iter().any(|other| other.path.is_empty() || self.leads_to(set, &other.path));
        if sets.len() < 2 || !self.nests_modules(root) || sets.iter().any(is_within) {
            return sets;
        }
        let (named, others): (Vec<Set>, Vec<Set>) =
            sets.into_iter().partition(|set| model_in(&set.path).is_some());
        let mut models: Vec<&str> = named.iter().filter_map(|set| model_in(&set.path)).collect();
        models.dedup();
        let models = models.into_iter().filter_map(|path| self.find(root, path).ok());
        let mut models: Vec<Set> = models.collect();
        match (models.len(), others.is_empty()) {
            (1, true) => models,
            (0 | 1, _) => vec![Set { id: root, path: String::new() }],
            _ => {
                models.extend(others);
                models
            }
        }
    }

    /// Whether all tensors but state of the training lie in dictionaries, under keys that are no paths.
    fn nests_modules(&self, root: ObjectId) -> bool {
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            if self.tree.mapping(id).is_none() {
                return false;
            }
            for (key, member) in self.tree.members(id) {
                if !self.holds[member.idx()] || self.is_state(&key, member) {
                    continue;
                }
                if key.contains('.') {
                    return false;
                }
                if self.tensor(member).is_none() {
                    waiting.push(member);
                }
            }
        }
        true
    }
}

/// The beginning of a path up to the first key that calls what it holds a model.
fn model_in(path: &str) -> Option<&str> {
    let mut end = 0;
    for key in path.split('.') {
        end += key.len();
        if WEIGHTS_KEYS.contains(&&*key.to_ascii_lowercase()) {
            return path.get(..end);
        }
        end += 1;
    }
    None
}
