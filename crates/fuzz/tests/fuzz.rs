//! A short run of every target, and every input that was once a fault.

use modelferry_fuzz::{Budget, Options, TARGETS, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cases for each target: about ten seconds for all of them together.
const CASES: [(&str, u64); 12] = [
    ("safetensors-header", 10_000),
    ("safetensors-index", 8000),
    ("npy-header", 10_000),
    ("npz-members", 5000),
    ("onnx-document", 8000),
    ("pickle", 20_000),
    ("torch", 10_000),
    ("gguf-header", 10_000),
    ("msgpack-document", 8000),
    ("hf-config", 10_000),
    ("whole-path", 10_000),
    ("write-then-read", 4000),
];

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

#[test]
fn short_runs_find_nothing() {
    assert_eq!(
        CASES.map(|(name, _)| name).to_vec(),
        TARGETS.iter().map(|target| target.name).collect::<Vec<_>>()
    );
    for (target, cases) in CASES {
        // In a process of its own, whose allocator counts.
        let mut program = Command::new(env!("CARGO_BIN_EXE_modelferry-fuzz"));
        let run = program.args([target, "--seed=1", &format!("--cases={cases}")]).output().unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    }
}

#[test]
fn kept_inputs_hold() {
    let folder = testdata().join("fuzz");
    let mut n_expected = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(TARGETS.iter().any(|target| target.name == name), "{name} is no target");
            n_expected += std::fs::read_dir(&path).unwrap().count() as u64;
        }
    }
    let options = Options {
        targets: vec![],
        seed: 1,
        first_case: 0,
        budget: Budget::Cases(0),
        testdata: testdata(),
        probe: None,
        trace: None,
        keep: None,
    };
    let outcome = run(&options).unwrap();
    assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
    let n_kept: u64 = outcome.targets.iter().map(|target| target.n_kept).sum();
    assert!(n_expected > 0 && n_kept == n_expected, "{n_kept} of {n_expected} replayed");
}
