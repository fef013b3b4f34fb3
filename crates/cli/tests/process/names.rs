//! File names that few people use and every system allows.

use crate::support::{Dir, convert, convert_ok, modelferry, names, run, small, write};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

fn odd_names(extension: &str) -> Vec<OsString> {
    let long = "x".repeat(255 - extension.len());
    let wide = "模".repeat((255 - extension.len()) / 3);
    let stems: [&[u8]; 12] = [
        b"new\nline",
        b" blank and\ttab ",
        b"-rf",
        b"--force",
        b"'quotes\" `$(x)`;*?",
        b"back\\slash",
        b"\x1b[31mred",
        "größe 模型 🦜".as_bytes(),
        b"not utf-8 \xff\xfe",
        b"half a character \xe6\xa8",
        long.as_bytes(),
        wide.as_bytes(),
    ];
    stems.iter().map(|stem| OsString::from_vec([stem, extension.as_bytes()].concat())).collect()
}

#[test]
fn odd_names_are_read_and_written() {
    let dir = Dir::new("names");
    let plain = dir.join("plain.safetensors");
    write(&plain, small());
    convert_ok(&plain, dir.join("plain.npz"), &[]);
    let (safetensors, npz) = (small(), fs::read(dir.join("plain.npz")).unwrap());
    for (input, output) in odd_names(".safetensors").into_iter().zip(odd_names(".npz")) {
        write(dir.join(&input), &safetensors);
        // Relative, so that a name may begin with a dash.
        let done = run(convert(&input, &output, &["--verify", "--json"]).current_dir(dir.path()));
        let done = done.expect(0, "");
        assert!(done.stdout.starts_with('{') && done.stdout.ends_with("}\n"), "one object: {done:?}");
        assert!(fs::read(dir.join(&output)).unwrap() == npz, "{output:?}");
        let done = run(convert(&input, &output, &[]).current_dir(dir.path())).expect(3, "there already");
        assert_eq!(done.stderr.lines().count(), 1, "one line: {done:?}");
        assert!(!done.stderr.contains('\x1b'), "{done:?}");
        let mut inspect = modelferry(["inspect", "--"]);
        let done = run(inspect.arg(&output).current_dir(dir.path())).expect(0, "");
        assert!(!done.stdout.contains('\x1b'), "{done:?}");
        // Killed runs of such names leave folders that are known again.
        let n_before = dir.names().len();
        run(convert(&input, &output, &["--force"]).current_dir(dir.path())).expect(0, "");
        assert_eq!(dir.names().len(), n_before);
        fs::remove_file(dir.join(&input)).unwrap();
        fs::remove_file(dir.join(&output)).unwrap();
    }
    assert_eq!(dir.names(), ["plain.npz", "plain.safetensors"]);
    // Several files of such a name are read again, or refused.
    let mut n_written = 0;
    for name in odd_names(".safetensors") {
        let folder = dir.folder("set");
        let done = run(&mut convert(&plain, folder.join(&name), &["--shard-size", "1000"]));
        if done.code() == Some(0) {
            n_written += 1;
            let is_index = |name: &String| name.ends_with(".index.json");
            let index = names(&folder).into_iter().find(is_index).unwrap();
            convert_ok(folder.join(index), folder.join("o.npz"), &[]);
        } else {
            assert!(matches!(done.code(), Some(2 | 14)), "{done:?}");
            assert!(names(&folder).is_empty(), "{done:?}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
    assert!(n_written >= 7, "{n_written}");
}

#[test]
fn folders_may_have_odd_names_too() {
    let dir = Dir::new("folders");
    for name in odd_names("") {
        let folder = dir.join(&name);
        write(folder.join("in.safetensors"), small());
        convert_ok(folder.join("in.safetensors"), folder.join("m.safetensors"), &["--shard-size", "1000"]);
        convert_ok(folder.join("m.safetensors.index.json"), folder.join("o.npz"), &["--verify"]);
        run(modelferry(["inspect", "m-00001-of-00002.safetensors"]).current_dir(&folder)).expect(0, "");
    }
}

#[test]
fn names_that_cannot_be_are_refused_in_words() {
    let dir = Dir::new("long");
    write(dir.join("in.safetensors"), small());
    let refused = |output: &OsStr, options: &[&str], code, text| {
        run(convert("in.safetensors", output, options).current_dir(dir.path())).expect(code, text);
    };
    refused(format!("{}.npz", "x".repeat(252)).as_ref(), &[], 14, "File name too long");
    // Its shards have longer names than the output itself.
    let long = format!("{}.safetensors", "x".repeat(240));
    refused(long.as_ref(), &["--shard-size", "1000"], 14, "File name too long");
    refused("".as_ref(), &[], 2, "");
    // Files that name each other need names that their index can hold, and that we read again.
    for name in ["a:b.safetensors", "a\\b.safetensors"] {
        refused(name.as_ref(), &["--shard-size", "1000"], 2, "an index cannot name this file");
    }
    let broken = OsStr::from_bytes(b"\xff.safetensors");
    refused(broken, &["--shard-size", "1000"], 2, "needs a name that is UTF-8");
    assert_eq!(names(dir.path()), ["in.safetensors"]);
    let deep: String = "d/".repeat(3000);
    refused(format!("{deep}o.npz").as_ref(), &[], 14, "");
    run(&mut modelferry([Path::new("inspect"), Path::new(&deep)])).expect(14, "");
}
