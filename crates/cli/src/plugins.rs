//! Plugins: which libraries a run may use, and the `plugin` command.

use crate::args;
use crate::output;
use crate::session::Session;
use crate::{builtin, text};
use clap::ArgMatches;
use modelferry_convert::json::{self, Object};
use modelferry_core::options::OptionSpec;
use modelferry_core::registry::Registry;
use modelferry_core::{Error, Result};
use modelferry_plugin::trust::{Pins, resolve, sha256};
use modelferry_plugin::{Library, Manifest, search};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every reader and writer that a run may use, and the libraries among them.
pub(crate) struct Plugins {
    pub(crate) registry: Registry,
    pub(crate) libraries: Vec<Arc<Library>>,
}

impl Plugins {
    /// The built-in ones, and those that the command line and the variable name. It is looked at before the rest of the
    /// command line is understood, for plugins declare options of it.
    ///
    /// Errors: those of [`search::libraries`] and [`search::register`]; an option that the program has, or that another
    /// format has with other values.
    pub(crate) fn find(args: &[OsString]) -> Result<Plugins> {
        let wanted = Wanted::scan(args);
        let pins = if wanted.is_locked { Some(Arc::new(Pins::read(&pins_file()?)?)) } else { None };
        let path = std::env::var_os(search::PATH_VARIABLE);
        let libraries = search::libraries(&wanted.named, path.as_deref(), pins)?;
        let mut registry = builtin::registry();
        search::register(&mut registry, &libraries)?;
        let plugins = Plugins { registry, libraries };
        plugins.check_options()?;
        Ok(plugins)
    }

    /// An option of a plugin's is one of the command line: it must not be another's.
    fn check_options(&self) -> Result<()> {
        let own: BTreeSet<String> = args::names();
        let mut known: BTreeMap<&str, &OptionSpec> = BTreeMap::new();
        let readers = self.registry.readers().map(|reader| reader.info());
        let readers = readers.map(|info| (Side::Reader, info.format, info.options));
        let writers = self.registry.writers().map(|writer| writer.info());
        let writers = writers.map(|info| (Side::Writer, info.format, info.options));
        for (side, format, specs) in readers.chain(writers) {
            let clash = |spec: &OptionSpec, text: &str| {
                Error::plugin(format!("{format}: {text} --{}", spec.name)).file(self.origin(format, side))
            };
            for spec in specs {
                if own.contains(spec.name) {
                    return Err(clash(spec, "the program itself has an option"));
                }
                let other = *known.entry(spec.name).or_insert(spec);
                if format!("{:?}", other.kind) != format!("{:?}", spec.kind) {
                    return Err(clash(spec, "another format takes other values for")
                        .expected(format!("{:?}", other.kind))
                        .found(format!("{:?}", spec.kind)));
                }
            }
        }
        Ok(())
    }

    /// Where a format's reader or writer comes from, for a person: `built-in` or the library.
    pub(crate) fn origin(&self, format: &str, side: Side) -> String {
        let found = self.libraries.iter().find(|library| match side {
            Side::Reader => library.manifest.readers.iter().any(|reader| reader.format == format),
            Side::Writer => library.manifest.writers.iter().any(|writer| writer.format == format),
        });
        found.map_or_else(|| builtin::ORIGIN.to_owned(), |library| library.path.display().to_string())
    }
}

/// Which half of a format.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Reader,
    Writer,
}

/// What the command line says of plugins.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    named: Vec<PathBuf>,
    is_locked: bool,
}

impl Wanted {
    fn scan(args: &[OsString]) -> Wanted {
        let mut wanted = Wanted::default();
        let mut args = args.iter().skip(1).take_while(|arg| *arg != "--");
        while let Some(arg) = args.next() {
            let joined = arg.to_str().and_then(|arg| arg.strip_prefix("--plugin="));
            match joined {
                Some(path) => wanted.named.push(path.into()),
                None if arg == "--plugin" => wanted.named.extend(args.next().map(PathBuf::from)),
                None => wanted.is_locked |= arg == "--locked",
            }
        }
        wanted
    }
}

