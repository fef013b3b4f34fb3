//! The built-in plugins: the one place that lists them.

use modelferry_core::Result;
use modelferry_core::registry::Registry;
use modelferry_plugin::Foreign;

/// Where a plugin of this registry comes from, for `formats`.
pub const ORIGIN: &str = "built-in";

/// Every built-in reader and writer.
pub fn registry() -> Registry {
    let mut registry = files();
    hf_reader::register(&mut registry);
    hf_writer::register(&mut registry);
    registry
}

/// Those whose models are files: what fuzzing mutates. Folders hold these files.
pub fn files() -> Registry {
    let mut registry = Registry::default();
    safetensors_reader::register(&mut registry);
    safetensors_writer::register(&mut registry);
    npz_reader::register(&mut registry);
    npz_writer::register(&mut registry);
    onnx_reader::register(&mut registry);
    onnx_writer::register(&mut registry);
    pytorch_reader::register(&mut registry);
    pytorch_writer::register(&mut registry);
    gguf_reader::register(&mut registry);
    gguf_writer::register(&mut registry);
    registry
}

/// The same as [`registry`], each called through the boundary of plugins as if it were a stranger's library.
pub fn through_abi() -> Result<Registry> {
    let entries = [
        safetensors_reader::modelferry_safetensors_reader_v1,
        safetensors_writer::modelferry_safetensors_writer_v1,
        npz_reader::modelferry_npz_reader_v1,
        npz_writer::modelferry_npz_writer_v1,
        onnx_reader::modelferry_onnx_reader_v1,
        onnx_writer::modelferry_onnx_writer_v1,
        pytorch_reader::modelferry_pytorch_reader_v1,
        pytorch_writer::modelferry_pytorch_writer_v1,
        gguf_reader::modelferry_gguf_reader_v1,
        gguf_writer::modelferry_gguf_writer_v1,
        hf_reader::modelferry_hf_reader_v1,
        hf_writer::modelferry_hf_writer_v1,
    ];
    let mut registry = Registry::default();
    for entry in entries {
        let plugin = Foreign::linked(entry)?;
        plugin.readers.into_iter().for_each(|reader| registry.add_reader(reader));
        plugin.writers.into_iter().for_each(|writer| registry.add_writer(writer));
    }
    Ok(registry)
}
