//! Models made from choices, through every writer and back.

use super::Reached;
use crate::check;
use crate::draw::Draw;
use modelferry_conformance::layouts;
use modelferry_conformance::naive::Naive;
use modelferry_convert::metadata::fit;
use modelferry_core::DType;
use modelferry_core::error::{Error, ErrorKind, Result as CoreResult};
use modelferry_core::expr::{ByteOrder, Dim, NodeId, Packing};
use modelferry_core::inputs::{FileId, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_core::loss::LossKind;
use modelferry_core::model::{List, Model, ModelView, Value, ValueType};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Carries, LayoutRequest, MetadataForm, Shards, SilentHost, Writer};
use modelferry_engine::{Source, read_items};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(choices: &[u8]) -> Result<Reached, String> {
    let mut draw = Draw::new(choices);
    let mut made = Made::default();
    let shards = match draw.byte() {
        0..160 => Shards::One,
        160..200 => Shards::Keep,
        bytes => Shards::Max(1 + (u64::from(bytes) - 200) * 8),
    };
    made.fill(&mut draw).map_err(|error| format!("the generator: {error}"))?;
    let inputs = MemInputs::new("source", made.file);
    let mut reached = Reached::Refused;
    for writer in modelferry_cli::builtin::files().writers() {
        let mut model = made.model.clone();
        fit(&mut model.metadata, writer.info().metadata);
        let view = ModelView::new(&model, &Limits::default()).map_err(|error| error.to_string())?;
        let shards = if writer.info().shards == Carries::Yes { shards } else { Shards::One };
        if check::holds(writer.info(), &view) && there_and_back(writer, &model, &inputs, shards)? {
            reached = Reached::Read;
        }
    }
    Ok(reached)
}

/// Whether it could be written; what was, comes back.
fn there_and_back(
    writer: &dyn Writer,
    model: &Model,
    inputs: &MemInputs,
    shards: Shards,
) -> Result<bool, String> {
    let info = writer.info();
    let fault = |error: Error| format!("{}: {error}", info.format);
    let view = ModelView::new(model, &Limits::default()).map_err(fault)?;
    let options = Options::resolve(info.options, &BTreeMap::new()).map_err(fault)?;
    let file_name = format!("out{}", info.extensions.last().copied().unwrap_or_default());
    let request = LayoutRequest { file_name: &file_name, weights: "", options: &options, shards };
    let (layout, losses) = match writer.layout(&view, &request, &mut SilentHost::default()) {
        Ok(laid_out) => laid_out,
        Err(error) if error.kind() == ErrorKind::Target => return Ok(false),
        Err(error) => return Err(fault(error)),
    };
    layout.validate(&view).map_err(fault)?;
    let files = layouts::execute(model, inputs, &layout).map_err(fault)?;
    // The first file is the root.
    let mut named: Vec<(usize, Vec<u8>)> = files.into_iter().enumerate().collect();
    named.sort_by_key(|(idx, _)| *idx != layout.root);
    let written = named
        .into_iter()
        .fold(MemInputs::default(), |inputs, (idx, bytes)| inputs.with(&layout.files[idx].path, bytes));
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader(info.format).map_err(fault)?;
    let (_, found) = check::reader(reader, &written)?;
    let Some(found) = found else {
        let why = check::read(reader, &written).err().map(|error| error.to_string());
        return Err(format!("{}: our own file is refused: {why:?}", info.format));
    };
    compare(model, inputs, &found, &written, info.names == Carries::Yes)
        .map_err(|why| format!("{}: {why}", info.format))?;
    let is_lost =
        |key: &str| losses.iter().any(|loss| loss.kind == LossKind::Metadata && loss.subject == *key);
    let mut kept = model.metadata.iter().filter(|(key, _)| !is_lost(key));
    if info.metadata != MetadataForm::None
        && let Some((key, _)) = kept.find(|entry| !found.metadata.contains(entry))
    {
        return Err(format!("{}: metadata {key:?} is gone or another", info.format));
    }
    Ok(true)
}

/// Names, types, shapes, and values: of the source by the naive evaluator, of what was written by the engine.
fn compare(
    model: &Model,
    inputs: &MemInputs,
    found: &Model,
    written: &MemInputs,
    has_names: bool,
) -> Result<(), String> {
    if found.tensors.len() != model.tensors.len() {
        return Err(format!("{} tensors of {}", found.tensors.len(), model.tensors.len()));
    }
    let mut naive = Naive::new(model, inputs);
    for (idx, tensor) in model.tensors.iter().enumerate() {
        let other = match has_names {
            true => found.tensors.iter().find(|other| other.name == tensor.name),
            false => found.tensors.get(idx),
        };
        let other = other.ok_or_else(|| format!("{:?} is gone", tensor.name))?;
        if (other.dtype, &other.shape) != (tensor.dtype, &tensor.shape) {
            return Err(format!("{tensor:?} became {other:?}"));
        }
        let expected = naive.items(tensor.data).map_err(|error| error.to_string())?;
        let source = Source { model: found, inputs: written };
        let n = found.nodes[other.data].n;
        let bytes =
            read_items(source, &check::settings(), other.data, 0, n).map_err(|error| error.to_string())?;
        if bytes != expected.bytes() {
            return Err(format!("{tensor:?} has other values"));
        }
    }
    Ok(())
}

/// Keys that mean something to a format.
const KEYS: [&str; 6] = [
    "general.alignment",
    "general.architecture",
    "general.quantization_version",
    "split.no",
    "split.count",
    "split.tensors.count",
];

