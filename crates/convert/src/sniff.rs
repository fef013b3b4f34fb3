//! What a file is that no reader takes, by name: a user who sees "git-lfs pointer" knows what to do.

use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::plugin::Place;
use modelferry_core::registry::Registry;
use modelferry_core::{Error, Result};

/// Bytes looked at, from each end.
const WINDOW: u64 = 4096;

/// What is known at offset 0, what it is, and what to do about it.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (b"\x1f\x8b", "gzip-compressed data", "decompress it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed data", "decompress it first"),
    (b"\xfd7zXZ\0", "xz-compressed data", "decompress it first"),
    (b"BZh", "bzip2-compressed data", "decompress it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (b"ggjt", "a GGML file, for which there is no reader", ""),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, for which there is no reader", ""),
    (b"%PDF-", "a PDF document", ""),
    (b"\x7fELF", "an executable", ""),
    (b"\x89PNG", "a picture", ""),
];

/// The error for a file that is recognizably something else; `None` for one that is not recognized.
pub(crate) fn foreign(inputs: &dyn Inputs, file: FileId) -> Result<Option<Error>> {
    let len = inputs.len(file);
    let head = inputs.read_vec(file, 0, len.min(WINDOW), WINDOW)?;
    Ok(recognize(inputs, file, &head, len)?.map(|error| error.file(inputs.name(file))))
}

fn recognize(inputs: &dyn Inputs, file: FileId, head: &[u8], len: u64) -> Result<Option<Error>> {
    if head.is_empty() {
        return Ok(Some(Error::malformed("the file is empty")));
    }
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Ok(Some(
            Error::malformed("a git-lfs pointer, not the file it stands for").hint("run git lfs pull"),
        ));
    }
    let text: Vec<u8> = head.trim_ascii_start().iter().take(32).map(u8::to_ascii_lowercase).collect();
    if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") || text.starts_with(b"<?xml") {
        let hint = "the download went wrong: a server's answer was saved under the model's name";
        return Ok(Some(Error::malformed("an HTML page, not a model").hint(hint)));
    }
    if let Some((_, what, hint)) = SIGNATURES.iter().find(|(magic, ..)| head.starts_with(magic)) {
        let error = Error::unsupported(*what);
        return Ok(Some(if hint.is_empty() { error } else { error.hint(*hint) }));
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Some(Error::unsupported("a zip archive that no reader takes")));
    }
    if head.get(257..262) == Some(b"ustar") {
        return Ok(Some(Error::unsupported("a tar archive, for which there is no reader yet")));
    }
    if head.get(4..8) == Some(b"TFL3") {
        return Ok(Some(Error::unsupported("a TensorFlow Lite file, for which there is no reader")));
    }
    if head.iter().all(|&byte| byte == 0) {
        let tail = inputs.read_vec(file, len - len.min(WINDOW), len.min(WINDOW), WINDOW)?;
        if tail.iter().all(|&byte| byte == 0) {
            let error = Error::malformed("nothing but zeros at both ends");
            return Ok(Some(error.hint("a download that was never finished?")));
        }
    }
    Ok(None)
}

/// The error for a folder that nobody knows.
pub(crate) fn unknown_folder() -> Error {
    let error = Error::unsupported("a folder in which no weights were found");
    error
        .expected("config.json, model.safetensors, pytorch_model.bin or an index of such")
        .hint("name the file of weights in it")
}

/// The error for a file that nobody knows.
pub(crate) fn unknown(inputs: &dyn Inputs, registry: &Registry) -> Error {
    let files = registry.readers().map(|reader| reader.info()).filter(|info| info.place == Place::File);
    let known: Vec<&str> = files.map(|info| info.format).collect();
    Error::unsupported("not a format that there is a reader for")
        .file(inputs.name(inputs.root()))
        .expected(known.join(", "))
        .hint("name the format with --from if it is one of these")
}
