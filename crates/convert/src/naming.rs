//! Names of outputs that depend on what is written: `{type}` in OUTPUT, and `Name-TYPE.gguf` in a folder.

use modelferry_core::inputs::Inputs;
use modelferry_core::model::{Model, Value};
use modelferry_core::{DType, Error, Result};
use modelferry_hf::shard_name::ShardName;
use modelferry_transform::Edits;
use modelferry_transform::quantize::Preset;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What stands for the type in OUTPUT.
const TYPE: &[u8] = b"{type}";

/// Longest name that is taken from a model: file systems hold 255 bytes, and a type, a number of a part and an
/// extension follow.
const MAX_CHARS: usize = 48;

/// Whether OUTPUT has a place for the type.
pub(crate) fn has_place(output: &Path) -> bool {
    find(output.as_os_str().as_bytes()).is_some()
}

/// Refuses several types that cannot all have a file of their own, and a place that nothing can fill.
pub(crate) fn check(output: &Path, presets: &[Preset], edits: &Edits, in_folder: bool) -> Result<()> {
    let mut seen = vec![];
    for preset in presets {
        if seen.contains(preset) {
            return Err(Error::usage("--quantize: a type is named twice").found(preset.name()));
        }
        seen.push(*preset);
    }
    let at_fault = |what: &'static str| Error::usage(what).file(output.display());
    let is_placed = has_place(output);
    if presets.len() > 1 && !in_folder {
        let in_name = output.file_name().is_some_and(|name| find(name.as_bytes()).is_some());
        if !in_name || output.as_os_str().as_bytes().ends_with(b"/") {
            return Err(at_fault("--quantize: several types need a place for theirs in the output's name")
                .hint("write {type} there, as in model-{type}.gguf"));
        }
        if output.parent().is_some_and(has_place) {
            return Err(at_fault("--quantize: outputs of several types lie in one folder")
                .hint("write {type} in the file's name alone"));
        }
    }
    if is_placed && presets.is_empty() && label(edits, edits.quantize.preset).is_none() {
        return Err(at_fault("{type} in the output's name stands for a type, and none is asked for")
            .hint("pass --quantize or --dtype"));
    }
    Ok(())
}

/// OUTPUT with the type in its place, in lower case as on the command line.
pub(crate) fn filled(output: &Path, edits: &Edits, preset: Option<Preset>) -> PathBuf {
    let Some(label) = label(edits, preset) else { return output.to_owned() };
    let mut rest = output.as_os_str().as_bytes();
    let mut name = vec![];
    while let Some(at) = find(rest) {
        name.extend_from_slice(&rest[..at]);
        name.extend_from_slice(label.as_bytes());
        rest = &rest[at + TYPE.len()..];
    }
    name.extend_from_slice(rest);
    PathBuf::from(OsString::from_vec(name))
}

fn find(text: &[u8]) -> Option<usize> {
    text.windows(TYPE.len()).position(|part| part == TYPE)
}

/// The type that the command line asks for.
fn label(edits: &Edits, preset: Option<Preset>) -> Option<String> {
    preset.map(|preset| preset.name().to_owned()).or_else(|| edits.dtype.map(|dtype| dtype.to_string()))
}

/// `Name-TYPE` and the extension: the name that the model has, and the type as llama.cpp's own files have it.
pub(crate) fn in_folder(
    model: &Model,
    inputs: &dyn Inputs,
    edits: &Edits,
    preset: Option<Preset>,
    extension: &str,
) -> String {
    let label = label(edits, preset).unwrap_or_else(|| stored(model)).to_uppercase();
    format!("{}-{label}{extension}", name(model, inputs))
}

/// The type of a model that is written as it is: the one its metadata names, else the one that most bytes have.
fn stored(model: &Model) -> String {
    let stated = match model.metadata.iter().find(|(key, _)| key == "general.file_type") {
        Some((_, Value::U32(number))) => Preset::all().find(|preset| preset.file_type() == *number),
        _ => None,
    };
    if let Some(preset) = stated {
        return preset.name().to_owned();
    }
    let mut bytes: BTreeMap<DType, u64> = BTreeMap::new();
    for tensor in &model.tensors {
        let sum = bytes.entry(tensor.dtype).or_default();
        *sum = sum.saturating_add(tensor.byte_len());
    }
    bytes
        .into_iter()
        .max_by_key(|(_, bytes)| *bytes)
        .map_or("none".to_owned(), |(dtype, _)| dtype.to_string())
}

