//! A plugin of ours as a stranger's: a crate outside of the workspace, built with other features of what it shares with
//! the program.

use crate::build_plugin::{self, Source};
use crate::run::{self, Stop};
use std::fs;
use std::path::PathBuf;

/// With `arbitrary_precision` the numbers of serde_json, in which documents cross, are texts in memory.
const CARGO: &str = r#"[package]
name = "gguf-elsewhere"
version = "0.1.0"
edition = "2024"

[workspace]

[dependencies]
modelferry-abi = { path = "__CHECKOUT__/crates/abi" }
gguf-reader = { path = "__CHECKOUT__/plugins/gguf-reader" }
gguf-writer = { path = "__CHECKOUT__/plugins/gguf-writer" }
serde_json = { version = "1", features = ["arbitrary_precision"] }

[profile.dev]
opt-level = 1
"#;

const LIB: &str = "//! The GGUF plugins, both in one library.

modelferry_abi::export_plugin!(
    modelferry_gguf_elsewhere_v1,
    readers: [gguf_reader::GgufReader],
    writers: [gguf_writer::GgufWriter],
);
";

/// Builds the library, which reads and writes GGUF, with its manifest.
pub(super) fn build() -> Result<PathBuf, Stop> {
    let root = run::root();
    let folder = std::env::temp_dir().join(format!("modelferry-elsewhere-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(run::at(&path))
    };
    fs::create_dir_all(folder.join("src")).map_err(run::at(&folder))?;
    write("Cargo.toml", &CARGO.replace("__CHECKOUT__", &root.display().to_string()))?;
    write("src/lib.rs", LIB)?;
    let lock = root.join("Cargo.lock");
    fs::copy(&lock, folder.join("Cargo.lock")).map_err(run::at(&lock))?;
    let mut command = build_plugin::command(&Source::Folder(folder.clone()), false);
    command.env("CARGO_TARGET_DIR", run::target().join("new-plugins")).arg("--offline");
    let library = build_plugin::built_by(&mut command);
    fs::remove_dir_all(&folder).map_err(run::at(&folder))?;
    let library = library?;
    build_plugin::describe(&library)?;
    Ok(library)
}
