//! Every name of a value in a document, so that new ones are no other's.

use modelferry_core::Result;
use modelferry_wire::onnx::{
    Field, Fields, Wire, attribute, function, graph, model, node, sparse, tensor_proto, training,
};
use std::collections::HashSet;

/// Which message a field holds.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    /// A message whose field of this number is a name.
    Named(u32),
    /// A name itself.
    Name,
}

/// The names of all values of a `ModelProto`: of inputs, outputs and tensors, in graphs of any depth and functions.
pub(crate) fn all(body: &[u8]) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    let mut left = vec![(Kind::Model, body)];
    while let Some((kind, bytes)) = left.pop() {
        if let Kind::Name = kind {
            names.insert(String::from_utf8_lossy(bytes).into_owned());
            continue;
        }
        for field in Fields::of(bytes) {
            let field = field?;
            if let (Some(inside), Wire::Bytes) = (inside(kind, &field), field.wire) {
                left.push((inside, field.value));
            }
        }
    }
    Ok(names)
}

fn inside(kind: Kind, field: &Field<'_>) -> Option<Kind> {
    Some(match (kind, field.number) {
        (Kind::Model, model::GRAPH) => Kind::Graph,
        (Kind::Model, model::TRAINING_INFO) => Kind::Training,
        (Kind::Model, model::FUNCTIONS) => Kind::Function,
        (Kind::Training, training::INITIALIZATION | training::ALGORITHM) => Kind::Graph,
        (Kind::Function, function::NODE) | (Kind::Graph, graph::NODE) => Kind::Node,
        (Kind::Function, function::INPUT | function::OUTPUT) => Kind::Name,
        (Kind::Graph, graph::INITIALIZER) => Kind::Named(tensor_proto::NAME),
        (Kind::Graph, graph::SPARSE_INITIALIZER) => Kind::Sparse,
        (Kind::Graph, graph::INPUT | graph::OUTPUT | graph::VALUE_INFO) => Kind::Named(1),
        (Kind::Sparse, sparse::VALUES) => Kind::Named(tensor_proto::NAME),
        (Kind::Node, node::INPUT | node::OUTPUT) => Kind::Name,
        (Kind::Node, node::ATTRIBUTE) => Kind::Attribute,
        (Kind::Attribute, attribute::G | attribute::GRAPHS) => Kind::Graph,
        (Kind::Named(number), found) if number == found => Kind::Name,
        _ => return None,
    })
}
