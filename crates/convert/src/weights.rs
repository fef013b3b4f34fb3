//! `--weights OTHER`: a second model, whose tensors give their values to those of the first.

use crate::config::Own;
use crate::host::{EngineHost, Traces};
use crate::job::{ConfigFrom, Context, PluginOptions};
use crate::open::{Opened, open};
use modelferry_core::Result;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::plugin::ReaderInfo;
use modelferry_engine::disk::DiskInputs;
use modelferry_transform::{Edits, Keeps, Weights};
use std::path::Path;

/// A model that gives values, and what reading it has shown.
pub(crate) struct Giver {
    pub(crate) weights: Weights,
    /// Its readers.
    pub(crate) readers: Vec<&'static ReaderInfo>,
    /// Tensors that could not be read.
    pub(crate) losses: Vec<Loss>,
    pub(crate) traces: Traces,
}

/// Opens the model at `path` and adds its files to `inputs`. Of a nested checkpoint it is the one set of weights, of a
/// wrapped one its plain names; what it holds besides weights is of no interest here and no loss.
pub(crate) fn giver(
    cx: &Context<'_>,
    path: &Path,
    options: &PluginOptions,
    inputs: &DiskInputs,
) -> Result<Giver> {
    let mut opened = open(cx, path, None, options)?;
    // Its config says which of its tensors stand for others.
    Own::settle(&mut opened, &ConfigFrom::Input, &cx.settings.limits)?;
    let readers = opened.readers().collect();
    let Opened { model, inputs: theirs, traces, .. } = opened;
    let mut traces = Traces { readers: vec![], ..traces };
    let mut losses = model.losses.clone();
    losses.retain(|loss| loss.kind == LossKind::Tensor);
    let mut host = EngineHost { cx, inputs: &*theirs, options, traces: &mut traces, links: None };
    let (model, _) = modelferry_transform::apply(model, &Edits::default(), None, Keeps::ALL, &mut host)
        .map_err(|error| error.file(path.display()))?;
    let files = inputs.adopt(&theirs)?;
    let name = path.display().to_string();
    let weights = Weights { model, files, name, taken: vec![] };
    Ok(Giver { weights, readers, losses, traces })
}