/// A metadata value: text more often than not.
fn value(draw: &mut Draw<'_>) -> CoreResult<Value> {
    let kind = *draw.pick(ValueType::ALL);
    let mut item = || match kind {
        ValueType::Text => Value::Text(name(draw)),
        // An alignment of 2 GiB is legal, and nothing to try a million times.
        ValueType::U32 => Value::U32(1 << draw.below(14)),
        kind => kind.unpack(&draw.u64().to_le_bytes()).map_or(Value::Bool(false), |(value, _)| value),
    };
    let items: Vec<Value> = (0..3).map(|_| item()).collect();
    Ok(match draw.byte() {
        0..128 => Value::Text(name(draw)),
        128..200 => items[0].clone(),
        n => {
            let list = List::of(kind, &items[..usize::from(n) % 4]);
            Value::List(list.ok_or_else(|| Error::malformed("a list of several types"))?)
        }
    })
}

/// A model in the making, and the file its bytes lie in.
#[derive(Default)]
struct Made {
    model: Model,
    file: Vec<u8>,
    n_drawn: u8,
}

impl Made {
    fn fill(&mut self, draw: &mut Draw<'_>) -> CoreResult<()> {
        let dtypes: Vec<DType> = DType::all().collect();
        let mut names = BTreeSet::new();
        for _ in 0..draw.below(7) {
            let name = name(draw);
            if !names.insert(name.clone()) {
                continue;
            }
            // Types that several formats hold, more often than the rest.
            let dtype = match draw.byte() {
                0..180 => *draw.pick(&[
                    DType::F32,
                    DType::F16,
                    DType::Bf16,
                    DType::U8,
                    DType::I64,
                    DType::Bool,
                    DType::C64,
                    DType::F8E5M2,
                ]),
                _ => *draw.pick(&dtypes),
            };
            let mut shape: Vec<u64> = (0..draw.below(5)).map(|_| draw.below(5) as u64).collect();
            if dtype.item_elements() > 1 || dtype.is_sub_byte() {
                shape.push(dtype.item_elements().max(8) * draw.below(3) as u64);
            }
            if draw.rarely(4) {
                shape.extend(std::iter::repeat_n(1, draw.below(60)));
            }
            let elements: u64 = shape.iter().product();
            let n = elements / dtype.item_elements();
            let data = self.items(dtype, n, &shape, draw)?;
            self.model.push(name, dtype, shape, data)?;
        }
        let mut keys = BTreeSet::new();
        for _ in 0..draw.below(4) {
            let key = if draw.rarely(16) { (*draw.pick(&KEYS)).to_owned() } else { name(draw) };
            let value = value(draw)?;
            if keys.insert(key.clone()) {
                self.model.metadata.push((key, value));
            }
        }
        Ok(())
    }

    /// `n` items, as they lie in the file or moved.
    fn items(&mut self, dtype: DType, n: u64, shape: &[u64], draw: &mut Draw<'_>) -> CoreResult<NodeId> {
        let whole = dtype.item_elements() == 1;
        match draw.byte() {
            128..160 if whole => {
                let of = self.region(dtype, n, Packing::default(), draw)?;
                self.model.nodes.from_column_major(of, shape)
            }
            160..190 => {
                // Every second item, backwards.
                let of = self.region(dtype, 2 * n + 1, Packing::default(), draw)?;
                self.model.nodes.view(of, 2 * n, &[Dim { count: n, stride: -2 }])
            }
            190..210 => {
                let of = self.region(dtype, 1, Packing::default(), draw)?;
                self.model.nodes.view(of, 0, &[Dim { count: n, stride: 0 }])
            }
            210..240 if whole => {
                self.region(dtype, n, Packing { bytes: ByteOrder::Big, ..Packing::default() }, draw)
            }
            _ => self.region(dtype, n, Packing::default(), draw),
        }
    }

    fn region(&mut self, dtype: DType, n: u64, packing: Packing, draw: &mut Draw<'_>) -> CoreResult<NodeId> {
        let len = dtype.packed_len(n * dtype.item_elements()).unwrap_or(0);
        let at = self.file.len() as u64;
        self.n_drawn = self.n_drawn.wrapping_mul(5).wrapping_add(draw.byte() | 1);
        let start = self.n_drawn;
        let is_bool = dtype == DType::Bool;
        let value =
            |idx: u64| (idx as u8).wrapping_mul(29).wrapping_add(start) & if is_bool { 1 } else { 0xff };
        self.file.extend((0..len).map(value));
        self.file.resize(self.file.len() + draw.below(3), 0xee);
        let of = self.model.nodes.region(FileId(0), at, len)?;
        self.model.nodes.decode(of, dtype, n, packing)
    }
}

fn name(draw: &mut Draw<'_>) -> String {
    const PARTS: [&str; 24] = [
        "a",
        "b",
        "weight",
        ".",
        "/",
        "..",
        "0",
        "1",
        "é",
        "\u{1f600}",
        "\"",
        "\\",
        "\n",
        "\u{1}",
        " ",
        ".npy",
        "__metadata__",
        "format",
        ":",
        "model",
        "\u{7f}",
        "\u{feff}",
        "\0",
        "A",
    ];
    match draw.byte() {
        0..8 => String::new(),
        8..12 => "n".repeat(700),
        12..20 => String::from_utf8_lossy(draw.slice()).into_owned(),
        _ => (0..1 + draw.below(4)).map(|_| *draw.pick(&PARTS)).collect(),
    }
}
