//! Sizes, alignments, offsets and numbers of the boundary are those of the golden file, in Rust and in C: what
//! is there never changes, and what comes later stands behind it.

#![cfg(target_pointer_width = "64")]
#![allow(clippy::unwrap_used, reason = "what does not hold ends the test")]

mod sources;

use modelferry_abi::types::*;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Structs with their fields, as the source of the types has them.
fn declared() -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = vec![];
    for line in sources::TEXT.lines() {
        if let Some(name) = line.strip_prefix("pub struct ").and_then(|line| line.strip_suffix(" {")) {
            found.push((name.to_owned(), vec![]));
        } else if let Some((field, _)) = line.strip_prefix("    pub ").and_then(|line| line.split_once(':')) {
            found.last_mut().expect("a field belongs to a struct").1.push(field.to_owned());
        }
    }
    found
}

/// Constants with their values, as the source of the codes has them.
fn constants() -> Vec<(String, String)> {
    let constant = |line: &str| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
        let (_, value) = rest.strip_suffix(';')?.split_once(" = ")?;
        Some((name.to_owned(), value.replace("u64::MAX", "UINT64_MAX").replace("u32::MAX", "UINT32_MAX")))
    };
    include_str!("../src/codes.rs").lines().filter_map(constant).collect()
}

/// A line for each field: its struct, its name, its offset.
macro_rules! measured {
    ($($name:ident { $($field:ident)* })*) => {{
        let mut text = String::new();
        $(
            let (size, align) = (size_of::<$name>(), align_of::<$name>());
            writeln!(text, "struct {} size {size} align {align}", stringify!($name)).unwrap();
            $(
                let offset = std::mem::offset_of!($name, $field);
                writeln!(text, "  {} at {offset}", stringify!($field)).unwrap();
            )*
        )*
        text
    }};
}

fn measured() -> String {
    let mut text = measured! {
        MfText { ptr len }
        MfSlice { ptr len stride }
        MfError {
            struct_size kind has_offset what format file tensor expected found hint cause offset
        }
        MfLoss { struct_size kind is_asked subject renamed detail axes }
        MfReport { struct_size context error loss }
        MfData { kind file at }
        MfTensor { name dtype block_elements block_bytes shape rank byte_len data }
        MfNode { op dtype block_elements block_bytes flags n of p q list list_len }
        MfAsset { name len data }
        MfClaim { node crc32 is_header }
        MfModel { struct_size owner release read_at tensors nodes blobs assets claims document }
        MfOutFile { path first_piece n_pieces }
        MfPiece { kind flags idx start len }
        MfDigest { algo reserved file start len }
        MfPatch { form reserved file at digest }
        MfLink { path reserved file n_tensors }
        MfLayout {
            struct_size owner release files pieces blobs digests patches root supersedes notes links promises
        }
        MfPromise { path at_most format first_file n_files first_digest n_digests }
        MfWritten { path len }
        MfDigested { algo reserved file start len value }
        MfSeen {
            tensor name dtype block_elements block_bytes overflow underflow n_quantized n_non_finite
            n_beyond_scale rms largest
        }
        MfOutcome { struct_size promises files digests tensors losses }
        MfSmallFile { path text }
        MfEpilogue { struct_size owner release files }
        MfOption { name value }
        MfRequest { struct_size file_name weights options shards reserved shard_bytes }
        MfQuery { struct_size kind reserved node other at len }
        MfAnswer { struct_size count number }
        MfLimits {
            struct_size header_bytes tensors files rank name_bytes depth objects opcodes nodes
            inline_bytes repeated_bytes inflate_ratio read_amplification
        }
        MfHost {
            struct_size abi_minor reserved root len name open forget list read_at ask read_model
            layout link
        }
        MfCall { struct_size call host report limits }
        MfReader { struct_size owner info identify read }
        MfWriter { struct_size owner info layout relayout epilogue }
        MfPlugin { struct_size abi_minor reserved id version readers writers }
    };
    for (name, value) in constants() {
        writeln!(text, "{name} {value}").unwrap();
    }
    text
}

#[test]
fn every_field_is_measured() {
    let mut expected = String::new();
    for (name, fields) in declared() {
        writeln!(expected, "struct {name}").unwrap();
        fields.iter().for_each(|field| writeln!(expected, "  {field}").unwrap());
    }
    let cut = |line: &str| {
        let known = line.split_once(" size ").or(line.rsplit_once(" at "));
        known.map_or(line, |(known, _)| known).to_owned() + "\n"
    };
    let found: String = measured().lines().filter(|line| !line.starts_with("MF_")).map(cut).collect();
    assert_eq!(found, expected);
}

#[test]
fn nothing_has_moved() {
    let path = folder().join("tests/golden.txt");
    if std::env::var_os("MODELFERRY_UPDATE").is_some() {
        std::fs::write(&path, measured()).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == measured(), "the boundary has moved; what plugins are built for never does");
}

#[test]
fn c_sees_what_rust_sees() {
    let mut source = "#include \"modelferry_plugin.h\"\n".to_owned();
    let mut current = String::new();
    for line in std::fs::read_to_string(folder().join("tests/golden.txt")).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["struct", name, "size", size, "align", align] => {
                current = name.to_owned();
                writeln!(source, "_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");").unwrap();
                writeln!(source, "_Static_assert(_Alignof(struct {name}) == {align}, \"{name}\");").unwrap();
            }
            [field, "at", offset] => {
                let place = format!("offsetof(struct {current}, {field}) == {offset}");
                writeln!(source, "_Static_assert({place}, \"{current}.{field}\");").unwrap();
            }
            [name, ..] => {
                let value = line[name.len()..].trim();
                writeln!(source, "_Static_assert({name} == {value}, \"{name}\");").unwrap();
            }
            [] => {}
        }
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden.c");
    std::fs::write(&path, source).unwrap();
    let done = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .args([folder().join("include"), path])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