/// What the model calls itself, what its config was loaded from, or what its file or folder is called.
fn name(model: &Model, inputs: &dyn Inputs) -> String {
    let stated = match model.metadata.iter().find(|(key, _)| key == "general.name") {
        Some((_, Value::Text(text))) => plain(text),
        _ => None,
    };
    let origin = || {
        let config: serde_json::Value = serde_json::from_str(model.config.as_deref()?).ok()?;
        plain(config.get("_name_or_path")?.as_str()?.trim_end_matches('/').rsplit('/').next()?)
    };
    let own = || {
        let file = inputs.name(inputs.root());
        let file = file.rsplit('/').next()?;
        let stem = match ShardName::parse(file) {
            Some(shard) => shard.stem.to_owned(),
            None => Path::new(file).file_stem().and_then(OsStr::to_str)?.to_owned(),
        };
        plain(without_type(&stem))
    };
    stated.or_else(origin).or_else(own).unwrap_or_else(|| "model".to_owned())
}

/// A stem that ends in a type does not say so of what is made of it.
fn without_type(stem: &str) -> &str {
    match stem.rsplit_once(['-', '.']) {
        Some((rest, last)) if !rest.is_empty() && Preset::from_name(last).is_some() => rest,
        _ => stem,
    }
}

/// A name as part of a file's: letters, digits and `._+-`, whatever is between them as one hyphen.
fn plain(text: &str) -> Option<String> {
    let mut plain = String::new();
    for c in text.chars().take(MAX_CHARS) {
        match c {
            _ if c.is_alphanumeric() || "._+".contains(c) => plain.push(c),
            _ if plain.ends_with('-') => {}
            _ => plain.push('-'),
        }
    }
    let plain = plain.trim_matches(['-', '.']);
    (!plain.is_empty()).then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::inputs::MemInputs;

    fn refusal(output: &str, presets: &[Preset]) -> Option<String> {
        let checked = check(Path::new(output), presets, &Edits::default(), false);
        checked.err().map(|error| error.what().to_owned())
    }

    #[test]
    fn several_types_need_a_place() {
        let both = [Preset::Q8_0, Preset::Q4KM];
        assert_eq!(refusal("m-{type}.gguf", &both), None);
        assert_eq!(refusal("m.gguf", &both[..1]), None);
        let needs = "--quantize: several types need a place for theirs in the output's name";
        for output in ["m.gguf", "{type}/m.gguf", "m-{type}/"] {
            assert_eq!(refusal(output, &both).as_deref(), Some(needs), "{output}");
        }
        let apart = "--quantize: outputs of several types lie in one folder";
        assert_eq!(refusal("{type}/{type}.gguf", &both).as_deref(), Some(apart));
        let twice = "--quantize: a type is named twice";
        assert_eq!(refusal("m-{type}.gguf", &[Preset::Q4KM, Preset::Q4KM]).as_deref(), Some(twice));
        let unasked = "{type} in the output's name stands for a type, and none is asked for";
        assert_eq!(refusal("m-{type}.gguf", &[]).as_deref(), Some(unasked));
    }

    #[test]
    fn the_type_takes_its_place() {
        let edits = Edits { dtype: Some(DType::Bf16), ..Edits::default() };
        let name = |output: &str, preset| filled(Path::new(output), &edits, preset).display().to_string();
        assert_eq!(name("{type}/m-{type}.gguf", Some(Preset::Q4KM)), "q4_k_m/m-q4_k_m.gguf");
        assert_eq!(name("m-{type}", None), "m-bf16");
        assert_eq!(name("m-{typ}", None), "m-{typ}");
    }

    #[test]
    fn names_in_a_folder() {
        let inputs = MemInputs::new("some/Tiny Model-F16.gguf", []);
        let mut model = Model::default();
        let edits = Edits::default();
        let named = |model: &Model, preset| in_folder(model, &inputs, &edits, preset, ".gguf");
        assert_eq!(named(&model, Some(Preset::Q4KM)), "Tiny-Model-Q4_K_M.gguf");
        assert_eq!(named(&model, None), "Tiny-Model-NONE.gguf");
        model.config = Some(r#"{"_name_or_path": "org/Mini 3.2-1B/"}"#.into());
        model.metadata.push(("general.file_type".into(), Value::U32(15)));
        assert_eq!(named(&model, None), "Mini-3.2-1B-Q4_K_M.gguf");
        model.metadata.push(("general.name".into(), Value::Text("../É  t\u{e9}/x\n".into())));
        assert_eq!(named(&model, Some(Preset::Bf16)), "É-té-x-BF16.gguf");
        model.metadata[1].1 = Value::Text("///".into());
        assert_eq!(named(&model, Some(Preset::Bf16)), "Mini-3.2-1B-BF16.gguf");
    }
}
