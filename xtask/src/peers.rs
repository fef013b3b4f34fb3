//! `cargo xtask peers`: our files judged by the programs that own the formats, and theirs read by us.
//!
//! The judges are Python (xtask/peers); this makes their environment, starts them and believes none of them without
//! counting: a suite without cases, or a program that no case was about, is red.

use crate::flags::Flags;
use crate::run::{self, Stop};
use crate::tally::Tally;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `cargo xtask peers`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let (_, tally) = run(&flags.names, flags.has("--full"))?;
    Ok(tally.finish())
}

/// One line of a judge.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) direction: String,
    pub(crate) is_ok: bool,
    pub(crate) n_files: u64,
    pub(crate) n_values: u64,
    detail: String,
}

/// What all judges said.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) cases: Vec<Case>,
    /// What we read or write and no program could be asked about, with the reason.
    pub(crate) not_judged: BTreeSet<String>,
}

/// Runs the named suites, or all.
pub(crate) fn run(names: &[String], full: bool) -> Result<(Judged, Tally), Stop> {
    let known = suites()?;
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(Stop::usage(format!("no suite {unknown:?}; there are {}", known.join(", "))));
    }
    let python = Python::prepare()?;
    let binary = run::build_modelferry()?;
    let mut judged = Judged::default();
    let mut tally = Tally::default();
    for suite in known.iter().filter(|suite| names.is_empty() || names.contains(suite)) {
        // By its name it can be had alone.
        if !full && names.is_empty() && is_full_only(suite)? {
            println!("{suite}: with --full only");
            continue;
        }
        judge(&python, &binary, suite, full, &mut judged, &mut tally)?;
    }
    if names.is_empty() {
        check_programs(&requirements()?, &judged.cases, &mut tally);
        let models = run::root().join("testdata/models");
        let mut fixtures = vec![];
        list(&models, "", &mut fixtures)?;
        judged.add_unnamed(&fixtures);
        judged.not_judged.iter().for_each(|text| println!("not judged: {text}"));
    }
    Ok((judged, tally))
}

/// Files below `folder`, relative to it; a folder that is a model itself stands for what is in it.
fn list(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result<(), Stop> {
    for entry in fs::read_dir(folder).map_err(run::at(folder))? {
        let path = entry.map_err(run::at(folder))?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        match path.is_dir() && !path.join("config.json").exists() {
            true => list(&path, &format!("{name}/"), found)?,
            false => found.push(name),
        }
    }
    Ok(())
}

impl Judged {
    /// Adds the fixtures that no case and no excuse is about: we read them, and nobody else was asked.
    fn add_unnamed(&mut self, fixtures: &[String]) {
        for fixture in fixtures {
            let is_named = self.cases.iter().any(|case| case.name.ends_with(fixture))
                || self.not_judged.iter().any(|text| text.starts_with(fixture));
            if !is_named {
                self.not_judged.insert(format!("{fixture}: read in conformance alone"));
            }
        }
    }
}

fn folder() -> PathBuf {
    run::root().join("xtask/peers")
}

/// Every file `suite_NAME.py`.
fn suites() -> Result<Vec<String>, Stop> {
    let folder = folder();
    let mut found = vec![];
    for entry in fs::read_dir(&folder).map_err(run::at(&folder))? {
        let name = entry.map_err(run::at(&folder))?.file_name().to_string_lossy().into_owned();
        found
            .extend(name.strip_prefix("suite_").and_then(|name| name.strip_suffix(".py")).map(str::to_owned));
    }
    found.sort();
    if found.is_empty() { Err(Stop::new("xtask/peers has no suites")) } else { Ok(found) }
}

/// Whether a suite says that it belongs to a full run.
fn is_full_only(suite: &str) -> Result<bool, Stop> {
    let path = folder().join(format!("suite_{suite}.py"));
    let text = fs::read_to_string(&path).map_err(run::at(&path))?;
    Ok(text.lines().any(|line| line == "FULL_ONLY = True"))
}

fn judge(
    python: &Python,
    binary: &Path,
    suite: &str,
    full: bool,
    judged: &mut Judged,
    tally: &mut Tally,
) -> Result<(), Stop> {
    let mut command = python.command("xtask/peers/judge.py");
    command.arg(suite).arg("--modelferry").arg(binary).arg("--work").arg(run::target().join("peers/work"));
    if full {
        command.arg("--full");
    }
    let part = format!("peers {suite}");
    let (mut n_cases, mut n_failed, mut summary) = (0, 0, None);
    let status = run::lines(&mut command, |line| {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            println!("{line}");
            return;
        };
        if let Some(found) = value.get("summary") {
            summary = Some(found.clone());
        } else if let Some(text) = value.get("not_judged").and_then(Value::as_str) {
            judged.not_judged.insert(text.to_owned());
        } else if let Some(case) = Case::read(&value) {
            n_cases += 1;
            let label = format!("{} ({} {}, {})", case.name, case.program, case.version, case.direction);
            if case.is_ok && case.n_files > 0 {
                tally.pass(&part, 1);
            } else {
                n_failed += 1;
                let why = if case.is_ok { "passed without opening a file" } else { &*case.detail };
                tally.fail(&part, format!("{label}: {why}"));
            }
            judged.cases.push(case);
        } else {
            tally.fail(&part, format!("a line that is no case: {line}"));
        }
    })?;
    match summary {
        None => tally.fail(&part, format!("ended early, {status}, after {n_cases} cases")),
        Some(summary) if summary["ran"] != n_cases => {
            tally.fail(&part, format!("says it ran {} cases, but {n_cases} arrived", summary["ran"]));
        }
        Some(summary) => println!(
            "{suite}: {n_cases} cases, {n_failed} failed, {} files, {} values, {} s",
            summary["files_opened"], summary["values_compared"], summary["seconds"]
        ),
    }
    if !status.success() && n_failed == 0 {
        tally.fail(&part, format!("{status} without a failed case"));
    }
    tally.must_have_run(&part);
    Ok(())
}

