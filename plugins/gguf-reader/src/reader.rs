//! Files -> a model: the tensors of all parts, the metadata of the first.

use crate::split::Set;
use crate::{identify, tensor};
use modelferry_core::dtype::Class;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Check, Model, Value};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Magic, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::{Error, Result};
use modelferry_hf::set::SHARDS;
use modelferry_wire::gguf::{
    ALIGNMENT, CURRENT_QUANTIZATION, Header, QUANTIZATION_VERSION, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS,
    parse_header,
};

/// The GGUF reader.
#[derive(Clone, Copy, Debug)]
pub struct GgufReader;

static INFO: ReaderInfo = ReaderInfo {
    format: "gguf",
    about: "GGUF files of llama.cpp, single or split",
    extensions: &[".gguf"],
    magic: &[Magic { at: 0, bytes: b"GGUF" }],
    place: Place::File,
    options: &[SHARDS],
};

impl Reader for GgufReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        identify::identify(inputs)
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let name = inputs.name(root);
        let named = |error: Error| error.file(&name);
        let header = header_of(inputs, root, host)?;
        let set = match options.get("shards") {
            Some("alone") => None,
            _ => Set::of(&header).map_err(named)?,
        };
        let mut model = Model::default();
        let Some(set) = set else {
            add_tensors(&mut model, inputs, root, &header)?;
            check_quantization(&mut model, &name, &header.metadata);
            model.metadata = header.metadata;
            return Ok(model);
        };
        for (idx, part) in set.names(&name, &header, inputs).map_err(named)?.iter().enumerate() {
            let (file, part_header);
            let header = match *part == name {
                true => {
                    file = root;
                    &header
                }
                false => {
                    file = inputs.open(part)?;
                    part_header = header_of(inputs, file, host)?;
                    &part_header
                }
            };
            set.check_part(header, idx).map_err(|error| error.file(part))?;
            add_tensors(&mut model, inputs, file, header)?;
            match idx {
                0 => {
                    let of_model = header.metadata.iter().filter(|(key, _)| !is_of_file(key));
                    model.metadata = of_model.cloned().collect();
                    check_quantization(&mut model, part, &header.metadata);
                }
                _ => lose_metadata(&mut model, part, header),
            }
        }
        set.check_tensors(model.tensors.len()).map_err(named)?;
        Ok(model)
    }
}

fn header_of(inputs: &dyn Inputs, file: FileId, host: &mut dyn Host) -> Result<Header> {
    let header = parse_header(inputs, file, host.limits())?;
    header.check_len(inputs.len(file)).map_err(|error| error.file(inputs.name(file)))?;
    Ok(header)
}

/// Whether an entry speaks of the files of a set and not of the model.
fn is_of_file(key: &str) -> bool {
    matches!(key, SPLIT_NO | SPLIT_COUNT | SPLIT_TENSORS)
}

fn add_tensors(model: &mut Model, inputs: &dyn Inputs, file: FileId, header: &Header) -> Result<()> {
    let name = inputs.name(file);
    for entry in &header.tensors {
        tensor::add(model, file, header, entry).map_err(|error| error.file(&name).tensor(&*entry.name))?;
    }
    let (len, padded) = (inputs.len(file), header.padded_end());
    if !header.tensors.is_empty() {
        model.checks.push(Check {
            file: name.clone(),
            fault: "the last tensor is not padded, and gguf_init_from_file cannot load the data of such a file",
            expected: format!("at least {padded} bytes"),
            found: format!("{len} bytes"),
            holds: len >= padded,
        });
    }
    model.checks.push(Check {
        file: name.clone(),
        fault: "bytes follow the last tensor",
        expected: format!("at most {padded} bytes"),
        found: format!("{len} bytes"),
        holds: len <= padded,
    });
    if len > padded {
        let detail = format!("{} bytes follow the last tensor, not carried", len - padded);
        model.losses.push(Loss::declared(LossKind::Metadata, name, detail));
    }
    Ok(())
}

/// Whether the meaning of block types is numbered, as the format demands; nobody's loader insists.
fn check_quantization(model: &mut Model, file: &str, metadata: &[(String, Value)]) {
    if model.tensors.iter().any(|tensor| tensor.dtype.class() == Class::Block) {
        let found = metadata.iter().find(|(key, _)| key == QUANTIZATION_VERSION).map(|(_, value)| value);
        model.checks.push(Check {
            file: file.to_owned(),
            fault: "general.quantization_version does not number the meaning of the blocks",
            expected: format!("u32 {CURRENT_QUANTIZATION}"),
            found: found.map_or("none".to_owned(), |value| format!("{} {value}", value.type_name())),
            holds: found == Some(&Value::U32(CURRENT_QUANTIZATION)),
        });
    }
}

/// Names what a later part says beside its place in the set: llama.cpp reads the first part's metadata only.
fn lose_metadata(model: &mut Model, part: &str, header: &Header) {
    for (key, value) in header.metadata.iter().filter(|(key, _)| !is_of_file(key) && key != ALIGNMENT) {
        if !model.metadata.iter().any(|(known, first)| known == key && first == value) {
            let detail = format!("in {part}, which is not the first part of its set, not carried");
            model.losses.push(Loss::declared(LossKind::Metadata, key, detail));
        }
    }
}

#[cfg(test)]
mod tests;
