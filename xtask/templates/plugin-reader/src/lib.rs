//! Reads __NAME__ files.
//!
//! Format: say here where it is written down, with a link, and which versions of it are read.

#![forbid(unsafe_code)]

mod identify;
mod reader;

pub use reader::__TYPE__Reader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(__TYPE__Reader);
}

// The one function that the library exports. Its name is made of the crate's.
modelferry_abi::export_plugin!(modelferry___IDENT___v1, readers: [__TYPE__Reader]);
