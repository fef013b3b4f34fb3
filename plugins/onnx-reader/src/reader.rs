//! A model's file -> its tensors, and the graph with places for them.

use crate::codes::codes;
use crate::external::Files;
use crate::origins::{self, Origins};
use crate::tensors;
use modelferry_core::expr::NodeId;
use modelferry_core::graph::{Binding, Graph};
use modelferry_core::inputs::Inputs;
use modelferry_core::model::{Model, Stated, Value};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, Place, Reader, ReaderInfo, Verdict};
use modelferry_core::tree::Part;
use modelferry_core::{Error, Result};
use modelferry_wire::onnx::{CONFIG_KEY, DIALECT, Document, PRODUCER, Payload, Summary, identify};

/// The ONNX reader.
#[derive(Clone, Copy, Debug)]
pub struct OnnxReader;

static INFO: ReaderInfo = ReaderInfo {
    format: DIALECT,
    about: "ONNX models, with external data; the graph is kept for ONNX outputs",
    extensions: &[".onnx"],
    magic: &[],
    place: Place::File,
    options: &[],
};

impl Reader for OnnxReader {
    fn info(&self) -> &'static ReaderInfo {
        &INFO
    }

    /// The format has no magic: a document whose fields are a model's is one.
    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        match () {
            () if identify(inputs, inputs.root()) => Verdict::Content,
            () if inputs.name(inputs.root()).ends_with(".onnx") => Verdict::Name,
            () => Verdict::No,
        }
    }

    fn read(&self, inputs: &dyn Inputs, _options: &Options, host: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let document = Document::read(inputs, root, host.limits())?;
        let mut model = Model::default();
        let mut files = Files::new(inputs);
        let mut bindings = Vec::with_capacity(document.tensors.len());
        // A graph of ours that computes nothing is made again from the tensors.
        let is_ours = document.producer == PRODUCER;
        let has_graph = !is_ours || document.summary != Summary::default();
        let origins = if has_graph { origins::find(&document) } else { Origins::default() };
        for found in document.tensors {
            let place = |error: Error| error.file(inputs.name(root)).tensor(&found.name);
            let (dtype, data): (_, NodeId) = (
                found.dtype,
                match &found.payload {
                    Payload::External(external) => files.data(&mut model, external, &found),
                    payload => tensors::data(&mut model.nodes, root, payload, &found),
                }
                .map_err(place)?,
            );
            let name: Box<str> = found.name.as_str().into();
            let tensor = model.push(found.name.as_str(), dtype, found.shape.clone(), data).map_err(place)?;
            bindings.push(Binding { at: found.at, tensor, name, dtype, data });
        }
        files.finish(&mut model);
        model.codes = codes(&model, &document.codes);
        if has_graph {
            model.graph = Some(Graph {
                dialect: DIALECT,
                body: document.body.into(),
                bindings,
                parts: parts(&document.summary),
                origins: origins.known,
                nameless: origins.nameless,
            });
        }
        let mut entries = vec![];
        for ((key, value), bytes) in document.metadata.into_iter().zip(document.metadata_at) {
            match is_ours && key == CONFIG_KEY {
                true => model.config = Some(value.into()),
                false => {
                    model.metadata.push((key.clone(), Value::Text(value.clone())));
                    entries.push(Stated { key, value, bytes });
                }
            }
        }
        model.entries = Some(entries);
        Ok(model)
    }
}

/// What there is besides tensors, in words.
fn parts(summary: &Summary) -> Vec<Part> {
    let counted = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let functions = match summary.n_functions {
        0 => String::new(),
        n => format!(", {}", counted(n, "function")),
    };
    let what = format!(
        "{}, {}, {}{functions}",
        counted(summary.n_nodes, "node"),
        counted(summary.n_inputs, "input"),
        counted(summary.n_outputs, "output"),
    );
    let graph = Part { path: "the graph".to_owned(), what };
    let text = |(name, n): &(String, u64)| Part { path: name.clone(), what: counted(*n, "text") };
    std::iter::once(graph).chain(summary.texts.iter().map(text)).collect()
}

#[cfg(test)]
mod tests;
