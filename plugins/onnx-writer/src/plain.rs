//! A model without a graph: its tensors as initializers of one that computes nothing.

use crate::data::Data;
use crate::tensor;
use crate::versions;
use modelferry_core::model::ModelView;
use modelferry_core::{Error, Result};
use modelferry_wire::onnx::messages::{Entry, OperatorSet};
use modelferry_wire::onnx::{Message, PRODUCER, graph, model};

/// Name of the graph: one must have a name.
const GRAPH_NAME: &str = "weights";

/// The message of the whole file. The graph comes last, so that a file that ends too early cannot be taken for a whole
/// one.
pub(crate) fn message(view: &ModelView<'_>, metadata: &[Entry], data: &Data) -> Result<Message> {
    let mut inside = Message::default();
    inside.bytes(graph::NAME, GRAPH_NAME.as_bytes());
    for (idx, tensor) in view.tensors().enumerate() {
        if tensor.name().is_empty() {
            return Err(Error::target("a tensor needs a name").tensor("").found("an empty one"));
        }
        inside.message(graph::INITIALIZER, tensor::whole(view, idx, Some(tensor.name()), data)?);
    }
    let (ir_version, opset) = versions::for_tensors(view);
    let mut message = Message::default();
    message.int(model::IR_VERSION, ir_version);
    message.bytes(model::PRODUCER_NAME, PRODUCER.as_bytes());
    let operators = OperatorSet { domain: Some(String::new()), version: Some(opset) };
    message.small(model::OPSET_IMPORT, &operators);
    for entry in metadata {
        message.small(model::METADATA_PROPS, entry);
    }
    message.message(model::GRAPH, inside);
    Ok(message)
}
