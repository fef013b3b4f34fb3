//! Damaged and hostile files: each gives the exit code and the message that lie beside it.

use super::fixtures::goes_with_others;
use super::scratch::walk;
use super::{Log, Suite, guarded};
use crate::stopwatch::Stopwatch;
use modelferry_convert::{Job, Report, convert};
use modelferry_core::plugin::Place;
use modelferry_engine::Settings;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    let mut tried: Vec<PathBuf> = vec![];
    for testdata in &suite.testdata {
        tried.extend(check_in(suite, &testdata.join("bad"), log));
    }
    for format in suite.judged_readers().map(|reader| reader.info().format) {
        let is_tried = |bad: PathBuf| tried.iter().any(|path| path.starts_with(bad.join(format)));
        if !suite.testdata.iter().any(|testdata| is_tried(testdata.join("bad"))) {
            let own =
                suite.testdata.last().map(|testdata| testdata.join("bad").join(format)).unwrap_or_default();
            log.record::<()>(format, Err(format!("the reader has no files in {}", own.display())));
        }
    }
}

/// Tries the cases of one folder, and gives them.
fn check_in(suite: &Suite<'_>, folder: &Path, log: &mut Log) -> Vec<PathBuf> {
    let is_judged = |path: &Path| {
        let group = path.strip_prefix(folder).ok().and_then(|path| path.iter().next());
        suite.judges_all() || group.is_some_and(|group| suite.judges_reader(&group.to_string_lossy()))
    };
    let mut files = walk(folder).unwrap_or_default();
    files.retain(|path| is_judged(path));
    let folders = folders(suite, folder);
    let is_in_folder = |path: &Path| folders.iter().any(|folder| path.starts_with(folder));
    let is_case = |path: &&PathBuf| !is_in_folder(path) && is_case(path, &files);
    let cases: Vec<&PathBuf> = folders.iter().chain(files.iter().filter(is_case)).collect();
    let groups = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in groups.filter(|group| group.is_dir() && is_judged(group)) {
        if !cases.iter().any(|path| path.starts_with(&group)) {
            log.record::<()>(&group.display().to_string(), Err("nothing in it is tried".to_owned()));
        }
    }
    for path in &cases {
        let subject = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        log.record(&subject, fails_as_recorded(suite, path));
    }
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "expect")) {
        if !path.with_extension("").exists() {
            log.record::<()>(
                &path.display().to_string(),
                Err("the file it belongs to is not there".to_owned()),
            );
        }
    }
    cases.into_iter().cloned().collect()
}

/// The folders that are a case as a whole: each one in that of a format whose models are folders.
fn folders(suite: &Suite<'_>, bad: &Path) -> Vec<PathBuf> {
    let readers = suite.judged_readers().map(|reader| reader.info());
    let groups = readers.filter(|info| info.place == Place::Folder).map(|info| bad.join(info.format));
    let entries = groups.filter_map(|group| fs::read_dir(group).ok()).flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Everything but what accompanies another file: notes, files of data, and the files around and below an index.
fn is_case(path: &Path, files: &[PathBuf]) -> bool {
    let is_index = |path: &Path| path.to_string_lossy().ends_with(".index.json");
    let mut indices = files.iter().filter(|other| is_index(other));
    let has_index = indices.any(|index| index.parent().is_some_and(|folder| path.starts_with(folder)));
    let is_note = path.extension().is_some_and(|extension| extension == "expect" || extension == "md");
    !is_note && !goes_with_others(path) && (is_index(path) || !has_index)
}

fn fails_as_recorded(suite: &Suite<'_>, path: &Path) -> Result<(), String> {
    let (mut found, mut took) = outcome(suite, path)?;
    for _ in 0..2 {
        if took > suite.options.max_time {
            // A processor that others share is slower at times.
            (found, took) = outcome(suite, path)?;
        }
    }
    if took > suite.options.max_time {
        return Err(format!("it takes {took:?}"));
    }
    let recorded = PathBuf::from(format!("{}.expect", path.display()));
    if suite.options.bless {
        return fs::write(&recorded, found).map_err(|error| format!("{}: {error}", recorded.display()));
    }
    match fs::read_to_string(&recorded) {
        Ok(expected) if expected == found => Ok(()),
        Ok(expected) => {
            let by = suite.options.bless_by;
            Err(format!("expected\n{expected}found\n{found}if that is better, {by} records it"))
        }
        Err(error) => {
            let by = suite.options.bless_by;
            Err(format!("{}: {error}; {by} writes it, look at what it says", recorded.display()))
        }
    }
}

/// Exit code and message, and the time until they were known.
fn outcome(suite: &Suite<'_>, path: &Path) -> Result<(String, Duration), String> {
    let folder = suite.scratch.folder().map_err(|error| error.to_string())?;
    // The folder that a bad file lies in names its format; what cannot be told goes to the first writer.
    let named =
        path.parent().and_then(Path::file_name).and_then(|name| suite.registry.writer(name.to_str()?).ok());
    let Some(writer) = named.or(suite.registry.writers().next()) else { return Err("no writers".to_owned()) };
    let job = Job {
        input: path.to_owned(),
        output: folder.path().join(format!("out{}", super::run::extension(writer.info()))),
        to: Some(writer.info().format.to_owned()),
        ..Job::default()
    };
    let settings = Settings::default();
    let watch = Stopwatch::start();
    let mut report = Report::default();
    let result = guarded(|| convert(&suite.context(&settings), &job, &mut report))?;
    let took = watch.took();
    if result.is_err() && !folder.files().map_err(|error| error.to_string())?.is_empty() {
        return Err("something was left behind".to_owned());
    }
    let text = match result {
        // Not every odd file is wrong; what became of it is recorded too.
        Ok(()) => {
            format!("exit 0\n{}", report.losses.iter().map(|loss| format!("{loss}\n")).collect::<String>())
        }
        Err(error) => format!("exit {}\n{error}\n", error.kind().exit_code()),
    };
    let here = path.parent().unwrap_or(Path::new("")).display().to_string();
    Ok((text.replace(&format!("{here}/"), "").replace(&folder.path().display().to_string(), "OUTPUT"), took))
}
