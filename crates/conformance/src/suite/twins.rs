//! Two registries of the same plugins do the same: those that are linked in, and those that are loaded.

use super::fixtures::Fixture;
use super::run::Manner;
use super::{Log, Suite, SuiteOptions, guarded};
use modelferry_core::plugin::WriterInfo;
use modelferry_core::registry::Registry;
use std::path::Path;

/// Converts every model of the suite to every format with the plugins of either registry: files, messages and losses
/// are to be the same. Gives how many conversions were compared, and what differs.
pub fn twins(
    one: &Registry,
    other: &Registry,
    testdata: &Path,
    options: &SuiteOptions,
) -> (u64, Vec<String>) {
    let mut log = Log::default();
    let both = [one, other].map(|registry| Suite::prepare(registry, testdata, options, &mut Log::default()));
    match both {
        [Ok(one), Ok(other)] => check(&one, &other, &mut log),
        [Err(why), _] | [_, Err(why)] => log.failures.push(why),
    }
    (log.n_checked, log.failures)
}

fn check(one: &Suite<'_>, other: &Suite<'_>, log: &mut Log) {
    let formats = |suite: &Suite<'_>| {
        let writers = suite.registry.writers().map(|writer| writer.info().format);
        suite.registry.readers().map(|reader| reader.info().format).chain(writers).collect::<Vec<_>>()
    };
    if formats(one) != formats(other) {
        log.failures.push(format!("{:?} and {:?}", formats(one), formats(other)));
    }
    for (writer, twin) in one.registry.writers().zip(other.registry.writers()) {
        for fixture in &one.fixtures {
            let subject = format!("{} to {}", fixture.name, writer.info().format);
            let result = guarded(|| same(one, other, fixture, writer.info(), twin.info()));
            log.record(&subject, result.and_then(|result| result));
        }
    }
}

fn same(
    one: &Suite<'_>,
    other: &Suite<'_>,
    fixture: &Fixture,
    info: &WriterInfo,
    twin: &WriterInfo,
) -> Result<(), String> {
    let manner = Manner { allow_all: true, ..Manner::default() };
    let (first, second) = (one.convert(fixture, info, &manner)?, other.convert(fixture, twin, &manner)?);
    let message = |error: &Option<modelferry_core::Error>| error.as_ref().map(ToString::to_string);
    if message(&first.error) != message(&second.error) {
        return Err(format!("{:?}, then {:?}", message(&first.error), message(&second.error)));
    }
    if first.files != second.files {
        return Err("other bytes".to_owned());
    }
    if (&first.report.losses, &first.report.notes) != (&second.report.losses, &second.report.notes) {
        return Err(format!("other losses: {:?}, then {:?}", first.report.losses, second.report.losses));
    }
    if first.report.asked != second.report.asked {
        return Err("other questions".to_owned());
    }
    Ok(())
}
