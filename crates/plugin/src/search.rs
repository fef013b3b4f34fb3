//! Which libraries a run may use: those that the user has named, and those in folders that the user has named.
//!
//! Nothing is searched unless it is asked for: not the current folder, not the one of a model.

use crate::library::Library;
use crate::trust::Pins;
use modelferry_core::registry::Registry;
use modelferry_core::{Error, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The variable with folders of plugins, separated as in `PATH`.
pub const PATH_VARIABLE: &str = "MODELFERRY_PLUGIN_PATH";

/// The libraries that `named` are or hold, and those in the folders of `path`, each once.
///
/// A library that was named must be usable; so must every one in a folder that was.
///
/// Errors: those of [`Library::find`]; a folder that was named and holds none; a folder of the variable that is not
/// absolute, for then it would depend on where the program is started; two libraries of one id.
pub fn libraries(
    named: &[PathBuf],
    path: Option<&OsStr>,
    pins: Option<Arc<Pins>>,
) -> Result<Vec<Arc<Library>>> {
    let mut files = vec![];
    for place in named {
        if !place.is_dir() {
            files.push(place.clone());
            continue;
        }
        let found = in_folder(place)?;
        if found.is_empty() {
            let error = Error::plugin("a folder of plugins holds no library with a manifest beside it");
            return Err(error
                .file(place.display())
                .hint("`modelferry plugin manifest LIBRARY` writes manifests"));
        }
        files.extend(found);
    }
    for folder in
        path.into_iter().flat_map(std::env::split_paths).filter(|folder| !folder.as_os_str().is_empty())
    {
        if !folder.is_absolute() {
            return Err(
                Error::usage(format!("{PATH_VARIABLE}: a folder is not absolute")).found(folder.display())
            );
        }
        files.extend(in_folder(&folder)?);
    }
    let mut found: Vec<Arc<Library>> = vec![];
    for file in files {
        let library = Library::find(&file, pins.clone())?;
        if found.iter().any(|known| known.path == library.path) {
            continue;
        }
        if let Some(known) = found.iter().find(|known| known.manifest.id == library.manifest.id) {
            return Err(Error::plugin(format!("two plugins are called {}", library.manifest.id))
                .expected(known.path.display())
                .found(library.path.display()));
        }
        found.push(Arc::new(library));
    }
    Ok(found)
}

/// The libraries in a folder that have a manifest, by name.
fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| Error::io("listing a folder of plugins", error).file(folder.display());
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_library = path.extension().is_some_and(|ending| ending == std::env::consts::DLL_EXTENSION);
        if is_library && crate::manifest::place(&path).exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Adds the readers and writers of libraries to those that are there.
///
/// Errors: a format that has a reader or a writer already, built in or not.
pub fn register(registry: &mut Registry, libraries: &[Arc<Library>]) -> Result<()> {
    for library in libraries {
        let taken = |format: &str| {
            Error::plugin(format!("{}: the name of the format {format} is taken", library.manifest.id))
                .file(library.path.display())
        };
        for reader in library.readers()? {
            let format = modelferry_core::plugin::Reader::info(&reader).format;
            if registry.readers().any(|known| known.info().format == format) {
                return Err(taken(format));
            }
            registry.add_reader(reader);
        }
        for writer in library.writers()? {
            let format = modelferry_core::plugin::Writer::info(&writer).format;
            if registry.writers().any(|known| known.info().format == format) {
                return Err(taken(format));
            }
            registry.add_writer(writer);
        }
    }
    Ok(())
}
