//! File structures as they are on disk, shared by a format's reader and writer.
//!
//! - [`safetensors`]: the JSON header, both ways;
//! - [`zip`]: archive directories, read strictly and laid out without I/O;
//! - [`gguf`]: ggml's header, both ways;
//! - [`npy`]: numpy's array header, both ways, and the note that says what a void array really holds;
//! - [`pickle`]: pickles of every protocol as trees of values, never executed, and the dialect that torch takes back;
//! - [`torch`]: objects and storages of everything that torch has saved;
//! - [`onnx`]: protobuf documents with their payload left where it is, and new ones with room for it;
//! - [`tar`]: where the files of an archive lie.
//!
//! Nothing here knows the intermediate representation beyond element types, metadata values and trees, and nothing performs I/O except
//! through [`Inputs`](modelferry_core::inputs::Inputs) and by asking a [`Host`](modelferry_core::plugin::Host). Every number from a file is checked in 64-bit checked arithmetic
//! against the file and [`Limits`](modelferry_core::limits::Limits) before memory is reserved. Errors name the file,
//! the byte and the tensor or entry; the plugin that calls adds the format with
//! [`Error::format`](modelferry_core::error::Error::format).

#![forbid(unsafe_code)]

pub mod gguf;
pub mod msgpack;
pub mod npy;
pub mod onnx;
pub mod pickle;
pub mod safetensors;
pub mod tar;
pub mod torch;
pub mod zip;

#[cfg(test)]
mod testing;

/// Enough of what a file says for a message about it: a name may have 64 KiB, and a key or a value a header's length.
fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
