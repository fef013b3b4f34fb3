//! Names for tensors of graphs within graphs.

use std::collections::{HashMap, HashSet};

/// Names of tensors, no two alike.
#[derive(Default)]
pub(super) struct Names {
    pub(super) taken: HashSet<String>,
    /// The last number that was put behind a name.
    numbers: HashMap<String, u64>,
}

impl Names {
    /// `local` if nobody has it, else with the way to it before it, else with a number behind that.
    pub(super) fn free(&mut self, local: String, way: &str) -> String {
        if self.taken.insert(local.clone()) {
            return local;
        }
        let scoped = format!("{way}.{local}");
        let mut name = scoped.clone();
        while !self.taken.insert(name.clone()) {
            let number = self.numbers.entry(scoped.clone()).or_insert(1);
            *number += 1;
            name = format!("{scoped}.{number}");
        }
        name
    }
}
