//! `cargo xtask build-plugin`: a crate becomes a library that `--plugin` takes.

use crate::flags::Flags;
use crate::run::{self, Stop};
use modelferry_plugin::Manifest;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `cargo xtask build-plugin`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let [package] = &flags.names[..] else {
        return Err(Stop::usage("one package of the workspace, or one folder with a Cargo.toml"));
    };
    let library = build(&Source::of(package), flags.has("--release"))?;
    let (manifest, place) = describe(&library)?;
    if let Some(wrong) = wrong_exports(&library, &manifest)? {
        return Err(Stop::new(wrong));
    }
    println!("manifest {}", place.display());
    println!("library  {}", library.display());
    println!("\nmodelferry convert INPUT OUTPUT --plugin {}", library.display());
    Ok(0)
}

/// Where the crate of a plugin is.
#[derive(Debug, PartialEq)]
pub(crate) enum Source {
    /// A package of the workspace.
    Package(String),
    /// A crate of its own.
    Folder(PathBuf),
}

impl Source {
    /// A folder with a manifest of cargo's, else the name of a package.
    fn of(named: &str) -> Source {
        let folder = std::path::absolute(named).unwrap_or_else(|_| named.into());
        match folder.join("Cargo.toml").is_file() {
            true => Source::Folder(folder),
            false => Source::Package(named.to_owned()),
        }
    }
}

/// Builds the library of a plugin, and says where it is.
pub(crate) fn build(source: &Source, is_release: bool) -> Result<PathBuf, Stop> {
    built_by(&mut command(source, is_release))
}

/// What builds it.
pub(crate) fn command(source: &Source, is_release: bool) -> Command {
    let mut command = run::cargo(&["rustc", "--quiet", "--lib", "--crate-type", "cdylib"]);
    command.arg("--message-format=json-render-diagnostics");
    match source {
        Source::Package(package) => command.args(["--package", package]),
        Source::Folder(folder) => command.current_dir(folder),
    };
    if is_release {
        command.arg("--release");
    }
    command
}

/// Runs such a command, and says where the library is.
pub(crate) fn built_by(command: &mut Command) -> Result<PathBuf, Stop> {
    let said = run::output(command)?;
    let messages = said.lines().filter_map(|line| serde_json::from_str(line).ok());
    built(messages).ok_or_else(|| Stop::new(format!("`{}` made no library", run::shown(command))))
}

/// The library among what cargo says that it has built: the last one, for dependencies come first.
fn built(messages: impl Iterator<Item = Value>) -> Option<PathBuf> {
    let is_library =
        |path: &&Path| path.extension().is_some_and(|end| end == std::env::consts::DLL_EXTENSION);
    let is_plugin = |message: &Value| {
        let kinds = message["target"]["crate_types"].as_array();
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
    };
    messages
        .filter(is_plugin)
        .filter_map(|message| {
            let files =
                message["filenames"].as_array()?.iter().filter_map(|file| file.as_str().map(Path::new));
            files.filter(is_library).map(Path::to_owned).next_back()
        })
        .last()
}

/// What is wrong with the functions that a library exports: its entry is to be the only one.
pub(crate) fn wrong_exports(library: &Path, manifest: &Manifest) -> Result<Option<String>, Stop> {
    let said = run::output(Command::new("nm").args(["-D", "--defined-only"]).arg(library))?;
    let exported: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    let entry = manifest.entry();
    Ok((exported != [&*entry]).then(|| {
        format!("{}: exports {exported:?} instead of {entry} alone; see `export_plugin!`", library.display())
    }))
}

/// Writes the manifest beside a library, and says where. The library is opened for that: its code runs.
pub(crate) fn describe(library: &Path) -> Result<(Manifest, PathBuf), Stop> {
    let written = Manifest::of(library).and_then(|manifest| {
        let place = manifest.write(library)?;
        Ok((manifest, place))
    });
    written.map_err(|error| Stop::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_plugin_is_the_last_library() {
        let artifact =
            |kind: &str, file: &str| json!({"target": {"crate_types": [kind]}, "filenames": [file]});
        let messages = [
            artifact("proc-macro", "a/libmacros.so"),
            artifact("lib", "a/libcore.rlib"),
            artifact("cdylib", "a/libflat_reader.so"),
            json!({"reason": "build-finished"}),
        ];
        assert_eq!(built(messages.into_iter()), Some("a/libflat_reader.so".into()));
        assert_eq!(built([artifact("proc-macro", "a/libmacros.so")].into_iter()), None);
    }

    #[test]
    fn a_name_is_a_package_and_a_folder_a_crate() {
        assert_eq!(Source::of("npz-reader"), Source::Package("npz-reader".to_owned()));
        let here = env!("CARGO_MANIFEST_DIR");
        assert_eq!(Source::of(here), Source::Folder(here.into()));
    }
}
