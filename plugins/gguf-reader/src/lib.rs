//! Reads GGUF, the files of llama.cpp: a single file, or any part of a split set.
//!
//! Versions 2 and 3, both byte orders, every element type that ggml has today. What ggml's own loader refuses is
//! refused here. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

#![forbid(unsafe_code)]

mod identify;
mod reader;
mod split;
mod tensor;

pub use reader::GgufReader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(GgufReader);
}

modelferry_abi::export_plugin!(modelferry_gguf_reader_v1, readers: [GgufReader]);
