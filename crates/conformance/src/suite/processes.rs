//! The program, as a process of its own, where the environment is another.

use super::fixtures::Fixture;
use super::run::{Manner, extension};
use super::{Log, Suite, guarded};
use modelferry_core::plugin::WriterInfo;
use std::path::Path;
use std::process::Command;

/// Environments that must not matter. A locale that is not installed does not hurt.
const ENVIRONMENTS: &[&[(&str, &str)]] = &[
    &[("LC_ALL", "C"), ("TZ", "UTC"), ("MODELFERRY_CPU", "portable")],
    &[
        ("LC_ALL", "tr_TR.UTF-8"),
        ("LANG", "tr_TR.UTF-8"),
        ("TZ", "Asia/Kathmandu"),
        ("MODELFERRY_CPU", "avx2"),
    ],
];

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    let Some(binary) = &suite.options.binary else {
        log.is_left_out = true;
        return;
    };
    if !binary.is_file() {
        log.record::<()>(&binary.display().to_string(), Err("no such program".to_owned()));
        return;
    }
    for writer in suite.registry.writers() {
        for fixture in suite.fixtures.iter().filter(|fixture| suite.judges_pair(fixture, writer.info())) {
            let subject = format!("{} to {}", fixture.name, writer.info().format);
            let result = guarded(|| agrees(suite, binary, fixture, writer.info())).and_then(|result| result);
            log.record(&subject, result);
        }
    }
}

fn agrees(suite: &Suite<'_>, binary: &Path, fixture: &Fixture, info: &WriterInfo) -> Result<(), String> {
    let here = suite.convert(fixture, info, &Manner::default())?;
    let expected_code = here.error.as_ref().map_or(0, |error| error.kind().exit_code());
    for environment in ENVIRONMENTS {
        let folder = suite.scratch.folder().map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.args(["convert", "--quiet", "--from", fixture.format, "--to", info.format]);
        command.arg(&fixture.path).arg(folder.path().join(format!("out{}", extension(info))));
        for plugin in &suite.options.plugins {
            command.arg("--plugin").arg(plugin);
        }
        command.env_remove("HOME").envs(environment.iter().copied());
        let output = command.output().map_err(|error| format!("{}: {error}", binary.display()))?;
        if output.status.code() != Some(expected_code) {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "{} instead of exit {expected_code} with {environment:?}: {said}",
                output.status
            ));
        }
        let files = folder.files().map_err(|error| error.to_string())?;
        if files != here.files {
            return Err(format!("other files, or other bytes in them, with {environment:?}"));
        }
    }
    Ok(())
}
