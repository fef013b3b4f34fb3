//! A program around the tensors, kept as it is.
//!
//! Some formats hold what a model computes, not only its weights. Such a program is never modelled here: its document
//! is kept whole but for the payload of its tensors, with a note of which tensor belongs in which place. The writer of
//! the same format puts it back; every other one names it as lost.
//!
//! The document is held in memory, like any header: a writer opens nothing, and has to rewrite it around what changes
//! (names, types, lengths of what surrounds a payload). It is small, for the payload is not in it.

use crate::dtype::DType;
use crate::expr::{Blob, NodeId};
use crate::model::TensorIdx;
use crate::tree::Part;

/// A program of one format, and where the model's tensors stand in it.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The format it belongs to, by its short name: the writer of this format carries it, and no other.
    pub dialect: &'static str,
    /// The document without payload, in a form of the dialect's own.
    pub body: Blob,
    /// Which tensor belongs where, in the order of the document.
    pub bindings: Vec<Binding>,
    /// What it holds besides the tensors, for the report of a conversion that does not carry it.
    pub parts: Vec<Part>,
    /// What tensors were before an exporter renamed them, as far as the document shows it, in the order of the
    /// tensors. One tensor may have been several: tied weights are exported as one, and then all of its names are here.
    /// One that is not here is what its name says.
    pub origins: Vec<Origin>,
    /// Tensors of numbers whose names are the exporter's own and whose origin the document does not show.
    pub nameless: Vec<TensorIdx>,
}

/// What a tensor of a [`Graph`] was before an exporter gave it another name, or turned it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The tensor, by its position in the model.
    pub tensor: TensorIdx,
    /// Its name in the model that was exported.
    pub name: Box<str>,
    /// Axis `k` of the original is axis `axes[k]` of the tensor. Empty: the axes are as they were.
    pub axes: Box<[u8]>,
}

/// A place in a [`Graph`] and the tensor that belongs there.
#[derive(Clone, Debug)]
pub struct Binding {
    /// First byte of the place in [`Graph::body`].
    pub at: u64,
    /// The tensor, by its position in the model.
    pub tensor: TensorIdx,
    /// Name that the reader gave the tensor: if it has another now, the graph is to follow.
    pub name: Box<str>,
    /// Type that the graph wants.
    pub dtype: DType,
    /// The expression that the reader gave the tensor: if it has another now, its values are others.
    pub data: NodeId,
}
