//! What plugins cost that are libraries: beside the same ones linked in, and where they lie in the path unused.

use crate::libraries;
use crate::run::{self, Stop};
use modelferry_abi::info::MagicText;
use modelferry_convert::{Context, Job, Report, convert};
use modelferry_core::registry::Registry;
use modelferry_engine::io::OsIo;
use modelferry_engine::{Control, Settings};
use modelferry_plugin::{Manifest, search};
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Of the rows that compare them.
const READER: &str = "safetensors-reader";
const WRITER: &str = "npz-writer";

/// Plugins in both of their forms. Both run in this process, for a library cannot take the name of a format that the
/// program has built in.
pub(crate) struct Twins {
    pub(crate) linked: Registry,
    pub(crate) libraries: Registry,
}

impl Twins {
    /// Builds the libraries as they are released.
    pub(crate) fn build() -> Result<Twins, Stop> {
        let built = libraries::build_release(&[READER.to_owned(), WRITER.to_owned()])?;
        let opened = search::libraries(&built, None, None).map_err(failed)?;
        let mut libraries = Registry::default();
        search::register(&mut libraries, &opened).map_err(failed)?;
        Ok(Twins { linked: modelferry_cli::builtin::registry(), libraries })
    }
}

fn failed(error: modelferry_core::Error) -> Stop {
    Stop::new(error.to_string())
}

/// Seconds of one conversion in this process.
pub(crate) fn timed(registry: &Registry, input: &Path, output: &Path, dry_run: bool) -> Result<f64, Stop> {
    let (settings, control) = (Settings::default(), Control::new());
    let context = Context { registry, io: Arc::new(OsIo), settings: &settings, control: &control };
    let job = Job { input: input.to_owned(), output: output.to_owned(), dry_run, ..Job::default() };
    let begun = Instant::now();
    convert(&context, &job, &mut Report::default()).map_err(failed)?;
    Ok(begun.elapsed().as_secs_f64())
}

/// A folder of `n` plugins, each with magic of its own that the input does not have.
pub(crate) fn unused(folder: &Path, n: usize) -> Result<PathBuf, Stop> {
    let built = libraries::build_release(&[READER.to_owned()])?;
    let folder = folder.join(format!("{n}-plugins"));
    fs::create_dir_all(&folder).map_err(run::at(&folder))?;
    for (built, number) in built.iter().flat_map(|built| (0..n).map(move |number| (built, number))) {
        let id = format!("unused-{number}");
        let library = folder.join(format!("{DLL_PREFIX}unused_{number}{DLL_SUFFIX}"));
        fs::copy(built, &library).map_err(run::at(&library))?;
        let mut manifest = Manifest { id: id.clone(), ..Manifest::of(built).map_err(failed)? };
        for (idx, reader) in manifest.readers.iter_mut().enumerate() {
            reader.format = format!("{id}-{idx}");
            reader.extensions = vec![format!(".{id}-{idx}")];
            reader.magic = vec![MagicText { at: 0, hex: format!("ff{number:02x}") }];
        }
        manifest.write(&library).map_err(failed)?;
    }
    Ok(folder)
}
