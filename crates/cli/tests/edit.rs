//! `edit` changes metadata and nothing else, whatever fails: the old file or the new one, whole, and no debris.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]

use modelferry_cli::builtin;
use modelferry_convert::edit::{Change, EditJob, EditReport, edit};
use modelferry_convert::{Context, PluginOptions, open};
use modelferry_core::model::Value;
use modelferry_core::registry::Registry;
use modelferry_core::{ErrorKind, Result};
use modelferry_engine::io::fault::{Call, Fault, FaultIo};
use modelferry_engine::io::{Io, OsIo};
use modelferry_engine::{Control, Settings};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = base.join(format!("modelferry-edit-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file with a byte before its floats, so that a writer left to itself would change their order.
fn file(metadata: &str) -> Vec<u8> {
    let json = format!(
        r#"{{"__metadata__":{metadata},"b":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}},"f":{{"dtype":"F32","shape":[3000],"data_offsets":[1,12001]}}}}"#
    );
    let json = format!("{json:width$}", width = json.len().next_multiple_of(8));
    let data = (0..12001u32).map(|at| (at * 7 % 251) as u8);
    (json.len() as u64).to_le_bytes().into_iter().chain(json.bytes()).chain(data).collect()
}

fn set(key: &str, text: &str) -> Change {
    Change::Set { key: key.into(), text: text.into() }
}

fn run(io: Arc<dyn Io>, path: &Path, changes: Vec<Change>) -> Result<EditReport> {
    let registry: Registry = builtin::registry();
    let (settings, control) = (Settings { threads: 2, ..Settings::default() }, Control::new());
    let cx = Context { registry: &registry, io, settings: &settings, control: &control };
    let job = EditJob { path: path.to_owned(), changes, ..EditJob::default() };
    let mut report = EditReport::default();
    edit(&cx, &job, &mut report).map(|()| report)
}

fn metadata(path: &Path) -> Vec<(String, String)> {
    let (registry, settings, control) = (builtin::registry(), Settings::default(), Control::new());
    let cx = Context { registry: &registry, io: Arc::new(OsIo), settings: &settings, control: &control };
    let opened = open(&cx, path, None, &PluginOptions::new()).unwrap();
    assert_eq!(opened.model.tensors.iter().map(|tensor| &*tensor.name).collect::<Vec<_>>(), ["b", "f"]);
    let text = |value: &Value| match value {
        Value::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    opened.model.metadata.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

#[test]
fn everything_else_stays() {
    let folder = Folder::new();
    let (path, link) = (folder.0.join("m.safetensors"), folder.0.join("other.safetensors"));
    let before = file(r#"{"z":"1","a":"2"}"#);
    fs::write(&path, &before).unwrap();
    fs::hard_link(&path, &link).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let old = fs::metadata(&path).unwrap();

    let report = run(Arc::new(OsIo), &path, vec![set("note", "ä=\"\n"), set("z", "3")]).unwrap();
    assert!(report.is_written);
    assert_eq!((report.n_other_names, report.changes.len()), (1, 2));
    let new = fs::metadata(&path).unwrap();
    assert_eq!((new.mode(), new.uid(), new.gid()), (old.mode(), old.uid(), old.gid()));
    assert_ne!(new.ino(), old.ino());
    let found = metadata(&path);
    let found: Vec<_> = found.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    assert_eq!(found, [("z", "3"), ("a", "2"), ("note", "ä=\"\n")]);
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.ends_with(&before[before.len() - 12001..]));
    assert_eq!((bytes.len() - before.len()) % 4096, 0, "the data stays at its place of a page");
    // The old file is as it was, whoever still has it.
    assert_eq!(fs::read(&link).unwrap(), before);
    let kept = fs::metadata(&link).unwrap();
    assert_eq!((kept.ino(), kept.mtime_nsec(), kept.mode()), (old.ino(), old.mtime_nsec(), old.mode()));

    // Changing it back gives the same bytes back.
    let undo = vec![set("z", "1"), Change::Remove { key: "note".into() }];
    run(Arc::new(OsIo), &path, undo).unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(folder.names(), ["m.safetensors", "other.safetensors"]);

    // Nothing to change, nothing written.
    let now = fs::metadata(&path).unwrap().ino();
    assert!(!run(Arc::new(OsIo), &path, vec![set("z", "1")]).unwrap().is_written);
    assert_eq!(fs::metadata(&path).unwrap().ino(), now);
}

#[test]
fn links_and_protected_files_are_refused() {
    let folder = Folder::new();
    let (path, link) = (folder.0.join("m.safetensors"), folder.0.join("link.safetensors"));
    let before = file("{}");
    fs::write(&path, &before).unwrap();
    symlink("m.safetensors", &link).unwrap();
    let error = run(Arc::new(OsIo), &link, vec![set("a", "1")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let text = error.to_string();
    assert!(text.ends_with("(it leads to m.safetensors; name that)"), "{text}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = run(Arc::new(OsIo), &path, vec![set("a", "1")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("write-protected"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(folder.names(), ["link.safetensors", "m.safetensors"]);
}

/// Each call fails in turn, in each way, until a run has no failure.
#[test]
fn the_old_file_or_the_new_one_whatever_fails() {
    let folder = Folder::new();
    let path = folder.0.join("m.safetensors");
    let before = file(r#"{"a":"1"}"#);
    fs::write(&path, &before).unwrap();
    run(Arc::new(OsIo), &path, vec![set("a", "2")]).unwrap();
    let after = fs::read(&path).unwrap();
    let mut n_runs = 0;
    for fault in [Fault::Errno(5), Fault::Errno(28), Fault::Errno(4), Fault::Short, Fault::Halt] {
        for idx in 0.. {
            fs::write(&path, &before).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o606)).unwrap();
            let io = FaultIo::nth(OsIo, idx, fault);
            let result = run(Arc::new(io.clone()), &path, vec![set("a", "2")]);
            n_runs += 1;
            let found = fs::read(&path).unwrap();
            assert!(found == before || found == after, "call {idx}, {fault:?}: neither file");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o606, "call {idx}, {fault:?}");
            if result.is_ok() && fault != Fault::Halt {
                assert_eq!(found, after, "call {idx}, {fault:?}");
            }
            if fault != Fault::Halt {
                assert_eq!(folder.names(), ["m.safetensors"], "call {idx}, {fault:?}: {result:?}");
            } else {
                assert!(folder.names().len() <= 2, "call {idx}: {:?}", folder.names());
                // The next run tidies up after one that was killed.
                run(Arc::new(OsIo), &path, vec![set("a", "3")]).unwrap();
                assert_eq!(folder.names(), ["m.safetensors"], "call {idx}");
            }
            if io.n_faults() == 0 {
                break;
            }
        }
    }
    assert!(n_runs > 100, "{n_runs}");
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_left_alone() {
    let folder = Folder::new();
    let path = folder.0.join("m.safetensors");
    let (before, theirs) = (file(r#"{"a":"1"}"#), file(r#"{"a":"theirs"}"#));
    for call in [Call::WriteAt, Call::SetMode] {
        fs::write(&path, &before).unwrap();
        let (target, content) = (path.clone(), theirs.clone());
        let io = FaultIo::new(OsIo, move |seen| {
            if seen.call == call {
                fs::remove_file(&target).unwrap();
                fs::write(&target, &content).unwrap();
            }
            None
        });
        fs::set_permissions(&path, fs::Permissions::from_mode(0o606)).unwrap();
        let error = run(Arc::new(io), &path, vec![set("a", "2")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert_eq!(fs::read(&path).unwrap(), theirs);
    }
}

/// Who may not give the new file its group must not open it to another one.
#[test]
fn rights_of_a_group_go_to_no_other() {
    let folder = Folder::new();
    let path = folder.0.join("m.safetensors");
    fs::write(&path, file("{}")).unwrap();
    let owner = fs::metadata(&path).unwrap();
    // Only root can give files away, here to make the case.
    if std::os::unix::fs::chown(&path, Some(owner.uid() + 1), Some(owner.gid() + 1)).is_err() {
        return;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let io = FaultIo::every(OsIo, &[Call::SetOwner], Fault::Errno(1));
    run(Arc::new(io), &path, vec![set("a", "1")]).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    std::os::unix::fs::chown(&path, Some(owner.uid() + 1), Some(owner.gid() + 1)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    run(Arc::new(OsIo), &path, vec![set("a", "2")]).unwrap();
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o664, owner.uid() + 1, owner.gid() + 1));
}

/// A file of testdata, to be changed.
fn copy(folder: &Folder, name: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models");
    let path = folder.0.join(name.rsplit('/').next().unwrap());
    fs::copy(models.join(name), &path).unwrap();
    path
}

/// The values of a report by key: type and text.
fn typed(report: &EditReport, key: &str) -> Option<(String, String)> {
    let found = report.metadata.iter().find(|(known, _)| known == key);
    found.map(|(_, value)| (value.type_name(), value.to_string()))
}

#[test]
fn values_keep_their_types() {
    let folder = Folder::new();
    let path = copy(&folder, "values.gguf");
    let before = fs::read(&path).unwrap();
    let changes = vec![
        set("test.u16", "7"),
        set("test.list.i8", "[1, -2]"),
        set("tokenizer.ggml.tokens", "[\"a\", \"\"]"),
        set("new:f32", "0.5"),
        set("news:[u64]", "[]"),
        set("general.name:bool", "true"),
        set("plain", "5"),
        set("colon:not-a-type", "6"),
    ];
    let report = run(Arc::new(OsIo), &path, changes).unwrap();
    let expected = [
        ("test.u16", "u16", "7"),
        ("test.list.i8", "[i8]", "[1, -2]"),
        ("tokenizer.ggml.tokens", "[text]", "[\"a\", \"\"]"),
        ("new", "f32", "0.5"),
        ("news", "[u64]", "[]"),
        ("general.name", "bool", "true"),
        ("plain", "text", "5"),
        ("colon:not-a-type", "text", "6"),
        ("test.u8", "u8", "255"),
    ];
    for (key, kind, text) in expected {
        assert_eq!(typed(&report, key), Some((kind.to_owned(), text.to_owned())), "{key}");
    }
    let undo = ["news", "new", "plain", "colon:not-a-type"].map(|key| Change::Remove { key: key.to_owned() });
    let back = [
        set("test.u16", "65535"),
        set("test.list.i8", "[-128, -128, 1]"),
        set("tokenizer.ggml.tokens", "[\"<s>\", \"\", \"größe\", \" \", \"\u{2581}the\"]"),
        set("general.name:text", "größe 🦙 \"quoted\"\n"),
    ];
    run(Arc::new(OsIo), &path, undo.into_iter().chain(back).collect()).unwrap();
    assert!(fs::read(&path).unwrap() == before, "undone, it is the same file");

    for (change, found) in [
        (set("test.u8", "256"), "the value of \"test.u8\" is not of its type, expected u8, found \"256\""),
        (set("test.list.u8", "[-1]"), "expected a JSON list of u8, found \"[-1]\""),
        (set("new:i8", "x"), "the value of \"new\" is not of its type, expected i8, found \"x\""),
        (set("general.alignment:u32", "48"), "expected a u32, a power of two, found u32 48"),
    ] {
        let error = run(Arc::new(OsIo), &path, vec![change]).unwrap_err().to_string();
        assert!(error.ends_with(found), "{error}");
    }
    let twice = run(Arc::new(OsIo), &path, vec![set("a", "1"), set("a:u8", "1")]).unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Usage);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn text_has_no_types_and_a_part_is_edited_alone() {
    let folder = Folder::new();
    let path = folder.0.join("m.safetensors");
    fs::write(&path, file("{}")).unwrap();
    let report = run(Arc::new(OsIo), &path, vec![set("a:u32", "5")]).unwrap();
    assert_eq!(typed(&report, "a:u32"), Some(("text".to_owned(), "5".to_owned())));

    let part = copy(&folder, "split-gguf/tiny-00002-of-00003.gguf");
    let report = run(Arc::new(OsIo), &part, vec![set("note", "second")]).unwrap();
    assert_eq!(typed(&report, "split.no"), Some(("u16".to_owned(), "1".to_owned())));
    assert_eq!(report.n_tensors, 3);
}

/// An ONNX model is its entries and everything else, which stays as it is: payload in any form, and data in other files.
#[test]
fn of_an_onnx_model_nothing_but_entries_changes() {
    let folder = Folder::new();
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models");
    let names =
        ["mlp", "dtypes-packed", "dtypes-unpacked", "dtypes-raw", "sparse", "subgraphs", "texts", "ir3"];
    for name in names {
        let name = format!("onnx-{name}.onnx");
        let path = folder.0.join(&name);
        fs::copy(models.join(&name), &path).unwrap();
        let before = fs::read(&path).unwrap();
        run(Arc::new(OsIo), &path, vec![set("new", "größe")]).unwrap();
        let after = fs::read(&path).unwrap();
        assert!(after.len() > before.len() && after.starts_with(&before), "{name}");
        run(Arc::new(OsIo), &path, vec![Change::Remove { key: "new".to_owned() }]).unwrap();
        assert!(fs::read(&path).unwrap() == before, "{name}");
    }
    let path = folder.0.join("onnx-mlp.onnx");
    let before = fs::read(&path).unwrap();
    let report = run(Arc::new(OsIo), &path, vec![set("author", "Grace"), set("licence", "MIT")]).unwrap();
    assert_eq!((report.changes.len(), report.bytes), (2, fs::metadata(&path).unwrap().len()));
    let remove = Change::Remove { key: "licence".to_owned() };
    run(Arc::new(OsIo), &path, vec![set("author", "Ada"), remove]).unwrap();
    // It has gone back to where it was.
    assert!(fs::read(&path).unwrap() == before);

    for name in ["model.onnx", "weights.data", "whole.data", "sub/weights.data"] {
        fs::create_dir_all(folder.0.join("sub")).unwrap();
        fs::copy(models.join("onnx-external").join(name), folder.0.join(name)).unwrap();
    }
    let path = folder.0.join("model.onnx");
    let (names, before) = (folder.names(), fs::read(&path).unwrap());
    let report = run(Arc::new(OsIo), &path, vec![set("k", "v")]).unwrap();
    assert!(fs::read(&path).unwrap().starts_with(&before));
    assert_eq!(folder.names(), names);
    assert_eq!(typed(&report, "k"), Some(("text".to_owned(), "v".to_owned())));
}
