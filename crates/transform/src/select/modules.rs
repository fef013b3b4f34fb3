//! Several dictionaries of tensors that are the modules of one set: how flax nests what torch writes flat.

use super::{Set, WEIGHTS_KEYS, Walk};
use modelferry_core::tree::ObjectId;

impl Walk<'_> {
    /// Modules of one set in its place: what holds them is dictionaries, keys in which are no paths. Sets below keys that
    /// each call what they hold a model are several; what lies beside one such is a part of it: statistics of batches, a
    /// head. A module that is alone keeps its name as well, where something above it calls itself a model.
    pub(super) fn gathered(&self, root: ObjectId, sets: Vec<Set>) -> Vec<Set> {
        if let [only] = &sets[..] {
            let model = models_in(&only.path).last().filter(|_| self.nests_modules(root));
            return model.and_then(|path| self.find(root, path).ok()).map_or(sets, |model| vec![model]);
        }
        let is_within =
            |set: &Set| sets.iter().any(|other| other.path.is_empty() || self.leads_to(set, &other.path));
        if sets.len() < 2 || !self.nests_modules(root) || sets.iter().any(is_within) {
            return sets;
        }
        let (named, others): (Vec<Set>, Vec<Set>) =
            sets.into_iter().partition(|set| models_in(&set.path).next().is_some());
        let mut models: Vec<&str> = named.iter().filter_map(|set| models_in(&set.path).next()).collect();
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

/// The beginnings of a path up to each key that calls what it holds a model.
fn models_in(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    let begins = ends.filter_map(|end| path.get(..end));
    begins.filter(|begin| {
        let key = begin.rsplit('.').next().unwrap_or_default();
        WEIGHTS_KEYS.contains(&&*key.to_ascii_lowercase())
    })
}
