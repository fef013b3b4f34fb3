//! One file: its header becomes tensors over regions of the file.

use crate::identify;
use modelferry_core::expr::Packing;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Check, Model, Value};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Magic, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::{Error, Result};
use modelferry_hf::set::{SHARDS, Set};
use modelferry_wire::safetensors::{Header, LENGTH_BYTES, MAX_HEADER_BYTES, parse_header};

/// The safetensors reader.
#[derive(Clone, Copy, Debug)]
pub struct SafetensorsReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "safetensors",
    about: "safetensors files, single or sharded with an index",
    extensions: &[".safetensors.index.json", ".safetensors"],
    magic: &[Magic { at: 8, bytes: b"{" }],
    place: Place::File,
    options: &[SHARDS],
};

impl Reader for SafetensorsReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        identify::identify(inputs)
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let mut model = Model::default();
        let mut add = |model: &mut Model, file: FileId, wanted: &mut dyn FnMut(&str) -> Result<bool>| {
            let header = parse_header(inputs, file, host.limits())?;
            add_tensors(model, inputs, file, &header, wanted)?;
            add_metadata(model, header);
            Ok(())
        };
        match Set::find(inputs, options, host.limits())? {
            Some(set) => set.read(inputs, &mut model, &mut add)?,
            None => add(&mut model, inputs.root(), &mut |_| Ok(true))?,
        }
        Ok(model)
    }
}

/// Adds the tensors of one file that `wanted` takes, in the order of their data.
fn add_tensors(
    model: &mut Model,
    inputs: &dyn Inputs,
    file: FileId,
    header: &Header,
    wanted: &mut dyn FnMut(&str) -> Result<bool>,
) -> Result<()> {
    for idx in header.data_order() {
        let entry = &header.tensors[idx];
        if !wanted(&entry.name)? {
            continue;
        }
        let place = |error: Error| error.file(inputs.name(file)).tensor(&entry.name);
        let region =
            model.nodes.region(file, header.data_at + entry.begin, entry.end - entry.begin).map_err(place)?;
        let n_items = modelferry_core::expr::volume(&entry.shape).unwrap_or(u64::MAX);
        let data = model.nodes.decode(region, entry.dtype, n_items, Packing::default()).map_err(place)?;
        model.push(entry.name.as_str(), entry.dtype, entry.shape.to_vec(), data).map_err(place)?;
    }
    let header_len = header.data_at - LENGTH_BYTES;
    model.checks.push(Check {
        file: inputs.name(file),
        fault: "the header is longer than the format's own readers accept",
        expected: format!("at most {MAX_HEADER_BYTES} bytes"),
        found: format!("{header_len} bytes"),
        holds: header_len <= MAX_HEADER_BYTES,
    });
    for key in &header.ignored_keys {
        let detail = "a key inside tensor entries that the format does not define";
        model.losses.push(Loss::declared(LossKind::Metadata, key, detail));
    }
    Ok(())
}

/// Adds a file's metadata. Shards repeat each other's; a key with two values keeps the first and says so.
fn add_metadata(model: &mut Model, header: Header) {
    for (key, text) in header.metadata.unwrap_or_default() {
        match model.metadata.iter().find(|(known, _)| *known == key) {
            None => model.metadata.push((key, Value::Text(text))),
            Some((_, Value::Text(first))) if *first == text => {}
            Some(_) => {
                let detail = "another shard has another value under this key";
                model.losses.push(Loss::declared(LossKind::Metadata, key, detail));
            }
        }
    }
}
