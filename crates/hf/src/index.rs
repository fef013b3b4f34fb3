//! The index of a sharded checkpoint: `model.safetensors.index.json` and `pytorch_model.bin.index.json`.
//!
//! A JSON object with `weight_map` (tensor name to file name) and `metadata` (`total_size` and what else its writer
//! had to say). Read in one pass without a tree, written byte for byte as transformers 5 writes it
//! (modeling_utils.py: `json.dumps(index, indent=2, sort_keys=True) + "\n"`).

use crate::json::put_string;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// The key of [`Index::metadata`] that holds the bytes of all tensors.
pub const TOTAL_SIZE: &str = "total_size";

/// A parsed index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Keys of `metadata` in the file's order, values as JSON text.
    pub metadata: Vec<(String, String)>,
    /// The files, in the order in which the tensors first name them. Relative to the index's folder, `/` between
    /// folders, proven to stay inside it as far as a name can prove that.
    pub files: Vec<String>,
    /// Tensors in the file's order, unique, with their place in [`files`](Index::files).
    pub weights: Vec<(String, u32)>,
}

impl Index {
    /// `metadata.total_size`, where it is a whole number. Some writers leave it out or make it a float.
    pub fn total_size(&self) -> Option<u64> {
        let text = &self.metadata.iter().find(|(key, _)| key == TOTAL_SIZE)?.1;
        text.parse().ok().or_else(|| {
            let value: f64 = text.parse().ok()?;
            (value >= 0.0 && value < u64::MAX as f64 && value.fract() == 0.0).then_some(value as u64)
        })
    }
}

/// Reads an index.
///
/// Keys beside `metadata` and `weight_map` are ignored, as transformers ignores them. Errors:
/// [`Malformed`](modelferry_core::error::ErrorKind::Malformed) for repeated keys, a missing `weight_map`, and file
/// names that are absolute, climb out of the folder or hold a backslash or NUL;
/// [`Limit`](modelferry_core::error::ErrorKind::Limit) for the document's bytes, tensors, files and name length.
pub fn parse(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<Index> {
    let bytes = inputs.read_vec(file, 0, inputs.len(file), limits.header_bytes)?;
    parse_bytes(&bytes, limits).map_err(|error| error.file(inputs.name(file)))
}

/// [`parse`] over bytes at hand.
pub fn parse_bytes(bytes: &[u8], limits: &Limits) -> Result<Index> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Error::malformed("the index is not UTF-8").offset(error.valid_up_to() as u64))?;
    let mut cx = Context { limits, fault: None, tensor: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = json.deserialize_map(IndexVisitor(&mut cx)).and_then(|index| json.end().map(|()| index));
    let index = parsed.map_err(|error| cx.into_error(text, &error))?;
    let mut names = HashSet::with_capacity(index.weights.len());
    if let Some((name, _)) = index.weights.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(Error::malformed("the index names the tensor twice").tensor(name.as_str()));
    }
    Ok(index)
}

