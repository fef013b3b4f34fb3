//! The same input gives the same bytes, and `--dry-run` knows their number.

use super::fixtures::Fixture;
use super::run::{Manner, Run};
use super::{Log, Suite, guarded};
use modelferry_core::plugin::WriterInfo;
use modelferry_engine::Settings;
use modelferry_kernels::cpu::{Dispatch, best, set_dispatch};

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    for writer in suite.registry.writers() {
        for fixture in suite.fixtures.iter().filter(|fixture| suite.judges_pair(fixture, writer.info())) {
            let subject = format!("{} to {}", fixture.name, writer.info().format);
            let result = guarded(|| repeats(suite, fixture, writer.info())).and_then(|result| result);
            log.record(&subject, result);
        }
    }
    set_dispatch(best());
}

fn repeats(suite: &Suite<'_>, fixture: &Fixture, info: &WriterInfo) -> Result<(), String> {
    let settings = |threads, memory| Settings { threads, memory, ..Settings::default() };
    let manner = |settings| Manner { settings, allow_all: true, ..Manner::default() };
    let usual = suite.convert(fixture, info, &manner(settings(2, 32 << 20)))?;
    let message = |run: &Run| run.error.as_ref().map(ToString::to_string);
    for level in Dispatch::ALL.into_iter().filter(|level| *level <= best()) {
        set_dispatch(level);
        let other = suite.convert(fixture, info, &manner(settings(1, 1 << 18)))?;
        if message(&usual) != message(&other) {
            return Err(format!("{:?}, then {:?}", message(&usual), message(&other)));
        }
        let differs = usual.files.iter().find(|(name, bytes)| other.files.get(*name) != Some(*bytes));
        if let Some((name, _)) = differs {
            return Err(format!(
                "{name} has other bytes with one thread, little memory and {}",
                level.name()
            ));
        }
        if usual.report.losses != other.report.losses {
            return Err("the second run reports other losses".to_owned());
        }
    }
    let dry = suite.convert(fixture, info, &Manner { dry_run: true, ..manner(settings(2, 32 << 20)) })?;
    let (announced, promised) = (&dry.report.files, &dry.report.promised);
    // Of what reports on the run only the names are known, and the most that it can hold.
    let is_kept = |rest: &[(String, u64)]| {
        let is_kept =
            |(file, promise): (&(String, u64), &(String, u64))| file.0 == promise.0 && file.1 <= promise.1;
        usual.error.is_some() || rest.len() == promised.len() && rest.iter().zip(promised).all(is_kept)
    };
    let rest = usual.report.files.strip_prefix(&announced[..]);
    if message(&dry) != message(&usual) || !rest.is_some_and(is_kept) {
        return Err(format!("--dry-run announces {announced:?}, {promised:?}, {:?}", message(&dry)));
    }
    Ok(())
}
