//! `convert INPUT OUTPUT`.

use crate::session::Session;
use crate::text::{bytes, count, loss_lines, plural, printable, quantized_lines};
use crate::{args, output};
use clap::ArgMatches;
use modelferry_convert::json::Failure;
use modelferry_convert::{Job, Policy, Report};
use modelferry_core::{Error, Result};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs the command and returns its exit code.
pub(crate) fn run(session: &Session<'_>, matches: &ArgMatches) -> i32 {
    let mut report = Report::default();
    let report_path = matches.get_one::<PathBuf>("report").map(PathBuf::as_path);
    let result = convert(session, matches, report_path, &mut report);
    if !session.is_quiet {
        remarks(&report).iter().for_each(|line| output::message(line));
    }
    let error = result.err();
    let failure = error.as_ref().map(|error| Failure { error, code: session.code(error) });
    let printed = match (&failure, session.is_json) {
        (_, true) => output::stdout(|out| report.write_json(out, failure)),
        (None, false) if !session.is_quiet => output::stdout(|out| summary(&report, out)),
        _ => Ok(()),
    };
    // A report that must not be replaced is not written, of all failures that one.
    let may_write = report_path.is_some_and(|path| {
        let is_output = |own: &Report| own.output.as_str() == path.to_string_lossy();
        check_report_path(matches, path).is_ok() && !report.outputs.iter().chain([&report]).any(is_output)
    });
    let saved = match report_path.filter(|_| may_write) {
        Some(path) => save(path, &report, failure),
        None => Ok(()),
    };
    if let Some(failure) = failure {
        output::message(&failure.error.to_string());
        return failure.code;
    }
    match printed.and(saved) {
        Ok(()) => 0,
        Err(error) => {
            output::message(&error.to_string());
            session.code(&error)
        }
    }
}

fn convert(
    session: &Session<'_>,
    matches: &ArgMatches,
    report_path: Option<&Path>,
    report: &mut Report,
) -> Result<()> {
    let mut settings = session.settings.clone();
    settings.sync = matches.get_flag("sync");
    let mut edits = args::edits(matches)?;
    let cx = modelferry_convert::Context { settings: &settings, ..session.context() };
    if let Some(path) = matches.get_one::<PathBuf>("imatrix") {
        edits.quantize.importance = Some(Arc::new(modelferry_convert::importance(&cx, path)?));
    }
    let presets = args::presets(matches)?;
    let job = Job {
        several: if presets.len() > 1 { presets } else { vec![] },
        input: args::get_path(matches, "input"),
        output: args::get_path(matches, "output"),
        from: args::get(matches, "from").map(str::to_owned),
        to: args::get(matches, "to").map(str::to_owned),
        options: args::plugin_options(session.registry, matches),
        config: args::config(matches)?,
        weights: matches.get_one::<PathBuf>("weights").cloned(),
        edits,
        shards: args::shards(matches)?,
        policy: Policy { allow: args::allowed(matches)?, strict: matches.get_flag("strict") },
        dry_run: matches.get_flag("dry-run"),
        verify: matches.get_flag("verify"),
        force: matches.get_flag("force"),
    };
    if let Some(path) = report_path {
        check_report_path(matches, path)?;
        if job.outputs().iter().any(|output| output == path) {
            return Err(Error::usage("--report names the output").file(path.display()));
        }
    }
    let _watcher = session.watch("convert");
    modelferry_convert::convert(&cx, &job, report)
}

/// Losses and notes; of several outputs those that all have once, the others under their names.
fn remarks(report: &Report) -> Vec<String> {
    let of = |report: &Report| -> Vec<String> {
        let notes = report.notes.iter().map(|note| format!("note: {}", printable(note)));
        loss_lines(&report.losses).into_iter().chain(notes).collect()
    };
    let mut lines = of(report);
    let each: Vec<Vec<String>> = report.outputs.iter().map(of).collect();
    let is_everywhere = |line: &String| each.iter().all(|lines| lines.contains(line));
    lines.extend(each.iter().take(1).flatten().filter(|line| is_everywhere(line)).cloned());
    for (own, found) in report.outputs.iter().zip(&each) {
        let name = printable(&root(own));
        lines.extend(found.iter().filter(|line| !is_everywhere(line)).map(|line| format!("{name}: {line}")));
    }
    lines
}

