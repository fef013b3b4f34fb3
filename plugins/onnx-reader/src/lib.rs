//! Reads ONNX models: their weights wherever they stand, and the graph around them as it is.
//!
//! Format: <https://github.com/onnx/onnx/blob/main/docs/IR.md>.

#![forbid(unsafe_code)]

mod codes;
mod external;
mod origins;
mod reader;
mod tensors;

pub use reader::OnnxReader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(OnnxReader);
}

modelferry_abi::export_plugin!(modelferry_onnx_reader_v1, readers: [OnnxReader]);
