//! What a conversion did, or would do, or failed at.

use crate::host::Asked;
use crate::json::{self, Failure, Object};
use modelferry_core::DType;
use modelferry_core::error::listed;
use modelferry_core::loss::Loss;
use modelferry_core::model::Model;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io;

/// The account of one conversion, filled as it goes: on failure it holds what was known until then.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The input as the user named it.
    pub input: String,
    /// The output as the user named it.
    pub output: String,
    /// Format read.
    pub from: Option<&'static str>,
    /// Format written.
    pub to: Option<&'static str>,
    /// The model whose values were taken, if one was given.
    pub weights: Option<Given>,
    /// Tensors written.
    pub n_tensors: u64,
    /// Elements written.
    pub n_elements: u64,
    /// Files written, or to be written: name relative to the output's folder, bytes.
    pub files: Vec<(String, u64)>,
    /// Whether the output is a folder that holds them.
    pub is_folder: bool,
    /// Files of the source that the output points into, relative to the output's folder, and how many tensors lie there.
    pub links: Vec<(String, u64)>,
    /// The file that stands for the whole.
    pub root: Option<String>,
    /// Files of an earlier output of the same name that are removed, being replaced by fewer or others.
    pub stale: Vec<String>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Everything dropped, rounded, renamed or re-laid-out.
    pub losses: Vec<Loss>,
    /// Tensors that are written under names of an exporter, for nothing shows what they were called before.
    pub nameless: Vec<String>,
    /// What quantization did to each tensor, once it is done.
    pub quantized: Vec<Quantized>,
    /// What else a person should know about the output.
    pub notes: Vec<String>,
    /// What had to be known about payload.
    pub asked: Vec<Asked>,
    /// Whether it stopped before writing, as it was told to.
    pub is_dry_run: bool,
    /// Tensors read back and compared.
    pub n_verified: Option<usize>,
    /// One account for each of several outputs of one run. What stands above of tensors, files and bytes is their sum
    /// then, and of losses and the like there is nothing: each output has its own.
    pub outputs: Vec<Report>,
}

/// A model that gave its values to another's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The model as the user named it.
    pub path: String,
    /// Its format.
    pub format: &'static str,
    /// Tensors that took values of it.
    pub n_tensors: u64,
}

/// A quantized tensor beside its source.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// Its name in the output.
    pub name: String,
    /// The type it is written in.
    pub dtype: DType,
    /// Root of the mean square of the differences.
    pub rms: f64,
    /// Largest difference.
    pub largest: f64,
}

impl Quantized {
    /// Bits that one element takes, scales included.
    pub fn bits_per_weight(&self) -> f64 {
        self.dtype.item_bytes() as f64 * 8.0 / self.dtype.item_elements() as f64
    }
}

impl Report {
    /// Leaves of the nameless tensors those that are still there under their names, and notes them.
    pub(crate) fn keep_nameless(&mut self, model: &Model) {
        let names: HashSet<&str> = model.tensors.iter().map(|tensor| &*tensor.name).collect();
        self.nameless.retain(|name| names.contains(&**name));
        let n = self.nameless.len();
        if n > 0 {
            let (what, have) = if n == 1 { ("tensor", "has") } else { ("tensors", "have") };
            let shown = listed(self.nameless.iter().cloned());
            self.notes.push(format!(
                "{n} {what} {have} an exporter's name, for the graph does not show theirs: {shown}"
            ));
        }
    }

    /// Adds up what several outputs have.
    pub(crate) fn sum_up(&mut self) {
        for own in &self.outputs {
            self.n_tensors = self.n_tensors.saturating_add(own.n_tensors);
            self.n_elements = self.n_elements.saturating_add(own.n_elements);
            self.bytes = self.bytes.saturating_add(own.bytes);
            self.files.extend(own.files.iter().cloned());
        }
    }

    /// Writes the report as one JSON object, with the error that ended the run if one did.
    pub fn write_json(&self, out: &mut dyn io::Write, failure: Option<Failure<'_>>) -> io::Result<()> {
        let mut object = Object::begin(out)?;
        json::head(&mut object, "convert", failure)?;
        object.field("input", self.input.as_str())?;
        object.field("output", self.output.as_str())?;
        object.field("from", self.from)?;
        object.field("to", self.to)?;
        object.field("weights", self.weights.as_ref().map_or(Value::Null, given))?;
        object.field("dry_run", self.is_dry_run)?;
        self.write_fields(&mut object)?;
        if !self.outputs.is_empty() {
            object.objects("outputs", self.outputs.iter(), &mut |own, object| {
                object.field("output", own.output.as_str())?;
                own.write_fields(object)
            })?;
        }
        object.end()
    }

    /// What is said of one output.
    fn write_fields(&self, object: &mut Object<'_>) -> io::Result<()> {
        object.field("n_tensors", self.n_tensors)?;
        object.field("n_elements", self.n_elements)?;
        object.field("bytes", self.bytes)?;
        object.field("folder", self.is_folder)?;
        object.field("root", self.root.as_deref())?;
        object.list("files", self.files.iter().map(|(path, bytes)| json!({"path": path, "bytes": bytes})))?;
        let link = |(path, n): &(String, u64)| json!({"path": path, "n_tensors": n});
        object.list("links", self.links.iter().map(link))?;
        object.field("removed", self.stale.as_slice())?;
        object.list("losses", self.losses.iter().map(json::loss))?;
        object.field("nameless", self.nameless.as_slice())?;
        object.list("quantized", self.quantized.iter().map(quantized))?;
        object.field("notes", &self.notes)?;
        let asked = |asked: &Asked| json!({"question": asked.question, "answer": asked.answer});
        object.list("questions", self.asked.iter().map(asked))?;
        object.field("verified", self.n_verified.map_or(Value::Null, |n| n.into()))
    }
}

fn given(of: &Given) -> Value {
    json!({"path": of.path, "format": of.format, "n_tensors": of.n_tensors})
}

/// Errors with six digits: beyond them sums depend on how the work was cut.
pub(crate) fn quantized(of: &Quantized) -> Value {
    let short = |value: f64| format!("{value:.5e}").parse::<f64>().unwrap_or(value);
    json!({
        "name": of.name,
        "dtype": of.dtype.to_string(),
        "bits_per_weight": of.bits_per_weight(),
        "rms_error": short(of.rms),
        "max_error": short(of.largest),
    })
}
