//! `edit PATH`.

use crate::session::Session;
use crate::text::{bytes, plural, printable, shortened};
use crate::{args, output};
use clap::ArgMatches;
use modelferry_convert::Context;
use modelferry_convert::edit::{Changed, EditJob, EditReport, edit};
use modelferry_convert::json::Failure;
use modelferry_core::Result;
use modelferry_core::model::Value;
use std::io::{self, Write};

/// Runs the command and returns its exit code.
pub(crate) fn run(session: &Session<'_>, matches: &ArgMatches) -> i32 {
    let mut report = EditReport::default();
    let error = change(session, matches, &mut report).err();
    let failure = error.as_ref().map(|error| Failure { error, code: session.code(error) });
    if let Some(failure) = failure {
        output::message(&failure.error.to_string());
    } else if report.n_other_names > 0 && !session.is_quiet {
        let names = plural(report.n_other_names, "other name");
        output::message(&format!("note: the old file has {names} (hard links), which keep the old metadata"));
    }
    let printed = match (&failure, session.is_json) {
        (_, true) => output::stdout(|out| report.write_json(out, failure)),
        (None, false) if !session.is_quiet => output::stdout(|out| summary(&report, out)),
        _ => Ok(()),
    };
    match (failure, printed) {
        (Some(failure), _) => failure.code,
        (None, Ok(())) => 0,
        (None, Err(error)) => {
            output::message(&error.to_string());
            session.code(&error)
        }
    }
}

fn change(session: &Session<'_>, matches: &ArgMatches, report: &mut EditReport) -> Result<()> {
    let mut settings = session.settings.clone();
    settings.sync = matches.get_flag("sync");
    let job = EditJob {
        path: args::get_path(matches, "input"),
        from: args::get(matches, "from").map(str::to_owned),
        changes: args::changes(matches, settings.limits.header_bytes)?,
        dry_run: matches.get_flag("dry-run"),
    };
    let cx = Context { settings: &settings, ..session.context() };
    let _watcher = session.watch("edit");
    edit(&cx, &job, report)
}

fn summary(report: &EditReport, out: &mut dyn Write) -> io::Result<()> {
    let path = printable(&report.path);
    if report.changes.is_empty() {
        return writeln!(out, "{path}: nothing to change, the metadata is so already");
    }
    let (verb, end) = if report.is_dry_run { ("would edit", ", nothing written") } else { ("edited", "") };
    writeln!(
        out,
        "{verb} {path}: {}, {}, {}{end}",
        plural(report.changes.len() as u64, "change"),
        plural(report.n_tensors, "tensor"),
        bytes(report.bytes),
    )?;
    report.changes.iter().try_for_each(|change| writeln!(out, "  {}", line(change)))
}

fn line(change: &Changed) -> String {
    let key = printable(&change.key);
    let shown = |value: &Value| match value {
        Value::Text(text) => format!("{:?}", shortened(text, 60)),
        other => shortened(&printable(&other.to_string()), 60),
    };
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => format!("changed  {key}: {} (was {})", shown(after), shown(before)),
        (None, Some(after)) => format!("added    {key}: {}", shown(after)),
        (Some(before), None) => format!("removed  {key} (was {})", shown(before)),
        (None, None) => key,
    }
}
