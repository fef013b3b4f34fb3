//! Writes safetensors: a single file, or shards with an index.
//!
//! # What does not fit
//!
//! - The format has one name per tensor and no way to share bytes: ties are written as copies.
//! - It has no room between tensors, and readers view the bytes in place: every tensor must begin at a multiple of
//!   its element size. Source order is kept when it gives that, as it does unless small types stand before wide
//!   ones; else tensors are put widest type first, as the format's own writer does.
//! - Its header is capped at 100 MB by every reader.

#![forbid(unsafe_code)]

mod writer;

pub use writer::SafetensorsWriter;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(SafetensorsWriter);
}

modelferry_abi::export_plugin!(modelferry_safetensors_writer_v1, writers: [SafetensorsWriter]);
