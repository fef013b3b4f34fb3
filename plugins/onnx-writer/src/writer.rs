//! Model -> one message, and files of data beside it.

use crate::data::Data;
use crate::edit;
use crate::graph::{self, Plan};
use crate::links::Links;
use crate::{plain, tensor};
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{ModelView, TensorIdx, Value};
use modelferry_core::options::{OptionKind, OptionSpec};
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{DType, Error, ErrorKind, Result};
use modelferry_hf::output;
use modelferry_wire::onnx::messages::Entry;
use modelferry_wire::onnx::{CONFIG_KEY, DIALECT, MAX_MESSAGE_BYTES, Message, Part};
use std::collections::HashSet;

/// The ONNX writer.
#[derive(Clone, Copy, Debug)]
pub struct OnnxWriter;

#[rustfmt::skip]
const DTYPES: &[DType] = &[
    DType::Bool, DType::I2, DType::I4, DType::I8, DType::I16, DType::I32, DType::I64,
    DType::U2, DType::U4, DType::U8, DType::U16, DType::U32, DType::U64,
    DType::F16, DType::Bf16, DType::F32, DType::F64, DType::C64, DType::C128,
    DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz, DType::F8E8M0, DType::F4E2M1,
];

static INFO: WriterInfo = WriterInfo {
    format: DIALECT,
    about: "ONNX models: graphs with their weights put back, or weights alone",
    extensions: &[".onnx"],
    place: Place::File,
    options: &[
        OptionSpec {
            name: "external-data",
            kind: OptionKind::Bool,
            default: "",
            help: "elements in files beside the model; by default only where it would reach 2 GiB, or is split",
        },
        OptionSpec {
            name: "link",
            kind: OptionKind::Bool,
            default: "false",
            help: "elements stay in the source's files, beside the output or below, which the model points into",
        },
        OptionSpec {
            name: "external-threshold",
            kind: OptionKind::Int,
            default: "1024",
            help: "tensors of fewer bytes than this stay in the model's own file",
        },
    ],
    dtypes: DTYPES,
    max_rank: usize::MAX,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::Yes,
    metadata: MetadataForm::Text,
    tree: Carries::No,
    graph: Carries::Yes,
    config: Carries::Yes,
    assets: Carries::No,
    shards: Carries::Yes,
};

/// What the report says of a file without a graph.
const NO_GRAPH: &str = "the file holds weights and no graph: it can be loaded, and computes nothing";

impl Writer for OnnxWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut losses = vec![];
        let metadata = metadata(view, &mut losses);
        let program = view.graph().filter(|graph| graph.dialect == DIALECT);
        let plan = program.map(|program| Plan::new(view, program)).transpose().map_err(damaged)?;
        let initializers = plan.as_ref().map(Plan::initializers);
        let message = |data: &Data| match (program, &plan) {
            (Some(program), Some(plan)) => {
                graph::message(view, program, plan, &metadata, data).map_err(damaged)
            }
            _ => plain::message(view, &metadata, data),
        };

        let wish = request.options.get("external-data");
        let threshold = request.options.get("external-threshold").and_then(|text| text.parse::<u64>().ok());
        let may_be_outside = |idx: TensorIdx| {
            let is_wanted = |initializers: &HashSet<TensorIdx>| {
                initializers.contains(&idx) && !is_like_a_shape(view, idx)
            };
            initializers.as_ref().is_none_or(is_wanted)
        };
        let links = match request.options.get("link") {
            Some("true") => Links::find(view, &may_be_outside, host)?,
            _ => Links::default(),
        };
        let is_outside = |idx: TensorIdx| {
            let len = view.tensor(idx).byte_len();
            len > 0 && len >= threshold.unwrap_or(0) && may_be_outside(idx)
        };
        let groups = output::distribute(view, request.shards, (0..view.tensors().len()).collect());
        if wish == Some("false") && groups.len() > 1 {
            return Err(Error::usage(
                "--external-data false: a model that is split has its elements beside it",
            ));
        }
        let linked = || Data::linked(&links);
        let beside = || linked().beside(view, request.file_name, &groups, &is_outside);
        let mut data = if wish == Some("true") || groups.len() > 1 { beside() } else { linked() };
        let mut whole = message(&data)?;
        if whole.len() > MAX_MESSAGE_BYTES && wish.is_none() {
            data = beside();
            whole = message(&data)?;
        }
        if whole.len() > MAX_MESSAGE_BYTES {
            return Err(Error::target("a model's own file cannot be so large")
                .expected(format_args!("at most {MAX_MESSAGE_BYTES} bytes"))
                .found(format_args!("{} bytes", whole.len()))
                .hint("leave --external-data to the program, or lower --external-threshold"));
        }
        losses.extend(copied_ties(view, &data));
        let mut layout = Layout::default();
        data.push(&mut layout);
        layout.notes.extend(links.note(view));
        layout.links = links.files;
        layout.root = layout.push_file(request.file_name, pieces(view, whole));
        if program.is_none() {
            layout.notes.push(NO_GRAPH.to_owned());
        }
        Ok((layout, losses))
    }

    fn relayout(&self, view: &ModelView<'_>, file_name: &str, _host: &mut dyn Host) -> Result<Layout> {
        edit::relayout(view, file_name)
    }
}

/// Parts of a graph that are not looked into where nothing in them has to change may be damaged.
fn damaged(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Malformed => {
            Error::target("a part of the graph is damaged, and cannot follow its weights").source(error)
        }
        _ => error,
    }
}

/// Whether a graph may compute shapes from it: programs that infer those do not look into other files.
fn is_like_a_shape(view: &ModelView<'_>, idx: TensorIdx) -> bool {
    const MOST_BYTES: u64 = 1024;
    let tensor = view.tensor(idx);
    let is_whole = matches!(tensor.dtype(), DType::I64 | DType::I32);
    is_whole && tensor.shape().len() <= 1 && tensor.byte_len() < MOST_BYTES
}

fn pieces(view: &ModelView<'_>, message: Message) -> Vec<Piece> {
    let piece = |part| match part {
        Part::Bytes(bytes) => Piece::Bytes(bytes.into()),
        Part::Tensor { idx, .. } => Piece::tensor(view, idx),
    };
    message.into_parts().into_iter().map(piece).collect()
}

/// The model's metadata, and its config as an entry of our own.
fn metadata(view: &ModelView<'_>, losses: &mut Vec<Loss>) -> Vec<Entry> {
    let mut entries = vec![];
    for (key, value) in view.metadata() {
        let mut lose = |detail: &str| losses.push(Loss::declared(LossKind::Metadata, key, detail));
        match value {
            _ if key == CONFIG_KEY => lose("the key under which the config stands"),
            Value::Text(text) => entries.push(tensor::entry(key, text)),
            _ => lose("ONNX holds text only"),
        }
    }
    entries.extend(view.config().map(|text| tensor::entry(CONFIG_KEY, text)));
    entries
}

/// Ties of which a member lies in the model's own file, or in a range of its own.
fn copied_ties(view: &ModelView<'_>, data: &Data) -> Vec<Loss> {
    let mut losses = vec![];
    for group in view.ties() {
        let first = data.place(group[0]);
        for &idx in &group[1..] {
            if first.is_none() || data.place(idx) != first {
                let detail = format!(
                    "was tied to {:?}, written as a copy; --external-data keeps ties of large tensors",
                    view.tensor(group[0]).name()
                );
                losses.push(Loss::declared(LossKind::TieCopied, view.tensor(idx).name(), detail));
            }
        }
    }
    losses
}

#[cfg(test)]
mod tests;
