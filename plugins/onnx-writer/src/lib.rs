//! Writes ONNX models: graphs with their weights put back, and weights alone.
//!
//! # What does not fit
//!
//! - A message of protobuf ends below 2 GiB, so larger models have their elements in files beside them.
//! - Initializers cannot share bytes within the model's file: ties are copies there, and kept in files beside it.
//! - A graph wants its weights in the types that it was made with: those that have others now are cast back in it.

#![forbid(unsafe_code)]

mod data;
mod edit;
mod graph;
mod links;
mod names;
mod plain;
mod tensor;
mod versions;
mod writer;

pub use writer::OnnxWriter;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(OnnxWriter);
}

modelferry_abi::export_plugin!(modelferry_onnx_writer_v1, writers: [OnnxWriter]);
