//! ONNX models: protobuf documents whose payload is never decoded.
//!
//! Field numbers and rules are those of `onnx/onnx.in.proto` and `onnx/checker.cc` of onnx 1.23 (IR version 13).
//!
//! - [`Document::read`] walks a file by positioned reads and keeps where payload lies; what is left, a document like
//!   the one in the file but for the payload, is in memory ([`Document::body`]). Unknown fields stay in it.
//! - [`Fields`] walks what is in memory, [`Message`] makes new ones with room for payload.
//! - [`Program`] is what nodes do with the tensors, as far as that tells what a tensor is.
//! - [`External`] is where a tensor says that its data lies in another file.
//!
//! prost decodes and encodes messages that are small and known to be ([`messages`]): it wants a message whole and in
//! memory, and drops fields that it does not know, so it sees neither payload nor anything that is kept.

mod coded;
mod document;
mod elements;
mod external;
mod fields;
mod file;
pub mod messages;
mod names;
mod nodes;
mod program;
mod tensor;
mod write;

pub use coded::{Attributes, Coded};
pub use document::{Document, Found, Summary, identify};
pub use elements::{Element, data_type, element, from_data_type};
pub use external::External;
pub use fields::{Field, Fields, Wire};
pub use program::{Notes, Operator, Program, Step, Value};
pub use tensor::{Payload, Place, Run, Values};
pub use write::{Message, Part};

/// What this format is called in a graph's dialect.
pub const DIALECT: &str = "onnx";

/// What our files say they were made by.
pub const PRODUCER: &str = "modelferry";

/// The key in our files' metadata under which the text of the model's config stands.
pub const CONFIG_KEY: &str = "modelferry.config";

/// The key in a tensor's own metadata under which its name stands where the graph calls it otherwise: it is cast back to
/// the type that the graph wants, and the result of that has the name.
pub const NAME_KEY: &str = "modelferry.name";

/// Bytes that no protobuf message can reach: its library counts in `i32`.
pub const MAX_MESSAGE_BYTES: u64 = i32::MAX as u64;

/// Field numbers of `ModelProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod model {
    pub const IR_VERSION: u32 = 1;
    pub const PRODUCER_NAME: u32 = 2;
    pub const GRAPH: u32 = 7;
    pub const OPSET_IMPORT: u32 = 8;
    pub const METADATA_PROPS: u32 = 14;
    pub const TRAINING_INFO: u32 = 20;
    pub const FUNCTIONS: u32 = 25;
}

/// Field numbers of `GraphProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod graph {
    pub const NODE: u32 = 1;
    pub const NAME: u32 = 2;
    pub const INITIALIZER: u32 = 5;
    pub const INPUT: u32 = 11;
    pub const OUTPUT: u32 = 12;
    pub const VALUE_INFO: u32 = 13;
    pub const QUANTIZATION_ANNOTATION: u32 = 14;
    pub const SPARSE_INITIALIZER: u32 = 15;
}

/// Field numbers of `NodeProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod node {
    pub const INPUT: u32 = 1;
    pub const OUTPUT: u32 = 2;
    pub const NAME: u32 = 3;
    pub const OP_TYPE: u32 = 4;
    pub const ATTRIBUTE: u32 = 5;
    pub const DOMAIN: u32 = 7;
    pub const METADATA_PROPS: u32 = 9;
}

/// Field numbers of `AttributeProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod attribute {
    pub const NAME: u32 = 1;
    pub const F: u32 = 2;
    pub const I: u32 = 3;
    pub const T: u32 = 5;
    pub const G: u32 = 6;
    pub const FLOATS: u32 = 7;
    pub const INTS: u32 = 8;
    pub const STRINGS: u32 = 9;
    pub const TENSORS: u32 = 10;
    pub const GRAPHS: u32 = 11;
    pub const DOC_STRING: u32 = 13;
    pub const TYPE: u32 = 20;
    pub const REF_ATTR_NAME: u32 = 21;
    pub const SPARSE_TENSOR: u32 = 22;
    pub const SPARSE_TENSORS: u32 = 23;
}

/// Field numbers of `TensorProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod tensor_proto {
    pub const DIMS: u32 = 1;
    pub const DATA_TYPE: u32 = 2;
    pub const SEGMENT: u32 = 3;
    pub const FLOAT_DATA: u32 = 4;
    pub const INT32_DATA: u32 = 5;
    pub const STRING_DATA: u32 = 6;
    pub const INT64_DATA: u32 = 7;
    pub const NAME: u32 = 8;
    pub const RAW_DATA: u32 = 9;
    pub const DOUBLE_DATA: u32 = 10;
    pub const UINT64_DATA: u32 = 11;
    pub const EXTERNAL_DATA: u32 = 13;
    pub const DATA_LOCATION: u32 = 14;
    pub const METADATA_PROPS: u32 = 16;
}

/// Field numbers of `SparseTensorProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod sparse {
    pub const VALUES: u32 = 1;
    pub const INDICES: u32 = 2;
}

/// Field numbers of `FunctionProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod function {
    pub const NAME: u32 = 1;
    pub const NODE: u32 = 7;
    pub const INPUT: u32 = 4;
    pub const OUTPUT: u32 = 5;
    pub const OPSET_IMPORT: u32 = 9;
    pub const VALUE_INFO: u32 = 12;
}

/// Field numbers of `TrainingInfoProto`.
#[allow(missing_docs, reason = "the names are onnx's own")]
pub mod training {
    pub const INITIALIZATION: u32 = 1;
    pub const ALGORITHM: u32 = 2;
}

#[cfg(test)]
mod tests;
