//! The targets: one for each reader, past what would turn most inputs away; one for the whole path; one for what
//! writers make.

mod gguf_header;
mod hf_config;
mod msgpack_document;
mod npy_header;
mod npz_members;
mod onnx_document;
mod pickle;
mod safetensors_header;
mod safetensors_index;
mod torch;
mod whole_path;
mod write_then_read;

use crate::corpus::File;

/// How far an input came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It was refused, properly.
    Refused,
    /// It was read, and everything held that must.
    Read,
}

/// One function over bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: of its folder in `testdata/fuzz`, and with `_` for `-` of its file in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// One line for a person.
    pub about: &'static str,
    /// Judges one input. Errors: what does not hold; it may also panic, which is one more thing that must not be.
    pub check: fn(&[u8]) -> Result<Reached, String>,
    /// What an input of this target looks like that has `file` in it, if it has a place for it.
    pub seed: fn(&File) -> Option<Vec<u8>>,
    /// Inputs to begin with that no file of testdata holds.
    pub beginnings: fn() -> Vec<Vec<u8>>,
    /// Whether inputs are choices for a generator, so that any bytes are a good beginning.
    pub takes_choices: bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "safetensors-header",
        about: "JSON text in a file that is as long as it says, and the safetensors crate's opinion of it",
        check: safetensors_header::check,
        seed: safetensors_header::seed,
        beginnings: Vec::new,
        takes_choices: false,
    },
    Target {
        name: "safetensors-index",
        about: "the JSON text of an index beside files that hold what it says",
        check: safetensors_index::check,
        seed: safetensors_index::seed,
        beginnings: Vec::new,
        takes_choices: false,
    },
    Target {
        name: "npy-header",
        about: "a version and a header's text in a file that is as long as it says",
        check: npy_header::check,
        seed: npy_header::seed,
        beginnings: Vec::new,
        takes_choices: false,
    },
    Target {
        name: "npz-members",
        about: "an archive made from choices: right offsets, lengths and checksums but for a few",
        check: npz_members::check,
        seed: |_| None,
        beginnings: Vec::new,
        takes_choices: true,
    },
    Target {
        name: "onnx-document",
        about: "a document made from choices: messages of the right lengths but for a few, data beside it",
        check: onnx_document::check,
        seed: |_| None,
        beginnings: Vec::new,
        takes_choices: true,
    },
    Target {
        name: "pickle",
        about: "a pickle, read from a file and from memory, written in torch's dialect and read again",
        check: pickle::check,
        seed: pickle::seed,
        beginnings: pickle::beginnings,
        takes_choices: false,
    },
    Target {
        name: "torch",
        about: "whatever torch may have saved: archives, streams, tar files, and every tensor in them",
        check: torch::check,
        seed: torch::seed,
        beginnings: torch::beginnings,
        takes_choices: false,
    },
    Target {
        name: "gguf-header",
        about: "a GGUF header behind its magic in a file that is as long as it says, written and read again",
        check: gguf_header::check,
        seed: gguf_header::seed,
        beginnings: Vec::new,
        takes_choices: false,
    },
    Target {
        name: "msgpack-document",
        about: "a document of flax made from choices: right lengths and counts but for a few, written and read again",
        check: msgpack_document::check,
        seed: |_| None,
        beginnings: Vec::new,
        takes_choices: true,
    },
    Target {
        name: "hf-config",
        about: "the text of a folder's config.json, and what it says with another type in it",
        check: hf_config::check,
        seed: hf_config::seed,
        beginnings: hf_config::beginnings,
        takes_choices: false,
    },
    Target {
        name: "whole-path",
        about: "a byte that chooses a name, then any file: identified, read, evaluated, laid out, some converted on disk",
        check: whole_path::check,
        seed: whole_path::seed,
        beginnings: Vec::new,
        takes_choices: false,
    },
    Target {
        name: "write-then-read",
        about: "a model made from choices, written by every writer that holds it and read back",
        check: write_then_read::check,
        seed: |_| None,
        beginnings: Vec::new,
        takes_choices: true,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus;

    /// How many of 400 inputs of drawn choices are read.
    pub(super) fn n_read(check: fn(&[u8]) -> Result<Reached, String>) -> usize {
        let is_read = |seed: &u64| {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            };
            let choices: Vec<u8> = (0..200).map(|_| next()).collect();
            check(&choices).unwrap() == Reached::Read
        };
        (0..400).filter(is_read).count()
    }

    #[test]
    fn every_target_has_its_cargo_fuzz_twin() {
        let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        for target in TARGETS {
            let file = format!("fuzz_targets/{}.rs", target.name.replace('-', "_"));
            assert!(manifest.contains(&format!("path = \"{file}\"")), "{file} is not in fuzz/Cargo.toml");
            let text = std::fs::read_to_string(fuzz.join(&file)).unwrap();
            assert!(text.contains(&format!("\"{}\"", target.name)), "{file}");
        }
    }

    #[test]
    fn every_reader_has_a_target_and_files_to_begin_with() {
        let testdata = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let files = corpus::files(&testdata).unwrap();
        for format in modelferry_cli::builtin::registry().readers().map(|reader| reader.info().format) {
            // torch's target is named after the program, the format after the package.
            let is_its_own =
                |target: &&Target| target.name.split('-').next().is_some_and(|name| format.ends_with(name));
            assert!(TARGETS.iter().any(|target| is_its_own(&target)), "no target for the reader of {format}");
            // Targets that take choices make their inputs; the whole path begins with the files themselves.
            let of_format = |file: &&File| file.name.starts_with(&format!("bad/{format}/"));
            let seeds = files.iter().filter(of_format).filter_map(whole_path::seed);
            assert!(seeds.count() > 0, "no bad file of {format} to begin with");
        }
    }

    #[test]
    fn an_empty_input_holds_everywhere() {
        for target in TARGETS {
            (target.check)(b"").unwrap_or_else(|fault| panic!("{}: {fault}", target.name));
        }
    }
}
