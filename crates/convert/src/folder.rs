//! What there is of a model beside its tensors: config, files of weights, other files.

use crate::open::Opened;
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::plugin::Place;
use modelferry_hf::config::Config;
use serde_json::Value;

/// What lies in a model's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderContent {
    /// What the config says, for a person: kind of model, classes, type, what is odd about it.
    pub config: Vec<String>,
    /// Formats of the weights.
    pub weights_formats: Vec<&'static str>,
    /// Files that the weights are made of: name, bytes.
    pub weights: Vec<(String, u64)>,
    /// Other files of the model: name, bytes.
    pub assets: Vec<(String, u64)>,
}

/// What lies in the folder that was opened; nothing for a file.
pub(crate) fn content(opened: &Opened, limits: &Limits) -> Option<FolderContent> {
    if opened.reader.place != Place::Folder {
        return None;
    }
    let mut weights_formats: Vec<&str> = opened.readers().skip(1).map(|reader| reader.format).collect();
    weights_formats.dedup();
    let file = |file| (opened.inputs.name(file), opened.inputs.len(file));
    let asset =
        |asset: &modelferry_core::model::Asset| (asset.name.clone(), opened.model.nodes[asset.data].n);
    Some(FolderContent {
        config: config_words(opened, limits),
        weights_formats,
        weights: opened.weight_files().into_iter().map(file).collect(),
        assets: opened.model.assets.iter().map(asset).collect(),
    })
}

fn config_words(opened: &Opened, limits: &Limits) -> Vec<String> {
    let config = opened.model.config.as_deref().and_then(|text| Config::parse(text, limits).ok());
    let Some(config) = config else { return vec![] };
    let mut words: Vec<String> = config.model_type().into_iter().chain(config.architectures()).collect();
    words.extend(config.dtype().map(|dtype| dtype.to_string()));
    words.extend(config.quantization().map(|method| format!("quantized by {method}")));
    if config.ties_embeddings() == Some(true) {
        words.push("ties its embeddings".to_owned());
    }
    words
}

/// The config as JSON; as its text, where it holds numbers that JSON does not have.
pub(crate) fn config_json(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}
