//! A file -> a model.

use crate::identify::{self, EXTENSION, MAGIC};
use crate::names;
use modelferry_core::expr::{NodeId, Packing, Part};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::{Error, Result};
use modelferry_wire::msgpack::{Array, parse};

/// The reader of flax's files.
///
/// A tensor is named by the keys that lead to it, joined by dots; one that is the whole document, after the file.
#[derive(Clone, Copy, Debug)]
pub struct MsgpackReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "msgpack",
    about: "Flax and JAX checkpoints as flax.serialization writes them",
    extensions: &[EXTENSION],
    magic: &MAGIC,
    place: Place::File,
    options: &[],
};

impl Reader for MsgpackReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        identify::identify(inputs)
    }

    fn read(&self, inputs: &dyn Inputs, _options: &Options, host: &mut dyn Host) -> Result<Model> {
        let file = inputs.root();
        let document = parse(inputs, file, host.limits())?;
        let file_name = inputs.name(file);
        let place = |error: Error| error.file(&file_name);
        let alone = file_name.rsplit('/').next().unwrap_or_default();
        let alone = alone.strip_suffix(EXTENSION).unwrap_or(alone);
        let names = names::of(&document.tree, document.arrays.len(), alone, host.limits()).map_err(place)?;
        let mut model = Model::default();
        for (array, name) in document.arrays.into_iter().zip(names) {
            let named = |error: Error| place(error.tensor(&*name));
            let data = elements(&mut model, file, &array).map_err(named)?;
            model.push(&*name, array.dtype, array.shape, data).map_err(named)?;
        }
        // A lone array is in no document that others could keep it in.
        let is_alone = document.tree.root().is_some_and(|root| document.tree.tensor(root).is_some());
        model.tree = Some(document.tree).filter(|_| !is_alone);
        // Two paths can be one name: `{"a.b": …, "a": {"b": …}}`.
        model.validate(host.limits()).map_err(place)?;
        Ok(model)
    }
}

/// The elements of an array, put together from its parts.
fn elements(model: &mut Model, file: FileId, array: &Array) -> Result<NodeId> {
    let mut parts = Vec::with_capacity(array.chunks.len());
    let mut n = 0;
    for chunk in &array.chunks {
        let bytes = model.nodes.region(file, chunk.start, chunk.end - chunk.start)?;
        let n_items = model.nodes[bytes].n / array.dtype.item_bytes();
        let node = model.nodes.decode(bytes, array.dtype, n_items, Packing::default())?;
        parts.push(Part { lo: [n].into(), extent: [n_items].into(), node });
        n += n_items;
    }
    match &parts[..] {
        [one] => Ok(one.node),
        _ => model.nodes.assemble(&[n], parts),
    }
}

#[cfg(test)]
mod tests;
