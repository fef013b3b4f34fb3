//! Runs that are ended from outside.

use crate::support::{
    Dir, Run, convert, convert_ok, files, has_staging, killed_by, modelferry, run, safetensors,
};
use crate::support::{names, write, write_sparse};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than any run may take to stop.
const SOON: Duration = Duration::from_secs(1);
/// Reading this would take half a minute and more.
const LONG: u64 = 64 << 30;

/// Sends a signal to a run over a long input and sees that it ends soon, with the right code. A busy machine may be
/// late; it is not late three times.
fn check_signal(args: &[&str], folder: &Path, signal: Signal, begun: impl Fn(u32) -> bool) {
    let mut times = vec![];
    for _ in 0..3 {
        let mut run = Run::start(modelferry(args).current_dir(folder));
        assert!(run.wait_for(&begun), "it ended before it was told to");
        let sent = Instant::now();
        run.signal(signal);
        let done = run.finish();
        times.push(sent.elapsed());
        let number = signal.as_raw();
        let done = done.expect(128 + number, &format!("interrupted by signal {number}"));
        assert!(!done.stdout.contains("wrote"), "{done:?}");
        assert!(!has_staging(folder), "{:?}", names(folder));
        if times.last().is_some_and(|time| *time < SOON) {
            return;
        }
    }
    panic!("{args:?} took {times:?} to stop");
}

/// Whether the process has this file open.
fn has_open(id: u32, path: &Path) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
}

#[test]
fn sigint_and_sigterm_end_a_conversion_within_a_second() {
    let dir = Dir::new("signals");
    write_sparse(&dir.join("in.safetensors"), LONG);
    let staged = |_| has_staging(dir.path());
    for signal in [Signal::INT, Signal::TERM] {
        for args in [
            &["convert", "in.safetensors", "o.safetensors"][..],
            &["convert", "in.safetensors", "o.npz"],
            &["convert", "in.safetensors", "o.safetensors", "--dtype", "bf16", "--threads", "1"],
            &["convert", "in.safetensors", "o.safetensors", "--shard-size", "1GB", "--json"],
        ] {
            check_signal(args, dir.path(), signal, staged);
        }
    }
    assert_eq!(dir.names(), ["in.safetensors"]);
}

#[test]
fn signals_end_reading_commands_too() {
    let dir = Dir::new("read-signals");
    let input = dir.join("in.safetensors");
    write_sparse(&input, LONG);
    fs::hard_link(&input, dir.join("same.safetensors")).unwrap();
    for args in [
        &["inspect", "--stats", "in.safetensors"][..],
        &["diff", "in.safetensors", "same.safetensors"],
        &["verify", "in.safetensors", "--against", "same.safetensors"],
    ] {
        check_signal(args, dir.path(), Signal::INT, |id| has_open(id, &input));
    }
}

#[test]
fn a_signal_at_any_time_leaves_all_or_nothing() {
    let dir = Dir::new("any-signal");
    let input = dir.join("in.safetensors");
    write(&input, safetensors(&[("a", 1 << 20), ("b", 1 << 20)], 3));
    let whole = dir.folder("whole");
    convert_ok(&input, whole.join("o.npz"), &[]);
    let mut n_done = 0;
    // Longer and longer delays, until a run is done before its signal three times.
    for step in 0.. {
        let folder = dir.folder("out");
        let mut run = Run::start(&mut convert(&input, folder.join("o.npz"), &[]));
        std::thread::sleep(Duration::from_millis(step));
        run.signal(Signal::TERM);
        let done = run.finish();
        match done.code() {
            Some(0) => {
                assert_eq!(files(&folder), files(&whole));
                n_done += 1;
            }
            code => {
                // Before the program has taken over the signal, it ends as every program does.
                assert!(code == Some(143) || killed_by(&done) == Some(15), "{done:?}");
                assert!(names(&folder).is_empty(), "{done:?}");
            }
        }
        fs::remove_dir_all(&folder).unwrap();
        if n_done == 3 {
            break;
        }
    }
}

type Files = BTreeMap<String, Vec<u8>>;

/// Kills runs of `options` that replace `old` after longer and longer delays, until three of them are done first; at
/// the beginning one in the middle of its work.
/// After each the old files or the new ones are under their names, or no root; the next run makes it whole.
fn kill_again_and_again(dir: &Dir, root: &str, options: &[&str], old: &Files) {
    let input = dir.join("new.safetensors");
    write(&input, safetensors(&[("a", 1 << 20), ("b", 1 << 20), ("c", 1 << 20)], 2));
    let reference = dir.folder("reference");
    convert_ok(&input, reference.join("m.safetensors"), options);
    let new = files(&reference);
    let options: Vec<&str> = options.iter().copied().chain(["--force"]).collect();
    let (mut n_done, mut n_killed) = (0, 0);
    for step in 0.. {
        let folder = dir.folder("out");
        for (name, bytes) in old {
            write(folder.join(name), bytes);
        }
        let mut victim = Run::start(&mut convert(&input, folder.join("m.safetensors"), &options));
        // Until one was killed, each is killed as soon as it is at work.
        match n_killed {
            0 => drop(victim.wait_for(|_| has_staging(&folder))),
            _ => std::thread::sleep(Duration::from_millis(3 * step)),
        }
        victim.signal(Signal::KILL);
        let done = victim.finish();
        if done.code() == Some(0) {
            n_done += 1;
        } else {
            assert_eq!(killed_by(&done), Some(9), "{done:?}");
            n_killed += 1;
        }
        let found = files(&folder);
        match found.get(root) {
            Some(content) if Some(content) == new.get(root) => assert!(found == new, "step {step}"),
            Some(_) => assert!(found == *old, "step {step}: {:?}", found.keys()),
            None => assert!(old.len() > 1 || old.is_empty(), "step {step}: {:?}", found.keys()),
        }
        if found.contains_key(root) {
            run(&mut modelferry([Path::new("inspect"), &folder.join(root)])).expect(0, "");
        }
        convert_ok(&input, folder.join("m.safetensors"), &options);
        assert!(files(&folder) == new, "step {step}: {:?}", names(&folder));
        assert!(!has_staging(&folder), "step {step}");
        fs::remove_dir_all(&folder).unwrap();
        assert!(step < 1000, "{n_killed} killed, {n_done} done");
        if n_done >= 3 && n_killed > 0 {
            break;
        }
    }
}

#[test]
fn kill_9_leaves_the_old_file_or_the_new_one() {
    let dir = Dir::new("kill-file");
    let old = Files::from([("m.safetensors".to_owned(), safetensors(&[("a", 500)], 1))]);
    kill_again_and_again(&dir, "m.safetensors", &[], &old);
}

#[test]
fn kill_9_leaves_the_old_set_or_the_new_one() {
    let dir = Dir::new("kill-set");
    let (input, old) = (dir.join("old.safetensors"), dir.folder("old"));
    write(&input, safetensors(&[("a", 900), ("b", 900), ("c", 900), ("d", 900)], 1));
    convert_ok(&input, old.join("m.safetensors"), &["--shard-size", "4000"]);
    let old = files(&old);
    assert_eq!(old.len(), 5);
    kill_again_and_again(&dir, "m.safetensors.index.json", &["--shard-size", "5MB"], &old);
}
