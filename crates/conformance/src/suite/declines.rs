//! Readers know their own files, and only those.

use super::{Log, Suite, guarded};
use modelferry_core::limits::Limits;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Reader, Verdict};
use modelferry_engine::disk::DiskInputs;
use std::collections::BTreeMap;
use std::path::Path;

use super::content::NaiveHost;

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    for fixture in &suite.fixtures {
        // A folder is never shown to a reader of files; the files of others are no folders.
        let others = |reader: &&dyn Reader| {
            let is_judged = suite.judges_reader(reader.info().format)
                || suite.judges_reader(fixture.format)
                || suite.judges_writer(fixture.format);
            is_judged && reader.info().format != fixture.format && reader.info().place == fixture.place()
        };
        for reader in suite.registry.readers().filter(others) {
            let subject = format!("{} shown to the reader of {}", fixture.name, reader.info().format);
            let declined = guarded(|| declines(suite, &fixture.path, reader)).and_then(|declined| declined);
            log.record(&subject, declined);
        }
    }
}

/// A reader does not claim a file of another format, and does not read it when it is told to.
fn declines(suite: &Suite<'_>, path: &Path, reader: &dyn Reader) -> Result<(), String> {
    let inputs = DiskInputs::open(suite.io.clone(), path).map_err(|error| error.to_string())?;
    if reader.identify(&inputs) == Verdict::Content {
        return Err("it says that the content is its own".to_owned());
    }
    let options =
        Options::resolve(reader.info().options, &BTreeMap::new()).map_err(|error| error.to_string())?;
    let mut host = NaiveHost { registry: suite.registry, inputs: &inputs, limits: Limits::default() };
    match reader.read(&inputs, &options, &mut host) {
        Ok(model) => Err(format!("it reads {} tensors", model.tensors.len())),
        Err(_) => Ok(()),
    }
}
