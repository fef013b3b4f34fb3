//! Whose config a model has, and what becomes of it.
//!
//! Of a folder the config is a part. A lone file is a bag of tensors, but what its owner keeps beside it says how they
//! are to be read: which of them the model's class ties, whether they are quantized in a way of their own. So a config
//! beside a file decides about the conversion, and is written if a folder is; that a file holds none is no loss then,
//! for the input held none either.

use crate::job::ConfigFrom;
use crate::open::Opened;
use crate::watched::watched;
use modelferry_core::inputs::Inputs;
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Model;
use modelferry_core::plugin::{Carries, Place};
use modelferry_core::{ErrorKind, Result};
use modelferry_hf::config::{self, Config, FILE_NAME};
use std::sync::Arc;

/// What the input's own config was before anything was changed.
pub(crate) struct Own<'a> {
    text: Option<Arc<str>>,
    wanted: &'a ConfigFrom,
}

impl<'a> Own<'a> {
    /// Gives the model the config that the user wants it to have.
    ///
    /// Errors: the text given is no config; a file beside the input cannot be read. What is beside a file and is no
    /// config is not looked at any further.
    pub(crate) fn settle(opened: &mut Opened, wanted: &'a ConfigFrom, limits: &Limits) -> Result<Own<'a>> {
        let is_part = opened.reader.place == Place::Folder;
        // A file's own, too, where its format has a place for it.
        let text = opened.model.config.clone();
        match wanted {
            ConfigFrom::Nowhere => opened.model.config = None,
            ConfigFrom::Given(text) => {
                Config::parse(text, limits).map_err(|error| error.file("--config"))?;
                opened.model.config = Some(Arc::clone(text));
            }
            ConfigFrom::Input if opened.model.config.is_none() && !is_part => {
                opened.model.config =
                    watched(&*opened.inputs, |inputs| beside(inputs, limits))?.map(Into::into);
            }
            ConfigFrom::Input => {}
        }
        Ok(Own { text, wanted })
    }

    /// Leaves the model what there is of its config for a target that holds one or not, and says what has become of
    /// the input's own.
    pub(crate) fn report(&self, model: &mut Model, target: Carries) -> Option<Loss> {
        let is_dropped = matches!(self.wanted, ConfigFrom::Nowhere);
        let lost = |detail: &str| Some(Loss::declared(LossKind::Asset, FILE_NAME, detail).asked());
        match (&self.text, target) {
            (Some(_), _) if is_dropped => lost("left out by --arch none"),
            // That it is not written is said with the other files of the folder.
            (_, Carries::No) => {
                model.config = self.text.clone();
                None
            }
            (Some(text), Carries::Yes) if model.config.as_ref() != Some(text) => match self.wanted {
                ConfigFrom::Given(_) => lost("replaced by --config"),
                _ => lost("the type that it names follows --dtype"),
            },
            _ => None,
        }
    }
}

/// The text of the config beside a lone file.
fn beside(inputs: &dyn Inputs, limits: &Limits) -> Result<Option<String>> {
    let Ok(file) = inputs.open(FILE_NAME) else { return Ok(None) };
    match config::read(inputs, file, limits) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::Io => Err(error),
        // Many programs have a file of this name.
        Err(_) => {
            inputs.release(file);
            Ok(None)
        }
    }
}
