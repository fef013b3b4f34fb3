//! Inputs that change, that are not what they seem, or that are many.

use crate::support::{
    Dir, Done, convert, convert_ok, during, files, modelferry, names, run, safetensors, skip, small,
};
use crate::support::{under, write, write_sparse};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Sees that a run whose input is changed in its middle notices, and leaves nothing.
#[track_caller]
fn check_changed(what: &str, change: impl Fn(&Path)) {
    let dir = Dir::new("changed");
    let done = during(&dir, |_, input| change(input), |done: &Done| done.code() != Some(0));
    let done = done.expect(14, "in.safetensors");
    assert!(done.stderr.contains("changed during the run"), "{what}: {done:?}");
    assert!(names(&dir.join("out")).is_empty(), "{what}: {:?}", names(&dir.join("out")));
}

#[test]
fn an_input_that_changes_during_the_run_is_noticed() {
    let open = |input: &Path| OpenOptions::new().write(true).open(input).unwrap();
    check_changed("truncated", |input| open(input).set_len(1 << 20).unwrap());
    check_changed("truncated by a byte", |input| {
        open(input).set_len(fs::metadata(input).unwrap().len() - 1).unwrap();
    });
    check_changed("extended", |input| {
        open(input).set_len(fs::metadata(input).unwrap().len() + 1).unwrap();
    });
    check_changed("written to", |input| {
        open(input).write_all_at(b"x", 1 << 20).unwrap();
    });
    check_changed("replaced by another of its size", |input| {
        let (len, other) = (fs::metadata(input).unwrap().len(), input.with_extension("other"));
        write_sparse(&other, 1 << 20);
        open(&other).set_len(len).unwrap();
        fs::rename(other, input).unwrap();
    });
    check_changed("removed", |input| fs::remove_file(input).unwrap());
}

#[test]
fn a_run_that_is_only_held_up_is_not_disturbed() {
    let dir = Dir::new("held-up");
    let done = during(&dir, |_, _| {}, |_| true);
    done.expect(0, "");
    assert_eq!(names(&dir.join("out")), ["o.safetensors"]);
}

