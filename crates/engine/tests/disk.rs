//! The files of a model on disk: what is found, what is refused, and that a change is noticed.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::TempDir;
use modelferry_core::ErrorKind::{self, Io as IoKind, Limit, Malformed, Unsupported};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::io::fault::{Call, Fault, FaultIo};
use modelferry_engine::io::{Io, OsIo};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

fn open(path: impl AsRef<Path>) -> modelferry_core::Result<DiskInputs> {
    DiskInputs::open(Arc::new(OsIo), path.as_ref())
}

/// An error of this kind whose text contains `part`.
#[track_caller]
fn check<T>(result: modelferry_core::Result<T>, kind: ErrorKind, part: &str) {
    match result {
        Ok(_) => panic!("accepted; expected {kind:?}: {part}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

fn text(inputs: &dyn Inputs, name: &str) -> String {
    let file = inputs.open(name).unwrap();
    String::from_utf8(inputs.read_vec(file, 0, inputs.len(file), 1 << 20).unwrap()).unwrap()
}

#[test]
fn files_beside_the_root_are_found_once() {
    let dir = TempDir::new("beside");
    let root = dir.file("m.index.json", "{}");
    dir.file("a.bin", "aaa");
    dir.file("sub/b.bin", "bb");
    let inputs = open(&root).unwrap();
    assert_eq!(inputs.open("m.index.json").unwrap(), inputs.root());
    let a = inputs.open("a.bin").unwrap();
    assert_eq!(inputs.open("./a.bin").unwrap(), a);
    assert_eq!(inputs.open("a.bin").unwrap(), a);
    assert_eq!((inputs.name(a), inputs.len(a), inputs.path(a)), ("a.bin".into(), 3, dir.join("a.bin")));
    assert_eq!(text(&inputs, "sub/b.bin"), "bb");
    assert_eq!(inputs.list("").unwrap(), ["a.bin", "m.index.json", "sub/"]);
    assert_eq!(inputs.list("sub").unwrap(), ["b.bin"]);
    assert_eq!((inputs.used().len(), inputs.total_len()), (3, 7));
    assert_eq!(inputs.find(&dir.join("sub/../a.bin")).unwrap(), Some(a));
    assert_eq!(inputs.find(&dir.join("none")).unwrap(), None);
    check(inputs.read_at(a, 2, &mut [0; 2]), Malformed, "byte 2: a read ends past the file");
    check(inputs.read_at(a, u64::MAX, &mut [0; 2]), Malformed, "a read ends past the file");
    inputs.check_unchanged().unwrap();
}

#[test]
fn a_root_that_is_no_file_is_named() {
    let dir = TempDir::new("root");
    check(open(dir.join("none")), IoKind, "none: no such file");
    check(open(""), IoKind, "no such file");
    check(open("/dev/null"), Unsupported, "found a character device");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    check(open(dir.join("pipe")), Unsupported, "found a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    check(open(dir.join("socket")), Unsupported, "found a socket");
    symlink("nowhere", dir.join("dangling")).unwrap();
    check(open(dir.join("dangling")), IoKind, "found a link to nowhere, which leads nowhere");
    symlink("loop", dir.join("loop")).unwrap();
    check(open(dir.join("loop")), IoKind, "loop");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let dir = TempDir::new("names");
    dir.file("outside.bin", "secret");
    let root = dir.file("model/m.json", "{}");
    dir.file("model/a.bin", "a");
    fs::create_dir(dir.join("model/folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("model/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let inputs = open(&root).unwrap();
    for (name, part) in [
        ("", "an empty name"),
        ("a.bin\0.txt", "a NUL"),
        ("/etc/passwd", "an absolute path leaves the model's folder"),
        ("../outside.bin", "`..` leaves the model's folder"),
        ("folder/../a.bin", "`..` leaves the model's folder"),
        ("folder//a.bin", "an empty part"),
        ("a.bin/", "an empty part"),
        (".", "no part"),
        ("none.bin", "no such file beside the model"),
        ("a.bin/b", "no such file beside the model"),
        ("..\\outside.bin", "no such file beside the model"),
        (&"x".repeat(300), "no such file beside the model"),
        ("folder", "found a directory"),
        ("pipe", "found a FIFO"),
    ] {
        check(inputs.open(name), Malformed, part);
    }
    assert_eq!(inputs.used().len(), 1);
}

#[test]
fn links_are_followed_inside_and_refused_outside() {
    let dir = TempDir::new("links");
    dir.file("outside.bin", "secret");
    let root = dir.file("model/m.json", "{}");
    dir.file("model/sub/a.bin", "a");
    let link = |to: &str, name: &str| symlink(to, dir.join("model").join(name)).unwrap();
    link("sub/a.bin", "inside");
    link("../outside.bin", "outside");
    link("outside", "twice");
    link("/etc/passwd", "absolute");
    link("nowhere", "dangling");
    link("loop", "loop");
    link("..", "up");
    let inputs = open(&root).unwrap();
    assert_eq!(text(&inputs, "inside"), "a");
    for name in ["outside", "twice", "absolute", "up/outside.bin"] {
        check(inputs.open(name), Malformed, "a link leads out of the model's folder");
    }
    check(inputs.open("outside"), Malformed, "outside.bin");
    check(inputs.open("dangling"), Malformed, "found a link to nowhere, which leads nowhere");
    check(inputs.open("loop"), Malformed, "a link that leads to itself");
    // A hard link and a name that only begins like the folder's.
    dir.file("model2/b.bin", "b");
    link("../model2/b.bin", "sibling");
    check(inputs.open("sibling"), Malformed, "leads out of the model's folder");
}

#[test]
fn the_hugging_face_cache_is_read() {
    let dir = TempDir::new("cache");
    for (blob, bytes) in [("111", "index"), ("222", "shard one"), ("333", "shard two")] {
        dir.file(&format!("models--x/blobs/{blob}"), bytes);
    }
    dir.file("models--x/refs/main", "abc");
    dir.file("models--y/blobs/444", "another model's");
    let snapshot = dir.join("models--x/snapshots/abc");
    fs::create_dir_all(snapshot.join("deep")).unwrap();
    symlink("../../blobs/111", snapshot.join("model.safetensors.index.json")).unwrap();
    symlink("../../blobs/222", snapshot.join("model-1.safetensors")).unwrap();
    symlink("../../../blobs/333", snapshot.join("deep/model-2.safetensors")).unwrap();
    symlink("../../../models--y/blobs/444", snapshot.join("foreign")).unwrap();
    symlink("../../refs/main", snapshot.join("ref")).unwrap();
    let inputs = open(snapshot.join("model.safetensors.index.json")).unwrap();
    assert_eq!(text(&inputs, "model.safetensors.index.json"), "index");
    assert_eq!(text(&inputs, "model-1.safetensors"), "shard one");
    assert_eq!(text(&inputs, "deep/model-2.safetensors"), "shard two");
    for name in ["foreign", "ref"] {
        check(inputs.open(name), Malformed, "leads out of the model's folder");
    }
    inputs.check_unchanged().unwrap();
    // The whole snapshot through a link of the user's own.
    symlink(&snapshot, dir.join("mine")).unwrap();
    let inputs = open(dir.join("mine/model.safetensors.index.json")).unwrap();
    assert_eq!(text(&inputs, "model-1.safetensors"), "shard one");
    // A link to the index alone: the shards are not beside it, and the message says where they are.
    let real = dir.file("plain/m.index.json", "{}");
    dir.file("plain/s.bin", "s");
    symlink(&real, dir.join("lone.json")).unwrap();
    check(open(dir.join("lone.json")).unwrap().open("s.bin"), Malformed, "name it by its own path");
}

#[test]
fn names_that_are_no_text_are_opened() {
    let dir = TempDir::new("bytes");
    let raw = |bytes: &'static [u8]| dir.join(OsStr::from_bytes(bytes));
    fs::write(raw(b"m\xff.bin"), "root").unwrap();
    fs::write(raw(b"s\xfe.bin"), "shard").unwrap();
    fs::write(raw(b"t\xfe.bin"), "one").unwrap();
    fs::write(raw(b"t\xff.bin"), "two").unwrap();
    fs::write(raw(b"new\nline"), "line").unwrap();
    let inputs = open(raw(b"m\xff.bin")).unwrap();
    assert_eq!(inputs.name(inputs.root()), "m\u{fffd}.bin");
    assert_eq!(inputs.open("m\u{fffd}.bin").unwrap(), inputs.root());
    assert_eq!(text(&inputs, "s\u{fffd}.bin"), "shard");
    assert_eq!(text(&inputs, "new\nline"), "line");
    check(inputs.open("t\u{fffd}.bin"), Malformed, "several files look like this name");
    check(inputs.open("u\u{fffd}.bin"), Malformed, "no such file");
    assert_eq!(inputs.list("").unwrap().len(), 5);
}

#[test]
fn a_change_is_noticed_wherever_it_happens() {
    type Change = (&'static str, fn(&Path));
    let changes: [Change; 5] = [
        ("cut", |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5).unwrap()),
        ("extended", |path| fs::write(path, vec![1; 2000]).unwrap()),
        ("same length", |path| fs::write(path, vec![2; 1000]).unwrap()),
        ("replaced", |path| {
            fs::write(path.with_extension("new"), vec![1; 1000]).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("removed", |path| fs::remove_file(path).unwrap()),
    ];
    for (what, change) in changes {
        let dir = TempDir::new("change");
        let root = dir.file("m.bin", vec![1; 1000]);
        let inputs = open(&root).unwrap();
        inputs.read_vec(inputs.root(), 0, 1000, 1000).unwrap();
        inputs.check_unchanged().unwrap();
        // The clock of a file system ticks every few milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(20));
        change(&root);
        check(inputs.check_unchanged(), IoKind, "m.bin: the input changed during the run");
        if what == "cut" {
            check(inputs.read_vec(inputs.root(), 0, 1000, 1000), IoKind, "byte 5: the file ended early");
        }
    }
}

#[test]
fn ten_thousand_shards_need_few_descriptors() {
    let dir = TempDir::new("many");
    let root = dir.file("m.json", "{}");
    let n = 10_000;
    for idx in 0..n {
        fs::write(dir.join(format!("s{idx}")), format!("shard {idx}")).unwrap();
    }
    let inputs = open(&root).unwrap();
    let files: Vec<_> = (0..n).map(|idx| inputs.open(&format!("s{idx}")).unwrap()).collect();
    let n_open = || {
        let links = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        links.filter(|path| path.starts_with(dir.path())).count()
    };
    assert!(n_open() <= 32, "{}", n_open());
    std::thread::scope(|scope| {
        for offset in 0..2 {
            let (inputs, files) = (&inputs, &files);
            scope.spawn(move || {
                for idx in (offset..n).step_by(37) {
                    let mut bytes = [0; 7];
                    inputs.read_at(files[idx], 0, &mut bytes).unwrap();
                    assert_eq!(&bytes[..], &format!("shard {idx}").as_bytes()[..7]);
                }
            });
        }
    });
    assert!(n_open() <= 32, "{}", n_open());
    // A shard that was replaced while it was closed is not read.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(dir.join("s0"), "other").unwrap();
    for &file in &files[100..200] {
        inputs.read_at(file, 0, &mut [0; 1]).unwrap();
    }
    check(inputs.read_at(files[0], 0, &mut [0; 1]), IoKind, "s0: the input changed during the run");
    let limited = open(&root).unwrap().limits(&{
        let mut limits = Limits::default();
        limits.files = 3;
        limits
    });
    limited.open("s1").unwrap();
    limited.open("s2").unwrap();
    check(limited.open("s3"), Limit, "too many files");
}

#[test]
fn too_many_open_files_are_closed_and_tried_again() {
    let dir = TempDir::new("emfile");
    let root = dir.file("a", "a");
    dir.file("b", "b");
    let io =
        FaultIo::new(OsIo, |seen| (seen.call == Call::OpenRead && seen.idx > 6).then_some(Fault::Errno(24)));
    // The first open passes, later ones fail however often they are tried.
    let inputs = DiskInputs::open(Arc::new(io), &root).unwrap();
    check(inputs.open("b"), IoKind, "b: opening");
    let once = std::sync::atomic::AtomicBool::new(false);
    let io = FaultIo::new(OsIo, move |seen| {
        let again = seen.path.ends_with("b") && seen.call == Call::OpenRead;
        (again && !once.swap(true, std::sync::atomic::Ordering::Relaxed)).then_some(Fault::Errno(24))
    });
    let inputs = DiskInputs::open(Arc::new(io), &root).unwrap();
    assert_eq!(text(&inputs, "b"), "b");
}

#[test]
fn holes_are_seen() {
    let dir = TempDir::new("holes");
    let path = dir.file("m.bin", "head");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(100 << 20).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, &[1; 4096], 64 << 20).unwrap();
    file.sync_all().unwrap();
    let inputs = open(&path).unwrap();
    assert!(inputs.is_sparse(inputs.root()));
    let data = inputs.data_len(inputs.root()).unwrap();
    assert!((8192..1 << 20).contains(&data), "{data}");
    let dense = open(dir.file("d.bin", vec![1; 100_000])).unwrap();
    assert_eq!(dense.data_len(dense.root()).unwrap(), 100_000);
}

/// Opens a root and a shard, reads both, looks whether they changed.
fn session(io: Arc<dyn Io>, root: &Path) -> modelferry_core::Result<Vec<u8>> {
    let inputs = DiskInputs::open(io, root)?;
    let shard = inputs.open("s\u{fffd}.bin")?;
    inputs.list("")?;
    let mut bytes = inputs.read_vec(inputs.root(), 0, inputs.len(inputs.root()), 1 << 20)?;
    bytes.extend(inputs.read_vec(shard, 0, inputs.len(shard), 1 << 20)?);
    inputs.check_unchanged()?;
    Ok(bytes)
}

#[test]
fn every_fault_is_reported_or_survived() {
    let dir = TempDir::new("faults");
    let root = dir.file("m.bin", vec![1; 5000]);
    fs::write(dir.join(OsStr::from_bytes(b"s\xfe.bin")), vec![2; 5000]).unwrap();
    let expected = session(Arc::new(OsIo), &root).unwrap();
    let mut n = 0;
    for idx in 0.. {
        let run = |fault| {
            let io = FaultIo::nth(OsIo, idx, fault);
            (session(Arc::new(io.clone()), &root), io.n_faults())
        };
        let (result, n_faults) = run(Fault::Errno(5));
        if n_faults == 0 {
            break;
        }
        n += 1;
        check(result, IoKind, "Input/output error");
        assert_eq!(run(Fault::Errno(4)).0.unwrap(), expected, "interrupted at call {idx}");
        assert_eq!(run(Fault::Short).0.unwrap(), expected, "short at call {idx}");
    }
    assert!(n > 10, "only {n} calls");
}

/// An index that was looked at and is another model's is no part of this one: it may change, and be replaced.
#[test]
fn a_released_file_is_no_input() {
    let dir = TempDir::new("disk");
    dir.file("other", "x");
    let inputs = open(dir.file("root", "y")).unwrap();
    let other = inputs.open("other").unwrap();
    assert_eq!((inputs.used().len(), inputs.identities().len()), (2, 2));
    inputs.release(other);
    assert_eq!((inputs.used().len(), inputs.identities().len()), (1, 1));
    fs::write(dir.join("other"), "xx").unwrap();
    inputs.check_unchanged().unwrap();
    inputs.release(inputs.root());
    assert_eq!(inputs.used().len(), 1, "the root is what the user named");
    assert_eq!(inputs.open("other").unwrap(), other);
    assert!(inputs.check_unchanged().is_err(), "it is part of the model again, and no longer what it was");
}

#[test]
fn a_folder_is_a_root_without_bytes() {
    let dir = TempDir::new("folder");
    dir.file("model/config.json", "{}");
    dir.file("model/sub/b.bin", "bb");
    dir.file("secret", "s");
    symlink("../secret", dir.join("model/out")).unwrap();
    symlink("..", dir.join("model/up")).unwrap();
    let inputs = open(dir.join("model")).unwrap();
    assert_eq!((inputs.root(), inputs.is_folder()), (FileId::FOLDER, true));
    assert_eq!((inputs.name(inputs.root()), inputs.len(inputs.root())), ("model".into(), 0));
    assert_eq!(inputs.list("").unwrap(), ["config.json", "out", "sub/", "up"]);
    assert_eq!((text(&inputs, "config.json"), text(&inputs, "sub/b.bin")), ("{}".into(), "bb".into()));
    check(inputs.open("out"), Malformed, "a link leads out of the model's folder");
    check(inputs.list("up"), Malformed, "a link leads out of the model's folder");
    check(inputs.list(".."), Malformed, "`..` leaves the model's folder");
    assert!(inputs.read_at(inputs.root(), 0, &mut [0]).is_err());
    inputs.check_unchanged().unwrap();
}

#[test]
fn a_snapshot_of_the_hub_cache_finds_its_blobs() {
    let dir = TempDir::new("hub");
    dir.file("models--a--b/blobs/1234", "{}");
    dir.file("models--a--c/blobs/1234", "other");
    let snapshot = dir.join("models--a--b/snapshots/abcd");
    fs::create_dir_all(&snapshot).unwrap();
    symlink("../../blobs/1234", snapshot.join("config.json")).unwrap();
    symlink("../../../models--a--c/blobs/1234", snapshot.join("stolen.json")).unwrap();
    let inputs = open(&snapshot).unwrap();
    assert_eq!(text(&inputs, "config.json"), "{}");
    check(inputs.open("stolen.json"), Malformed, "a link leads out of the model's folder");
}

#[test]
fn files_of_another_model_are_adopted() {
    let (dir, other) = (TempDir::new("adopter"), TempDir::new("adopted"));
    let inputs = open(dir.file("m.bin", "mine")).unwrap();
    let root = other.file("m.bin", "theirs");
    other.file("n.bin", "more");
    let theirs = open(&root).unwrap();
    let [first, second] = [theirs.root(), theirs.open("n.bin").unwrap()];
    let files = inputs.adopt(&theirs).unwrap();
    drop(theirs);
    assert_eq!(files, 1);
    let [first, second] = [first, second].map(|file| FileId(file.0 + files));
    assert_eq!(inputs.read_vec(first, 0, 6, 6).unwrap(), b"theirs");
    assert_eq!(inputs.read_vec(second, 1, 3, 3).unwrap(), b"ore");
    // They are known by their paths and found by no name.
    assert_eq!(inputs.name(first), root.display().to_string());
    assert_eq!(text(&inputs, "m.bin"), "mine");
    check(inputs.open("n.bin"), Malformed, "no such file");
    assert_eq!((inputs.used().len(), inputs.identities().len(), inputs.total_len()), (3, 3, 14));
    inputs.check_unchanged().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&root, "others").unwrap();
    check(inputs.check_unchanged(), IoKind, "m.bin: the input changed during the run");
    // Both together are one model's files.
    let mut few = Limits::default();
    few.files = 1;
    let inputs = open(dir.join("m.bin")).unwrap().limits(&few);
    check(inputs.adopt(&open(dir.join("m.bin")).unwrap()), Limit, "too many files");
}
