//! Every damaged and hostile file of testdata, by the real program in little memory.

use crate::support::{Dir, convert, names, run, under};
use std::fs;
use std::path::{Path, PathBuf};

/// All that the program may write to, stacks and the heap together: more is an allocation that fails.
const LIMIT: &str = "ulimit -d 65536";

#[test]
fn a_bad_file_ends_as_recorded_within_64_mb() {
    let bad = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/bad");
    let mut folders = vec![bad];
    let mut recorded: Vec<PathBuf> = vec![];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "expect") {
                recorded.push(path);
            }
        }
    }
    assert!(recorded.len() > 300, "{}", recorded.len());
    for recorded in recorded {
        let input = recorded.with_extension("");
        let text = fs::read_to_string(&recorded).unwrap();
        let code: i32 =
            text.lines().next().and_then(|line| line.strip_prefix("exit ")?.parse().ok()).unwrap();
        let dir = Dir::new("bad");
        // A format that holds what the file claims to, where its folder names one.
        let format = input.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        let to = format.filter(|name| ["npy", "npz"].contains(name)).unwrap_or("safetensors");
        let output = dir.folder("out").join(format!("out.{to}"));
        let done = run(&mut under(LIMIT, &convert(&input, &output, &["--to", to])));
        assert!(done.code() == Some(code), "{}: {done:?}", input.display());
        assert!(!done.stderr.contains("panicked"), "{}: {done:?}", input.display());
        assert_eq!(names(&dir.join("out")).is_empty(), code != 0, "{}", input.display());
    }
}
