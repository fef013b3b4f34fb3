//! Tensors that lie on several ranks: `torch.distributed.tensor.DTensor`.

use super::count;
use super::rebuild::{Depth, Reader, fault};
use super::tensor::{Data, TensorSpec};
use super::types::ElementType;
use modelferry_core::error::{Error, Result};
use modelferry_core::tree::{Object, ObjectId, Tree};

/// One rank's part of a tensor, and how the parts make the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Distributed {
    /// The part.
    pub local: TensorSpec,
    /// Type of the whole.
    pub element: &'static ElementType,
    /// Extents of the whole.
    pub size: Box<[u64]>,
    /// For each axis of the mesh of ranks, what it does to the tensor.
    pub placements: Vec<Placement>,
    /// Where this rank is on each axis of the mesh, where the file says so.
    pub coordinate: Option<Vec<u64>>,
    /// The number of this rank, where the file says so.
    pub rank: Option<u64>,
    /// Mesh and all else, as an object of the tree.
    pub spec: ObjectId,
}

/// What an axis of the mesh does to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Every rank holds the same.
    Replicate,
    /// Each holds a piece of this dimension.
    Shard(i64),
    /// Each holds a piece of this dimension, of which other axes had split it into so many before.
    StridedShard {
        /// The dimension.
        dim: i64,
        /// Into how many.
        split_factor: u64,
    },
    /// Each holds a summand.
    Partial,
}

/// What `_rebuild_wrapper_subclass` and the state set afterwards describe.
pub(super) fn wrapper(
    reader: Reader<'_>,
    class: ObjectId,
    args: &[ObjectId],
    state: ObjectId,
    depth: Depth,
) -> Result<Data> {
    let tree = reader.tree;
    let is_ours = tree
        .global(class)
        .is_some_and(|(module, name)| name == "DTensor" && module.starts_with("torch.distributed"));
    if !is_ours {
        return Ok(Data::Opaque);
    }
    let wrong = || fault("a distributed tensor is malformed");
    let (Some(&dtype), Some(&size)) = (args.get(1), args.get(2)) else { return Err(wrong()) };
    // Attributes, or a pair of them and of slots.
    let of_tensor = |name: &str| match tree.sequence(state) {
        Some(&[attributes, slots]) => {
            attribute(tree, attributes, name).or_else(|| attribute(tree, slots, name))
        }
        _ => attribute(tree, state, name),
    };
    let local = of_tensor("_local_tensor").ok_or_else(wrong)?;
    let spec = of_tensor("_spec").ok_or_else(wrong)?;
    let attributes = state_of(tree, spec).ok_or_else(wrong)?;
    let placements = attribute(tree, attributes, "placements").and_then(|id| tree.sequence(id));
    let placements = placements.filter(|placements| placements.len() <= MAX_ATTRIBUTES).ok_or_else(wrong)?;
    let mesh = attribute(tree, attributes, "mesh").and_then(|mesh| state_of(tree, mesh));
    let of_mesh = |name: &str| attribute(tree, mesh?, name);
    let coordinate = of_mesh("_coordinate_on_dim").and_then(|id| tree.sequence(id));
    let coordinate = coordinate.filter(|coordinate| coordinate.len() == placements.len());
    let distributed = Distributed {
        local: reader.must(local, depth)?,
        element: reader.dtype(dtype)?,
        size: reader.extents(size)?,
        placements: placements.iter().map(|&id| placement(tree, id)).collect::<Result<_>>()?,
        coordinate: coordinate.and_then(|ids| ids.iter().map(|&id| count(tree, id)).collect()),
        rank: of_mesh("_rank").and_then(|id| count(tree, id)),
        spec,
    };
    Ok(Data::Distributed(Box::new(distributed)))
}

fn placement(tree: &Tree, id: ObjectId) -> Result<Placement> {
    let wrong = || fault("the placement of a distributed tensor is malformed");
    let instance = tree.instance(id).ok_or_else(wrong)?;
    let (module, name) = tree.global(instance.callable).ok_or_else(wrong)?;
    let state = instance.states.first().copied();
    let args = tree.sequence(instance.args).unwrap_or_default();
    // In the state since they are classes of data, an argument where C++ makes them.
    let number = |name: &str, at: usize| {
        let id = state.and_then(|state| attribute(tree, state, name)).or_else(|| args.get(at).copied())?;
        match tree[id] {
            Object::Int(value) => Some(value),
            _ => None,
        }
    };
    if !module.starts_with("torch.distributed") {
        return Err(wrong());
    }
    match name {
        "Replicate" => Ok(Placement::Replicate),
        "Partial" | "_Partial" => Ok(Placement::Partial),
        "Shard" => number("dim", 0).map(Placement::Shard).ok_or_else(wrong),
        "_StridedShard" => {
            let factor = number("split_factor", 1).and_then(|factor| u64::try_from(factor).ok());
            let dim = number("dim", 0).zip(factor);
            dim.map(|(dim, split_factor)| Placement::StridedShard { dim, split_factor }).ok_or_else(wrong)
        }
        other => Err(Error::unsupported("a tensor is distributed in a way that we do not know")
            .found(format_args!("{:?}", crate::shown(other)))),
    }
}

fn state_of(tree: &Tree, id: ObjectId) -> Option<ObjectId> {
    tree.instance(id)?.states.first().copied()
}

/// Attributes of the largest object that is looked into; torch's have some twenty.
const MAX_ATTRIBUTES: usize = 256;

/// The value under a text in a dictionary, the last one set.
fn attribute(tree: &Tree, dictionary: ObjectId, name: &str) -> Option<ObjectId> {
    let entries = tree.mapping(dictionary).filter(|entries| entries.len() <= MAX_ATTRIBUTES)?;
    entries.iter().rev().find(|entry| tree.text(entry.0) == Some(name)).map(|entry| entry.1)
}
