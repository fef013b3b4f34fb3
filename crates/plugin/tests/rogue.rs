//! A plugin that breaks every rule of the boundary: each leads to an error, never to a crash, and what it gave is
//! released once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_convert::Job;
use modelferry_core::ErrorKind::{self, *};
use modelferry_core::registry::Registry;
use modelferry_engine::Control;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use support::*;

/// Misbehaviours of the reader that are named in C, and what becomes of them: a kind and some words, or nothing if no
/// harm is done.
const MODELS: &[(&str, Option<(ErrorKind, &str)>)] = &[
    ("made_silently", Some((Plugin, "a plugin failed without saying why"))),
    ("made_broken", Some((Malformed, "the stream is broken"))),
    ("made_after", None),
    ("silent", Some((Plugin, "a plugin failed without saying why"))),
    ("minus", Some((Plugin, "a plugin failed without saying why"))),
    ("empty", None),
    ("error_null", Some((Plugin, "a struct has no place"))),
    ("error_tiny", Some((Plugin, "a struct is smaller than its own size"))),
    ("error_kind", Some((Plugin, "told"))),
    ("error_nowhere", Some((Plugin, "a plugin failed without saying why"))),
    ("error_odd", Some((Unsupported, "a�b"))),
    ("error_long", Some((Unsupported, "it did not say what is wrong"))),
    ("loss_kind", Some((Plugin, "a loss is of a kind that is not known here"))),
    ("loss_null", Some((Plugin, "a struct has no place"))),
    ("loss_odd", None),
    ("nonsense", None),
    ("tensors_null", Some((Plugin, "an array of some length has no place"))),
    ("tensors_huge", Some((Limit, "too many tensors"))),
    ("tensors_flat", Some((Plugin, "an array is longer than memory"))),
    ("tensors_wide", Some((Plugin, "an array is longer than memory"))),
    ("nodes_huge", Some((Limit, "too many expression nodes"))),
    ("blobs_huge", Some((Plugin, "an array is longer than memory"))),
    ("assets_huge", Some((Plugin, "an array of some length has no place"))),
    ("claims_huge", Some((Plugin, "an array is longer than memory"))),
    ("blob_null", Some((Plugin, "a text of some length has no place"))),
    ("blob_huge", Some((Plugin, "a text is longer than memory"))),
    ("document_null", Some((Plugin, "a text of some length has no place"))),
    ("name_null", Some((Plugin, "a text of some length has no place"))),
    ("name_huge", Some((Limit, "a tensor's name is too long"))),
    ("name_odd", Some((Plugin, "a text is not UTF-8"))),
    ("name_twice", Some((Malformed, "a name is used twice"))),
    ("shape_null", Some((Plugin, "an array of some length has no place"))),
    ("shape_deep", Some((Limit, "too many dimensions"))),
    ("shape_overflow", Some((Plugin, "a shape does not fit its type"))),
    ("shape_wide", Some((Plugin, "a shape does not fit its type"))),
    ("shape_other", Some((Plugin, "bytes beyond the end of a file"))),
    ("dtype", Some((Unsupported, "an element type that is not known here"))),
    ("opaque", Some((Unsupported, "an element type that is not known here"))),
    ("data_kind", Some((Plugin, "data of an unknown kind"))),
    ("data_beyond", Some((Plugin, "bytes beyond the end of a file"))),
    ("data_far", Some((Plugin, "bytes beyond the end of a file"))),
    ("data_file", Some((Plugin, "bytes of a file that was not opened"))),
    ("data_folder", Some((Plugin, "bytes of a file that was not opened"))),
    ("data_node", Some((Plugin, "a node that is not there"))),
    ("data_type", Some((Malformed, "data does not fit dtype and shape"))),
    ("made_null", Some((Plugin, "a model has no function for the bytes it makes"))),
    ("release_null", None),
    ("node_op", Some((Unsupported, "an operation that is not known here"))),
    ("node_dtype", Some((Unsupported, "an element type that is not known here"))),
    ("node_flags", Some((Plugin, "unknown flags"))),
    ("node_self", Some((Plugin, "a node is made of one that is not before it"))),
    ("node_forward", Some((Plugin, "a node is made of one that is not before it"))),
    ("node_none", Some((Plugin, "a node is made of one that is not before it"))),
    ("node_count", Some((Plugin, "bytes beyond the end of a file"))),
    ("node_other", Some((Malformed, "3 items of f32 do not fit their bytes"))),
    ("node_file", Some((Plugin, "bytes of a file that was not opened"))),
    ("node_list", Some((Plugin, "an array of some length has no place"))),
    ("node_long", Some((Plugin, "an array is longer than memory"))),
    ("node_inline", Some((Plugin, "a blob that is not there"))),
    ("node_inflate", Some((Malformed, "data does not fit dtype and shape"))),
    ("node_varints", Some((Malformed, "a stream has bytes after its end"))),
    ("node_axis", Some((Plugin, "an axis without a stride"))),
    ("node_view", Some((Malformed, "a view reaches outside its source"))),
    ("node_reach", Some((Malformed, "a view has too many items"))),
    ("node_box", Some((Plugin, "the parts of a box are not whole"))),
    ("node_rank", Some((Plugin, "the parts of a box are not whole"))),
    ("node_uncovered", Some((Malformed, "parts do not cover the assembled tensor exactly"))),
    ("node_unit", Some((Malformed, "gathered groups do not divide their source"))),
    ("node_group", Some((Malformed, "a gathered group does not exist"))),
    ("node_function", Some((Unsupported, "a function that is not known here"))),
    ("node_arguments", Some((Plugin, "a function without arguments"))),
    ("node_many", Some((Malformed, "a function has the wrong number of arguments"))),
    ("node_blocks", Some((Malformed, "Dequantize does not take these types"))),
    ("asset_odd", Some((Plugin, "a text is not UTF-8"))),
    ("asset_beyond", Some((Plugin, "bytes beyond the end of a file"))),
    ("asset_twice", Some((Malformed, "two assets have this name"))),
    ("asset_made", Some((Malformed, "an asset is neither a part of a file nor text of ours"))),
    ("asset_other", Some((Plugin, "an asset is of another length than its bytes"))),
    ("claim_far", Some((Plugin, "a node that is not there"))),
    ("claim_type", Some((Plugin, "a claim about what is no sequence of bytes"))),
    ("document_odd", Some((Plugin, "a document that is not of the published schema"))),
    ("document_deep", Some((Plugin, "a document that is not of the published schema"))),
];

