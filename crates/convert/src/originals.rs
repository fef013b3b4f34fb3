//! What the tensors of a graph were before its export, for who looks at it.

use modelferry_core::graph::{Graph, Origin};
use modelferry_core::model::TensorIdx;
use std::collections::{BTreeMap, BTreeSet};

/// What the tensors of a graph were before its export.
pub struct Originals {
    /// As far as its reader has found it, by tensor.
    pub known: BTreeMap<TensorIdx, Vec<Origin>>,
    /// Weights of which nothing shows it.
    pub nameless: BTreeSet<TensorIdx>,
}

impl Originals {
    pub(crate) fn new(graph: &Graph) -> Originals {
        let mut known: BTreeMap<TensorIdx, Vec<Origin>> = BTreeMap::new();
        for origin in &graph.origins {
            known.entry(origin.tensor).or_default().push(origin.clone());
        }
        Originals { known, nameless: graph.nameless.iter().copied().collect() }
    }

    /// Whether anything is to be said.
    pub fn is_any(&self) -> bool {
        !self.known.is_empty() || !self.nameless.is_empty()
    }

    /// What a tensor was.
    pub fn of(&self, idx: TensorIdx) -> &[Origin] {
        self.known.get(&idx).map(Vec::as_slice).unwrap_or_default()
    }
}
