//! Writes GGUF, version 3, little-endian: a single file, or parts under llama.cpp's names.
//!
//! # What does not fit
//!
//! - ggml has no unsigned integers, no truth values, no float8 and no complex numbers, four dimensions, and names of at
//!   most 63 bytes. Tensors beyond that are refused, all of them by name.
//! - The format has one name per tensor and no way to share bytes: ties are written as copies.
//! - Which program code a model is for is said by `general.architecture`. A model without it is written all the same,
//!   with a note that llama.cpp will not run it.

#![forbid(unsafe_code)]

mod metadata;
mod parts;
mod writer;

pub use writer::GgufWriter;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(GgufWriter);
}

modelferry_abi::export_plugin!(modelferry_gguf_writer_v1, writers: [GgufWriter]);
