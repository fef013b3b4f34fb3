//! Parameters that a model's class ties, of which a checkpoint holds one: an exporter may have called it by the other.

use crate::ties::{EMBEDDINGS, HEADS, ends_with};
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, TensorIdx};
use modelferry_hf::config::Config;
use std::collections::HashMap;

/// Ends of the names of biases that transformers' classes tie, and of those that are saved (`_tied_weights_keys`).
const BIASES: [(&str, &str); 2] =
    [("predictions.decoder.bias", "predictions.bias"), ("lm_head.decoder.bias", "lm_head.bias")];

/// What of a checkpoint stands for parameters that it does not hold.
pub(super) struct Heads<'a> {
    by_name: HashMap<&'a str, TensorIdx>,
    /// The embedding that the class ties others to.
    embedding: Option<TensorIdx>,
    is_tied: bool,
}

impl<'a> Heads<'a> {
    pub(super) fn of(model: &'a Model, limits: &Limits) -> Heads<'a> {
        let config = model.config.as_deref().and_then(|text| Config::parse(text, limits).ok());
        let is_tied = config.and_then(|config| config.ties_embeddings()) == Some(true);
        let named = model.tensors.iter().enumerate();
        let mut embeddings = named.clone().filter(|(_, tensor)| ends_with(&tensor.name, &EMBEDDINGS));
        let embedding = match (embeddings.next(), embeddings.next()) {
            (Some((idx, _)), None) => Some(idx),
            _ => None,
        };
        let by_name = named.map(|(idx, tensor)| (tensor.name.as_str(), idx)).collect();
        Heads { by_name, embedding: embedding.filter(|_| is_tied), is_tied }
    }

    /// The tensor that is called so, or is what the class ties to what is called so.
    pub(super) fn find(&self, name: &str) -> Option<TensorIdx> {
        if let Some(&own) = self.by_name.get(name) {
            return Some(own);
        }
        if ends_with(name, &HEADS) || ends_with(name, &EMBEDDINGS) {
            return self.embedding;
        }
        let (end, saved) = BIASES.iter().find(|(end, _)| self.is_tied && ends_with(name, &[end]))?;
        self.by_name.get(format!("{}{saved}", name.strip_suffix(end)?).as_str()).copied()
    }
}
