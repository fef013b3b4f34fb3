//! Libraries made by the C compiler, with their manifests, and what can be done with them.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

use modelferry_convert::{Context, Job, Report};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::plugin::{Answer, Host, Query};
use modelferry_core::registry::Registry;
use modelferry_core::{Error, Result};
use modelferry_engine::io::OsIo;
use modelferry_engine::{Control, Settings};
use modelferry_plugin::{Library, manifest, search, trust};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Set in the process in which the address sanitizer runs: libraries are built for it.
const SANITIZED: &str = "MODELFERRY_TEST_SANITIZED";

/// This crate's folder.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The folder of the header.
pub(crate) fn include() -> PathBuf {
    folder().join("../abi/include")
}

/// The folder of the samples.
pub(crate) fn samples() -> PathBuf {
    folder().join("samples/c")
}

/// An empty folder of this test's own.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let sanitized = if is_sanitized() { "-sanitized" } else { "" };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("plugin-{name}{sanitized}"));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// Compiles a library of C as strictly as an author could.
pub(crate) fn compile(source: &Path, library: &Path, include: &Path) {
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1", "-shared", "-fPIC", "-I"]);
    compiler.arg(include).arg("-o").arg(library).arg(source).arg("-pthread");
    if is_sanitized() {
        compiler.args(["-fsanitize=address", "-g"]);
    }
    let done = compiler.output().unwrap();
    assert!(done.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&done.stderr));
}

/// Writes the manifest that belongs beside a library. `parts` are its readers or writers.
pub(crate) fn describe(library: &Path, id: &str, parts: &str) {
    let text = format!(
        r#"{{"schema": 1, "id": "{id}", "version": "1.0", "abi": "1.0", "target": "{}", "sha256": "{}", {parts}}}"#,
        manifest::TARGET,
        trust::sha256(library).unwrap(),
    );
    std::fs::write(manifest::place(library), text).unwrap();
}

const FLAT_READER: &str = r#""readers": [{"format": "flat", "about": "flat files of the C sample",
    "extensions": [".flat"], "magic": [{"hex": "464c41542031"}]}]"#;
const FLAT_WRITER: &str = r#""writers": [{"format": "flat", "about": "flat files of the C sample",
    "extensions": [".flat"], "dtypes": ["f32", "i32"], "max_rank": 8,
    "options": [{"name": "checksums", "kind": "bool", "help": "Write the SHA-256 of both files beside them"}]}]"#;

/// Builds both samples against a header into a folder.
pub(crate) fn build_samples(to: &Path, include: &Path) {
    for (id, parts) in [("flat-reader", FLAT_READER), ("flat-writer", FLAT_WRITER)] {
        let library = to.join(format!("lib{id}.{}", std::env::consts::DLL_EXTENSION));
        compile(&samples().join(format!("{}.c", id.replace('-', "_"))), &library, include);
        describe(&library, id, parts);
    }
}

/// safetensors, and the libraries of a folder.
pub(crate) fn registry(libraries: &Path) -> Result<Registry> {
    let mut registry = Registry::default();
    safetensors_reader::register(&mut registry);
    safetensors_writer::register(&mut registry);
    let found: Vec<Arc<Library>> = search::libraries(&[libraries.to_path_buf()], None, None)?;
    search::register(&mut registry, &found)?;
    Ok(registry)
}

/// Converts; the format of the output is told by its name.
pub(crate) fn convert(registry: &Registry, input: &Path, output: &Path) -> Result<Report> {
    convert_as(registry, &Job { input: input.to_path_buf(), output: output.to_path_buf(), ..Job::default() })
}

/// Converts in any manner.
pub(crate) fn convert_as(registry: &Registry, job: &Job) -> Result<Report> {
    convert_under(registry, job, &Control::default())
}

/// Converts in a run that can be cancelled.
pub(crate) fn convert_under(registry: &Registry, job: &Job, control: &Control) -> Result<Report> {
    let settings = Settings::default();
    let cx = Context { registry, io: Arc::new(OsIo), settings: &settings, control };
    let mut report = Report::default();
    modelferry_convert::convert(&cx, job, &mut report).map(|()| report)
}

/// The error of what must fail.
pub(crate) fn failure<T>(result: Result<T>) -> Error {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error,
    }
}

/// Whether the address sanitizer watches this process.
pub(crate) fn is_sanitized() -> bool {
    std::env::var_os(SANITIZED).is_some()
}

/// Runs a test of this program once more, in a process of its own in which the address sanitizer watches it and the
/// libraries that it builds; it must find nothing.
pub(crate) fn sanitized(test: &str) {
    let (passed, said) = run_sanitized(test);
    assert!(passed, "{test}: {said}");
}

/// The same; gives whether the test passed, and what was said.
pub(crate) fn run_sanitized(test: &str) -> (bool, String) {
    let found = Command::new("gcc").arg("-print-file-name=libasan.so").output().unwrap();
    let runtime = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    assert!(Path::new(&runtime).is_absolute(), "gcc has no address sanitizer");
    let done = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--test-threads=1"])
        .env("LD_PRELOAD", runtime)
        .env(SANITIZED, "1")
        // What is kept for as long as the process lives is no leak; that models are released is counted.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .output()
        .unwrap();
    let said = [&*done.stdout, &*done.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    (done.status.success() && said.contains("1 passed"), said)
}

/// A program that answers nothing.
#[derive(Default)]
pub(crate) struct NoHost {
    limits: Limits,
}

impl Host for NoHost {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Err(Error::unsupported("no answer"))
    }
}
