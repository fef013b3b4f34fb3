//! Writes what `torch.save` writes: a single file, or shards with an index.
//!
//! # What does not fit
//!
//! - torch has no type for what is packed below a byte, but for pairs of f4 along the last dimension.
//! - Objects of classes that `torch.load` does not accept from strangers are left out of a nested checkpoint unless
//!   they are asked for, since one of them makes the whole file unloadable for everybody who does not know it.
//! - Shards are plain dictionaries from names to tensors, as transformers wants them.
//! - The archive's `.data/serialization_id` is made of zeros. torch's own is two numbers, one of which hashes the names
//!   of the records in the order of a C++ hash table, the other all CRCs; it is logged and never compared.

#![forbid(unsafe_code)]

mod accepted;
mod archive;
mod document;
mod elements;
mod state_dict;
mod writer;

pub use writer::PytorchWriter;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(PytorchWriter);
}

modelferry_abi::export_plugin!(modelferry_pytorch_writer_v1, writers: [PytorchWriter]);