impl Case {
    pub(crate) fn read(value: &Value) -> Option<Case> {
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Some(Case {
            suite: text("suite")?,
            name: text("case")?,
            program: text("program")?,
            version: text("version")?,
            direction: text("direction")?,
            is_ok: value["ok"].as_bool()?,
            n_files: value["files_opened"].as_u64()?,
            n_values: value["values_compared"].as_u64()?,
            detail: text("detail")?,
        })
    }
}

/// Every package that we pin must have judged something, at the version that we pin.
fn check_programs(requirements: &str, cases: &[Case], tally: &mut Tally) {
    let plain = |name: &str| name.replace('-', "_").to_lowercase();
    for line in requirements.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (name, version) = line.split_once("==").unwrap_or((line, ""));
        let is_there = cases.iter().any(|case| {
            plain(&case.program) == plain(name) && case.version == version && case.is_ok && case.n_files > 0
        });
        tally.check("peers", is_there, || format!("{name} {version} did not run"));
    }
}

fn requirements() -> Result<String, Stop> {
    let path = folder().join("requirements.txt");
    fs::read_to_string(&path).map_err(run::at(&path))
}

/// A private environment with the packages of xtask/peers/requirements.txt.
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// Makes the environment, unless the one that is there was made from the same list by the same Python.
    pub(crate) fn prepare() -> Result<Python, Stop> {
        let folder = run::target().join("peers");
        fs::create_dir_all(&folder).map_err(run::at(&folder))?;
        let venv = folder.join("venv");
        let python = Python { program: venv.join("bin/python") };
        let version = Command::new("python3").arg("--version").output();
        let version =
            version.map_err(|error| Stop::new(format!("python3 is needed and did not start: {error}")))?;
        let wanted = format!("{}{}", String::from_utf8_lossy(&version.stdout), requirements()?);
        let stamp = folder.join("installed");
        if python.program.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(python);
        }
        println!(
            "making the private environment of the peers in {}; once, about two minutes",
            venv.display()
        );
        // Without the stamp an environment that was interrupted is made anew.
        if stamp.exists() {
            fs::remove_file(&stamp).map_err(run::at(&stamp))?;
        }
        run::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
        run::run(Command::new(&python.program).args(pip).arg(self::folder().join("requirements.txt")))?;
        fs::write(&stamp, wanted).map_err(run::at(&stamp))?;
        Ok(python)
    }

    /// A script of the workspace, to be run in its root.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command::new(&self.program);
        // Sources stay as they are: no folders of compiled code beside them.
        command.arg("-B").arg(run::root().join(script)).current_dir(run::root()).env("HF_HUB_OFFLINE", "1");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case(program: &str, version: &str, name: &str) -> Case {
        let line = json!({"suite": "s", "case": name, "program": program, "version": version, "direction": "d", "ok": true,
                          "files_opened": 1, "values_compared": 1, "detail": ""});
        Case::read(&line).unwrap()
    }

    #[test]
    fn a_program_that_did_not_run_is_red() {
        let is_green = |requirements: &str, cases: &[Case]| {
            let mut tally = Tally::default();
            check_programs(requirements, cases, &mut tally);
            tally.is_green()
        };
        let cases = [case("numpy", "2.0", "a"), case("ml_dtypes", "1.0", "b")];
        assert!(is_green("# why\nml-dtypes==1.0\nnumpy==2.0\n", &cases));
        assert!(!is_green("numpy==2.1\n", &cases));
        assert!(!is_green("numpy==2.0\ntorch==3.0\n", &cases));
        assert!(!is_green("numpy\n", &cases));
        let unopened = Case { n_files: 0, ..cases[0].clone() };
        assert!(!is_green("numpy==2.0\n", &[unopened]));
    }

    #[test]
    fn suites_say_whether_they_belong_to_a_full_run() {
        assert!(is_full_only("old_torch").unwrap());
        assert!(!is_full_only("torch").unwrap());
        assert!(is_full_only("none").is_err());
    }

    #[test]
    fn fixtures_that_nobody_judged_are_named() {
        let mut judged = Judged { cases: vec![case("numpy", "2.0", "fixture a.npy")], ..Judged::default() };
        judged.not_judged.insert("b.npy: numpy cannot".to_owned());
        judged.add_unnamed(&["a.npy", "b.npy", "c.npy"].map(str::to_owned));
        let expected = ["b.npy: numpy cannot", "c.npy: read in conformance alone"].map(str::to_owned);
        assert_eq!(judged.not_judged, expected.into());
    }
}
