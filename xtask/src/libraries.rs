//! The built-in plugins as libraries: what a stranger's plugin is, made of ours.

mod elsewhere;

use crate::build_plugin::{self, Source};
use crate::conformance;
use crate::judge;
use crate::run::{self, Stop};
use crate::tally::Tally;
use modelferry_conformance::Outcome;
use modelferry_core::registry::Registry;
use modelferry_plugin::Library;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};

const PART: &str = "plugins as libraries";

/// Those that are built as they are released, too, beside the others.
const RELEASED: [&str; 2] = ["safetensors-reader", "npz-writer"];

/// Builds every plugin of the workspace as a library, runs the suite on them, and sees that every conversion with them is
/// the one with those that are linked in.
pub(crate) fn run() -> Result<(Outcome, Tally), Stop> {
    let mut tally = Tally::default();
    let libraries = build(&mut tally)?;
    let registry = load(&libraries)?;
    let (outcome, found) = conformance::of_libraries(&registry);
    tally.add(found);
    // What was built otherwise stands before its twin, and all of them side by side give the bytes of those linked in.
    let mut mixed = build_release(&RELEASED.map(str::to_owned))?;
    mixed.push(elsewhere::build()?);
    mixed.extend(libraries);
    let registry = load(&mixed)?;
    compare(&registry, &mut tally);
    // What an author runs on a library of their own: one reader in the place of the one that is built in.
    let library = folder().join(format!("{DLL_PREFIX}npz_reader{DLL_SUFFIX}"));
    tally.add(judge::judge(&[library], vec![], false)?.1);
    Ok((outcome, tally))
}

/// Sees that conversions with a registry are those with the plugins that are linked in.
fn compare(registry: &Registry, tally: &mut Tally) {
    let (linked, testdata) = (modelferry_cli::builtin::registry(), run::root().join("testdata"));
    let (n_compared, failures) =
        modelferry_conformance::twins(&linked, registry, &testdata, &conformance::options());
    println!("{n_compared:>7}  conversions by libraries are those by linked plugins");
    failures.iter().for_each(|failure| tally.fail(PART, failure));
    tally.pass(PART, n_compared.saturating_sub(failures.len() as u64));
    tally.check(PART, n_compared > 0, || "nothing was compared".to_owned());
}

/// Where libraries are.
fn folder() -> PathBuf {
    run::target().join("plugins")
}

/// Packages below `plugins`.
fn packages() -> Result<Vec<String>, Stop> {
    let folder = run::root().join("plugins");
    let mut found = vec![];
    for entry in fs::read_dir(&folder).map_err(run::at(&folder))? {
        found.push(entry.map_err(run::at(&folder))?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    Ok(found)
}

/// Builds them, each with its manifest, into a folder of their own, and sees that each exports its entry alone.
fn build(tally: &mut Tally) -> Result<Vec<PathBuf>, Stop> {
    let libraries = build_into(&folder(), &packages()?, false)?;
    for library in &libraries {
        let (manifest, _) = build_plugin::describe(library)?;
        match build_plugin::wrong_exports(library, &manifest)? {
            None => tally.pass(PART, 1),
            Some(wrong) => tally.fail(PART, wrong),
        }
    }
    Ok(libraries)
}

/// Builds some of them as they are released, each with its manifest.
pub(crate) fn build_release(packages: &[String]) -> Result<Vec<PathBuf>, Stop> {
    let libraries = build_into(&run::target().join("plugins-release"), packages, true)?;
    for library in &libraries {
        build_plugin::describe(library)?;
    }
    Ok(libraries)
}

/// The libraries alone, in a new folder.
fn build_into(folder: &Path, packages: &[String], is_release: bool) -> Result<Vec<PathBuf>, Stop> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(run::at(folder))?;
    }
    fs::create_dir_all(folder).map_err(run::at(folder))?;
    let mut libraries = vec![];
    for package in packages {
        let built = build_plugin::build(&Source::Package(package.clone()), is_release)?;
        let library = folder.join(built.file_name().unwrap_or_default());
        fs::copy(&built, &library).map_err(run::at(&built))?;
        libraries.push(library);
    }
    Ok(libraries)
}

/// The readers and writers of libraries, in the order of those that are linked in; of two for one format the first.
fn load(libraries: &[PathBuf]) -> Result<Registry, Stop> {
    let failed = |error: modelferry_core::Error| Stop::new(error.to_string());
    let mut found = vec![];
    for path in libraries {
        found.push(Library::find(path, None).map_err(failed)?);
    }
    let mut opened = vec![];
    for library in &found {
        opened.push(library.open().map_err(failed)?);
    }
    let linked = modelferry_cli::builtin::registry();
    let mut registry = Registry::default();
    for format in linked.readers().map(|reader| reader.info().format) {
        let mut readers = opened.iter().flat_map(|plugin| &plugin.readers);
        let found = readers.find(|reader| modelferry_core::plugin::Reader::info(*reader).format == format);
        registry.add_reader(*found.ok_or_else(|| Stop::new(format!("no library reads {format}")))?);
    }
    for format in linked.writers().map(|writer| writer.info().format) {
        let mut writers = opened.iter().flat_map(|plugin| &plugin.writers);
        let found = writers.find(|writer| modelferry_core::plugin::Writer::info(*writer).format == format);
        registry.add_writer(*found.ok_or_else(|| Stop::new(format!("no library writes {format}")))?);
    }
    Ok(registry)
}
