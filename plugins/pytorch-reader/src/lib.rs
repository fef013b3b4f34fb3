//! Reads what torch saves: `.bin`, `.pt`, `.pth`, `.ckpt`, `.pt2`, in every form since torch 0.1, single or sharded with
//! an index. Nothing in a file is executed or looked up: a pickle is read as data.
//!
//! Format: torch 2.15, `torch/serialization.py`; see `modelferry_wire::torch`.

#![forbid(unsafe_code)]

mod document;
mod identify;
mod modules;
mod path;
mod reader;
mod tensors;

pub use reader::PytorchReader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(PytorchReader);
}

modelferry_abi::export_plugin!(modelferry_pytorch_reader_v1, readers: [PytorchReader]);
