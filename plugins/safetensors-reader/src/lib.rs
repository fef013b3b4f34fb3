//! Reads safetensors: a single file, any shard of a set, or the set's index.
//!
//! Format: <https://github.com/huggingface/safetensors#format>; the index is huggingface_hub's
//! `model.safetensors.index.json`.

#![forbid(unsafe_code)]

mod identify;
mod reader;

pub use reader::SafetensorsReader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(SafetensorsReader);
}

modelferry_abi::export_plugin!(modelferry_safetensors_reader_v1, readers: [SafetensorsReader]);
