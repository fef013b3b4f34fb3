//! Which libraries are opened, and what is said of those that are not.

use crate::support::{Dir, Done, convert, modelferry, names, run, small, write};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const PLUGIN: i32 = 15;

/// The folder of the crate of plugins, which has samples in C.
fn plugin_crate() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin")
}

/// The source of the sample that reads flat files.
fn flat_reader() -> String {
    fs::read_to_string(plugin_crate().join("samples/c/flat_reader.c")).unwrap()
}

/// The source of the sample that writes them.
fn flat_writer() -> String {
    fs::read_to_string(plugin_crate().join("samples/c/flat_writer.c")).unwrap()
}

/// The same with one text in the place of another.
fn altered(from: &str, to: &str) -> String {
    let source = flat_reader();
    assert!(source.contains(from), "{from}");
    source.replace(from, to)
}

/// Compiles `libID.so` in a folder.
fn library(folder: &Path, id: &str, source: &str) -> PathBuf {
    let (text, library) = (folder.join(format!("{id}.c")), folder.join(format!("lib{id}.so")));
    write(&text, source);
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-O1", "-shared", "-fPIC", "-I"]).arg(plugin_crate().join("../abi/include"));
    let done = compiler.arg("-o").arg(&library).arg(&text).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    library
}

/// The same, with its manifest beside it.
fn plugin(folder: &Path, id: &str, source: &str) -> PathBuf {
    let library = library(folder, id, source);
    describe(&library);
    library
}

#[track_caller]
fn describe(library: &Path) {
    run(modelferry(["plugin", "manifest"]).arg(library)).expect(0, "");
}

fn manifest(library: &Path) -> PathBuf {
    library.with_extension("json")
}

/// Replaces a part of a manifest.
#[track_caller]
fn edit(library: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(manifest(library)).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    write(manifest(library), text.replace(from, to));
}

/// A copy of the sample's model in a folder.
fn model(folder: &Path) -> PathBuf {
    for name in ["tiny.flat", "tiny.flatdata"] {
        fs::copy(plugin_crate().join("samples/c").join(name), folder.join(name)).unwrap();
    }
    folder.join("tiny.flat")
}

/// Converts the model with these plugins.
fn go(dir: &Dir, plugins: &[&Path], options: &[&str]) -> Done {
    let mut options: Vec<String> = options.iter().map(ToString::to_string).collect();
    options.extend(plugins.iter().map(|path| format!("--plugin={}", path.display())));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    run(&mut convert(model(&dir.folder("models")), dir.join("o.npz"), &options))
}

/// Sees that a library is refused with one sentence, and that nothing was written.
#[track_caller]
fn refused(dir: &Dir, library: &Path, sentence: &str) {
    let done = go(dir, &[library], &[]).expect(PLUGIN, sentence);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains(&*library.file_stem().unwrap().to_string_lossy()), "{}", done.stderr);
    assert!(!dir.join("o.npz").exists());
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_library_that_is_none_is_refused_in_one_sentence() {
    let dir = Dir::new("no-plugins");
    let good = plugin(dir.path(), "flat-reader", &flat_reader());
    go(&dir, &[&good], &[]).expect(0, "");
    fs::remove_file(dir.join("o.npz")).unwrap();
    let whole = fs::read(&good).unwrap();

    refused(&dir, &dir.join("libnowhere.so"), "No such file or directory");
    write(&good, [&whole[..], b"."].concat());
    refused(&dir, &good, "the library is not the one that its manifest speaks of, expected ");
    write(&good, &whole);

    let described_as = |name: &str, source: &str| {
        let library = library(&dir.folder(name), "flat-reader", source);
        fs::copy(manifest(&good), manifest(&library)).unwrap();
        rehash(&library);
        library
    };
    let nothing = "int nothing;";
    refused(&dir, &described_as("empty", nothing), "expected a function modelferry_flat_reader_v1");
    let next = altered("modelferry_flat_reader_v1", "modelferry_flat_reader_v2");
    refused(
        &dir,
        &described_as("next", &next),
        "the library is no plugin of modelferry, or of another version",
    );
    let newer = altered(".version =", ".abi_minor = 999, .version =");
    refused(
        &dir,
        &described_as("newer", &newer),
        "flat-reader is made for a newer modelferry, expected ABI 1.",
    );
    let other = altered("MF_TEXT(\"flat-reader\")", "MF_TEXT(\"flat-raider\")");
    refused(
        &dir,
        &described_as("other", &other),
        "the library says that it is another, expected flat-reader 1.0",
    );
    let formats = altered("{\\\"format\\\": \\\"flat\\\"", "{\\\"format\\\": \\\"level\\\"");
    refused(
        &dir,
        &described_as("formats", &formats),
        "the library holds other formats than its manifest says",
    );
    let shy = altered("    return &plugin;", "    (void)plugin;\n    return 0;");
    refused(&dir, &described_as("shy", &shy), "its entry returned nothing");
    let text = described_as("text", nothing);
    write(&text, "this is no library\n");
    rehash(&text);
    refused(&dir, &text, "the file cannot be loaded as a library: ");
    assert!(!run(modelferry(["plugin", "manifest"]).arg(&text)).stderr.contains("dlopen failed"));
}

