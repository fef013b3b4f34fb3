//! Folders of models: as the Hugging Face cache keeps them, as they are replaced, and what is left alone in them.

use crate::support::{Dir, convert, convert_ok, files, modelferry, names, run, safetensors, small, write};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// A model's folder with a file of weights of two tensors.
fn model(folder: &Path, seed: u32) {
    fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    write(folder.join("model.safetensors"), safetensors(&[("a", 300), ("b", 200)], seed));
    write(folder.join("config.json"), format!("{{\"seed\": {seed}}}"));
    write(folder.join("tokenizer.json"), format!("{{{seed}}}"));
    write(folder.join("1_Pooling/config.json"), "{}");
}

#[test]
fn the_layout_of_the_cache_is_a_folder_like_any_other() {
    let dir = Dir::new("cache");
    let (plain, blobs) = (dir.folder("plain"), dir.folder("models--x/blobs"));
    model(&plain, 1);
    let snapshot = dir.folder("models--x/snapshots/0abc");
    fs::create_dir(snapshot.join("1_Pooling")).unwrap();
    for (idx, name) in
        ["model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json"].iter().enumerate()
    {
        fs::copy(plain.join(name), blobs.join(idx.to_string())).unwrap();
        let up = if name.contains('/') { "../../../" } else { "../../" };
        symlink(format!("{up}blobs/{idx}"), snapshot.join(name)).unwrap();
    }
    convert_ok(&plain, dir.join("from-plain/"), &["--verify"]);
    convert_ok(&snapshot, dir.join("from-cache/"), &["--verify"]);
    assert_eq!(files(&dir.join("from-plain")), files(&dir.join("from-cache")));
    assert_eq!(names(&dir.join("from-cache/1_Pooling")), ["config.json"]);
    // The file in it stands for its folder too.
    convert_ok(snapshot.join("model.safetensors"), dir.join("from-file/"), &[]);
    assert_eq!(files(&dir.join("from-plain")), files(&dir.join("from-file")));

    symlink("../../../plain/tokenizer.json", snapshot.join("leak.json")).unwrap();
    run(&mut convert(&snapshot, dir.join("no/"), &[]))
        .expect(10, "leak.json: a link leads out of the model's folder");
    fs::remove_file(snapshot.join("leak.json")).unwrap();
    symlink("nowhere", snapshot.join("dangling.json")).unwrap();
    run(&mut convert(&snapshot, dir.join("no/"), &[]))
        .expect(10, "found a link to nowhere, which leads nowhere");
    assert!(!dir.join("no").exists());
}

#[test]
fn a_folder_that_is_there_is_replaced_and_strangers_stay() {
    let dir = Dir::new("replaced");
    let (first, second) = (dir.folder("first"), dir.folder("second"));
    model(&first, 1);
    model(&second, 2);
    fs::remove_file(second.join("tokenizer.json")).unwrap();
    let out = dir.folder("out");
    write(out.join("notes.txt"), "mine");
    let sharded = &["--shard-size", "1000", "--force"][..];
    convert_ok(&first, &out, sharded);
    assert!(out.join("model.safetensors.index.json").exists());
    run(&mut convert(&second, &out, &[])).expect(3, "pass --force");
    convert_ok(&second, &out, &["--force", "--verify"]);
    // The tokenizer is a stranger to the second model, which has none.
    assert_eq!(names(&out), ["1_Pooling", "config.json", "model.safetensors", "notes.txt", "tokenizer.json"]);
    assert_eq!(fs::read(out.join("config.json")).unwrap(), b"{\"seed\": 2}");
    run(&mut modelferry([Path::new("diff"), &second, &out])).expect(0, "");
    // The working folder is one that is there.
    convert_ok_in(&out, &first, ".", &["--force"]);
    run(&mut modelferry([Path::new("diff"), &first, &out])).expect(0, "");
    assert!(names(&out).contains(&"notes.txt".to_owned()));
}

fn convert_ok_in(folder: &Path, input: &Path, output: &str, options: &[&str]) {
    run(convert(input, output, options).current_dir(folder)).expect(0, "");
}

#[test]
fn a_folder_is_not_written_into_itself_or_through_links() {
    let dir = Dir::new("itself");
    let folder = dir.folder("m");
    model(&folder, 1);
    let before = files(&folder);
    run(&mut convert(&folder, &folder, &["--force"])).expect(2, "one of the input's own files");
    symlink("m", dir.join("link")).unwrap();
    for link in ["link", "link/"] {
        run(&mut convert(&folder, dir.join(link), &["--force"]))
            .expect(2, "nothing is written through links");
    }
    write(dir.join("file"), "a file");
    run(&mut convert(&folder, dir.join("file/"), &["--force"])).expect(2, "the output is no folder");
    assert_eq!(files(&folder), before);
}

#[test]
fn what_cannot_be_read_is_no_smaller_model() {
    if rustix::process::geteuid().is_root() {
        return crate::support::skip("a file without permission", "root may read all");
    }
    let dir = Dir::new("unreadable");
    let folder = dir.folder("m");
    model(&folder, 1);
    fs::set_permissions(folder.join("tokenizer.json"), fs::Permissions::from_mode(0o000)).unwrap();
    run(&mut convert(&folder, dir.join("o/"), &[])).expect(14, "tokenizer.json");
}

#[test]
fn a_config_beside_a_lone_file_is_no_loss() {
    let dir = Dir::new("beside");
    write(dir.join("in.safetensors"), small());
    for config in ["{\"tie_word_embeddings\": true}", "not a config", ""] {
        write(dir.join("config.json"), config);
        let done = run(&mut convert(
            dir.join("in.safetensors"),
            dir.join("o.safetensors"),
            &["--strict", "--force"],
        ));
        done.expect(0, "");
    }
}

#[test]
fn what_was_written_is_read_whatever_holds_the_weights() {
    let dir = Dir::new("any-weights");
    let (whole, adapter) = (dir.join("model"), dir.folder("adapter"));
    model(&whole, 9);
    write(adapter.join("adapter_model.safetensors"), safetensors(&[("a", 300), ("b", 200)], 3));
    write(adapter.join("adapter_config.json"), "{\"r\": 4}");
    for input in [whole, adapter] {
        let plain = dir.join("plain/");
        convert_ok(&input, &plain, &[]);
        for format in ["pytorch", "npz", "onnx", "msgpack"] {
            let (there, back) = (dir.join("there/"), dir.join("back/"));
            convert_ok(&input, &there, &["--to", format, "--verify"]);
            convert_ok(&there, &back, &["--verify"]);
            assert_eq!(names(&back), names(&plain), "{format}");
            run(modelferry(["diff"]).args([&back, &plain])).expect(0, "");
            for path in [there, back] {
                fs::remove_dir_all(path).unwrap();
            }
        }
        fs::remove_dir_all(plain).unwrap();
    }
}
