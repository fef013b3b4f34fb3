//! Which of a folder's files are its weights, and what the others are: by their names alone.
//!
//! The order among usual names is that of transformers 5.23 (`_get_resolved_checkpoint_files` in modeling_utils.py),
//! variants included.

use crate::shard_name::ShardName;
use modelferry_core::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// What programs look for in a folder, best first: the single file, the index of a sharded set, and the same for
/// torch's files; then those of adapters, which peft loads; then what folders of ours hold that no such program loads.
const USUAL: [&str; 15] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "model.npz",
    "model.npy",
    "model.onnx",
    "model.msgpack",
    "model.gguf",
    "adapter_model.npz",
    "adapter_model.npy",
    "adapter_model.onnx",
    "adapter_model.msgpack",
];

/// What a folder's weights are called in a format that is none of the above, before the ending.
const STEMS: [&str; 2] = ["model", "adapter_model"];

/// Endings of files of such a name that are no weights: configs, texts, vocabularies, graphs of other programs.
const NO_WEIGHTS: [&str; 14] = [
    "cfg", "ini", "jinja", "json", "jsonl", "md", "model", "py", "toml", "txt", "vocab", "xml", "yaml", "yml",
];

/// Endings of files of weights that readers may know. npy and npz are weights only under the name that a folder of
/// ours gives them: elsewhere they hold voices, statistics, embeddings.
const READABLE: [&str; 9] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    "model.npz",
    "model.npy",
    "adapter_model.npz",
    "adapter_model.npy",
];

/// Endings of weights that belong to other programs.
const FOREIGN: [&str; 15] = [
    ".gguf",
    ".ggml",
    ".h5",
    ".keras",
    ".msgpack",
    ".ot",
    ".onnx",
    ".onnx_data",
    ".onnx.data",
    ".tflite",
    ".pb",
    ".nemo",
    ".llamafile",
    ".mlmodel",
    "openvino_model.bin",
];

/// Folders that hold the same model once more, for other programs.
const FOREIGN_FOLDERS: [&str; 5] = ["original", "onnx", "openvino", "coreml", "gguf"];

/// Files in which a training keeps itself, as transformers' `Trainer`, accelerate and DeepSpeed name them.
const STATE: [&str; 10] = [
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scheduler.bin",
    "scaler.pt",
    "sampler.bin",
    "trainer_state.json",
    "rng_state.pth",
    "latest",
    "dl_state_dict.bin",
];

/// The file of arguments that transformers' `Trainer` leaves beside a model.
pub const TRAINING_ARGS: &str = "training_args.bin";

/// What a file of a model's folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Weights of some format, or the index of such.
    Weights,
    /// State of the training: optimizer, scheduler, scaler, random numbers.
    State,
    /// Objects of Python that are neither.
    Pickle,
    /// Anything else: part of the model, carried byte for byte.
    Asset,
    /// No part of the model: caches, and what we or others were writing.
    Stranger,
}

/// The role of a file, by its path in the folder.
pub fn role(path: &str) -> Role {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let is_state = STATE.contains(&name)
        || numbered(name, "rng_state_", ".pth")
        || numbered(name, "random_states_", ".pkl")
        || numbered(name, "custom_checkpoint_", ".pkl");
    if is_state {
        return Role::State;
    }
    if is_stranger(name) {
        return Role::Stranger;
    }
    if name == TRAINING_ARGS || [".pkl", ".pickle"].iter().any(|ending| name.ends_with(ending)) {
        return Role::Pickle;
    }
    if is_index_name(name) {
        return Role::Weights;
    }
    // A module of sentence-transformers has weights of its own, which stay with it.
    if is_module(folder) && is_readable(name) {
        return if name.ends_with(".safetensors") { Role::Asset } else { Role::Pickle };
    }
    if is_foreign(name) || is_readable(name) { Role::Weights } else { Role::Asset }
}

/// The role of a folder in a model's folder, by its path: that of all that is in it, or nothing where that is to be
/// looked at.
pub fn folder_role(path: &str) -> Option<Role> {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    if FOREIGN_FOLDERS.contains(&path) || name.ends_with(".mlpackage") {
        return Some(Role::Weights);
    }
    let is_state = ["checkpoint-", "global_step", "pytorch_model_fsdp_", "optimizer_"];
    if is_state.iter().any(|stem| numbered(name, stem, "")) {
        return Some(Role::State);
    }
    is_stranger(name).then_some(Role::Stranger)
}

