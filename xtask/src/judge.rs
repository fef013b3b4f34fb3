//! `cargo xtask conformance --plugin`: the suite on somebody's library.

use crate::conformance::{Program, print_matrix, tally};
use crate::flags::Flags;
use crate::run::{self, Stop};
use crate::tally::Tally;
use modelferry_conformance::{Judged, Outcome, SuiteOptions};
use modelferry_core::registry::Registry;
use modelferry_plugin::{Library, search};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PART: &str = "conformance";

/// `cargo xtask conformance --plugin=PATH`.
pub(crate) fn main(flags: &Flags) -> Result<u8, Stop> {
    let absolute = |path: &str| std::path::absolute(path).map_err(run::at(Path::new(path)));
    let plugins: Vec<PathBuf> = flags.values("--plugin").map(absolute).collect::<Result<_, _>>()?;
    let testdata: Vec<PathBuf> = flags.values("--testdata").map(absolute).collect::<Result<_, _>>()?;
    let (outcome, tally) = judge(&plugins, testdata, flags.has("--bless"))?;
    print_matrix(&outcome);
    Ok(tally.finish())
}

/// Runs the suite on the readers and writers of libraries, among those that are built in.
pub(crate) fn judge(
    plugins: &[PathBuf],
    more_testdata: Vec<PathBuf>,
    bless: bool,
) -> Result<(Outcome, Tally), Stop> {
    let failed = |error: modelferry_core::Error| Stop::new(error.to_string());
    let libraries = search::libraries(plugins, None, None).map_err(failed)?;
    for library in &libraries {
        library.open().map_err(failed)?;
        println!("{} {}, {}", library.manifest.id, library.manifest.version, library.path.display());
    }
    let judged = judged(&libraries);
    let (registry, is_stranger) = registry(&libraries, &judged).map_err(failed)?;
    let program = std::env::current_exe().map_err(run::at(Path::new("this program")))?;
    let options = SuiteOptions {
        // The user's commands are in this program too.
        binary: is_stranger.then_some(program),
        plugins: plugins.to_vec(),
        bless,
        bless_by: "`cargo xtask conformance --plugin=PATH --testdata=DIR --bless`",
        more_testdata,
        judged: Some(judged.clone()),
        ..SuiteOptions::default()
    };
    let outcome = modelferry_conformance::run(&registry, &run::root().join("testdata"), &options);
    let mut tally = tally(&outcome, if is_stranger { Program::Runs } else { Program::KeepsItsOwn });
    for format in &judged.readers {
        let is_met = outcome.pairs.iter().any(|pair| pair.reader == *format);
        tally.check(PART, is_met, || format!("no model was read by the reader of {format}"));
    }
    for format in &judged.writers {
        let is_met = outcome.pairs.iter().any(|pair| pair.writer == *format);
        tally.check(PART, is_met, || format!("no model was written as {format}"));
    }
    Ok((outcome, tally))
}

/// The formats of libraries.
fn judged(libraries: &[Arc<Library>]) -> Judged {
    let manifests = || libraries.iter().map(|library| &library.manifest);
    Judged {
        readers: manifests()
            .flat_map(|manifest| &manifest.readers)
            .map(|reader| reader.format.clone())
            .collect(),
        writers: manifests()
            .flat_map(|manifest| &manifest.writers)
            .map(|writer| writer.format.clone())
            .collect(),
    }
}

/// The built-in plugins, and those of libraries instead of some of them; whether it is instead of none.
fn registry(libraries: &[Arc<Library>], judged: &Judged) -> modelferry_core::Result<(Registry, bool)> {
    let mut registry = modelferry_cli::builtin::registry();
    let count = |registry: &Registry| registry.readers().count() + registry.writers().count();
    let n_linked = count(&registry);
    registry.retain(
        |format| !judged.readers.iter().any(|own| own == format),
        |format| !judged.writers.iter().any(|own| own == format),
    );
    let is_stranger = count(&registry) == n_linked;
    search::register(&mut registry, libraries)?;
    Ok((registry, is_stranger))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_library() {
        for (path, expected) in
            [("docs", "holds no library with a manifest beside it"), ("README.md", "needs a manifest beside")]
        {
            let said = judge(&[run::root().join(path)], vec![], false);
            let said = said.err().map(|stop| stop.to_string()).unwrap_or_default();
            assert!(said.contains(expected), "{said}");
        }
    }
}
