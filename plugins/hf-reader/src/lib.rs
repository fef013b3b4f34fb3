//! Reads the folder of a model as transformers and huggingface_hub keep it: weights of any format, with what belongs
//! to them.

#![forbid(unsafe_code)]

mod arguments;
mod folder;
mod identify;
mod reader;

pub use reader::HfReader;

/// Adds the reader to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(HfReader);
}

modelferry_abi::export_plugin!(modelferry_hf_reader_v1, readers: [HfReader]);
