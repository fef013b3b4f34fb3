//! The header's JSON, and what the format's own crate thinks of it.

use super::Reached;
use crate::check;
use crate::corpus::File;
use crate::inputs::Sparse;
use modelferry_core::model::{Model, Value};
use modelferry_wire::safetensors::{METADATA_KEY, from_wire};
use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::catch_unwind;

/// Where we are stricter, by words of our message: the crate takes an entry written as a list, and knows no limits. It
/// also lets the last of two equal keys win, whatever is wrong with the first.
const STRICTER: [&str; 6] = [
    "appears twice",
    "too many unknown keys",
    "too many dimensions",
    "name is too long",
    "invalid type: sequence, expected an object with",
    "does not begin with a brace",
];

pub(super) fn check(text: &[u8]) -> Result<Reached, String> {
    let data_len = largest_end(text).min(i64::MAX as u64);
    let bytes = [&(text.len() as u64).to_le_bytes(), text].concat();
    let inputs = Sparse::new("made.safetensors", bytes, data_len);
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("safetensors").map_err(|error| error.to_string())?;
    let (reached, model) = check::reader(reader, &inputs)?;

    // Offsets near 2^64 make the crate overflow, which is a panic in builds that check.
    let theirs = catch_unwind(|| serde_json::from_slice::<Metadata>(text).ok()).ok().flatten();
    let theirs = theirs.filter(|metadata| metadata.data_len() as u64 == data_len);
    match (model, theirs) {
        (Some(model), Some(metadata)) => same(&model, &metadata)?,
        (Some(_), None) => return Err("we read what the safetensors crate refuses".to_owned()),
        (None, Some(_)) => {
            let message =
                check::read(reader, &inputs).err().map(|error| error.to_string()).unwrap_or_default();
            if !STRICTER.iter().any(|words| message.contains(words)) && !has_equal_keys(text) {
                return Err(format!("the safetensors crate reads what we refuse: {message}"));
            }
        }
        (None, None) => {}
    }
    Ok(reached)
}

/// What both read is the same.
fn same(model: &Model, metadata: &Metadata) -> Result<(), String> {
    let theirs = metadata.tensors();
    if theirs.len() != model.tensors.len() {
        return Err(format!("{} tensors, for the safetensors crate {}", model.tensors.len(), theirs.len()));
    }
    for (idx, tensor) in model.tensors.iter().enumerate() {
        let info = theirs.get(&tensor.name).ok_or_else(|| format!("only we see {:?}", tensor.name))?;
        let shape: Vec<u64> = info.shape.iter().map(|&extent| extent as u64).collect();
        let place = model.verbatim(idx).map(|(_, at)| at);
        let first =
            model.tensors.iter().enumerate().find_map(|(idx, _)| model.verbatim(idx)).map(|(_, at)| at);
        let expected = first.map(|first| first + info.data_offsets.0 as u64);
        if Some(tensor.dtype) != from_wire(info.dtype) || tensor.shape != shape || place != expected {
            return Err(format!("{:?} differs: {:?} at {place:?}, {info:?}", tensor.name, tensor.shape));
        }
    }
    let ours: BTreeMap<&String, &Value> = model.metadata.iter().map(|(key, value)| (key, value)).collect();
    let texts: BTreeMap<String, Value> = metadata
        .metadata()
        .iter()
        .flatten()
        .map(|(key, text)| (key.clone(), Value::Text(text.clone())))
        .collect();
    match ours == texts.iter().collect() {
        true => Ok(()),
        false => Err(format!("{METADATA_KEY} differs: {ours:?}, {texts:?}")),
    }
}

/// Whether two keys of one object are equal, anywhere.
fn has_equal_keys(text: &[u8]) -> bool {
    struct Equal;
    impl<'de> Visitor<'de> for Equal {
        type Value = bool;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let (mut keys, mut found) = (BTreeSet::new(), false);
            while let Some(key) = map.next_key::<String>()? {
                found |= !keys.insert(key);
                found |= map.next_value::<Keys>()?.0;
            }
            Ok(found)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
            let mut found = false;
            while let Some(Keys(inner)) = seq.next_element()? {
                found |= inner;
            }
            Ok(found)
        }
        fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
            Ok(false)
        }
        fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
            Ok(false)
        }
        fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
            Ok(false)
        }
        fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
            Ok(false)
        }
        fn visit_str<E>(self, _: &str) -> Result<bool, E> {
            Ok(false)
        }
        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }
    }
    struct Keys(bool);
    impl<'de> Deserialize<'de> for Keys {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
            deserializer.deserialize_any(Equal).map(Keys)
        }
    }
    serde_json::from_slice::<Keys>(text).is_ok_and(|keys| keys.0)
}

/// The largest number in a list of two behind `"data_offsets"`.
fn largest_end(text: &[u8]) -> u64 {
    const KEY: &[u8] = b"\"data_offsets\"";
    let mut largest = 0;
    let mut rest = text;
    while let Some(at) = rest.windows(KEY.len()).position(|window| window == KEY) {
        rest = &rest[at + KEY.len()..];
        let end = rest.iter().position(|&byte| byte == b']').unwrap_or(0);
        let list = String::from_utf8_lossy(&rest[..end]);
        let numbers = list.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
        largest = numbers.fold(largest, u64::max);
    }
    largest
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    let len = usize::try_from(u64::from_le_bytes(*file.bytes.first_chunk()?)).ok()?;
    let text = file.bytes.get(8..8usize.checked_add(len)?)?;
    text.starts_with(b"{").then(|| text.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_gets_the_data_it_asks_for() {
        let text = br#"{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0, 4000000000000]}}"#;
        assert_eq!(largest_end(text), 4_000_000_000_000);
        assert_eq!(check(text), Ok(Reached::Read));
        assert!(has_equal_keys(br#"{"a":[{"b":1,"\u0062":2}]}"#));
        assert!(!has_equal_keys(br#"{"a":[{"b":1},{"b":2}]}"#));
        assert_eq!(check(br#"{"a":1}"#), Ok(Reached::Refused));
        assert_eq!(check(br#"{}"#), Ok(Reached::Read));
    }
}