/// Makes a manifest speak of its library as it is now.
fn rehash(library: &Path) {
    let listed = run(modelferry(["plugin", "list", "--json", "--plugin"]).arg(library)).expect(0, "").stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let mut text: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(manifest(library)).unwrap()).unwrap();
    text["sha256"] = listed["plugins"][0]["sha256"].clone();
    write(manifest(library), text.to_string());
}

#[test]
fn a_manifest_that_does_not_fit_is_refused_in_one_sentence() {
    let dir = Dir::new("manifests");
    let library = plugin(dir.path(), "flat-reader", &flat_reader());
    let place = manifest(&library);
    let whole = fs::read(&place).unwrap();
    for (from, to, sentence) in [
        ("\"schema\": 1", "\"schema\": 2", "the manifest is of another schema, expected 1, found 2"),
        ("\"abi\": \"1.", "\"abi\": \"2.", "the plugin is built for another version of modelferry"),
        ("\"abi\": \"1.0", "\"abi\": \"1.999", "expected ABI 1.0 to 1.0, found ABI 1.999"),
        ("-linux-", "-plan9-", "the plugin is built for another target"),
        ("\"flat-reader\"", "\"flat/reader\"", "an id is not made of small letters, digits, - and _"),
        ("\"schema\": 1", "\"schema\": [", "the manifest is not of the published schema"),
        ("\"readers\"", "\"raiders\"", "the manifest names neither a reader nor a writer"),
    ] {
        edit(&library, from, to);
        refused(&dir, &library, sentence);
        write(&place, &whole);
    }
    fs::OpenOptions::new().write(true).open(&place).unwrap().set_len(1 << 30).unwrap();
    refused(&dir, &library, "a manifest is too long");
    fs::remove_file(&place).unwrap();
    refused(&dir, &library, "`modelferry plugin manifest LIBRARY` writes one");
    mknodat(CWD, &place, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    refused(&dir, &library, "a manifest is a file");
    fs::remove_file(&place).unwrap();
    write(dir.join("elsewhere"), &whole);
    symlink("elsewhere", &place).unwrap();
    refused(&dir, &library, "a manifest is a file");
}

#[test]
fn what_others_can_write_is_not_opened() {
    let dir = Dir::new("others");
    let folder = dir.folder("above/folder");
    let library = plugin(&folder, "flat-reader", &flat_reader());
    for place in [library.clone(), manifest(&library), folder.clone(), dir.join("above")] {
        let before = fs::metadata(&place).unwrap().permissions().mode();
        mode(&place, before | 0o002);
        let done = go(&dir, &[&library], &[]).expect(PLUGIN, "can be written by others");
        assert!(done.stderr.contains(&*place.to_string_lossy()), "{}", done.stderr);
        mode(&place, before);
    }
    // In a folder like /tmp nobody removes what is another's.
    mode(&dir.join("above"), 0o1777);
    // By its real path: what lies where the link lies is of no account.
    let (open, link) = (dir.folder("open"), dir.join("open/libflat-reader.so"));
    symlink(&library, &link).unwrap();
    mode(&open, 0o777);
    go(&dir, &[&link], &[]).expect(0, "");
}

#[test]
fn only_pinned_libraries_are_taken_when_that_is_wanted() {
    let dir = Dir::new("pins");
    let library = plugin(dir.path(), "flat-reader", &flat_reader());
    let with_config = |mut command: Command| run(command.env("XDG_CONFIG_HOME", dir.join("config")));
    let go = || {
        let plugin = format!("--plugin={}", library.display());
        let _ = fs::remove_file(dir.join("o.npz"));
        with_config(convert(model(&dir.folder("models")), dir.join("o.npz"), &["--locked", &plugin]))
    };
    let add = || {
        let mut command = modelferry(["plugin", "add"]);
        command.arg(&library);
        with_config(command)
    };
    go().expect(PLUGIN, "flat-reader is not pinned, and --locked takes pinned plugins only");
    let said = add().expect(0, "").stdout;
    assert!(said.starts_with("pinned flat-reader "), "{said}");
    go().expect(0, "");
    // Made anew with its manifest it is a good plugin, and not the one that was pinned.
    plugin(dir.path(), "flat-reader", &altered("\"1.0\"", "\"1.1\""));
    go().expect(PLUGIN, "flat-reader");
    add().expect(0, "");
    go().expect(0, "");
    // What is not what its manifest says is not pinned.
    edit(&library, "\"sha256\": \"", "\"sha256\": \"0");
    add().expect(PLUGIN, "the library is not the one that its manifest speaks of");
    write(dir.join("config/modelferry/plugins.json"), "[");
    go().expect(PLUGIN, "pinned hashes that cannot be read");
}

#[test]
fn nothing_is_looked_for_that_was_not_named() {
    let dir = Dir::new("unnamed");
    let folder = dir.folder("plugins");
    let sample = plugin(&folder, "flat-reader", &flat_reader());
    let models = dir.folder("models");
    let input = model(&models);
    for place in [&sample, &manifest(&sample)] {
        fs::copy(place, models.join(place.file_name().unwrap())).unwrap();
    }
    let output = dir.join("o.npz");
    let go = |path: Option<&str>| {
        let mut command = convert(&input, &output, &[]);
        command.current_dir(&models);
        path.map(|path| command.env("MODELFERRY_PLUGIN_PATH", path));
        run(&mut command)
    };
    go(None).expect(11, "not a format that there is a reader for");
    go(Some("")).expect(11, "not a format that there is a reader for");
    go(Some(".")).expect(2, "MODELFERRY_PLUGIN_PATH: a folder is not absolute");
    go(Some("/nowhere/at/all")).expect(14, "listing a folder of plugins");
    go(Some(folder.to_str().unwrap())).expect(0, "");
    let empty = dir.folder("empty");
    let named = format!("--plugin={}", empty.display());
    run(&mut convert(&input, &output, &[&named])).expect(PLUGIN, "holds no library with a manifest");
    // A library without one is not taken for a plugin, whatever else is in the folder.
    library(&folder, "stranger", "int nothing;");
    fs::remove_file(&output).unwrap();
    go(Some(folder.to_str().unwrap())).expect(0, "");
}

#[test]
fn nothing_runs_until_a_file_needs_it() {
    let dir = Dir::new("asleep");
    let source = flat_reader()
        + "\n#include <stdio.h>\n__attribute__((constructor)) static void awake(void) {\n    const char *name = getenv(\"AWAKE\");\n    FILE *file = name ? fopen(name, \"w\") : 0;\n    if (file)\n        fclose(file);\n}\n";
    let library = plugin(&dir.folder("plugins"), "flat-reader", &source);
    let (input, awake) = (dir.join("in.safetensors"), dir.join("awake"));
    write(&input, small());
    let go = |command: &mut Command| run(command.arg("--plugin").arg(&library).env("AWAKE", &awake));
    let formats = go(&mut modelferry(["formats"])).expect(0, "").stdout;
    let line = formats.lines().find(|line| line.contains("flat files of the C sample")).unwrap();
    assert!(formats.contains(&*library.to_string_lossy()), "{line}");
    go(&mut modelferry(["plugin", "list"])).expect(0, "");
    go(modelferry(["plugin", "add"]).arg(&library).env("XDG_CONFIG_HOME", dir.join("config"))).expect(0, "");
    go(modelferry(["convert"]).arg(&input).arg(dir.join("o.npz"))).expect(0, "");
    go(modelferry(["inspect"]).arg(&input)).expect(0, "");
    assert!(!awake.exists());
    go(modelferry(["inspect"]).arg(model(&dir.folder("models")))).expect(0, "");
    assert!(awake.exists());
    assert_eq!(names(&dir.folder("plugins")), ["flat-reader.c", "libflat-reader.json", "libflat-reader.so"]);
}

#[test]
fn what_is_taken_cannot_be_taken_over() {
    let dir = Dir::new("taken");
    let format = altered("{\\\"format\\\": \\\"flat\\\"", "{\\\"format\\\": \\\"npz\\\"");
    let npz = plugin(&dir.folder("npz"), "flat-reader", &format);
    refused(&dir, &npz, "flat-reader: the name of the format npz is taken");
    let one = plugin(&dir.folder("one"), "flat-reader", &flat_reader());
    let other = plugin(&dir.folder("other"), "flat-reader", &flat_reader());
    go(&dir, &[&one, &other], &[]).expect(PLUGIN, "two plugins are called flat-reader");
    let options = "\\\"options\\\": [{\\\"name\\\": \\\"strict\\\", \\\"kind\\\": \\\"bool\\\", \\\"help\\\": \\\"\\\"}]";
    let option = altered(" \\\"magic\\\"", &format!(" {options}, \\\"magic\\\""));
    let option = plugin(&dir.folder("option"), "flat-reader", &option);
    refused(&dir, &option, "flat: the program itself has an option --strict");
    // One library named twice is one.
    go(&dir, &[&one, &dir.join("one")], &[]).expect(0, "");
}

#[test]
fn a_folder_with_weights_in_the_format_of_a_library_is_read_back() {
    let dir = Dir::new("plugin-folder");
    let plugins = dir.folder("plugins");
    plugin(&plugins, "flat-reader", &flat_reader());
    plugin(&plugins, "flat-writer", &flat_writer());
    let option = format!("--plugin={}", plugins.display());
    let (input, folder, back) = (model(dir.path()), dir.join("model/"), dir.join("back.npz"));
    write(dir.join("config.json"), "{\"seed\": 3}");
    let config = format!("--config={}", dir.join("config.json").display());
    run(&mut convert(&input, &folder, &["--to=flat", "--verify", &config, &option])).expect(0, "");
    assert_eq!(names(&folder), ["config.json", "model.flat", "model.flatdata"]);
    run(&mut convert(&folder, &back, &["--verify", &option])).expect(0, "");
    run(modelferry(["diff", &option]).arg(&back).arg(&input)).expect(0, "");
    // Without the library nobody knows what it is.
    run(&mut convert(&folder, dir.join("no.npz"), &[])).expect(11, "model.flat");
}
