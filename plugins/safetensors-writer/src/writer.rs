//! Model -> header, pieces and index.

use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{ModelView, TensorIdx, Value};
use modelferry_core::options::{OptionKind, OptionSpec, Options};
use modelferry_core::plugin::{Carries, Host, LayoutRequest, MetadataForm, Place, Writer, WriterInfo};
use modelferry_core::{DType, Error, Result};
use modelferry_hf::output;
use modelferry_wire::safetensors::{NewEntry, rewrite_header, write_header};
use std::collections::BTreeMap;

/// The safetensors writer.
#[derive(Clone, Copy, Debug)]
pub struct SafetensorsWriter;

#[rustfmt::skip]
const DTYPES: &[DType] = &[
    DType::Bool, DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64,
    DType::F16, DType::Bf16, DType::F32, DType::F64, DType::C64,
    DType::F8E4M3, DType::F8E5M2, DType::F8E4M3Fnuz, DType::F8E5M2Fnuz, DType::F8E8M0,
    DType::F6E2M3, DType::F6E3M2, DType::F4E2M1,
];

static INFO: WriterInfo = WriterInfo {
    format: "safetensors",
    about: "safetensors files, single or sharded with an index",
    extensions: &[".safetensors.index.json", ".safetensors"],
    place: Place::File,
    options: &[
        OptionSpec {
            name: "order",
            kind: OptionKind::Choice(&["source", "name"]),
            default: "source",
            help: "order of tensors; widest type first where this order would misalign one",
        },
        OptionSpec {
            name: "metadata-format",
            kind: OptionKind::Choice(&["pt", "np", "tf", "flax", "mlx", "none"]),
            default: "pt",
            help: "the `format` entry of the metadata where the source has none; transformers wants one",
        },
    ],
    dtypes: DTYPES,
    max_rank: usize::MAX,
    max_tensors: u64::MAX,
    names: Carries::Yes,
    ties: Carries::No,
    metadata: MetadataForm::Text,
    tree: Carries::No,
    graph: Carries::No,
    config: Carries::No,
    assets: Carries::No,
    shards: Carries::Yes,
};

impl Writer for SafetensorsWriter {
    fn info(&self) -> &'static WriterInfo {
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        _host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let mut losses = vec![];
        let metadata = metadata(view, request.options);
        let mut order: Vec<TensorIdx> = (0..view.tensors().len()).collect();
        let by_name = request.options.get("order") == Some("name");
        if by_name {
            order.sort_by_key(|&idx| view.tensor(idx).name());
        }
        let shards = output::distribute(view, request.shards, order);
        if !shards.iter().flatten().is_sorted() {
            losses.push(match by_name {
                true => {
                    Loss::declared(LossKind::Order, request.file_name, "tensors are ordered by name").asked()
                }
                false => {
                    let detail =
                        "tensors are read back shard by shard, and large ones have shards of their own";
                    Loss::declared(LossKind::Order, request.file_name, detail)
                }
            });
        }
        let mut layout = Layout::default();
        let n_shards = shards.len();
        let mut file_of: Vec<usize> = vec![0; view.tensors().len()];
        let mut total_size = 0;
        for (idx, mut tensors) in shards.into_iter().enumerate() {
            let path = output::path(request.file_name, idx, n_shards);
            if widest_first_where_needed(view, &mut tensors) {
                let detail =
                    "tensors are put widest type first, so that each begins at a multiple of its size";
                losses.push(Loss::declared(LossKind::Order, &path, detail));
            }
            let entries = tensors.iter().map(|&idx| {
                let tensor = view.tensor(idx);
                NewEntry { name: tensor.name(), dtype: tensor.dtype(), shape: tensor.shape() }
            });
            let header = write_header(entries, metadata.as_ref())?;
            total_size += header.data_len;
            let mut pieces = vec![Piece::Bytes(header.bytes.into())];
            pieces.extend(tensors.iter().map(|&idx| Piece::tensor(view, idx)));
            let file = layout.push_file(path, pieces);
            tensors.iter().for_each(|&idx| file_of[idx] = file);
        }
        if n_shards > 1 {
            output::push_index(&mut layout, view, request.file_name, &file_of, total_size)?;
        }
        Ok((layout, losses))
    }

    fn relayout(&self, view: &ModelView<'_>, file_name: &str, _host: &mut dyn Host) -> Result<Layout> {
        let mut metadata = vec![];
        for (key, value) in view.metadata() {
            match value {
                Value::Text(text) => metadata.push((key.as_str(), text.as_str())),
                _ => return Err(Error::target("safetensors holds text only").found(format_args!("{key:?}"))),
            }
        }
        let entries = view.tensors().map(|tensor| NewEntry {
            name: tensor.name(),
            dtype: tensor.dtype(),
            shape: tensor.shape(),
        });
        // Data begins with the first tensor, for the format has no room before it.
        let data_at = view.tensors().next().and_then(|_| view.verbatim(0)).map_or(0, |(_, at)| at);
        let header = rewrite_header(entries, &metadata, data_at)?;
        let mut pieces = vec![Piece::Bytes(header.bytes.into())];
        pieces.extend((0..view.tensors().len()).map(|idx| Piece::tensor(view, idx)));
        let mut layout = Layout::default();
        layout.push_file(file_name, pieces);
        Ok(layout)
    }
}

/// The model's metadata, with the `format` entry that transformers asks for. No map at all where nothing is in it.
fn metadata(view: &ModelView<'_>, options: &Options) -> Option<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    for (key, value) in view.metadata() {
        if let Value::Text(text) = value {
            metadata.insert(key.clone(), text.clone());
        }
    }
    if let Some(format) = options.get("metadata-format").filter(|format| *format != "none") {
        metadata.entry("format".to_owned()).or_insert_with(|| format.to_owned());
    }
    Some(metadata).filter(|metadata| !metadata.is_empty())
}

/// Sorts tensors by descending element size where their order would misalign one; says whether it did.
fn widest_first_where_needed(view: &ModelView<'_>, tensors: &mut [TensorIdx]) -> bool {
    let width = |idx: TensorIdx| view.tensor(idx).dtype().item_bytes();
    let mut at = 0;
    let aligned = tensors.iter().all(|&idx| {
        let fits = at % width(idx) == 0 || view.tensor(idx).byte_len() == 0;
        at += view.tensor(idx).byte_len();
        fits
    });
    if !aligned {
        tensors.sort_by_key(|&idx| std::cmp::Reverse(width(idx)));
    }
    !aligned
}
