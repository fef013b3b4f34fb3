//! The built-in plugins: the one place that lists them.

use modelferry_core::registry::Registry;

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
    msgpack_reader::register(&mut registry);
    msgpack_writer::register(&mut registry);
    registry
}