/// Documents that are none, or that say what cannot be.
const DOCUMENTS: &[(&str, Option<(ErrorKind, &str)>)] = &[
    (r#"{"ties":5}"#, Some((Plugin, "invalid type: integer `5`, expected a sequence"))),
    (r#"{"ties":[[0]]}"#, Some((Malformed, "a tie joins tensors that differ"))),
    (r#"{"ties":[[0,9]]}"#, Some((Malformed, "a tie joins tensors that differ"))),
    (
        r#"{"ties":[[0,18446744073709551616]]}"#,
        Some((Plugin, "invalid type: floating point `1.8446744073709552e+19`, expected usize")),
    ),
    (r#"[]"#, Some((Plugin, "a document that is not of the published schema, expected an object"))),
    (r#"{"config":5}"#, Some((Plugin, "invalid type: integer `5`, expected a string"))),
    (r#"{"config":"no config"}"#, None),
    (r#"{"metadata":{"k":"v"}}"#, Some((Plugin, "invalid type: map, expected a sequence"))),
    (r#"{"metadata":[["k",{"text":5}]]}"#, Some((Plugin, "invalid type: integer `5`, expected a string"))),
    (r#"{"metadata":[["k",{"odd":5}]]}"#, Some((Plugin, "unknown variant `odd`"))),
    (r#"{"metadata":[["k",{"u8":300}]]}"#, Some((Plugin, "invalid value: integer `300`, expected u8"))),
    (r#"{"metadata":[["k",{"u64":"x"}]]}"#, Some((Plugin, "a whole number is not its digits"))),
    (r#"{"metadata":[["k",{"u64":5}]]}"#, Some((Plugin, "invalid type: integer `5`, expected a string"))),
    (
        r#"{"metadata":[["k",{"i64":"9223372036854775808"}]]}"#,
        Some((Plugin, "a whole number is not its digits")),
    ),
    (r#"{"metadata":[["k",{"f32":"0x1ffffffff"}]]}"#, Some((Plugin, "a float has too many bits"))),
    (r#"{"metadata":[["k",{"f32":"1.5"}]]}"#, Some((Plugin, "a float is not the text of its bits"))),
    (r#"{"metadata":[["k",{"f64":"0x"}]]}"#, Some((Plugin, "a float is not the text of its bits"))),
    (r#"{"metadata":[["k",{"bytes":9}]]}"#, Some((Plugin, "a blob that is not there"))),
    (
        r#"{"metadata":[["k",{"list":{"of":"u32","len":3,"blob":0}}]]}"#,
        Some((Plugin, "a list is not as long as it says")),
    ),
    (
        r#"{"metadata":[["k",{"list":{"of":"u64","len":9223372036854775808,"blob":0}}]]}"#,
        Some((Plugin, "a list is not as long as it says")),
    ),
    (
        r#"{"metadata":[["k",{"list":{"of":"text","len":1,"blob":0}}]]}"#,
        Some((Plugin, "a list is not as long as it says")),
    ),
    (
        r#"{"metadata":[["k",{"list":{"of":"list","len":1,"blob":0}}]]}"#,
        Some((Plugin, "a list of an unknown type")),
    ),
    (
        r#"{"metadata":[["k",{"list":{"of":"odd","len":1,"blob":0}}]]}"#,
        Some((Plugin, "a list of an unknown type")),
    ),
    (r#"{"metadata":[["k",{"u8":1}],["k",{"u8":2}]]}"#, None),
    (r#"{"tree":{"objects":[{"list":[9]}],"root":0}}"#, Some((Plugin, "an object that is not there"))),
    (r#"{"tree":{"objects":[],"root":3}}"#, Some((Plugin, "an object that is not there"))),
    (r#"{"tree":{"objects":[{"list":[0]}],"root":0}}"#, None),
    (r#"{"tree":{"objects":[{"dict":[[0,0]]}],"root":0}}"#, None),
    (r#"{"tree":{"objects":[{"external":0}],"root":0}}"#, None),
    (
        r#"{"tree":{"objects":[{"instance":{"is_new":true,"callable":0,"args":0,"states":[0]}}],"root":0}}"#,
        None,
    ),
    (
        r#"{"tree":{"objects":[{"instance":{"is_new":true,"callable":5,"args":0}}],"root":0}}"#,
        Some((Plugin, "an object that is not there")),
    ),
    (
        r#"{"tree":{"objects":[{"tensor":7}],"root":0}}"#,
        Some((Malformed, "the tree names a tensor that is not there")),
    ),
    (r#"{"tree":{"objects":[{"big_int":7}],"root":0}}"#, Some((Plugin, "a blob that is not there"))),
    (r#"{"tree":{"objects":[{"int":"1e3"}],"root":0}}"#, Some((Plugin, "a whole number is not its digits"))),
    (r#"{"tree":{"objects":["odd"],"root":0}}"#, Some((Plugin, "unknown variant `odd`"))),
    (r#"{"graph":{"dialect":"x","body":9,"bindings":[]}}"#, Some((Plugin, "a blob that is not there"))),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[{"at":0,"tensor":9,"name":"w","dtype":"f32","node":0}]}}"#,
        Some((Malformed, "the graph has places for tensors that are not there")),
    ),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[{"at":0,"tensor":0,"name":"w","dtype":"f99","node":0}]}}"#,
        Some((Unsupported, "an element type that is not known here")),
    ),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[{"at":0,"tensor":0,"name":"w","dtype":"f32"}]}}"#,
        Some((Plugin, "a node that is not there")),
    ),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[{"at":99,"tensor":0,"name":"w","dtype":"f32","node":1}]}}"#,
        Some((Malformed, "the graph has places for tensors that are not there")),
    ),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[],"nameless":[7]}}"#,
        Some((Malformed, "the graph speaks of a tensor that is not there")),
    ),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[],"origins":[{"tensor":7,"name":"w"}]}}"#,
        Some((Malformed, "the graph speaks of a tensor that is not there")),
    ),
    (
        r#"{"graph":{"dialect":"x","body":0,"bindings":[],"origins":[{"tensor":0,"name":"w","axes":[9]}]}}"#,
        Some((Plugin, "the axes of an origin are no order of its tensor's")),
    ),
    (r#"{"checks":[{"file":"x"}]}"#, Some((Plugin, "missing field `fault`"))),
    (r#"{"file_digests":[[0,"zz"]]}"#, Some((Plugin, "a SHA-1 is not forty hexadecimal digits"))),
    (r#"{"file_digests":[[77,"0000000000000000000000000000000000000000"]]}"#, None),
    (r#"{"later":[{"unknown":1}]}"#, None),
    (
        r#"{"later":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["#,
        Some((Plugin, "EOF while parsing a list")),
    ),
    (r#"{"ties":[]"#, Some((Plugin, "EOF while parsing an object"))),
];

/// Misbehaviours of the writer.
const LAYOUTS: &[(&str, Option<(ErrorKind, &str)>)] = &[
    ("silent", Some((Plugin, "a plugin failed without saying why"))),
    ("empty", Some((Plugin, "a layout has no root file"))),
    ("files_huge", Some((Plugin, "an array is longer than memory"))),
    ("pieces_null", Some((Plugin, "an array of some length has no place"))),
    ("blobs_huge", Some((Plugin, "an array of some length has no place"))),
    ("digests_huge", Some((Plugin, "an array is longer than memory"))),
    ("patches_huge", Some((Plugin, "an array is longer than memory"))),
    ("notes_huge", Some((Plugin, "an array is longer than memory"))),
    ("notes_odd", Some((Plugin, "a text is not UTF-8"))),
    ("supersedes_odd", Some((Plugin, "a text is not UTF-8"))),
    ("path_up", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_root", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_empty", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_dot", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_slash", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_nul", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_odd", Some((Plugin, "a text is not UTF-8"))),
    ("path_null", Some((Plugin, "a text of some length has no place"))),
    ("path_twice", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("path_folder", Some((Plugin, "a layout's path leads through another file"))),
    ("root", Some((Plugin, "a layout has no root file"))),
    ("root_far", Some((Plugin, "a layout has no root file"))),
    ("pieces_beyond", Some((Plugin, "a file has pieces that are not there"))),
    ("pieces_overflow", Some((Plugin, "a file has pieces that are not there"))),
    ("piece_kind", Some((Unsupported, "a piece that is not known here"))),
    ("piece_flags", Some((Plugin, "unknown flags"))),
    ("blob_far", Some((Plugin, "a blob that is not there"))),
    ("blob_beyond", Some((Plugin, "a piece beyond its blob"))),
    ("blob_overflow", Some((Plugin, "a piece is too long"))),
    ("tensor_far", Some((Plugin, "a layout uses tensor bytes that do not exist"))),
    ("tensor_beyond", Some((Plugin, "a layout uses tensor bytes that do not exist"))),
    ("tensor_split", Some((Plugin, "a layout splits an element"))),
    ("tensor_overflow", Some((Plugin, "a piece is too long"))),
    ("asset_far", Some((Plugin, "a layout uses asset bytes that do not exist"))),
    ("zero_overflow", Some((Plugin, "a layout's length overflows"))),
    ("zero_huge", Some((Plugin, "a layout's pieces do not add up"))),
    ("digest_algo", Some((Unsupported, "a digest that is not known here"))),
    ("digest_file", Some((Plugin, "a layout's digest covers bytes that do not exist"))),
    ("digest_beyond", Some((Plugin, "a layout's digest covers bytes that do not exist"))),
    ("digest_overflow", Some((Plugin, "a layout's digest covers bytes that do not exist"))),
    ("patch_form", Some((Unsupported, "a form of a digest that is not known here"))),
    ("patch_file", Some((Plugin, "a layout's patch has no place or no value"))),
    ("patch_beyond", Some((Plugin, "a layout's patch has no place or no value"))),
    ("patch_far", Some((Plugin, "a layout's patch has no place or no value"))),
    ("patch_digest", Some((Plugin, "a layout's patch has no place or no value"))),
    ("patch_own", Some((Plugin, "a layout's patch has no place or no value"))),
    ("patch_tensor", Some((Plugin, "a layout's patch covers bytes that are not given as zeros"))),
    ("patch_twice", Some((Plugin, "two patches of a layout share bytes"))),
    ("patch_across", Some((Plugin, "a layout's patch covers bytes that are not given as zeros"))),
    ("patch_given", Some((Plugin, "a layout's patch covers bytes that are not given as zeros"))),
    ("promises_huge", Some((Plugin, "a layout promises too many files, expected at most 16, found"))),
    ("promises_null", Some((Plugin, "an array of some length has no place"))),
    ("promise_odd", Some((Plugin, "a text is not UTF-8"))),
    ("promise_up", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("promise_taken", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("promise_twice", Some((Plugin, "a layout's path is not a plain unique relative path"))),
    ("promise_folder", Some((Plugin, "a layout's path leads through another file"))),
    ("promise_long", Some((Plugin, "a layout promises too long a file, expected at most 1048576"))),
    ("promise_endless", Some((Plugin, "a layout promises too long a file"))),
    ("promise_format", Some((Plugin, "a layout promises files of a writer that is not there"))),
    ("promise_format_odd", Some((Plugin, "a text is not UTF-8"))),
    ("promise_far", Some((Plugin, "a layout promises a file about others that are not there"))),
    ("promise_beyond", Some((Plugin, "a layout promises a file about others that are not there"))),
    ("promise_other", Some((Plugin, "safetensors: report.txt: a writer did not make a file"))),
    ("release_null", None),
];

/// Misbehaviours of the writer once all is written.
const REPORTS: &[(&str, Option<(ErrorKind, &str)>)] = &[
    ("report", None),
    ("report_silent", Some((Plugin, "a plugin failed without saying why"))),
    ("report_error", Some((Unsupported, "rogue: there is no ink"))),
    (
        "report_empty",
        Some((Plugin, "rogue: report.txt: a writer did not make a file that its layout promises")),
    ),
    ("report_missing", Some((Plugin, "a writer did not make a file that its layout promises"))),
    ("report_other", Some((Plugin, "other.txt: a writer made a file that its layout does not promise"))),
    ("report_up", Some((Plugin, "a writer made a file that its layout does not promise"))),
    ("report_path_odd", Some((Plugin, "a text is not UTF-8"))),
    ("report_path_null", Some((Plugin, "a text of some length has no place"))),
    ("report_long", Some((Plugin, "a file is longer than its layout promises, expected at most 8, found 9"))),
    ("report_huge", Some((Plugin, "report.txt: a file is longer than a layout can promise"))),
    ("report_odd", Some((Plugin, "rogue: report.txt: byte 1: a text is not UTF-8"))),
    ("report_null", Some((Plugin, "a text of some length has no place"))),
    ("report_twice", Some((Plugin, "report.txt: a writer made a file twice"))),
    ("reports_many", Some((Plugin, "a writer made more files than a layout can promise"))),
    ("reports_null", Some((Plugin, "an array of some length has no place"))),
    ("reports_flat", Some((Plugin, "an array is longer than memory"))),
    ("report_loss", Some((Plugin, "a loss is told when all is written, found order: w"))),
    ("report_nonsense", Some((Plugin, "a loss is of a kind that is not known here"))),
    ("report_asks", None),
    ("report_release_null", None),
];

/// Builds the plugin. Gives its folder, its library and a registry that has it.
fn build(name: &str) -> (PathBuf, PathBuf, Registry) {
    let to = scratch(name);
    let library = to.join(format!("librogue.{}", std::env::consts::DLL_EXTENSION));
    compile(&folder().join("tests/c/rogue.c"), &library, &include());
    let parts = r#""readers": [{"format": "rogue", "about": "", "extensions": [".rogue"]}],
        "writers": [{"format": "rogue", "about": "", "extensions": [".rogue"], "dtypes": ["f32"], "max_rank": 8}]"#;
    describe(&library, "rogue", parts);
    let registry = registry(&to).unwrap();
    (to, library, registry)
}

/// Misbehaviours that have a test of their own.
const ELSEWHERE: [&str; 3] = ["made_overrun", "made_cancelled", "read_cancelled"];

/// A file that asks the reader for a misbehaviour.
fn ask(folder: &Path, how: &str) -> PathBuf {
    let path = folder.join("in.rogue");
    let mut bytes = format!("ROGUE {how}\n").into_bytes();
    bytes.resize(400, 0);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// How many models were given and released, how many layouts, and how many reports.
fn counts(library: &Path) -> [u64; 6] {
    // SAFETY: the library is open already, and this function returns six numbers that stay.
    unsafe {
        let library = std::mem::ManuallyDrop::new(libloading::Library::new(library).unwrap());
        *library.get::<extern "C" fn() -> *const [u64; 6]>(b"rogue_counted").unwrap()()
    }
}

/// Every misbehaviour that the C file knows is tried.
fn check_all_named(file: &str, cases: &[(&str, Option<(ErrorKind, &str)>)]) {
    let text = std::fs::read_to_string(folder().join("tests/c").join(file)).unwrap();
    let named: BTreeSet<&str> =
        text.split("IS(\"").skip(1).filter_map(|part| part.split('"').next()).collect();
    let tried: BTreeSet<&str> = cases.iter().map(|(how, _)| *how).chain(ELSEWHERE).collect();
    assert_eq!(named.difference(&tried).collect::<Vec<_>>(), Vec::<&&str>::new(), "{file}");
}

fn check<T>(how: &str, found: modelferry_core::Result<T>, expected: Option<(ErrorKind, &str)>) {
    match (found, expected) {
        (Ok(_), None) => {}
        (Err(error), Some((kind, words))) => {
            assert!(
                error.kind() == kind && error.to_string().contains(words),
                "{how}: {:?} {error}",
                error.kind()
            );
        }
        (Ok(_), Some(_)) => panic!("{how}: it should have failed"),
        (Err(error), None) => panic!("{how}: {error}"),
    }
}

#[test]
fn models_that_are_none() {
    let (folder, library, registry) = build("rogue-models");
    check_all_named("rogue_model.h", MODELS);
    let output = folder.join("out.safetensors");
    for &(how, expected) in MODELS.iter().chain(DOCUMENTS) {
        check(how, convert(&registry, &ask(&folder, how), &output), expected);
        assert_eq!(output.exists(), expected.is_none(), "{how}");
        let _ = std::fs::remove_file(&output);
        let [given, released, ..] = counts(&library);
        assert_eq!(given, released, "{how}: a model is released once");
    }
    let error = failure(convert(&registry, &ask(&folder, "verdict"), &output));
    assert_eq!(error.kind(), Unsupported, "a verdict that is not known is none: {error}");
}

/// The run that is cancelled while the plugin is at work.
static CANCELLED: Mutex<Option<Arc<Control>>> = Mutex::new(None);

extern "C" fn cancel() {
    if let Some(control) = &*CANCELLED.lock().unwrap() {
        control.cancel(2);
    }
}

#[test]
fn a_plugin_that_goes_on_after_cancel_changes_nothing() {
    let (folder, library, registry) = build("rogue-cancel");
    // SAFETY: the library is the one of the registry, and the function keeps a function that stays.
    unsafe {
        let library = std::mem::ManuallyDrop::new(libloading::Library::new(&library).unwrap());
        library.get::<extern "C" fn(extern "C" fn())>(b"rogue_set_meanwhile").unwrap()(cancel);
    }
    for how in ["read_cancelled", "made_cancelled"] {
        let control = Arc::new(Control::default());
        *CANCELLED.lock().unwrap() = Some(Arc::clone(&control));
        let output = folder.join("out.safetensors");
        let job = Job { input: ask(&folder, how), output: output.clone(), ..Job::default() };
        let error = failure(convert_under(&registry, &job, &control));
        assert_eq!(error.kind(), Interrupted, "{how}: {error}");
        assert!(!output.exists(), "{how}");
        let [given, released, ..] = counts(&library);
        assert_eq!(given, released, "{how}: a model is released once");
    }
}

/// Has the writer misbehave in all of these ways.
fn check_writer(name: &str, cases: &[(&str, Option<(ErrorKind, &str)>)]) {
    let (folder, library, registry) = build(name);
    let input = folder.join("in.safetensors");
    convert(&registry, &ask(&folder, "good"), &input).unwrap();
    let before = std::fs::read_dir(&folder).unwrap().count();
    for &(how, expected) in cases {
        let output = folder.join(format!("{how}.rogue"));
        check(how, convert(&registry, &input, &output), expected);
        assert_eq!(output.exists(), expected.is_none(), "{how}");
        let _ = std::fs::remove_file(&output);
        if expected.is_none() && how.starts_with("report") {
            assert_eq!(std::fs::read(folder.join("report.txt")).unwrap(), b"12345678");
            std::fs::remove_file(folder.join("report.txt")).unwrap();
        }
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), before, "{how}: nothing is written");
        let [.., layouts, layouts_released, reports, reports_released] = counts(&library);
        assert_eq!(layouts, layouts_released, "{how}: a layout is released once");
        assert_eq!(reports, reports_released, "{how}: a report is released once");
    }
}

#[test]
fn layouts_that_are_none() {
    check_all_named("rogue_layout.h", LAYOUTS);
    check_writer("rogue-layouts", LAYOUTS);
}

#[test]
fn reports_that_are_none() {
    check_all_named("rogue_epilogue.h", REPORTS);
    check_writer("rogue-reports", REPORTS);
}

#[test]
fn writing_past_a_buffer() {
    // Only where it is seen: elsewhere it would break this program.
    if is_sanitized() {
        let (folder, _, registry) = build("rogue-overrun");
        let _ = convert(&registry, &ask(&folder, "made_overrun"), &folder.join("out.safetensors"));
    }
}

#[test]
fn the_sanitizer_finds_nothing_but_what_it_should() {
    sanitized("models_that_are_none");
    sanitized("layouts_that_are_none");
    sanitized("reports_that_are_none");
    sanitized("a_plugin_that_goes_on_after_cancel_changes_nothing");
    let (passed, said) = run_sanitized("writing_past_a_buffer");
    assert!(!passed && said.contains("heap-buffer-overflow"), "the sanitizer does not watch: {said}");
}
