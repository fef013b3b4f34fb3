//! An output is complete or it is not there, whatever call fails, whoever else writes it.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::TempDir;
use modelferry_core::ErrorKind::{self, Exists, Io as IoKind, Usage};
use modelferry_core::Result;
use modelferry_engine::io::fault::{Call, Fault, FaultIo};
use modelferry_engine::io::{Follow, Identity, Io, OsIo, look, read_exact_at, write_all_at};
use modelferry_engine::publish::{Allocate, Output, Replace, Staging, Sync, remove_leftovers};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};

/// What is in a folder: relative path and content; folders end in `/`, links hold their target.
type Tree = BTreeMap<PathBuf, String>;

fn tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        for entry in fs::read_dir(folder.join(&relative)).unwrap() {
            let entry = entry.unwrap();
            let path = relative.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            let content = match () {
                () if kind.is_dir() => "/".to_owned(),
                () if kind.is_symlink() => format!("-> {}", fs::read_link(entry.path()).unwrap().display()),
                () => String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned(),
            };
            tree.insert(path.clone(), content);
            if kind.is_dir() {
                folders.push(path);
            }
        }
    }
    tree
}

/// The tree without staging folders, and how many of these there are.
fn settled(folder: &Path) -> (Tree, usize) {
    let pid = format!(".partial-{}-", std::process::id());
    let is_staging = |path: &Path| path.as_os_str().to_string_lossy().contains(&pid);
    let tree = tree(folder);
    let n = tree.keys().filter(|path| is_staging(path) && path.components().count() == 1).count();
    (tree.into_iter().filter(|(path, _)| !is_staging(path)).collect(), n)
}

