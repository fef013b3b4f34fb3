//! An index's JSON, beside the files that it names.

use super::Reached;
use crate::check;
use crate::corpus::File;
use modelferry_core::DType;
use modelferry_core::inputs::MemInputs;
use modelferry_wire::safetensors::{NewEntry, write_header};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Files that are made; an index that names more is refused for those that are missing.
const MAX_FILES: usize = 16;

pub(super) fn check(text: &[u8]) -> Result<Reached, String> {
    let mut inputs = MemInputs::new("model.safetensors.index.json", text);
    let parsed: Option<Value> = serde_json::from_slice(text).ok();
    let weights = parsed.as_ref().and_then(|index| index.get("weight_map")).and_then(Value::as_object);
    let mut files: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (tensor, file) in weights.into_iter().flatten() {
        if let Some(file) = file.as_str() {
            files.entry(file).or_default().insert(tensor);
        }
    }
    // Some inputs find a tensor too few, too many, or in the wrong file.
    let sum = text.iter().fold(0u32, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let first = files.values().next().and_then(|tensors| tensors.first()).copied();
    let is_changed = match (sum % 16, first) {
        (0, Some(first)) => {
            files.values_mut().for_each(|tensors| {
                tensors.remove(first);
            });
            true
        }
        (1, Some(first)) => {
            files.values_mut().for_each(|tensors| {
                tensors.insert(first);
            });
            files.len() > 1
        }
        (2, Some(_)) => {
            files.values_mut().for_each(|tensors| {
                tensors.insert("stranger");
            });
            true
        }
        _ => false,
    };
    for (file, tensors) in files.iter().take(MAX_FILES) {
        let entries = tensors.iter().map(|name| NewEntry { name, dtype: DType::U8, shape: &[1] });
        let Ok(header) = write_header(entries, None) else { continue };
        let mut bytes = header.bytes;
        bytes.resize(bytes.len() + header.data_len as usize, 7);
        inputs = inputs.with(file, bytes);
    }
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("safetensors").map_err(|error| error.to_string())?;
    let (reached, model) = check::reader(reader, &inputs)?;
    if let Some(model) = model {
        let names: BTreeSet<&str> = model.tensors.iter().map(|tensor| &*tensor.name).collect();
        let wanted: BTreeSet<&str> = weights.into_iter().flatten().map(|(name, _)| &**name).collect();
        if names.len() != model.tensors.len() || !is_changed && names != wanted {
            return Err(format!("the index names {wanted:?}, read is {names:?}"));
        }
    }
    Ok(reached)
}

pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    file.name.ends_with(".index.json").then(|| file.bytes.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_files_are_there() {
        let text = br#"{"metadata":{},"weight_map":{"a":"x.safetensors","b":"y.safetensors"}}"#;
        assert_eq!(check(text), Ok(Reached::Read));
        assert_eq!(check(br#"{"weight_map":{"a":"../x.safetensors"}}"#), Ok(Reached::Refused));
    }
}