/// Whether `name` is a plain relative path: not empty, no part of it empty, `.` or `..`, no backslash, NUL or drive.
pub fn is_plain_file_name(name: &str) -> bool {
    !name.contains(['\\', '\0', ':']) && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Writes an index: sorted keys, two spaces, everything beyond ASCII escaped, a newline at the end.
///
/// `metadata` has JSON texts as values, as [`Index::metadata`] does; `weights` are (tensor, file). Errors of kind
/// [`Target`](modelferry_core::error::ErrorKind::Target): a metadata value that is not JSON, a name given twice; of kind
/// [`Usage`](modelferry_core::error::ErrorKind::Usage): a file name that [`parse`] refuses.
pub fn write<'a>(
    metadata: impl IntoIterator<Item = (&'a str, &'a str)>,
    weights: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<u8>> {
    let mut out = String::from("{\n  \"metadata\": ");
    let mut pairs = BTreeMap::new();
    for (key, text) in metadata {
        if pairs.insert(key, text).is_some() {
            return Err(
                Error::target("a key of the index's metadata appears twice").found(format_args!("{key:?}"))
            );
        }
    }
    // Python writes an empty object without a line break.
    out.push_str(if pairs.is_empty() { "{" } else { "{\n" });
    for (idx, (key, text)) in pairs.iter().enumerate() {
        out.push_str(if idx == 0 { "    " } else { ",\n    " });
        put_string(&mut out, key);
        out.push_str(": ");
        put_json(&mut out, key, text)?;
    }
    out.push_str(if pairs.is_empty() { "},\n  \"weight_map\": " } else { "\n  },\n  \"weight_map\": " });
    let mut weights: Vec<(&str, &str)> = weights.into_iter().collect();
    if let Some((_, file)) = weights.iter().find(|(_, file)| !is_plain_file_name(file)) {
        return Err(Error::usage("an index cannot name this file")
            .file(file)
            .expected("no backslash or colon"));
    }
    // Python compares strings by code points, which is the order of their UTF-8 bytes.
    weights.sort_by_key(|&(name, _)| name);
    if let Some(pair) = weights.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::target("a tensor appears twice in the index").tensor(pair[0].0));
    }
    out.push_str(if weights.is_empty() { "{" } else { "{\n" });
    for (idx, (name, file)) in weights.iter().enumerate() {
        out.push_str(if idx == 0 { "    " } else { ",\n    " });
        put_string(&mut out, name);
        out.push_str(": ");
        put_string(&mut out, file);
    }
    out.push_str(if weights.is_empty() { "}\n}\n" } else { "\n  }\n}\n" });
    Ok(out.into_bytes())
}

struct Context<'l> {
    limits: &'l Limits,
    fault: Option<Error>,
    tensor: Option<String>,
}

impl Context<'_> {
    /// Keeps `fault`, which serde's error cannot carry, and returns the stand-in that stops the parser.
    fn fail<E: de::Error>(&mut self, fault: Error) -> E {
        self.fault.get_or_insert(fault);
        E::custom("")
    }

    fn into_error(self, text: &str, error: &serde_json::Error) -> Error {
        let fault = self.fault.unwrap_or_else(|| {
            let message = error.to_string();
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            Error::malformed(format!("the index is not a weight map: {}", shown_fault(message)))
        });
        // serde_json counts columns in bytes from 1.
        let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
        let offset = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
        let fault = fault.offset(offset.min(text.len()) as u64);
        match self.tensor {
            Some(tensor) => fault.tensor(tensor),
            None => fault,
        }
    }
}

/// Enough of what a file says for a message about it.
fn shown(text: &str) -> String {
    const MOST: usize = 100;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// serde_json repeats the string that it did not expect, which may be the whole index.
fn shown_fault(message: &str) -> Cow<'_, str> {
    const MOST: usize = 300;
    if message.len() <= MOST {
        return Cow::Borrowed(message);
    }
    // What it wanted comes last.
    let wanted = message.rsplit_once(", expected ").map_or("", |(_, wanted)| wanted);
    Cow::Owned(format!("{}, expected {}", shown(message), shown(wanted)))
}

/// A string, borrowed from the text unless it contains escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

struct IndexVisitor<'c, 'l>(&'c mut Context<'l>);

impl<'de> Visitor<'de> for IndexVisitor<'_, '_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"weight_map\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let IndexVisitor(cx) = self;
        let (mut metadata, mut weights) = (None, None);
        while let Some(Text(key)) = map.next_key()? {
            let repeated = match &*key {
                "metadata" => metadata.replace(map.next_value_seed(MetadataSeed(cx))?).is_some(),
                "weight_map" => weights.replace(map.next_value_seed(WeightsSeed(cx))?).is_some(),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if repeated {
                return Err(cx.fail(Error::malformed(format!("key {:?} appears twice", shown(&key)))));
            }
        }
        let Some((files, weights)) = weights else {
            return Err(cx.fail(Error::malformed("the index has no \"weight_map\"")));
        };
        Ok(Index { metadata: metadata.unwrap_or_default(), files, weights })
    }
}

