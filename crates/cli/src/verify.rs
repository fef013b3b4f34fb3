//! `verify PATH`.

use crate::session::Session;
use crate::text::{bytes, count, loss_lines, plural, printable};
use crate::{args, output};
use clap::ArgMatches;
use modelferry_convert::json::Failure;
use modelferry_convert::verify::{CheckKind, Failed, Verification, verify};
use modelferry_convert::{Opened, open, pick};
use modelferry_core::Result;
use modelferry_core::loss::Severity;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Runs the command and returns its exit code: 1 if a check fails, 10 if something cannot be read.
pub(crate) fn run(session: &Session<'_>, matches: &ArgMatches) -> i32 {
    match check(session, matches) {
        Ok(code) => code,
        Err(error) => session.fail("verify", &error),
    }
}

fn check(session: &Session<'_>, matches: &ArgMatches) -> Result<i32> {
    let path = args::get_path(matches, "input");
    let source_path = matches.get_one::<PathBuf>("against").map(PathBuf::as_path);
    let options = args::plugin_options(session.registry, matches);
    let cx = session.context();
    let (opened, found) = {
        let _watcher = session.watch("verify");
        let opened = open(&cx, &path, args::get(matches, "from"), &options)?;
        let mut source = match source_path {
            Some(path) => Some(open(&cx, path, args::get(matches, "from-source"), &options)?),
            None => None,
        };
        let in_use: Vec<_> = std::iter::once(&opened)
            .chain(&source)
            .flat_map(|opened| opened.readers().map(|reader| (reader.format, reader.options)))
            .collect();
        pick::check_options(session.registry, &options, &in_use)?;
        let found = verify(&cx, &opened, source.as_mut())?;
        (opened, found)
    };
    let error = found.failure();
    let failure = error.as_ref().map(|error| Failure { error, code: session.code(error) });
    if !session.is_quiet {
        let mut losses = opened.model.losses.clone();
        losses.retain(|loss| loss.kind.severity() > Severity::Note);
        for line in loss_lines(&losses) {
            output::message(&line);
        }
    }
    if session.is_json
        && let Some(error) = &error
    {
        output::message(&error.to_string());
    }
    output::stdout(|out| match () {
        () if session.is_json => found.write_json(&opened, failure, out),
        () if session.is_quiet => write_failed(&found, out),
        () => render(&found, (&path, &opened), source_path, out),
    })?;
    Ok(failure.map_or(0, |failure| failure.code))
}

fn render(
    found: &Verification,
    (path, opened): (&Path, &Opened),
    source: Option<&Path>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let name = |path: &Path| printable(&path.display().to_string());
    let n_bytes = found.files.iter().fold(0, |sum: u64, (_, len)| sum.saturating_add(*len));
    let n_files = plural(found.files.len() as u64, "file");
    writeln!(out, "{}: {}, {n_files}, {}", name(path), opened.reader.format, bytes(n_bytes))?;
    writeln!(out, "  structure   {n_files}: whole, and as the format demands")?;
    writeln!(
        out,
        "  payload     {} of {} read to the last byte, {}",
        count(found.n_readable),
        plural(found.n_tensors, "tensor"),
        bytes(found.bytes)
    )?;
    let n_failed = |kind| found.failed.iter().filter(|failed| failed.kind == kind).count() as u64;
    let share = |n: u64, kind| format!("{} of {}", count(n - n_failed(kind).min(n)), count(n));
    match found.n_checksums {
        0 => writeln!(out, "  checksums   the files state none")?,
        n => writeln!(out, "  checksums   {} as stated", share(n, CheckKind::Checksum))?,
    }
    if found.n_statements > 0 {
        let share = share(found.n_statements, CheckKind::Statement);
        writeln!(out, "  statements  {share} rules hold that reading does not need")?;
    }
    if let (Some(against), Some(source)) = (&found.against, source) {
        let stripped = if against.is_stripped { ", a wrapper's prefix stripped from its names" } else { "" };
        writeln!(
            out,
            "  against     {} ({}{stripped}): {} of {} the same, bit by bit",
            name(source),
            against.format,
            count(against.n_same),
            plural(against.n_compared, "tensor"),
        )?;
        if against.n_unreadable > 0 {
            writeln!(
                out,
                "              {} not compared",
                plural(against.n_unreadable, "unreadable tensor")
            )?;
        }
    }
    write_failed(found, out)?;
    let n_checks = plural(found.n_checks(), "check");
    match found.failed.len() as u64 {
        0 => writeln!(out, "verified: {n_checks}, none failed"),
        n_failed => writeln!(out, "failed: {} of {n_checks}", count(n_failed)),
    }
}

fn write_failed(found: &Verification, out: &mut dyn Write) -> io::Result<()> {
    found.failed.iter().try_for_each(|failed| writeln!(out, "{}", line(failed)))
}

/// `FAILED values: safetensors: tensor "a": …`.
fn line(failed: &Failed) -> String {
    let more = match failed.tensors.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} of the same bytes)", plural(n as u64 - 1, "tensor")),
    };
    format!("FAILED {}: {}{more}", failed.kind.name(), printable(&failed.error.to_string()))
}
