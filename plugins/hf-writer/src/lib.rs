//! Writes the folder of a model as transformers and huggingface_hub keep it: weights of any format, with what belongs
//! to them.

#![forbid(unsafe_code)]

mod writer;

pub use writer::HfWriter;

/// Adds the writer to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(HfWriter);
}

modelferry_abi::export_plugin!(modelferry_hf_writer_v1, writers: [HfWriter]);