/// A report may replace an older report under `--force`, but never the model.
fn check_report_path(matches: &ArgMatches, path: &Path) -> Result<()> {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    for (name, id) in [("input", "input"), ("output", "output")] {
        let other = args::get_path(matches, id);
        if path == other || real(path).is_some_and(|found| Some(found) == real(&other)) {
            return Err(Error::usage(format!("--report names the {name}")).file(path.display()));
        }
    }
    if !matches.get_flag("force") && std::fs::symlink_metadata(path).is_ok() {
        return Err(Error::exists("the report is there already")
            .file(path.display())
            .hint("pass --force to replace it"));
    }
    Ok(())
}

fn save(path: &Path, report: &Report, failure: Option<Failure<'_>>) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = io::BufWriter::new(std::fs::File::create(path)?);
        report.write_json(&mut file, failure)?;
        file.flush()
    };
    write().map_err(|error| Error::io("writing the report", error).file(path.display()))
}

/// The folder, or the file that stands for the output: where one shard is enough, an index that was named is not
/// written.
fn root(report: &Report) -> String {
    match &report.root {
        Some(root) if !report.is_folder => {
            Path::new(&report.output).with_file_name(root).display().to_string()
        }
        _ => report.output.clone(),
    }
}

/// What was written, or would be.
fn summary(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for own in &report.outputs {
        summary_of_one(own, out)?;
        details(own, out)?;
    }
    if report.outputs.is_empty() {
        summary_of_one(report, out)?;
    }
    for path in &report.stale {
        let verb = if report.is_dry_run { "would remove" } else { "removed" };
        writeln!(out, "  {verb} {}, of an earlier output", printable(path))?;
    }
    if report.outputs.is_empty() { details(report, out) } else { Ok(()) }
}

fn summary_of_one(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let formats = format!("{} to {}", report.from.unwrap_or("?"), report.to.unwrap_or("?"));
    let (verb, end) = if report.is_dry_run { ("would write", ", nothing written") } else { ("wrote", "") };
    writeln!(
        out,
        "{verb} {}: {}, {}, {formats}{end}",
        printable(&root(report)),
        plural(report.n_tensors, "tensor"),
        bytes(report.bytes),
    )?;
    if let Some(given) = &report.weights {
        writeln!(
            out,
            "  {} from {}, {}",
            plural(given.n_tensors, "tensor"),
            printable(&given.path),
            given.format
        )?;
    }
    if report.is_dry_run || report.files.len() > 1 {
        for (path, len) in &report.files {
            writeln!(out, "  {}  {len} bytes", printable(path))?;
        }
    }
    for (path, at_most) in report.promised.iter().filter(|_| report.is_dry_run) {
        writeln!(out, "  {}  at most {at_most} bytes, made at the end", printable(path))?;
    }
    for (path, n_tensors) in &report.links {
        let n = plural(*n_tensors, "tensor");
        writeln!(out, "  points into {} for {n}: move both together", printable(path))?;
    }
    Ok(())
}

/// What else there is to say of it: elements, questions, errors.
fn details(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.is_dry_run {
        writeln!(out, "  {} elements", count(report.n_elements))?;
        for asked in &report.asked {
            writeln!(out, "  asked: {}: {}", asked.question, asked.answer)?;
        }
    }
    quantized_lines(&report.quantized, "  ").iter().try_for_each(|line| writeln!(out, "{line}"))?;
    if let Some(n_tensors) = report.n_verified {
        writeln!(out, "verified: {} read back, equal to the source", plural(n_tensors as u64, "tensor"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_will_report_on_the_run() {
        let (files, promised) =
            (vec![("m.x".to_owned(), 8)], vec![("m.x.sums".to_owned(), 70), ("a\nb".to_owned(), 1)]);
        let mut report = Report { files, promised, bytes: 8, is_dry_run: true, ..Report::default() };
        let said = |report: &Report| {
            let mut out = vec![];
            summary(report, &mut out).map(|()| String::from_utf8_lossy(&out).into_owned()).unwrap_or_default()
        };
        let lines = "  m.x  8 bytes\n  m.x.sums  at most 70 bytes, made at the end\n  a\\nb  at most 1";
        assert!(said(&report).contains(lines), "{}", said(&report));
        report.files.push(("m.x.sums".to_owned(), 66));
        report.is_dry_run = false;
        assert!(said(&report).ends_with("  m.x  8 bytes\n  m.x.sums  66 bytes\n"), "{}", said(&report));
    }
}
