//! Several dictionaries of tensors that are the modules of one set: how flax nests what torch writes flat.

use super::{Set, WEIGHTS_KEYS, Walk};
use modelferry_core::tree::ObjectId;
use std::collections::BTreeSet;

impl Walk<'_> {
    /// The set that several are together, where they are modules of one: what holds them is dictionaries, keys in which
    /// are no paths, and no two of them lie below keys that each call what they hold a model.
    pub(super) fn of_modules(&self, root: ObjectId, sets: &[Set]) -> Option<Set> {
        let is_within =
            |set: &Set| sets.iter().any(|other| other.path.is_empty() || self.leads_to(set, &other.path));
        if !self.nests_modules(root) || sets.iter().any(is_within) {
            return None;
        }
        let models: BTreeSet<Option<&str>> = sets.iter().map(|set| model_in(&set.path)).collect();
        let mut named = models.iter().flatten();
        match (named.next(), named.next(), models.contains(&None)) {
            (_, Some(_), _) => None,
            (Some(path), None, false) => self.find(root, path).ok(),
            // What lies beside the model is a part of it: statistics of batches, a head.
            _ => Some(Set { id: root, path: String::new() }),
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
