//! Models inside models, for hosts without a pipeline.

use modelferry_convert::pick;
use modelferry_core::error::Result;
use modelferry_core::inputs::{FileId, Inputs, Rooted};
use modelferry_core::layout::Layout;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, LayoutRequest, Place, WriterInfo};
use modelferry_core::registry::Registry;
use std::collections::BTreeMap;

/// What [`Host::read`] does.
pub(crate) fn read(
    registry: &Registry,
    inputs: &dyn Inputs,
    root: FileId,
    host: &mut dyn Host,
) -> Result<Model> {
    let inputs = Rooted { inputs, root };
    let reader = pick::reader(registry, None, Place::File, &inputs)?;
    let options = Options::resolve(reader.info().options, &BTreeMap::new())?;
    reader.read(&inputs, &options, host)
}

/// What [`Host::layout`] does.
pub(crate) fn layout(
    registry: &Registry,
    view: &ModelView<'_>,
    format: &str,
    request: &LayoutRequest<'_>,
    host: &mut dyn Host,
) -> Result<(Layout, Vec<Loss>)> {
    let writer = registry.writer(format)?;
    let options = Options::resolve(writer.info().options, &BTreeMap::new())?;
    writer.layout(view, &LayoutRequest { options: &options, ..request.clone() }, host)
}

/// The format of the weights in what a writer writes: of a folder the usual one, of a file none but its own.
pub(crate) fn weights(registry: &Registry, info: &'static WriterInfo) -> &'static str {
    match info.place {
        Place::File => "",
        Place::Folder => pick::weights_of(registry, info).format,
    }
}
