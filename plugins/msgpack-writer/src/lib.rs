//! Writes what flax saves: one MessagePack document of nested dictionaries with arrays in them.
//!
//! # What does not fit
//!
//! - Values that Python has and the format has not: sets, classes, objects, whole numbers beyond 64 bits. They are left
//!   out; in a list there is nothing in their place. A tuple is a list, for flax refuses to write one as it is.
//! - Arrays of more than 1 GiB are written in parts, which flax joins again, but not those in lists.
//! - The format has one name per tensor and no way to share bytes: ties are written as copies.
//! - It holds one document: no metadata, no config, one file.

#![forbid(unsafe_code)]

mod document;
mod output;
mod plain;
mod writer;

pub use writer::MsgpackWriter;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(MsgpackWriter);
}

modelferry_abi::export_plugin!(modelferry_msgpack_writer_v1, writers: [MsgpackWriter]);
