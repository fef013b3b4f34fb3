//! Reads what flax saves: MessagePack documents of nested dictionaries with arrays in them.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md> and `flax/serialization.py`, flax 0.12.

#![forbid(unsafe_code)]

mod identify;
mod names;
mod reader;

pub use reader::MsgpackReader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(MsgpackReader);
}

modelferry_abi::export_plugin!(modelferry_msgpack_reader_v1, readers: [MsgpackReader]);