/// One output: its files with their content, the root last as a writer may or may not have it.
#[derive(Clone)]
struct Job {
    path: PathBuf,
    is_folder: bool,
    files: Vec<(&'static str, String)>,
    root: usize,
    replace: Replace,
    sync: Sync,
    supersedes: Vec<String>,
    inputs: Vec<Identity>,
}

impl Job {
    fn new(path: PathBuf, files: &[&'static str], version: &str) -> Job {
        let files = files.iter().map(|name| (*name, format!("{version} of {name}"))).collect();
        Job {
            path,
            is_folder: false,
            files,
            root: 0,
            replace: Replace::Refuse,
            sync: Sync::Replacing,
            supersedes: vec![],
            inputs: vec![],
        }
    }

    fn force(mut self) -> Job {
        self.replace = Replace::Force;
        self
    }

    fn begin(&self, io: Arc<dyn Io>) -> Result<Staging> {
        let files: Vec<_> =
            self.files.iter().map(|(name, content)| (name.to_string(), content.len() as u64)).collect();
        let output = Output {
            path: &self.path,
            is_folder: self.is_folder,
            files: &files,
            roots: &[self.root],
            replace: self.replace,
            supersedes: &self.supersedes,
            inputs: &self.inputs,
        };
        Staging::begin(io, &output, Allocate::Full)
    }

    fn run(&self, io: Arc<dyn Io>) -> Result<Vec<PathBuf>> {
        let staging = self.begin(Arc::clone(&io))?;
        let spool = staging.spool(10)?;
        write_all_at(&*io, &spool, 0, b"0123456789")?;
        for (idx, (_, content)) in self.files.iter().enumerate() {
            write_all_at(&*io, &*staging.file(idx)?, 0, content.as_bytes())?;
        }
        read_exact_at(&*io, &spool, 0, &mut [0; 10])?;
        staging.publish(self.sync)
    }
}

fn one_file<'a>(path: &'a Path, files: &'a [(String, u64)]) -> Output<'a> {
    let replace = Replace::Refuse;
    Output { path, is_folder: false, files, roots: &[0], replace, supersedes: &[], inputs: &[] }
}

#[track_caller]
fn check<T>(result: Result<T>, kind: ErrorKind, part: &str) {
    match result {
        Ok(_) => panic!("accepted; expected {kind:?}: {part}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

fn os() -> Arc<dyn Io> {
    Arc::new(OsIo)
}

const SET: [&str; 3] =
    ["m.safetensors.index.json", "m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
const OLD_SET: [&str; 4] = [
    "m.safetensors.index.json",
    "m-00001-of-00003.safetensors",
    "m-00002-of-00003.safetensors",
    "m-00003-of-00003.safetensors",
];
const STRANGERS: [&str; 5] = [
    "other.safetensors",
    "m.bin",
    "m2-00001-of-00002.safetensors",
    "m-1-of-2.safetensors",
    ".m.partial-note",
];

/// A folder before a run, what the run does, and the folder after it.
struct Case {
    name: &'static str,
    /// The folder that the output is; else it is a file.
    folder: Option<&'static str>,
    before: Vec<&'static str>,
    files: Vec<&'static str>,
    replace: Replace,
    removed: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |name, before: &[&'static str], files: &[&'static str], replace, removed: &[&'static str]| {
        let (before, files, removed) = (before.to_vec(), files.to_vec(), removed.to_vec());
        Case { name, folder: None, before, files, replace, removed }
    };
    let in_folder =
        |name, before: &[&'static str], files: &[&'static str], replace, removed: &[&'static str]| Case {
            folder: Some("out"),
            ..case(name, before, files, replace, removed)
        };
    const FOLDER: [&str; 3] = ["config.json", "m.safetensors", "1_Pooling/config.json"];
    use Replace::{Force, Refuse};
    vec![
        case("new file", &[], &["m.safetensors"], Refuse, &[]),
        case("new file, forced", &[], &["m.safetensors"], Force, &[]),
        case("file over file", &["m.safetensors"], &["m.safetensors"], Force, &[]),
        case("new set", &[], &SET, Refuse, &[]),
        case("set over the same names", &SET, &SET, Force, &[]),
        case("set over a longer set", &OLD_SET, &SET, Force, &OLD_SET[1..]),
        case("set over file", &["m.safetensors"], &SET, Force, &["m.safetensors"]),
        case("file over set", &OLD_SET, &["m.safetensors"], Force, &OLD_SET),
        case("folders", &[], &["m.safetensors", "a/b/c.json", "a/d.json"], Refuse, &[]),
        in_folder("new folder", &[], &FOLDER, Refuse, &[]),
        in_folder("new folder, forced", &[], &FOLDER, Force, &[]),
        in_folder("into a folder of strangers", &["out/other", "out/1_Pooling/x"], &FOLDER, Refuse, &[]),
        in_folder(
            "over another model",
            &["out/config.json", "out/m-00001-of-00001.safetensors", "out/m.bin", "out/other"],
            &FOLDER,
            Force,
            &["out/m-00001-of-00001.safetensors"],
        ),
        case("folders over some", &["a/d.json"], &["m.safetensors", "a/b/c.json", "a/d.json"], Force, &[]),
    ]
}

impl Case {
    /// The folder before, and the job.
    fn set_up(&self) -> (TempDir, Job, Tree, Tree) {
        let dir = TempDir::in_memory("publish");
        for name in self.before.iter().chain(&STRANGERS) {
            dir.file(name, format!("old of {name}"));
        }
        let before = tree(dir.path());
        let mut job = Job::new(dir.join(self.folder.unwrap_or("m.safetensors")), &self.files, "new");
        job.is_folder = self.folder.is_some();
        job.supersedes.extend(self.folder.map(|_| "m.safetensors".to_owned()));
        job.replace = self.replace;
        let mut after = before.clone();
        after.retain(|path, _| !self.removed.iter().any(|removed| Path::new(removed) == path));
        for (name, content) in &job.files {
            let path = Path::new(self.folder.unwrap_or_default()).join(name);
            after.insert(path.clone(), content.clone());
            for parent in path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
                after.insert(parent.into(), "/".into());
            }
        }
        (dir, job, before, after)
    }
}

/// What a file system may lack.
const LACKS: [&[Call]; 4] =
    [&[], &[Call::HardLink], &[Call::RenameNoreplace], &[Call::RenameNoreplace, Call::HardLink]];

#[test]
fn every_case_ends_as_it_should() {
    for case in cases() {
        for lacks in LACKS {
            let (dir, job, _, after) = case.set_up();
            let io = FaultIo::every(OsIo, lacks, Fault::Errno(22));
            let published = job.run(Arc::new(io)).unwrap();
            assert_eq!(tree(dir.path()), after, "{}", case.name);
            let folder = dir.join(case.folder.unwrap_or_default());
            assert_eq!(published, case.files.iter().map(|name| folder.join(name)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn whatever_call_fails_the_output_is_old_or_new() {
    let mut n_runs = 0;
    for case in cases() {
        for lacks in LACKS {
            // EIO; EACCES, which some calls take as a hint; then EINTR and short counts, which must not matter.
            let faults = [Fault::Errno(5), Fault::Errno(13), Fault::Errno(4), Fault::Short];
            for fault in faults.into_iter().take(if lacks.is_empty() { 4 } else { 1 }) {
                for idx in 0.. {
                    let (dir, job, before, after) = case.set_up();
                    let lacking = FaultIo::every(OsIo, lacks, Fault::Errno(22));
                    let io = FaultIo::nth(lacking, idx, fault);
                    let result = job.run(Arc::new(io.clone()));
                    let n_faults = io.n_faults();
                    drop(io);
                    let context = format!("{}, {lacks:?}, {fault:?} at call {idx}: {result:?}", case.name);
                    let found = tree(dir.path());
                    match result {
                        Ok(_) => assert_eq!(found, after, "{context}"),
                        Err(error) => {
                            assert_eq!(error.kind(), IoKind, "{context}");
                            assert!(!matches!(fault, Fault::Short | Fault::Errno(4)), "{context}");
                            // The one exception: the folder of a replaced file could not be synced.
                            let in_place = error.to_string().contains("is complete and in its place");
                            assert_eq!(found, if in_place { after } else { before }, "{context}");
                        }
                    }
                    if n_faults == 0 {
                        break;
                    }
                    n_runs += 1;
                }
            }
        }
    }
    assert!(n_runs > 2000, "only {n_runs} faults");
}

#[test]
fn a_kill_leaves_one_folder_and_the_next_run_removes_it() {
    for case in cases() {
        for idx in 0.. {
            let (dir, job, before, after) = case.set_up();
            let io = FaultIo::nth(OsIo, idx, Fault::Halt);
            let result = job.run(Arc::new(io.clone()));
            let context = format!("{}, killed at call {idx}", case.name);
            let (found, n_staging) = settled(dir.path());
            assert!(n_staging <= 1, "{context}: {found:?}");
            if case.files.len() == 1 && case.removed.is_empty() {
                assert!(found == before || found == after, "{context}: {found:?}");
            }
            // A root is never found with files of another version.
            let root = case.files[0];
            match found.get(Path::new(root)) {
                Some(content) if content.starts_with("new") => assert_eq!(found, after, "{context}"),
                Some(_) => assert_eq!(found, before, "{context}"),
                None => {}
            }
            if io.n_faults() == 0 {
                result.unwrap();
                break;
            }
            drop(io);
            // Looking for leftovers alone: nothing that was there before is lost unless its new version is there.
            let kept = remove_leftovers(&OsIo, &job.path);
            let (found, n_staging) = settled(dir.path());
            assert_eq!(n_staging, usize::from(kept.kept), "{context}");
            if !kept.kept {
                // Whether an empty folder was there before nobody knows.
                let is_file = |path: &Path| !found[path].starts_with('/') || before.contains_key(path);
                let files: Tree = found
                    .iter()
                    .filter(|(path, _)| is_file(path))
                    .map(|(a, b)| (a.clone(), b.clone()))
                    .collect();
                assert!(files == before || found == after, "{context}: {found:?}");
            }
            // The next run cleans up and does its work.
            let result = Job { replace: Replace::Force, ..job }.run(os());
            result.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(tree(dir.path()), after, "{context}");
        }
    }
}

#[test]
fn a_disk_that_stays_broken_loses_nothing() {
    // From the Nth rename on every rename fails, those that would put things back too.
    let case = cases().into_iter().find(|case| case.name == "set over a longer set").unwrap();
    let mut n_kept = 0;
    for nth in 0..12 {
        let (dir, job, before, after) = case.set_up();
        let n_renames = std::sync::atomic::AtomicU64::new(0);
        let io = FaultIo::new(OsIo, move |seen| {
            let is_rename = matches!(seen.call, Call::Rename | Call::RenameNoreplace | Call::HardLink);
            let failing = is_rename && n_renames.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= nth;
            failing.then_some(Fault::Errno(5))
        });
        let result = job.run(Arc::new(io));
        let (found, n_staging) = settled(dir.path());
        let Err(error) = result else {
            assert_eq!(found, after);
            continue;
        };
        if n_staging == 1 {
            n_kept += 1;
            assert!(
                error.to_string().contains("not everything could be put back; the rest is in "),
                "{error}"
            );
            let all: Vec<String> = tree(dir.path()).into_values().collect();
            assert!(before.values().all(|content| all.contains(content)), "{error}: {all:?}");
        } else {
            assert_eq!(found, before, "{error}");
        }
        // Once the disk works again, the next run has a full view and cleans up.
        job.run(os()).unwrap();
        assert_eq!(tree(dir.path()), after);
    }
    assert!(n_kept > 3, "{n_kept}");
}

#[test]
fn an_existing_output_is_refused_before_any_work() {
    let dir = TempDir::new("exists");
    dir.file("m.safetensors", "old");
    let before = tree(dir.path());
    let job = Job::new(dir.join("m.safetensors"), &["m.safetensors"], "new");
    check(job.begin(os()), Exists, "m.safetensors: the output is there already (pass --force to replace it)");
    // Any file of a set, and the name the user gave.
    let set = Job::new(dir.join("m.safetensors"), &SET, "new");
    check(set.begin(os()), Exists, "m.safetensors: the output is there already");
    dir.file(SET[2], "old");
    let set = Job::new(dir.join("x.safetensors"), &SET, "new");
    check(set.begin(os()), Exists, "m-00002-of-00002.safetensors: the output is there already");
    fs::remove_file(dir.join(SET[2])).unwrap();
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn places_that_are_no_place_are_refused_even_by_force() {
    let dir = TempDir::new("places");
    dir.file("target", "old");
    dir.file("input", "precious");
    fs::create_dir(dir.join("folder")).unwrap();
    symlink("target", dir.join("link")).unwrap();
    symlink("nowhere", dir.join("dangling")).unwrap();
    symlink("folder", dir.join("folder-link")).unwrap();
    fs::hard_link(dir.join("input"), dir.join("hard")).unwrap();
    let input = look(&OsIo, &dir.join("input"), Follow::No).unwrap().unwrap().fingerprint.identity;
    let before = tree(dir.path());
    for replace in [Replace::Refuse, Replace::Force] {
        let begin = |path: PathBuf, files: &[&'static str]| {
            Job { replace, inputs: vec![input], ..Job::new(path, files, "new") }.begin(os())
        };
        check(
            begin(dir.join("link"), &["link"]),
            Usage,
            "nothing is written through links (it leads to target)",
        );
        check(begin(dir.join("dangling"), &["dangling"]), Usage, "(it leads to nowhere)");
        check(begin(dir.join("folder"), &["folder"]), Exists, "the output is a directory");
        check(begin(dir.join("folder/"), &["folder"]), Usage, "named like a folder");
        check(begin(dir.join("folder/.."), &["x"]), Usage, "named like a folder");
        check(begin("".into(), &["x"]), Usage, "named like a folder");
        check(begin("/dev/null".into(), &["null"]), Usage, "found a character device");
        check(begin("/dev/stdout".into(), &["stdout"]), Usage, "is a symbolic link");
        check(begin(dir.join("none/x"), &["x"]), IoKind, "none: the output's folder is not there");
        check(
            begin(dir.join("target/x"), &["x"]),
            IoKind,
            "target: using it as a folder, found a regular file",
        );
        check(begin(dir.join("input"), &["input"]), Usage, "one of the input's own files");
        check(begin(dir.join("folder/../hard"), &["hard"]), Usage, "one of the input's own files");
        check(begin(dir.join("x"), &["x", "input"]), Usage, "one of the input's own files");
        check(begin(dir.join("x"), &["x", "folder-link/y"]), Usage, "a folder of the output is taken");
        check(begin(dir.join("x"), &["x", "../y"]), ErrorKind::Plugin, "no plain unique relative path");
    }
    assert_eq!(tree(dir.path()), before);
    // A folder reached through a link is the user's own business.
    Job::new(dir.join("folder-link/x"), &["x"], "new").run(os()).unwrap();
    assert_eq!(fs::read_to_string(dir.join("folder/x")).unwrap(), "new of x");
}

#[test]
fn a_set_that_is_being_read_is_not_debris() {
    let dir = TempDir::new("merge");
    for name in OLD_SET {
        dir.file(name, "shard");
    }
    let shard = look(&OsIo, &dir.join(OLD_SET[2]), Follow::No).unwrap().unwrap().fingerprint.identity;
    let mut job = Job::new(dir.join("m.safetensors"), &["m.safetensors"], "new").force();
    job.inputs = vec![shard];
    job.run(os()).unwrap();
    assert_eq!(tree(dir.path()).len(), OLD_SET.len() + 1);
}

#[test]
fn of_many_runs_one_wins() {
    let sets: [&[&'static str]; 3] = [&["m.safetensors"], &SET, &OLD_SET];
    for files in sets {
        for n_runs in [2, 8] {
            for round in 0..10 {
                let dir = TempDir::new("race");
                let barrier = Barrier::new(n_runs);
                let results: Vec<Result<_>> = std::thread::scope(|scope| {
                    let runs: Vec<_> = (0..n_runs)
                        .map(|run| {
                            let (dir, barrier) = (&dir, &barrier);
                            scope.spawn(move || {
                                barrier.wait();
                                Job::new(dir.join("m.safetensors"), files, &format!("run {run}")).run(os())
                            })
                        })
                        .collect();
                    runs.into_iter().map(|run| run.join().unwrap()).collect()
                });
                let winner = results.iter().position(Result::is_ok).unwrap();
                for (run, result) in results.into_iter().enumerate() {
                    if run != winner {
                        check(result, Exists, "the output is there already");
                    }
                }
                let found = tree(dir.path());
                assert_eq!(found.len(), files.len(), "round {round}: {found:?}");
                assert!(
                    found.values().all(|content| content.starts_with(&format!("run {winner} "))),
                    "{found:?}"
                );
            }
        }
    }
}

#[test]
fn forced_runs_do_not_mix_their_files() {
    for round in 0..10 {
        let dir = TempDir::new("forced");
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for run in 0..4 {
                let (dir, barrier) = (&dir, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    Job::new(dir.join("m.safetensors"), &SET, &format!("run {run}"))
                        .force()
                        .run(os())
                        .unwrap();
                });
            }
        });
        let found = tree(dir.path());
        let versions: Vec<&str> = found.values().map(|content| &content[..5]).collect();
        assert!(
            versions.len() == 3 && versions.iter().all(|version| *version == versions[0]),
            "{round}: {found:?}"
        );
    }
}

#[test]
fn a_live_run_is_not_taken_for_dead() {
    let dir = TempDir::new("live");
    let job = Job::new(dir.join("m"), &["m"], "new");
    let staging = job.begin(os()).unwrap();
    remove_leftovers(&OsIo, &job.path);
    let path = staging.path(0);
    assert!(path.exists());
    // What only looks like ours, or belongs to another output, stays.
    fs::create_dir(dir.join(".m.partial-1-x")).unwrap();
    fs::create_dir_all(dir.join(".n.partial-1-1/new")).unwrap();
    dir.file(".n.partial-1-1/lock", "");
    dir.file(".m.partial-1-1", "a file");
    symlink("/", dir.join(".m.partial-1-2")).unwrap();
    // The dead: with a lock nobody holds; and one killed before it had a lock.
    dir.file(".m.partial-1-3/new/m", "half");
    dir.file(".m.partial-1-3/lock", "");
    symlink(dir.path(), dir.join(".m.partial-1-3/new/link")).unwrap();
    fs::create_dir(dir.join(".m.partial-1-4")).unwrap();
    remove_leftovers(&OsIo, &job.path);
    write_all_at(&OsIo, &staging.file(0).unwrap(), 0, job.files[0].1.as_bytes()).unwrap();
    staging.publish(Sync::Always).unwrap();
    let left: Vec<_> = tree(dir.path()).into_keys().filter(|path| path.components().count() == 1).collect();
    let expected = [".m.partial-1-1", ".m.partial-1-2", ".m.partial-1-x", ".n.partial-1-1", "m"];
    assert_eq!(left, expected.map(PathBuf::from));
}

#[test]
fn odd_names_are_published() {
    let dir = TempDir::new("odd");
    let long = "x".repeat(255);
    let names: [&[u8]; 5] = [long.as_bytes(), b"new\nline", b"m\xff.bin", "naïve 模型".as_bytes(), b"-rf"];
    for name in names {
        let name = OsStr::from_bytes(name);
        let shown = name.to_string_lossy().into_owned();
        let files = [(shown, 3)];
        let path = dir.join(name);
        let output = one_file(&path, &files);
        let staging = Staging::begin(os(), &output, Allocate::Sparse).unwrap();
        write_all_at(&OsIo, &staging.file(0).unwrap(), 0, b"abc").unwrap();
        assert_eq!(staging.publish(Sync::Replacing).unwrap(), std::slice::from_ref(&path));
        assert_eq!(fs::read(&path).unwrap(), b"abc");
    }
    assert_eq!(tree(dir.path()).len(), names.len());
    let job = Job::new(dir.join(OsStr::from_bytes(b"n\xff.bin")), &["a", "b"], "new");
    check(job.begin(os()), Usage, "needs a name that is UTF-8");
    let job = Job::new(dir.join("y".repeat(256)), &["y"], "new");
    check(job.begin(os()), IoKind, "File name too long");
}

#[test]
fn staged_files_are_as_the_umask_says_and_few_are_open() {
    let dir = TempDir::new("mode");
    let reference = dir.file("reference", "");
    let names: Vec<(String, u64)> = (0..200).map(|idx| (format!("s{idx}"), 100)).collect();
    let path = dir.join("s0");
    let output = one_file(&path, &names);
    let staging = Staging::begin(os(), &output, Allocate::Full).unwrap();
    for idx in 0..200 {
        write_all_at(&OsIo, &staging.file(idx).unwrap(), 0, &[idx as u8; 100]).unwrap();
    }
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let n_open = links.filter(|path| path.starts_with(dir.path())).count();
    assert!(n_open <= 13, "{n_open}");
    // Beside a staged file are the others under their final names.
    assert_eq!(staging.path(7).parent(), staging.path(0).parent());
    assert_eq!(staging.path(7).file_name(), Some(OsStr::new("s7")));
    staging.publish(Sync::Replacing).unwrap();
    for idx in 0..200 {
        assert_eq!(fs::read(dir.join(format!("s{idx}"))).unwrap(), [idx as u8; 100]);
    }
    assert_eq!(fs::metadata(&path).unwrap().mode(), fs::metadata(&reference).unwrap().mode());
}

#[test]
fn dropping_removes_everything() {
    let dir = TempDir::new("drop");
    let staging = Job::new(dir.join("m.safetensors"), &SET, "new").begin(os()).unwrap();
    let spool = staging.spool(1 << 20).unwrap();
    assert!(!tree(dir.path()).is_empty());
    drop(staging);
    assert!(tree(dir.path()).is_empty());
    write_all_at(&OsIo, &spool, 5, b"still there").unwrap();
}

#[test]
fn only_replacing_or_being_asked_costs_a_sync() {
    let n_syncs = |before: &[&str], sync: Sync| {
        let dir = TempDir::new("sync");
        for name in before {
            dir.file(name, "old");
        }
        let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let seen = Arc::clone(&count);
        let io = FaultIo::new(OsIo, move |call| {
            if call.call == Call::Sync {
                seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            None
        });
        let job = Job { sync, ..Job::new(dir.join("m"), &["m"], "new").force() };
        job.run(Arc::new(io)).unwrap();
        count.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(n_syncs(&[], Sync::Replacing), 0);
    assert_eq!(n_syncs(&[], Sync::Always), 2);
    assert_eq!(n_syncs(&["m"], Sync::Replacing), 2);
}