/// `metadata`: an object, or `null` where a writer had nothing to say.
struct MetadataSeed<'c, 'l>(&'c mut Context<'l>);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_, '_> {
    type Value = Vec<(String, String)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_, '_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object under \"metadata\"")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut keys = HashSet::new();
        while let Some(Text(key)) = map.next_key()? {
            if !keys.insert(key.clone()) {
                return Err(self
                    .0
                    .fail(Error::malformed(format!("metadata key {:?} appears twice", shown(&key)))));
            }
            let value: &RawValue = map.next_value()?;
            pairs.push((key.into_owned(), value.get().to_owned()));
        }
        Ok(pairs)
    }
}

struct WeightsSeed<'c, 'l>(&'c mut Context<'l>);

impl<'de> DeserializeSeed<'de> for WeightsSeed<'_, '_> {
    type Value = (Vec<String>, Vec<(String, u32)>);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightsSeed<'_, '_> {
    type Value = (Vec<String>, Vec<(String, u32)>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of file names under \"weight_map\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let WeightsSeed(cx) = self;
        let mut files: Vec<String> = Vec::new();
        let mut weights: Vec<(String, u32)> = Vec::new();
        let mut file_idx: HashMap<Cow<'de, str>, u32> = HashMap::new();
        while let Some(Text(name)) = map.next_key()? {
            let n_tensors = weights.len() as u64 + 1;
            let checked =
                Limits::check("a tensor name is too long", name.len() as u64, cx.limits.name_bytes as u64)
                    .and_then(|()| Limits::check("too many tensors", n_tensors, cx.limits.tensors));
            if let Err(fault) = checked {
                return Err(cx.fail(fault));
            }
            let name = name.into_owned();
            let Text(file) = match map.next_value() {
                Ok(file) => file,
                Err(error) => {
                    cx.tensor = Some(name);
                    return Err(error);
                }
            };
            let idx = match file_idx.get(&file) {
                Some(&idx) => idx,
                None => {
                    let shown = || file.chars().take(200).collect::<String>();
                    let checked = if is_plain_file_name(&file) {
                        Limits::check("too many files", files.len() as u64 + 1, cx.limits.files)
                    } else {
                        Err(Error::malformed("the index names a file outside its folder")
                            .expected("a plain relative name")
                            .found(format_args!("{:?}", shown())))
                    };
                    if let Err(fault) = checked {
                        return Err(cx.fail(fault.tensor(name)));
                    }
                    let idx = files.len() as u32;
                    files.push(file.clone().into_owned());
                    file_idx.insert(file, idx);
                    idx
                }
            };
            weights.push((name, idx));
        }
        Ok((files, weights))
    }
}

/// A metadata value as Python would write it inside the two outer objects. Numbers keep their digits.
fn put_json(out: &mut String, key: &str, text: &str) -> Result<()> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Error::target(format!("metadata {key:?} is not JSON")).source(error))?;
    match value {
        Value::Number(_) => out.push_str(text.trim()),
        value => put_value(out, &value, 4),
    }
    Ok(())
}

