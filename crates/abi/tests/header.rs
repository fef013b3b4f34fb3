//! The header is generated from the Rust types, and the one in the repository is that one.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

const START: &str = "\
/* The boundary between modelferry and its plugins, version 1.0.
 *
 * Generated from crates/abi; `MODELFERRY_UPDATE=1 cargo test -p modelferry-abi --test header` makes it anew.
 *
 * A library exports one function, `const struct MfPlugin *modelferry_ID_v1(void)`, with `-` in its id as `_`, and has a
 * manifest beside it. docs/plugins.md is the guide.
 *
 * Rules. Numbers have fixed widths. A struct that is passed by pointer begins with `struct_size`, the bytes that its
 * maker knows: set it. Arrays travel as struct MfSlice, whose stride is the size of an element as its maker knows it.
 * Text is UTF-8 with a length, not ended by a NUL. What one side allocates the same side frees, when the other calls
 * `release`. Nothing may leave a function but its return: no exception, no longjmp. A function that returns MF_FAILED has
 * told `report->error` why.
 */
";

fn generated() -> String {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        header: Some(START.trim_end().to_owned()),
        include_guard: Some("MODELFERRY_PLUGIN_H".to_owned()),
        no_includes: true,
        sys_includes: vec!["stdint.h".to_owned()],
        cpp_compat: true,
        style: cbindgen::Style::Tag,
        documentation_style: cbindgen::DocumentationStyle::C99,
        documentation_length: cbindgen::DocumentationLength::Full,
        line_length: 110,
        tab_width: 4,
        ..cbindgen::Config::default()
    };
    let mut text = vec![];
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(folder().join("src/types.rs"))
        .with_src(folder().join("src/codes.rs"))
        .generate()
        .expect("the types can be said in C")
        .write(&mut text);
    String::from_utf8(text).expect("a header is text")
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
    let header = folder().join("include/modelferry_plugin.h");
    for (language, standard) in [("c", "c11"), ("c++", "c++17")] {
        let done = Command::new("cc")
            .args([
                "-x",
                language,
                &format!("-std={standard}"),
                "-Wall",
                "-Wextra",
                "-Wpedantic",
                "-Werror",
                "-fsyntax-only",
            ])
            .arg(&header)
            .output()
            .unwrap();
        assert!(done.status.success(), "{language}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