/// `.git` and caches as huggingface_hub leaves them out of what it uploads; what editors and systems drop; what a run
/// of ours was writing when it was killed. `.gitattributes` is a file of the repository like any other.
fn is_stranger(name: &str) -> bool {
    const NAMES: [&str; 7] =
        [".git", ".cache", "__pycache__", ".ipynb_checkpoints", ".locks", ".no_exist", ".DS_Store"];
    let is_staging = name.starts_with('.') && name.contains(".partial-");
    NAMES.contains(&name) || is_staging || name.ends_with(".pyc") || name.ends_with(".incomplete")
}

/// Whether a name is `stem`, a number, `ending`.
fn numbered(name: &str, stem: &str, ending: &str) -> bool {
    let number = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(ending));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a folder is named like a module of sentence-transformers: `1_Pooling`.
fn is_module(folder: &str) -> bool {
    folder.split_once('_').is_some_and(|(number, name)| numbered(number, "", "") && !name.is_empty())
}

fn is_foreign(name: &str) -> bool {
    // TensorFlow's checkpoints are several files, and so may be an ONNX model's data.
    FOREIGN.iter().any(|ending| name.ends_with(ending))
        || [".ckpt.", ".ckpt-", ".onnx_data_"].iter().any(|part| name.contains(part))
}

fn is_readable(name: &str) -> bool {
    READABLE
        .iter()
        .any(|ending| if ending.starts_with('.') { name.ends_with(ending) } else { name == *ending })
}

/// Whether a file of this name is an index rather than weights: `model.safetensors.index.json`, and
/// `model.safetensors.index.fp16.json` of a variant.
pub fn is_index_name(name: &str) -> bool {
    indexed_name(name).is_some()
}

/// The name that the indexed files would have if they were one, with the variant where transformers puts it.
fn indexed_name(index: &str) -> Option<String> {
    let rest = index.strip_suffix(".json")?;
    if let Some(name) = rest.strip_suffix(".index") {
        return (!name.is_empty()).then(|| name.to_owned());
    }
    let (name, variant) = rest.rsplit_once(".index.")?;
    (!name.is_empty() && !variant.is_empty() && !variant.contains('.')).then(|| with_variant(name, variant))
}

/// Whether `index` is named as the index of the sharded set that `shard` is one file of.
pub fn is_index_of(index: &str, shard: &str) -> bool {
    let set = ShardName::parse(shard).map(|shard| format!("{}{}", shard.stem, shard.suffix));
    set.is_some() && set == indexed_name(index)
}

/// A name of weights or of an index with a variant in it: before the last dot.
fn with_variant(name: &str, variant: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{variant}.{extension}"),
        None => format!("{name}.{variant}"),
    }
}

/// The name of the set that a part of a split GGUF file belongs to: such a set has no index. Else the name itself.
fn whole(name: &str) -> String {
    match ShardName::parse(name) {
        Some(shard) if shard.suffix == ".gguf" => format!("{}{}", shard.stem, shard.suffix),
        _ => name.to_owned(),
    }
}

/// Whether a folder with these files is a model's by the name of one of them.
pub fn has_usual(names: &[String]) -> bool {
    names.iter().any(|name| USUAL.contains(&whole(name).as_str()))
}