#[test]
fn a_read_only_input_is_left_untouched() {
    let dir = Dir::new("read-only");
    let folder = dir.folder("in");
    convert_ok(written(&dir, "source.safetensors"), folder.join("m.safetensors"), &["--shard-size", "1000"]);
    for name in names(&folder) {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let state = || -> Vec<_> {
        let paths = names(&folder).into_iter().map(|name| folder.join(name)).chain([folder.clone()]);
        let state = paths.map(|path| {
            let found = fs::metadata(&path).unwrap();
            // Changes of content, of attributes, and which file it is.
            let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
            (path, times, found.ino(), found.mode())
        });
        state.collect()
    };
    let (before, content) = (state(), files(&folder));
    let index = folder.join("m.safetensors.index.json");
    convert_ok(&index, dir.join("o.npz"), &["--verify"]);
    convert_ok(&index, dir.join("o.safetensors"), &["--dtype", "bf16"]);
    run(&mut modelferry([Path::new("inspect"), Path::new("--stats"), &index])).expect(0, "");
    run(&mut modelferry([Path::new("diff"), &index, &dir.join("o.npz")])).expect(0, "");
    let shard = folder.join("m-00001-of-00002.safetensors");
    run(&mut convert(&index, shard, &["--force"])).expect(2, "one of the input's own files");
    assert_eq!(state(), before);
    assert!(files(&folder) == content);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
}

fn written(dir: &Dir, name: &str) -> PathBuf {
    let path = dir.join(name);
    write(&path, small());
    path
}

#[test]
fn an_output_that_is_the_input_is_refused_by_any_path() {
    let dir = Dir::new("same");
    let input = written(&dir, "m.safetensors");
    dir.folder("sub");
    fs::hard_link(&input, dir.join("hard.safetensors")).unwrap();
    symlink("m.safetensors", dir.join("soft.safetensors")).unwrap();
    symlink(dir.path(), dir.join("sub/up")).unwrap();
    let before = (dir.names(), fs::read(&input).unwrap(), fs::metadata(&input).unwrap().mtime_nsec());
    for force in [&[][..], &["--force"]] {
        for (output, text) in [
            ("m.safetensors", "one of the input's own files"),
            ("./m.safetensors", "one of the input's own files"),
            ("sub/../m.safetensors", "one of the input's own files"),
            ("sub/up/m.safetensors", "one of the input's own files"),
            ("hard.safetensors", "one of the input's own files"),
            ("soft.safetensors", "symbolic link"),
        ] {
            for source in
                ["m.safetensors", "hard.safetensors", "soft.safetensors", "sub/up/sub/../m.safetensors"]
            {
                run(convert(source, output, force).current_dir(dir.path())).expect(2, text);
            }
            run(convert(&input, dir.join(output), force).current_dir("/")).expect(2, text);
        }
    }
    assert_eq!((dir.names(), fs::read(&input).unwrap(), fs::metadata(&input).unwrap().mtime_nsec()), before);
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting_for_it() {
    let dir = Dir::new("kinds");
    let input = written(&dir, "real.safetensors");
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = UnixListener::bind(dir.join("socket")).unwrap();
    for (link, target) in [
        ("link", "real.safetensors"),
        ("link-to-link", "link"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("fifo-link", "fifo"),
        ("device-link", "/dev/zero"),
    ] {
        symlink(target, dir.join(link)).unwrap();
    }
    let block = fs::read_dir("/dev")
        .unwrap()
        .flatten()
        .find(|entry| entry.file_type().is_ok_and(|kind| kind.is_block_device()));
    let mut refused = vec![
        ("fifo".to_owned(), 11, "found a FIFO"),
        ("socket".to_owned(), 11, "found a socket"),
        ("/dev/zero".to_owned(), 11, "found a character device"),
        ("/dev/null".to_owned(), 11, "found a character device"),
        ("fifo-link".to_owned(), 11, "found a FIFO"),
        ("device-link".to_owned(), 11, "found a character device"),
        ("dangling".to_owned(), 14, "found a link to nowhere, which leads nowhere"),
        ("loop".to_owned(), 14, "Too many levels of symbolic links"),
        ("none".to_owned(), 14, "no such file"),
        ("real.safetensors/x".to_owned(), 14, "no such file"),
    ];
    match block {
        Some(block) => refused.push((block.path().display().to_string(), 11, "found a block device")),
        None => skip("a block device as input", "there is none in /dev"),
    }
    for (name, code, text) in refused {
        run(convert(&name, "o.npz", &[]).current_dir(dir.path())).expect(code, text);
        run(modelferry(["inspect", &name]).current_dir(dir.path())).expect(code, text);
    }
    for name in ["link", "link-to-link"] {
        run(convert(name, "o.npz", &[]).current_dir(dir.path())).expect(0, "");
        fs::remove_file(dir.join("o.npz")).unwrap();
    }

    // The same as a shard that an index names.
    for (name, text) in [
        ("fifo", "found a FIFO"),
        ("socket", "found a socket"),
        ("dangling", "which leads nowhere"),
        ("loop", "a link that leads to itself"),
        ("device-link", "a link leads out of the model's folder"),
    ] {
        write(dir.join("i.safetensors.index.json"), format!(r#"{{"weight_map":{{"a":"{name}"}}}}"#));
        run(convert("i.safetensors.index.json", "o.npz", &["--from", "safetensors"]).current_dir(dir.path()))
            .expect(10, text);
    }
    drop(input);
    assert!(!dir.join("o.npz").exists());
}

/// A model as the Hugging Face cache keeps it: `snapshots/REVISION/NAME` leads to `blobs/HASH`.
fn cache(dir: &Dir) -> PathBuf {
    let plain = dir.folder("plain");
    convert_ok(
        written(dir, "source.safetensors"),
        plain.join("model.safetensors"),
        &["--shard-size", "1000"],
    );
    let snapshot = dir.folder("hub/models--a--b/snapshots/0123");
    for (idx, (name, bytes)) in files(&plain).into_iter().enumerate() {
        write(dir.join(format!("hub/models--a--b/blobs/{idx:040}")), bytes);
        symlink(format!("../../blobs/{idx:040}"), snapshot.join(name)).unwrap();
    }
    snapshot
}

#[test]
fn the_cache_of_hugging_face_is_read_through_its_links() {
    let dir = Dir::new("cache");
    let snapshot = cache(&dir);
    convert_ok(dir.join("source.safetensors"), dir.join("expected.npz"), &[]);
    let expected = fs::read(dir.join("expected.npz")).unwrap();
    // By its index, by a shard, from inside, and through a link to the whole snapshot.
    symlink(&snapshot, dir.join("current")).unwrap();
    let shard = names(&snapshot)[0].clone();
    for input in [
        snapshot.join("model.safetensors.index.json"),
        snapshot.join(&shard),
        dir.join("current/model.safetensors.index.json"),
        dir.join("current").join(&shard),
    ] {
        convert_ok(&input, dir.join("o.npz"), &[]);
        assert!(fs::read(dir.join("o.npz")).unwrap() == expected, "{}", input.display());
        fs::remove_file(dir.join("o.npz")).unwrap();
    }
    run(convert("model.safetensors.index.json", dir.join("o.npz"), &[]).current_dir(&snapshot)).expect(0, "");

    // An output there is a link, and the blob behind it is another model's too.
    let blobs = files(&dir.join("hub/models--a--b/blobs"));
    let over = convert(dir.join("source.safetensors"), snapshot.join(&shard), &["--force"]);
    run(&mut { over }).expect(2, "nothing is written through links");
    assert!(files(&dir.join("hub/models--a--b/blobs")) == blobs);
}

#[test]
fn a_link_that_leaves_the_model_is_refused() {
    let dir = Dir::new("leaves");
    let snapshot = cache(&dir);
    let shard = snapshot.join(&names(&snapshot)[0]);
    let target = fs::canonicalize(&shard).unwrap();
    let elsewhere = dir.join("elsewhere/secret");
    write(&elsewhere, fs::read(&target).unwrap());
    for link in
        [elsewhere.clone(), PathBuf::from("../../../../elsewhere/secret"), PathBuf::from("/etc/passwd")]
    {
        fs::remove_file(&shard).unwrap();
        symlink(&link, &shard).unwrap();
        let index = snapshot.join("model.safetensors.index.json");
        let done = run(&mut convert(index, dir.join("o.npz"), &[]));
        done.expect(10, "a link leads out of the model's folder");
    }
    // A folder on the way may be a link too.
    let index = dir.join("model/x.safetensors.index.json");
    write(&index, r#"{"weight_map":{"a":"sub/secret"}}"#);
    symlink(dir.join("elsewhere"), dir.join("model/sub")).unwrap();
    run(&mut convert(index, dir.join("o.npz"), &[])).expect(10, "a link leads out of the model's folder");
    assert!(!dir.join("o.npz").exists());
}

#[test]
fn ten_thousand_shards_take_64_descriptors() {
    const N: usize = 10_000;
    let dir = Dir::in_memory("shards");
    let mut index = String::from(r#"{"metadata":{},"weight_map":{"#);
    for idx in 0..N {
        let file = format!("m-{:05}-of-{N:05}.safetensors", idx + 1);
        let tensor = format!("t{idx}");
        write(dir.join("in").join(&file), safetensors(&[(&tensor, 2)], idx as u32));
        let comma = if idx > 0 { "," } else { "" };
        let _ = write!(index, r#"{comma}"{tensor}":"{file}""#);
    }
    index.push_str("}}");
    let root = dir.join("in/m.safetensors.index.json");
    write(&root, index);
    let one = dir.join("one.safetensors");
    run(&mut under("ulimit -n 64", &convert(&root, &one, &["--verify"]))).expect(0, "");
    let out = dir.folder("out");
    let kept = ["--shard-size", "keep", "--verify"];
    run(&mut under("ulimit -n 64", &convert(&root, out.join("m.safetensors"), &kept))).expect(0, "");
    assert_eq!(names(&out).len(), N + 1);
    let diff = modelferry([Path::new("diff"), &one, &out.join("m.safetensors.index.json")]);
    run(&mut under("ulimit -n 64", &diff)).expect(0, "");
}