/// Where pinned hashes are kept.
fn pins_file() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    let folder = folder.ok_or_else(|| {
        Error::usage("pinned hashes have no place: neither XDG_CONFIG_HOME nor HOME is set")
    })?;
    Ok(folder.join("modelferry/plugins.json"))
}

/// Runs the `plugin` command and returns its exit code.
pub(crate) fn run(session: &Session<'_>, matches: &ArgMatches) -> i32 {
    let command = format!("plugin {}", matches.subcommand_name().unwrap_or_default());
    let done = match matches.subcommand() {
        Some(("add", matches)) => add(session, &args::get_path(matches, "library")),
        Some(("manifest", matches)) => manifest(session, &args::get_path(matches, "library")),
        _ => list(session),
    };
    done.unwrap_or_else(|error| session.fail(&command, &error))
}

/// Pins a library's hash.
fn add(session: &Session<'_>, path: &Path) -> Result<i32> {
    let library = Library::find(path, None)?;
    library.check()?;
    let (id, hash) = (&library.manifest.id, &library.manifest.sha256);
    let file = pins_file()?;
    let mut pins = Pins::read(&file)?;
    pins.set(id, hash);
    pins.write(&file)?;
    let value = json!({"id": id, "sha256": hash, "pins": file.display().to_string()});
    say(session, "plugin add", value, &format!("pinned {id} {hash}"))
}

/// Writes the manifest of a library, which is asked what it is.
fn manifest(session: &Session<'_>, path: &Path) -> Result<i32> {
    let manifest = Manifest::of(path)?;
    let place = manifest.write(&resolve(path)?)?.display().to_string();
    let value = json!({"id": manifest.id, "sha256": manifest.sha256, "manifest": place});
    say(session, "plugin manifest", value, &format!("wrote {place}"))
}

/// The libraries that a run with these arguments may use.
fn list(session: &Session<'_>) -> Result<i32> {
    let mut lines = vec![];
    let mut values = vec![];
    for library in &session.plugins.libraries {
        let manifest = &library.manifest;
        let (formats, fault) = (formats_of(manifest), library.check().err().map(|error| error.to_string()));
        let state = fault.as_deref().unwrap_or("as its manifest says");
        lines.push(format!(
            "{} {}: {} ({}), {state}",
            manifest.id,
            manifest.version,
            formats.join(", "),
            library.path.display()
        ));
        let hash = sha256(&library.path)?;
        values.push(json!({
            "id": manifest.id, "version": manifest.version, "abi": manifest.abi, "path": library.path.display().to_string(),
            "sha256": hash, "formats": formats, "fault": fault,
        }));
    }
    let text = if lines.is_empty() {
        format!("no plugins: --plugin PATH or {} names them", search::PATH_VARIABLE)
    } else {
        lines.iter().map(|line| text::printable(line)).collect::<Vec<_>>().join("\n")
    };
    say(session, "plugin list", json!({"plugins": values}), &text)
}

fn formats_of(manifest: &Manifest) -> Vec<String> {
    let readers = manifest.readers.iter().map(|reader| format!("reads {}", reader.format));
    readers.chain(manifest.writers.iter().map(|writer| format!("writes {}", writer.format))).collect()
}

fn say(session: &Session<'_>, command: &'static str, value: Value, text: &str) -> Result<i32> {
    output::stdout(|out| {
        if !session.is_json {
            return writeln!(out, "{text}");
        }
        let mut object = Object::begin(out)?;
        json::head(&mut object, command, None)?;
        for (key, value) in value.as_object().into_iter().flatten() {
            object.field(key, value.clone())?;
        }
        object.end()
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_before_the_rest_is_understood() {
        let scan = |line: &str| Wanted::scan(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let wanted = scan("modelferry convert a b --plugin x.so --strange --plugin=y --locked");
        assert_eq!(wanted, Wanted { named: vec!["x.so".into(), "y".into()], is_locked: true });
        assert_eq!(scan("modelferry inspect -- --plugin x"), Wanted::default());
        assert_eq!(scan("modelferry inspect --plugin"), Wanted::default());
    }
}
