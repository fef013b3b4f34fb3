//! What a graph has to change for its weights: names, casts, versions.

use super::planning::Planning;
use super::{misplaced, refused};
use crate::names;
use modelferry_core::Result;
use modelferry_core::graph::{Binding, Graph};
use modelferry_core::model::{ModelView, TensorIdx};
use std::collections::{HashMap, HashSet};

/// Old names of values and new ones.
pub(super) type Renames = HashMap<String, String>;

/// What a tensor is in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An initializer.
    Initializer,
    /// What a `Constant` makes, as a tensor.
    Constant,
    /// What a `Constant` makes, as numbers of the attribute.
    Numbers,
    /// The values or indices of a sparse tensor.
    SparsePart,
    /// An argument of an operator, in another file.
    Argument,
}

/// A tensor in its place.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) role: Role,
    /// The name that is written in its place, if another than is there.
    pub(super) graph_name: Option<String>,
    /// Whether what is written there is not what the tensor is called, so that its name is noted beside it.
    pub(super) is_noted: bool,
    pub(super) cast: Option<Cast>,
}

/// A `Cast` from a tensor to what the graph wants.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    /// The tensor's name in the graph.
    pub(super) from: String,
    /// The name that the graph knows.
    pub(super) to: String,
    /// Number of the type that the graph wants, and of the one that there is.
    pub(super) data_type: i32,
    pub(super) own_type: i32,
}

/// A graph or function: names of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub(super) renames: Renames,
    /// Names that are made in it, whoever around it has them too.
    pub(super) own: HashSet<String>,
    /// Its initializers that are cast, by their numbers.
    pub(super) casts: Vec<usize>,
    /// Version of onnx's own operators.
    pub(super) opset: i64,
}

/// All of it.
pub(crate) struct Plan {
    /// Of each place, in order.
    pub(super) bound: Vec<Bound>,
    /// Graphs and functions by their first bytes.
    pub(super) scopes: HashMap<u64, Scope>,
    /// The place in each `Constant` that has one, by the node's first byte.
    pub(super) constants: HashMap<u64, usize>,
    /// The version that the file states.
    pub(super) ir_version: i64,
    tensors: Vec<TensorIdx>,
}

impl Plan {
    /// Looks through a document.
    ///
    /// Errors: [`Target`](modelferry_core::ErrorKind::Target) for a name that the graph has for something else, for a type
    /// that its operators cannot cast, for another shape, for tensors that have no place in it.
    pub(crate) fn new(view: &ModelView<'_>, program: &Graph) -> Result<Plan> {
        let bindings = &program.bindings;
        let is_bound: HashSet<TensorIdx> = bindings.iter().map(|binding| binding.tensor).collect();
        if let Some(idx) = (0..view.tensors().len()).find(|idx| !is_bound.contains(idx)) {
            let error = refused(view, idx, "the graph has no place for this tensor");
            return Err(error.found("a tensor that it did not come with"));
        }
        let is_changed = |binding: &Binding| {
            let tensor = view.tensor(binding.tensor);
            tensor.name() != &*binding.name || tensor.dtype() != binding.dtype
        };
        let names = match bindings.iter().any(is_changed) {
            true => names::all(&program.body)?,
            false => HashSet::new(),
        };
        let plan = Plan {
            bound: Vec::with_capacity(bindings.len()),
            scopes: HashMap::new(),
            constants: HashMap::new(),
            ir_version: 0,
            tensors: bindings.iter().map(|binding| binding.tensor).collect(),
        };
        let plan = Planning::new(view, bindings, names, plan).finish(&program.body)?;
        if plan.bound.len() == bindings.len() { Ok(plan) } else { Err(misplaced()) }
    }

    /// The tensors that are initializers, of any graph in the program: what every runtime finds in another file.
    pub(crate) fn initializers(&self) -> HashSet<TensorIdx> {
        let bound = self.tensors.iter().zip(&self.bound);
        bound.filter(|(_, bound)| bound.role == Role::Initializer).map(|(idx, _)| *idx).collect()
    }
}

/// What has names of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A `GraphProto`.
    Graph,
    /// A `FunctionProto`.
    Function,
}
