//! Several runs at once.

use crate::support::{Dir, Done, Run, convert, convert_ok, files, names, safetensors, write};
use std::path::{Path, PathBuf};

/// Starts `n` conversions of different inputs to one output and gives how they ended.
fn race(dir: &Dir, n: usize, output: &Path, options: &[&str]) -> Vec<Done> {
    let runs: Vec<Run> =
        (0..n).map(|idx| Run::start(&mut convert(input(dir, idx), output, options))).collect();
    runs.into_iter().map(Run::finish).collect()
}

fn input(dir: &Dir, idx: usize) -> PathBuf {
    dir.join(format!("in{idx}.safetensors"))
}

#[test]
fn of_two_and_eight_runs_on_one_output_one_wins() {
    let dir = Dir::new("races");
    for idx in 0..8 {
        write(input(&dir, idx), safetensors(&[("a", 20_000), ("b", 20_000), ("c", 20_000)], idx as u32));
    }
    for options in [&[][..], &["--shard-size", "100KB"]] {
        let wholes: Vec<_> = (0..8)
            .map(|idx| {
                let folder = dir.folder("whole");
                convert_ok(input(&dir, idx), folder.join("o.safetensors"), options);
                let whole = files(&folder);
                std::fs::remove_dir_all(folder).unwrap();
                whole
            })
            .collect();
        for n in [2, 8, 2, 8, 2, 8] {
            let folder = dir.folder("out");
            let ended = race(&dir, n, &folder.join("o.safetensors"), options);
            let winners: Vec<usize> = (0..n).filter(|&idx| ended[idx].code() == Some(0)).collect();
            assert_eq!(winners.len(), 1, "{ended:?}");
            for (_, loser) in ended.into_iter().enumerate().filter(|(idx, _)| *idx != winners[0]) {
                loser.expect(3, "the output is there already");
            }
            // Nothing beside the winner's files.
            assert_eq!(names(&folder), wholes[winners[0]].keys().cloned().collect::<Vec<_>>());
            assert!(files(&folder) == wholes[winners[0]]);
            std::fs::remove_dir_all(folder).unwrap();
        }
        // By force all win, one after another, and the last one's files are all its own.
        let folder = dir.folder("out");
        let forced: Vec<&str> = options.iter().copied().chain(["--force"]).collect();
        for done in race(&dir, 8, &folder.join("o.safetensors"), &forced) {
            done.expect(0, "");
        }
        let found = files(&folder);
        assert_eq!(names(&folder).len(), found.len(), "{:?}", names(&folder));
        assert!(wholes.contains(&found), "files of several runs: {:?}", found.keys());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