/// Recursion is bounded: serde_json gave up at 128 levels.
fn put_value(out: &mut String, value: &Value, indent: usize) {
    let line = |out: &mut String, indent: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    };
    match value {
        Value::String(text) => put_string(out, text),
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (idx, item) in items.iter().enumerate() {
                out.push_str(if idx == 0 { "" } else { "," });
                line(out, indent + 2);
                put_value(out, item, indent + 2);
            }
            line(out, indent);
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            out.push('{');
            for (idx, (key, item)) in sorted.into_iter().enumerate() {
                out.push_str(if idx == 0 { "" } else { "," });
                line(out, indent + 2);
                put_string(out, key);
                out.push_str(": ");
                put_value(out, item, indent + 2);
            }
            line(out, indent);
            out.push('}');
        }
        // What is left looks the same in both languages.
        value => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::error::ErrorKind;
    use modelferry_core::inputs::MemInputs;

    fn parsed(text: &str) -> Result<Index> {
        let inputs = MemInputs::new("i", text.as_bytes());
        parse(&inputs, inputs.root(), &Limits::default())
    }

    fn fault(text: &str) -> String {
        parsed(text).unwrap_err().to_string()
    }

    #[test]
    fn order_and_metadata_are_kept() {
        let index = parsed(
            r#"{"metadata": {"z": [1, {"a":null}], "total_size": 12, "\u0061": "é"}, "other": [[]],
                "weight_map": {"b": "m-2", "a\n": "sub/m-1", "c": "m-2"}}"#,
        )
        .unwrap();
        assert_eq!(index.files, ["m-2", "sub/m-1"]);
        assert_eq!(index.weights, [("b".into(), 0), ("a\n".into(), 1), ("c".into(), 0)]);
        assert_eq!(
            index.metadata,
            [("z", r#"[1, {"a":null}]"#), ("total_size", "12"), ("a", r#""é""#)]
                .map(|(key, text)| (key.to_owned(), text.to_owned()))
        );
        assert_eq!(index.total_size(), Some(12));
    }

    #[test]
    fn total_size_is_what_it_can_be() {
        let total =
            |value| parsed(&format!(r#"{{"weight_map":{{}},"metadata":{{{value}}}}}"#)).unwrap().total_size();
        assert_eq!(total(r#""total_size": 13476835328.0"#), Some(13476835328));
        assert_eq!(total(r#""total_size": 18446744073709551615"#), Some(u64::MAX));
        for other in [
            r#""total_size": -1"#,
            r#""total_size": 1.5"#,
            r#""total_size": "1""#,
            r#""total_size": 1e30"#,
            "",
        ] {
            assert_eq!(total(other), None);
        }
        assert_eq!(parsed(r#"{"weight_map":{},"metadata":null}"#).unwrap(), Index::default());
        assert_eq!(parsed(r#"{"weight_map":{}}"#).unwrap(), Index::default());
    }

    #[test]
    #[rustfmt::skip]
    fn every_rule_has_its_error() {
        for (found, expected) in [
            (fault(""), "i: byte 0: the index is not a weight map: EOF while parsing a value"),
            (fault("[]"), "i: byte 0: the index is not a weight map: invalid type: sequence, expected an object with \"weight_map\""),
            (fault("{}"), "i: byte 1: the index has no \"weight_map\""),
            (fault("{\n\"weight_map\": {}} x"), "i: byte 20: the index is not a weight map: trailing characters"),
            (fault(r#"{"weight_map":{"a":"f","a":"g"}}"#), "i: tensor \"a\": the index names the tensor twice"),
            (fault(r#"{"weight_map":{},"weight_map":{}}"#), "i: byte 32: key \"weight_map\" appears twice"),
            (fault(r#"{"metadata":{},"metadata":{}}"#), "i: byte 28: key \"metadata\" appears twice"),
            (fault(r#"{"metadata":{"a":1,"a":2}}"#), "i: byte 21: metadata key \"a\" appears twice"),
            (fault(r#"{"metadata":[]}"#), "i: byte 13: the index is not a weight map: invalid type: sequence, expected an object under \"metadata\""),
            (fault(r#"{"weight_map":{"a":1}}"#), "i: tensor \"a\": byte 19: the index is not a weight map: invalid type: integer `1`, expected a string"),
            (fault(r#"{"weight_map":["a"]}"#), "i: byte 13: the index is not a weight map: invalid type: sequence, expected an object of file names under \"weight_map\""),
            (fault(r#"{"weight_map":{"a":"../f"}}"#),
             "i: tensor \"a\": byte 25: the index names a file outside its folder, expected a plain relative name, found \"../f\""),
        ] {
            assert_eq!(found, expected);
        }
        assert_eq!(parse_bytes(b"{\xff", &Limits::default()).unwrap_err().to_string(), "byte 1: the index is not UTF-8");
    }

    #[test]
    fn only_plain_names_are_files() {
        for name in ["a", "a/b.bin", "...", "a..b", "é", ".hidden"] {
            assert!(is_plain_file_name(name), "{name}");
        }
        for name in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\0", "C:a", "\\\\host\\a"] {
            assert!(!is_plain_file_name(name), "{name}");
        }
    }

    #[test]
    fn limits_hold() {
        let text = r#"{"weight_map":{"ab":"f","cd":"g"}}"#;
        let check = |change: fn(&mut Limits), expected: &str| {
            let mut limits = Limits::default();
            change(&mut limits);
            let inputs = MemInputs::new("i", text.as_bytes());
            let error = parse(&inputs, inputs.root(), &limits).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Limit, expected));
        };
        check(|l| l.tensors = 1, "i: byte 27: too many tensors, expected at most 1, found 2");
        check(|l| l.files = 1, "i: tensor \"cd\": byte 32: too many files, expected at most 1, found 2");
        check(|l| l.name_bytes = 1, "i: byte 18: a tensor name is too long, expected at most 1, found 2");
        check(
            |l| l.header_bytes = 9,
            "i: byte 0: a part read whole is too large, expected at most 9, found 34",
        );
    }

    #[test]
    fn the_text_is_pythons() {
        // json.dumps(index, indent=2, sort_keys=True) + "\n", Python 3.11.
        let written = write(
            [
                ("total_size", "12"),
                ("other", r#"{"z": [1, 2.50, []], "a": {}, "b": [true, null, "é\u007f"]}"#),
            ],
            [("b\u{1f600}", "f2"), ("a\"\\\t\u{8}\u{1}", "f1")],
        )
        .unwrap();
        let expected = r#"{
  "metadata": {
    "other": {
      "a": {},
      "b": [
        true,
        null,
        "\u00e9\u007f"
      ],
      "z": [
        1,
        2.5,
        []
      ]
    },
    "total_size": 12
  },
  "weight_map": {
    "a\"\\\t\b\u0001": "f1",
    "b\ud83d\ude00": "f2"
  }
}
"#;
        assert_eq!(String::from_utf8(written).unwrap(), expected);
        assert_eq!(write([], []).unwrap(), b"{\n  \"metadata\": {},\n  \"weight_map\": {}\n}\n");
    }

    #[test]
    fn what_was_written_is_read() {
        let names: Vec<String> = (0..500).map(|idx| format!("layer.{idx}.é\"{}", idx * 7919 % 13)).collect();
        let weights =
            names.iter().map(|name| (name.as_str(), if name.len() % 2 == 0 { "f-1" } else { "f-2" }));
        let bytes = write([(TOTAL_SIZE, "7")], weights.clone()).unwrap();
        let index = parse_bytes(&bytes, &Limits::default()).unwrap();
        let found: BTreeMap<&str, &str> = index
            .weights
            .iter()
            .map(|(name, file)| (name.as_str(), index.files[*file as usize].as_str()))
            .collect();
        assert_eq!(found, weights.collect());
        assert_eq!(index.total_size(), Some(7));
        for file in ["a\\b", "c:d", "../e", ""] {
            let text = write([], [("tensor", file)]).unwrap_err().to_string();
            assert!(text.contains("an index cannot name this file"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        assert_eq!(
            write([], [("a", "f"), ("a", "g")]).unwrap_err().to_string(),
            "tensor \"a\": a tensor appears twice in the index"
        );
        assert_eq!(
            write([("a", "1"), ("a", "2")], []).unwrap_err().to_string(),
            "a key of the index's metadata appears twice, found \"a\""
        );
        assert_eq!(write([("a", "{")], []).unwrap_err().kind(), ErrorKind::Target);
    }

    #[test]
    fn damage_never_panics() {
        let text = write([(TOTAL_SIZE, "7"), ("k", "[1]")], [("é", "f/g"), ("b", "f")]).unwrap();
        let text = text.trim_ascii_end();
        for len in 0..text.len() {
            assert!(parse_bytes(&text[..len], &Limits::default()).is_err(), "{len}");
        }
        for bit in 0..text.len() * 8 {
            let mut damaged = text.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = parse_bytes(&damaged, &Limits::default());
        }
        let deep = format!("{{\"metadata\":{{\"a\":{}", "[".repeat(1 << 20));
        assert!(parse_bytes(deep.as_bytes(), &Limits::default()).is_err());
    }
}
