//! The samples in C: built as an author builds them, loaded, and used to convert.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_convert::Job;
use modelferry_core::ErrorKind;
use modelferry_core::registry::Registry;
use modelferry_plugin::trust;
use std::path::Path;
use std::process::Command;
use support::*;

/// What `tiny.flat` holds, as bytes of each tensor.
fn tiny() -> Vec<(&'static str, &'static str, Vec<u64>, Vec<u8>)> {
    let floats = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let whole = |values: &mut dyn Iterator<Item = i32>| values.flat_map(i32::to_le_bytes).collect();
    let mut runs = std::iter::repeat_n(7, 300).chain(0..50).chain(std::iter::repeat_n(-1, 350));
    vec![
        ("matrix", "F32", vec![2, 3], floats(&[0.5, -1.0, 2.0, 1e30, 0.0, 3.25])),
        ("runs", "I32", vec![7, 100], whole(&mut runs)),
        ("scalar", "F32", vec![], floats(&[1.5])),
        ("step", "I32", vec![], whole(&mut std::iter::once(-12))),
        ("nothing", "F32", vec![0, 4], vec![]),
    ]
}

/// The tensors of a safetensors file, by its own rules: a length, a header, the bytes.
fn check_safetensors(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let (len, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    for (name, dtype, shape, expected) in tiny() {
        let found = &header[name];
        let [start, end] = [0, 1].map(|idx| found["data_offsets"][idx].as_u64().unwrap() as usize);
        assert_eq!(
            (found["dtype"].as_str(), &found["shape"]),
            (Some(dtype), &serde_json::json!(shape)),
            "{name}"
        );
        assert!(data[start..end] == expected, "{name}");
    }
}

/// Flat to safetensors to flat to safetensors, with the libraries of a folder.
fn go_around(libraries: &Path, folder: &Path) {
    let registry = registry(libraries).unwrap();
    let [first, flat, second] =
        ["first.safetensors", "again.flat", "second.safetensors"].map(|name| folder.join(name));
    let report = convert(&registry, &samples().join("tiny.flat"), &first).unwrap();
    assert_eq!((report.from, report.losses.len()), (Some("flat"), 0));
    check_safetensors(&first);
    convert(&registry, &first, &flat).unwrap();
    let index = std::fs::read_to_string(&flat).unwrap();
    assert!(
        index.starts_with("FLAT 1\ndata again.flatdata\ntensor ") && index.ends_with("\nend\n"),
        "{index}"
    );
    assert!(index.contains("\ntensor runs i32 raw "), "{index}");
    assert_eq!(folder.join("again.flatdata").metadata().unwrap().len(), 24 + 2800 + 4 + 4);
    convert(&registry, &flat, &second).unwrap();
    check_safetensors(&second);
    check_checksums(&registry, &first, &folder.join("sums.flat"));
}

/// Converts with a file of checksums, then without it, which is wrong then.
fn check_checksums(registry: &Registry, input: &Path, output: &Path) {
    let options = [("checksums".to_owned(), "true".to_owned())].into();
    let mut job = Job { input: input.to_owned(), output: output.to_owned(), options, ..Job::default() };
    let report = convert_as(registry, &job).unwrap();
    let sums = output.with_extension("flat.sha256");
    let line = |extension: &str| {
        let path = output.with_extension(extension);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        format!("{}  {name}\n", trust::sha256(&path).unwrap())
    };
    let text = std::fs::read_to_string(&sums).unwrap();
    assert_eq!(text, line("flat") + &line("flatdata"));
    assert_eq!(report.files[2], ("sums.flat.sha256".to_owned(), text.len() as u64));
    assert_eq!(report.promised, [("sums.flat.sha256".to_owned(), 1024)]);
    job.options.clear();
    for path in [output.to_owned(), output.with_extension("flatdata")] {
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(failure(convert_as(registry, &job)).kind(), ErrorKind::Exists);
    convert_as(registry, &Job { force: true, ..job }).unwrap();
    assert!(output.exists() && !sums.exists());
}

#[test]
fn the_samples_convert() {
    let folder = scratch("samples");
    build_samples(&folder, &include());
    go_around(&folder, &folder);
}

#[test]
fn the_samples_export_one_function() {
    let folder = scratch("exports");
    build_samples(&folder, &include());
    for id in ["flat-reader", "flat-writer"] {
        let library = folder.join(format!("lib{id}.{}", std::env::consts::DLL_EXTENSION));
        let done = Command::new("nm").args(["-D", "--defined-only"]).arg(library).output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
        assert_eq!(names, [format!("modelferry_{}_v1", id.replace('-', "_"))]);
    }
}

#[test]
fn the_samples_are_as_short_as_promised() {
    for name in ["flat_reader.c", "flat_writer.c"] {
        let text = std::fs::read_to_string(samples().join(name)).unwrap();
        assert!(text.lines().count() < 200, "{name}");
    }
}

#[test]
fn broken_files_are_told() {
    let folder = scratch("broken");
    build_samples(&folder, &include());
    let registry = registry(&folder).unwrap();
    let index = std::fs::read_to_string(samples().join("tiny.flat")).unwrap();
    let data = std::fs::read(samples().join("tiny.flatdata")).unwrap();
    let output = folder.join("out.safetensors");
    let try_it = |index: &str, data: &[u8]| {
        std::fs::write(folder.join("in.flat"), index).unwrap();
        std::fs::write(folder.join("tiny.flatdata"), data).unwrap();
        let error = failure(convert(&registry, &folder.join("in.flat"), &output));
        assert!(!output.exists());
        (error.kind(), error.to_string())
    };
    let wrong = [
        ("matrix f32", "matrix f16", "a name that is not"),
        ("matrix f32", "m\u{e4}trix f32", "a name that is not"),
        ("raw 0 24", "raw 0 25", "neither raw"),
        ("raw 0 24", "raw 999 24", "not in the data"),
        ("raw 0 24", "raw x 24", "not two numbers"),
        ("rle 24 624", "rle 24 623", "whole runs"),
        ("rle 24 624", "lzw 24 624", "neither raw"),
        ("7 100", "7 101", "the runs of a tensor end"),
        ("7 100", "7 99", "behind its tensor"),
        ("7 100", "4294967296 4294967296", "too large"),
        ("7 100", "1 1 1 1 1 1 1 7 100", "one too many"),
        ("7 100", "7  100", "no number"),
        ("nothing f32", "matrix f32", "matrix"),
        ("\nend\n", "\nend", "nor the end"),
        ("\nend\n", "\n", "nor the end"),
        ("\nend\n", "\nend\n\n", "nor the end"),
        ("data tiny.flatdata", "data ../tiny.flatdata", "names no data file"),
        ("data tiny.flatdata", "data other.flatdata", "other.flatdata"),
    ];
    for (from, to, expected) in wrong {
        let (kind, text) = try_it(&index.replace(from, to), &data);
        assert!(kind == ErrorKind::Malformed && text.contains(expected), "{to}: {text}");
    }
    let mut zero_run = data.clone();
    zero_run[24 + 12] = 44;
    zero_run[24 + 13] = 1;
    zero_run[24] = 44;
    assert!(try_it(&index, &zero_run).1.contains("a run ends before it begins"));
    assert!(try_it(&index, &data[..data.len() - 1]).1.contains("not in the data"));
    // A cut at any byte, and any byte another: an error or a model, never a crash.
    for at in 0..index.len() {
        std::fs::write(folder.join("tiny.flatdata"), &data).unwrap();
        for text in
            [&index.as_bytes()[..at], &[&index.as_bytes()[..at], b" ", &index.as_bytes()[at + 1..]].concat()]
        {
            std::fs::write(folder.join("in.flat"), text).unwrap();
            let _ = convert(&registry, &folder.join("in.flat"), &output);
            let _ = std::fs::remove_file(&output);
        }
    }
}

#[test]
fn the_sanitizer_finds_nothing() {
    sanitized("the_samples_convert");
    sanitized("broken_files_are_told");
}

/// Parts of other structs: they never change.
const PARTS: [&str; 3] = ["MfText", "MfSlice", "MfData"];

/// What an earlier version might have lacked: so many fields at the end of structs, of which the samples use none.
const LATER: &[(&str, usize)] = &[
    ("MfHost", 3),
    ("MfModel", 5),
    ("MfLimits", 12),
    ("MfRequest", 3),
    ("MfLoss", 1),
    ("MfReport", 1),
    ("MfQuery", 2),
    ("MfAnswer", 1),
    ("MfNode", 2),
    ("MfAsset", 1),
    ("MfClaim", 1),
    ("MfPatch", 1),
    ("MfPromise", 5),
    ("MfSeen", 4),
    ("MfOutcome", 2),
];

/// The header with the body of every struct changed, which must lead to another text.
fn reshaped(change: impl Fn(&str, &[String]) -> Vec<String>) -> String {
    let header = std::fs::read_to_string(include().join("modelferry_plugin.h")).unwrap();
    let (mut found, mut body) = (String::new(), None::<(String, Vec<String>)>);
    for line in header.lines() {
        let opened = line.strip_prefix("struct ").and_then(|line| line.strip_suffix(" {"));
        if let Some(name) = opened {
            body = Some((name.to_owned(), vec![]));
        } else if line == "};"
            && let Some((name, fields)) = body.take()
        {
            change(&name, &fields).iter().for_each(|field| found += field);
        } else if let Some((_, fields)) = &mut body {
            // A field is the lines until the one that ends it.
            if fields.last().is_none_or(|field| field.ends_with(";\n")) {
                fields.push(String::new());
            }
            fields.last_mut().unwrap().push_str(&format!("{line}\n"));
            continue;
        }
        found += &format!("{line}\n");
    }
    assert_ne!(header, found);
    found
}

/// Converts with samples that were built against another header.
fn go_around_with(name: &str, header: &str) {
    let folder = scratch(name);
    std::fs::write(folder.join("modelferry_plugin.h"), header).unwrap();
    build_samples(&folder, &folder);
    go_around(&folder, &folder);
}

#[test]
fn samples_of_an_older_and_of_a_newer_version_load() {
    go_around_with(
        "older",
        &reshaped(|name, fields| {
            let n_later = LATER.iter().find(|(later, _)| *later == name).map_or(0, |(_, n)| *n);
            fields[..fields.len() - n_later].to_vec()
        }),
    );
    go_around_with(
        "newer",
        &reshaped(|name, fields| {
            let later = "    uint64_t a_later_number;\n    void *(*a_later_function)(void);\n".to_owned();
            let is_part = PARTS.contains(&name);
            fields.iter().cloned().chain((!is_part).then_some(later)).collect()
        }),
    );
}

#[test]
fn the_sanitizer_finds_nothing_in_other_versions() {
    sanitized("samples_of_an_older_and_of_a_newer_version_load");
}