/// The file by which a folder's weights are read: a single file, an index, or the first of a set without one. `names`
/// are the files of the folder itself; `explicit` is what its config asks for. Nothing where there are no weights.
///
/// Where none has a usual name, the one set that is there is taken; where there is none, what is named as a folder of
/// ours names weights in the format of a plugin.
///
/// Errors: [`Ambiguous`](modelferry_core::error::ErrorKind::Ambiguous) where there are several;
/// [`Malformed`](modelferry_core::error::ErrorKind::Malformed) where the one asked for by the config is not there;
/// [`Usage`](modelferry_core::error::ErrorKind::Usage) for a variant that is not there.
pub fn choose(names: &[String], variant: Option<&str>, explicit: Option<&str>) -> Result<Option<String>> {
    let is_there = |name: &str| names.iter().any(|known| known == name);
    if let Some(explicit) = explicit.filter(|_| variant.is_none()) {
        return match is_there(explicit) {
            true => Ok(Some(explicit.to_owned())),
            false => Err(Error::malformed("the weights that the config names are not there")
                .file(crate::config::FILE_NAME)
                .expected(format_args!("{explicit:?}"))),
        };
    }
    let usual =
        USUAL.iter().map(|name| variant.map_or((*name).to_owned(), |variant| with_variant(name, variant)));
    if let Some(found) = usual.into_iter().find(|name| is_there(name)) {
        return Ok(Some(found));
    }
    let mut sets = sets(names);
    if let Some(variant) = variant {
        let found = sets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let is_of = |name: &str| {
            name.rsplit_once('.')
                .is_some_and(|(stem, _)| stem.strip_suffix(variant).is_some_and(|rest| rest.ends_with('.')))
        };
        sets.retain(|(name, _)| is_of(name));
        if sets.is_empty() {
            return Err(Error::usage("--variant: the folder has no weights of this variant")
                .expected(variant)
                .found(found));
        }
    }
    match &sets[..] {
        [] => Ok(names.iter().find(|name| may_be_ours(name)).cloned()),
        [(_, file)] => Ok(Some(file.clone())),
        _ => {
            let files: Vec<&str> = sets.iter().map(|(_, file)| file.as_str()).collect();
            Err(Error::ambiguous("several sets of weights, and none of a usual name")
                .found(files.join(", "))
                .hint("name the file that is meant"))
        }
    }
}

/// Whether a file is named as [`names_to_write`] names weights in a format that is not known here.
fn may_be_ours(name: &str) -> bool {
    let parts = name.split_once('.').filter(|(_, ending)| !ending.contains('.'));
    parts.is_some_and(|(stem, ending)| STEMS.contains(&stem) && !NO_WEIGHTS.contains(&ending))
        && role(name) == Role::Asset
}

/// The sets of weights that readers may know: the name each would have as one file, and the file it is read by.
fn sets(names: &[String]) -> Vec<(String, String)> {
    /// What there is of one set.
    #[derive(Default)]
    struct Found<'a> {
        single: Option<&'a str>,
        index: Option<&'a str>,
        /// The first shard, by the number of shards.
        shards: BTreeMap<usize, &'a str>,
    }
    let mut sets: BTreeMap<String, Found<'_>> = BTreeMap::new();
    let sorted: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for name in sorted.into_iter().filter(|name| role(name) == Role::Weights) {
        if let Some(indexed) = indexed_name(name) {
            if is_readable(&indexed) {
                sets.entry(indexed).or_default().index = Some(name);
            }
            continue;
        }
        // Other programs' files, but for those that folders of ours hold.
        let is_usual = USUAL.contains(&whole(name).as_str());
        if !is_usual && (!is_readable(name) || is_foreign(name)) {
            continue;
        }
        if let Some(shard) = ShardName::parse(name).filter(|shard| shard.n_shards > 1) {
            let set = sets.entry(format!("{}{}", shard.stem, shard.suffix)).or_default();
            set.shards.entry(shard.n_shards).or_insert(name);
        } else {
            sets.entry(name.to_owned()).or_default().single = Some(name);
        }
    }
    let mut found = vec![];
    for (name, set) in sets {
        match set.single.or(set.index) {
            Some(file) => found.push((name, file.to_owned())),
            None => found.extend(set.shards.values().map(|file| (name.clone(), (*file).to_owned()))),
        }
    }
    found
}

/// The name of a folder's weights in a format, and those of all that would be loaded in their place: the former's own
/// shards and index go with it.
pub fn names_to_write(format: &str, is_adapter: bool) -> (String, Vec<String>) {
    let stem = STEMS[usize::from(is_adapter)];
    let safetensors = format!("{stem}.safetensors");
    let torch = if is_adapter { "adapter_model.bin" } else { "pytorch_model.bin" };
    match format {
        "safetensors" => (safetensors.clone(), vec![safetensors]),
        "pytorch" => (torch.to_owned(), vec![torch.to_owned(), safetensors]),
        other => {
            let name = format!("{stem}.{other}");
            (name.clone(), vec![name, safetensors, torch.to_owned()])
        }
    }
}

#[cfg(test)]
mod tests;
