//! A folder: its weights, read by their own reader, and what lies around them.

use crate::folder::Folder;
use crate::{arguments, identify};
use modelferry_core::expr::Op;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Model;
use modelferry_core::options::{OptionKind, OptionSpec, Options};
use modelferry_core::plugin::{Host, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_hf::config::{self, Config};
use modelferry_hf::weights::{self, Role, TRAINING_ARGS};
use std::collections::HashSet;

/// The reader of model folders.
#[derive(Clone, Copy, Debug)]
pub struct HfReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "hf",
    about: "Hugging Face folders: weights of any format with config, tokenizer and other files",
    extensions: &[],
    magic: &[],
    place: Place::Folder,
    options: &[
        OptionSpec {
            name: "variant",
            kind: OptionKind::Text,
            default: "",
            help: "weights of this variant: fp16 for model.fp16.safetensors",
        },
        OptionSpec {
            name: "keep-pickles",
            kind: OptionKind::Bool,
            default: "false",
            help: "carry pickles that are not weights, instead of making training_args.json of training_args.bin",
        },
    ],
};

/// What `training_args.bin` becomes.
const ARGUMENTS_AS_JSON: &str = "training_args.json";

impl Reader for HfReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        identify::identify(inputs)
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let limits = host.limits().clone();
        let folder = Folder::list(inputs, &limits)?;
        let config = match folder.names.iter().any(|name| name == config::FILE_NAME) {
            true => Some(config::read(inputs, inputs.open(config::FILE_NAME)?, &limits)?),
            false => None,
        };
        let root = match inputs.root() {
            FileId::FOLDER => inputs.open(&chosen(&folder, options, config.as_deref(), &limits)?)?,
            file => file,
        };
        let mut model = host.read(inputs, root)?;
        let used = files_of(&model, inputs, root);
        if inputs.root() == FileId::FOLDER
            && !weights::has_usual(&[inputs.name(root)])
            && !has_variant(options)
        {
            let detail = "taken for the folder's weights, for none has a usual name";
            model.losses.push(Loss::declared(LossKind::Asset, inputs.name(root), detail));
        }
        model.config = config.map(Into::into);
        for (path, role) in &folder.members {
            let is_index = || used.iter().any(|file| weights::is_index_of(path, file));
            if used.contains(path) || path == config::FILE_NAME || (*role == Role::Weights && is_index()) {
                continue;
            }
            let mut lose = |kind, detail: &str| model.losses.push(Loss::declared(kind, path, detail));
            match role {
                Role::Weights => lose(LossKind::Asset, "weights that were not chosen, not carried"),
                Role::State => lose(LossKind::State, "state of the training, not carried"),
                Role::Asset => add_file(&mut model, inputs, path)?,
                Role::Pickle if options.is_on("keep-pickles") => add_file(&mut model, inputs, path)?,
                Role::Pickle => add_pickle(&mut model, inputs, path, &folder, &limits)?,
                Role::Stranger => {}
            }
        }
        Ok(model)
    }
}

fn has_variant(options: &Options) -> bool {
    options.get("variant").is_some()
}

/// The name of the file by which the folder's weights are read.
fn chosen(folder: &Folder, options: &Options, config: Option<&str>, limits: &Limits) -> Result<String> {
    let config = config.map(|text| Config::parse(text, limits)).transpose()?;
    let explicit = config.and_then(|config| config.explicit_weights());
    if let Some(chosen) = weights::choose(&folder.names, options.get("variant"), explicit.as_deref())? {
        return Ok(chosen);
    }
    let error = Error::unsupported("the folder holds no weights that there is a reader for")
        .expected("model.safetensors, pytorch_model.bin or an index of such");
    let of_others = folder.members.iter().filter(|(_, role)| *role == Role::Weights);
    let others: Vec<&str> = of_others.map(|(path, _)| path.as_str()).take(4).collect();
    Err(if others.is_empty() { error } else { error.found(others.join(", ")) })
}

/// The names of the files that the weights are made of.
fn files_of(model: &Model, inputs: &dyn Inputs, root: FileId) -> HashSet<String> {
    let mut files = HashSet::from([root]);
    for (_, node) in model.nodes.iter() {
        if let Op::Region { file, .. } = node.op {
            files.insert(file);
        }
    }
    files.into_iter().map(|file| inputs.name(file)).collect()
}

/// Adds a file of the folder as it is.
fn add_file(model: &mut Model, inputs: &dyn Inputs, path: &str) -> Result<()> {
    let file = inputs.open(path)?;
    let data = model.nodes.region(file, 0, inputs.len(file))?;
    model.push_asset(path, data)
}

/// Names a pickle that is not carried; adds what becomes of the one that is known.
fn add_pickle(
    model: &mut Model,
    inputs: &dyn Inputs,
    path: &str,
    folder: &Folder,
    limits: &Limits,
) -> Result<()> {
    let mut lose = |detail: String| {
        model.losses.push(Loss::declared(LossKind::Asset, path, detail));
        Ok(())
    };
    let hint = "pass --keep-pickles true to carry it";
    if path != TRAINING_ARGS {
        return lose(format!("a pickle, not carried; {hint}"));
    }
    if folder.names.iter().any(|name| name == ARGUMENTS_AS_JSON) {
        return lose(format!("a pickle, not carried, for {ARGUMENTS_AS_JSON} is there; {hint}"));
    }
    let file = inputs.open(path)?;
    match arguments::as_json(inputs, file, limits) {
        Ok(text) => {
            lose(format!("a pickle, taken as {ARGUMENTS_AS_JSON}"))?;
            let data = model.nodes.inline(text.into_bytes())?;
            model.push_asset(ARGUMENTS_AS_JSON, data)
        }
        Err(error) if error.kind() == ErrorKind::Io => Err(error),
        // It is read for people; a model is not refused for it.
        Err(error) => {
            lose(format!("a pickle that cannot be shown as text: {}; not carried; {hint}", error.what()))
        }
    }
}

#[cfg(test)]
mod tests;
