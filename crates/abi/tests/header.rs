//! The header is generated from the Rust types, and the one in the repository is that one.

mod sources;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

const START: &str = "\
/* The boundary between modelferry and its plugins, version 1.0.
 *
 * Generated from crates/abi; `MODELFERRY_UPDATE=1 cargo test -p modelferry-abi --test header` makes it anew.
 *
 * A library exports one function, `const struct MfPlugin *modelferry_ID_v1(void)`, with `-` in its id as `_`, and has
 * a manifest beside it. docs/plugins.md is the guide, docs/plugin-abi.md says the rest.
 *
 * Rules. Numbers have fixed widths. A struct that is passed by pointer begins with `struct_size`, the bytes that its
 * maker knows: set it. Arrays travel as MfSlice, whose stride is the size of an element as its maker knows it: step by
 * it. Both may be longer or shorter than here; MfText, MfSlice and MfData never are. Initialize structs by the names of
 * their fields, so that what is not named is zero. Text is UTF-8 with a length, not ended by a NUL. What one side
 * allocates the same side frees, when the other calls `release`. Nothing may leave a function but its return: no
 * exception, no longjmp. A function that returns MF_FAILED has told `report->error` why, and has given nothing.
 *
 * What the program passes lives until the function returns: calls, reports, limits, models, requests. The tables of
 * MfHost live as long as the process. A call's number may be used from any thread until then, its report only from the
 * thread that was called.
 */
";

/// The names of the types that cross.
fn structs() -> impl Iterator<Item = &'static str> {
    let after = |line: &'static str| line.strip_prefix("pub struct ").or(line.strip_prefix("pub type "));
    let name = |line: &'static str| line.split([' ', '=']).next().unwrap_or_default();
    sources::TEXT.lines().filter_map(after).map(name)
}

fn generated() -> String {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(START.trim_end().to_owned()),
        include_guard: Some("MODELFERRY_PLUGIN_H".to_owned()),
        no_includes: true,
        sys_includes: ["stddef.h", "stdint.h", "string.h"].map(str::to_owned).to_vec(),
        // No function of ours mentions them: the one function is the library's.
        export: cbindgen::ExportConfig {
            include: structs().map(str::to_owned).collect(),
            ..cbindgen::ExportConfig::default()
        },
        // They speak of each other.
        after_includes: Some(
            structs().filter(|name| *name != "MfEntry").map(|name| format!("\nstruct {name};")).collect(),
        ),
        cpp_compat: true,
        style: cbindgen::Style::Tag,
        documentation_style: cbindgen::DocumentationStyle::C99,
        documentation_length: cbindgen::DocumentationLength::Full,
        line_length: 110,
        tab_width: 4,
        ..cbindgen::Config::default()
    };
    let mut text = vec![];
    let builder = cbindgen::Builder::new().with_config(config);
    let types = sources::FILES.iter().fold(builder, |builder, file| builder.with_src(folder().join(file)));
    types
        .with_src(folder().join("src/codes.rs"))
        .generate()
        .expect("the types can be said in C")
        .write(&mut text);
    // Links of the documentation are names in C.
    let text = String::from_utf8(text).expect("a header is text");
    let text = text.replace("[`", "`").replace("`]", "`").replace("::", ".");
    let (body, end) = text.rsplit_once("#endif").expect("it is guarded");
    format!("{body}{}\n\n#endif{end}", include_str!("../src/helpers.h").trim())
}

#[test]
fn the_header_is_what_the_types_say() {
    let path = folder().join("include/modelferry_plugin.h");
    let expected = generated();
    if std::env::var_os("MODELFERRY_UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "the header has drifted; MODELFERRY_UPDATE=1 makes it anew");
}

#[test]
fn the_header_is_c_and_cpp() {
    let header = "#include \"modelferry_plugin.h\"\n#include \"modelferry_plugin.h\"\n\
        uint64_t first(const struct MfSlice *slice);\n\
        uint64_t first(const struct MfSlice *slice) { return *(const uint64_t *)mf_at(slice, 0); }\n";
    for (language, standard) in [("c", "c11"), ("c++", "c++17")] {
        let mut compiler = Command::new("cc")
            .args([
                "-x",
                language,
                &format!("-std={standard}"),
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-fsyntax-only",
                "-I",
            ])
            .arg(folder().join("include"))
            .arg("-")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        compiler.stdin.take().unwrap().write_all(header.as_bytes()).unwrap();
        let done = compiler.wait_with_output().unwrap();
        assert!(done.status.success(), "{language}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
