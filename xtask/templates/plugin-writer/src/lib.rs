//! Writes __NAME__ files.
//!
//! # What does not fit
//!
//! - Say here what a model can hold and this format cannot, and what becomes of it.

#![forbid(unsafe_code)]

mod writer;

pub use writer::__TYPE__Writer;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(__TYPE__Writer);
}

// The one function that the library exports. Its name is made of the crate's.
modelferry_abi::export_plugin!(modelferry___IDENT___v1, writers: [__TYPE__Writer]);
