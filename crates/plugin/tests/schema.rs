//! `docs/plugin-abi.md` is true: what it shows is read, and what is written it has a word for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_abi::codes::*;
use modelferry_abi::info::{ReaderText, WriterText, parse};
use modelferry_abi::model;
use modelferry_abi::raw::{self, zeroed};
use modelferry_abi::types::*;
use modelferry_core::inputs::MemInputs;
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, ModelView};
use modelferry_plugin::Manifest;
use serde_json::Value;
use std::collections::BTreeSet;

fn page() -> String {
    std::fs::read_to_string(support::folder().join("../../docs/plugin-abi.md")).unwrap()
}

/// The blocks of JSON of a kind.
fn blocks(kind: &str) -> Vec<String> {
    let page = page();
    let start = format!("```json {kind}\n");
    let found: Vec<String> =
        page.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!found.is_empty(), "{kind}");
    found
}

/// A model of two tied tensors with this document.
fn model_with(document: &str) -> Model {
    let (shape, blob) = ([2u64], MfText::of(b"\x08\0\0\0\x09\0\0\0"));
    let tensor = |name: &'static str| MfTensor {
        name: MfText::of(name),
        dtype: MF_DTYPE_F32,
        shape: shape.as_ptr(),
        rank: 1,
        data: MfData { kind: MF_DATA_NODE, file: 0, at: 1 },
        ..zeroed()
    };
    let (tensors, blobs) = ([tensor("w"), tensor("v")], [blob]);
    let nodes = [
        MfNode { op: MF_OP_REGION, dtype: MF_DTYPE_U8, n: 8, ..zeroed() },
        MfNode { op: MF_OP_DECODE, dtype: MF_DTYPE_F32, n: 2, ..zeroed() },
    ];
    let given = MfModel {
        tensors: MfSlice::of(&tensors),
        nodes: MfSlice::of(&nodes),
        blobs: MfSlice::of(&blobs),
        document: MfText::of(document),
        ..zeroed()
    };
    // SAFETY: the arrays are what they say.
    let model = unsafe { model::take(given, &MemInputs::new("x", [0u8; 8].to_vec()), &Limits::default()) };
    let model = model.unwrap_or_else(|error| panic!("{document}: {error}"));
    model.validate(&Limits::default()).unwrap();
    model
}

/// The document that the other side is given of a model, from a reader and to a writer.
fn documents_of(model: Model) -> [Value; 2] {
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let shown = modelferry_abi::view::Shown::new(view).unwrap();
    // SAFETY: it lives as long as what it shows.
    let to_writer = serde_json::from_slice(unsafe { raw::bytes(shown.model().document) }.unwrap()).unwrap();
    drop(shown);
    let given = model::give(model).unwrap();
    // SAFETY: it is released below, once.
    let from_reader = unsafe {
        let document = serde_json::from_slice(raw::bytes(given.document).unwrap()).unwrap();
        given.release.unwrap()(given.owner);
        document
    };
    [from_reader, to_writer]
}

/// All words of a schema in a value: its fields, and tags without a value.
fn words(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.insert(name.clone());
                words(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        _ => {}
    }
}

/// What is said between backticks in prose, so that an example alone is no explanation.
fn explained() -> BTreeSet<String> {
    let page = page();
    let prose: String = page.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn examples_are_read_and_come_back() {
    let mut used = BTreeSet::new();
    for block in blocks("document") {
        let model = model_with(&block);
        let expected: Value = serde_json::from_str(&block).unwrap();
        let [found, shown] = documents_of(model);
        // Blobs and nodes have other positions: fields are compared, and most values.
        let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
        words(&expected, &mut ours);
        words(&found, &mut theirs);
        words(&shown, &mut used);
        assert!(
            ours.is_subset(&theirs),
            "{:?} are not understood",
            ours.difference(&theirs).collect::<Vec<_>>()
        );
        used.extend(theirs);
        for field in ["ties", "config", "checks", "file_digests"] {
            assert_eq!(found.get(field), expected.get(field), "{field}");
        }
    }
    let reader = blocks("reader").concat();
    let found = parse::<ReaderText>(&reader).unwrap();
    found.lasting().unwrap();
    assert_eq!(serde_json::to_value(&found).unwrap(), serde_json::from_str::<Value>(&reader).unwrap());
    words(&serde_json::to_value(&found).unwrap(), &mut used);
    let writer = blocks("writer").concat();
    let found = parse::<WriterText>(&writer).unwrap();
    found.lasting().unwrap();
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        serde_json::to_value(parse::<WriterText>(&writer).unwrap()).unwrap()
    );
    words(&serde_json::to_value(&found).unwrap(), &mut used);
    let manifest: Manifest = serde_json::from_str(&blocks("manifest").concat()).unwrap();
    words(&serde_json::to_value(&manifest).unwrap(), &mut used);
    let explained = explained();
    let unsaid: Vec<&String> = used.difference(&explained).collect();
    assert!(unsaid.is_empty(), "the page does not explain {unsaid:?}");
}

/// What the schema would have taken, in the words of the error.
fn variants(document: &str) -> Vec<String> {
    // SAFETY: the text is what it says.
    let taken = unsafe {
        let given = MfModel { document: MfText::of(document), ..zeroed() };
        model::take(given, &MemInputs::default(), &Limits::default())
    };
    let error = support::failure(taken).to_string();
    let (_, list) = error.split_once("expected one of ").unwrap();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_type_of_value_is_shown() {
    let shown = blocks("document").concat();
    for variant in variants(r#"{"metadata": [["k", {"?": 0}]]}"#) {
        assert!(shown.contains(&format!("{{\"{variant}\": ")), "{variant}");
    }
    for variant in variants(r#"{"tree": {"objects": [{"?": 0}], "root": null}}"#) {
        assert!(shown.contains(&format!("\"{variant}\"")), "{variant}");
    }
}
