//! Two models, tensor by tensor, by name.

use crate::job::Context;
use crate::json::{self, Object};
use crate::open::Opened;
use crate::report::{Quantized, quantized};
use modelferry_core::dtype::Class;
use modelferry_core::expr::BlockFn;
use modelferry_core::model::{Model, TensorIdx, Value as Metadata};
use modelferry_core::{DType, Result};
use modelferry_engine::{Comparison, Tolerance};
use modelferry_transform::holds_floats;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io;

/// How close is equal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Closeness {
    /// Largest absolute difference that counts as equal.
    pub atol: Option<f64>,
    /// Largest difference in relation to B's magnitude that counts as equal, added to `atol` as numpy does.
    pub rtol: Option<f64>,
}

impl Closeness {
    /// Whether bytes and types must be the same: neither tolerance was given.
    pub fn is_exact(self) -> bool {
        self.atol.is_none() && self.rtol.is_none()
    }

    fn tolerance(self) -> Tolerance {
        match self.is_exact() {
            true => Tolerance::Exact,
            false => Tolerance::Close { atol: self.atol.unwrap_or(0.0), rtol: self.rtol.unwrap_or(0.0) },
        }
    }
}

/// What is different about one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// In A only.
    Missing,
    /// In B only.
    Extra,
    /// Another type. Does not count where a tolerance was given and both are numbers.
    DType(DType, DType),
    /// Another shape; values are not compared.
    Shape(Vec<u64>, Vec<u64>),
    /// Other values.
    Values {
        /// How many elements.
        n_different: u64,
        /// Of how many.
        n_elements: u64,
        /// Largest absolute difference among numbers.
        max_abs: f64,
        /// Largest relative difference among numbers.
        max_rel: f64,
        /// How often one side is NaN and the other is not.
        n_nan: u64,
        /// Row-major index of the first one; of its block's first element in a block-quantized type.
        first: u64,
    },
}

/// A change and whether it makes the models different.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The tensor.
    pub name: String,
    /// What is different.
    pub change: Change,
    /// Whether it counts.
    pub counts: bool,
}

/// What is different about one metadata key: the text on each side.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataChange {
    /// The key.
    pub key: String,
    /// Value in A.
    pub a: Option<String>,
    /// Value in B.
    pub b: Option<String>,
}

/// The comparison of two models.
///
/// Metadata and the order of tensors are listed but never count: formats differ in what they can hold of them, and a
/// model that went through a poorer format and back is still the same weights.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Tensors under the same name on both sides.
    pub n_common: u64,
    /// Those of them that are the same.
    pub n_same: u64,
    /// What is different, in A's order, then what only B has.
    pub entries: Vec<Entry>,
    /// Metadata that differs; never counts.
    pub metadata: Vec<MetadataChange>,
    /// What those that one side has in blocks and the other in another type are against each other, by the measure of a
    /// conversion from one to the other; never counts by itself.
    pub quantized: Vec<Quantized>,
    /// Whether the common tensors stand in the same order; never counts.
    pub is_same_order: bool,
}

impl Difference {
    /// Whether the models are different.
    pub fn is_different(&self) -> bool {
        self.entries.iter().any(|entry| entry.counts)
    }

    /// Writes the comparison as one JSON object.
    pub fn write_json(&self, formats: (&str, &str), out: &mut dyn io::Write) -> io::Result<()> {
        let mut object = Object::begin(out)?;
        json::head(&mut object, "diff", None)?;
        object.field("formats", json!([formats.0, formats.1]))?;
        object.field("different", self.is_different())?;
        object.field("n_common", self.n_common)?;
        object.field("n_same", self.n_same)?;
        object.field("same_order", self.is_same_order)?;
        object.list("differences", self.entries.iter().map(entry_json))?;
        let metadata = |change: &MetadataChange| json!({"key": change.key, "a": change.a, "b": change.b});
        object.list("metadata", self.metadata.iter().map(metadata))?;
        object.list("quantized", self.quantized.iter().map(quantized))?;
        object.list("losses", std::iter::empty())?;
        object.end()
    }
}

fn entry_json(entry: &Entry) -> Value {
    let mut value = match &entry.change {
        Change::Missing => json!({"change": "missing"}),
        Change::Extra => json!({"change": "extra"}),
        Change::DType(a, b) => json!({"change": "dtype", "a": a.to_string(), "b": b.to_string()}),
        Change::Shape(a, b) => json!({"change": "shape", "a": a, "b": b}),
        Change::Values { n_different, n_elements, max_abs, max_rel, n_nan, first } => json!({
            "change": "values",
            "n_different": n_different,
            "n_elements": n_elements,
            "max_abs": json::number(*max_abs),
            "max_rel": json::number(*max_rel),
            "n_nan": n_nan,
            "first": first,
        }),
    };
    value["name"] = entry.name.as_str().into();
    value["counts"] = entry.counts.into();
    value
}

/// Compares two opened models.
///
/// Without a tolerance, tensors are the same when type, shape and bytes are (NaN payloads and the sign of zero
/// included). With one, values are compared as numbers whatever their types, and a difference of type alone does not
/// count; block-quantized types are compared by the numbers they stand for. What is in blocks on one side is also
/// measured against the other, whose type is another, with a tolerance or without.
pub fn diff(cx: &Context<'_>, a: &mut Opened, b: &mut Opened, closeness: Closeness) -> Result<Difference> {
    a.restore_like(cx, &b.model)?;
    b.restore_like(cx, &a.model)?;
    let mut found = Difference { is_same_order: true, ..Difference::default() };
    let pairs = pair_up(&a.model, &b.model, &mut found);
    found.metadata = metadata_changes(&a.model, &b.model);
    let mut extra = std::mem::take(&mut found.entries);

    // What the headers say, first: a comparison of values sees both models as they are from then on.
    let mut last = None;
    let mut to_compare = vec![];
    for (idx_a, idx_b) in pairs {
        let (Some(idx_b), tensor_a) = (idx_b, &a.model.tensors[idx_a]) else {
            let name = a.model.tensors[idx_a].name.clone();
            found.entries.push(Entry { name, change: Change::Missing, counts: true });
            continue;
        };
        found.n_common += 1;
        found.is_same_order &= last.replace(idx_b).is_none_or(|last| last < idx_b);
        let tensor_b = &b.model.tensors[idx_b];
        let mut push = |change, counts| {
            found.entries.push(Entry { name: tensor_a.name.clone(), change, counts });
        };
        let comparable = tensor_a.dtype == tensor_b.dtype
            || !closeness.is_exact() && is_number(tensor_a.dtype) && is_number(tensor_b.dtype);
        if tensor_a.dtype != tensor_b.dtype {
            push(Change::DType(tensor_a.dtype, tensor_b.dtype), !comparable);
        }
        if tensor_a.shape != tensor_b.shape {
            push(Change::Shape(tensor_a.shape.clone(), tensor_b.shape.clone()), true);
        } else {
            let blocks = blocks_of(tensor_a.dtype, tensor_b.dtype);
            if comparable && !closeness.is_exact() || blocks.is_some() {
                as_numbers(&mut a.model, idx_a)?;
                as_numbers(&mut b.model, idx_b)?;
            }
            if comparable || blocks.is_some() {
                to_compare.push(Pair { place: found.entries.len(), idx_a, idx_b, blocks, comparable });
            }
        }
    }

    let comparison = Comparison::new(a.source(), b.source(), cx.settings, cx.control)?;
    comparison.begin(to_compare.iter().map(|pair| (pair.idx_a, pair.idx_b)));
    let mut by_place: Vec<(usize, Entry)> = vec![];
    for Pair { place, idx_a, idx_b, blocks, comparable } in to_compare {
        let tensor = &a.model.tensors[idx_a];
        let diff = match blocks {
            None => comparison.tensors(idx_a, idx_b, closeness.tolerance())?,
            Some(dtype) => {
                let tolerance = comparable.then(|| closeness.tolerance());
                let (diff, stats) = comparison.measured(idx_a, idx_b, tolerance)?;
                let (rms, largest) = (stats.rms(), stats.largest);
                found.quantized.push(Quantized { name: tensor.name.clone(), dtype, rms, largest });
                diff
            }
        };
        let Some(first) = diff.first else {
            found.n_same += u64::from(comparable);
            continue;
        };
        let change = Change::Values {
            n_different: diff.n_different,
            n_elements: tensor.n_elements(),
            max_abs: diff.max_abs,
            max_rel: diff.max_rel,
            n_nan: diff.n_nan,
            first: first.saturating_mul(tensor.dtype.item_elements()),
        };
        by_place.push((place, Entry { name: tensor.name.clone(), change, counts: true }));
    }
    comparison.check_claims()?;
    found.entries = merge(std::mem::take(&mut found.entries), by_place);
    found.entries.append(&mut extra);
    a.inputs.check_unchanged()?;
    b.inputs.check_unchanged()?;
    Ok(found)
}

/// `entries` with each of `inserted` before the entry at its place; places ascend.
fn merge(entries: Vec<Entry>, inserted: Vec<(usize, Entry)>) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(entries.len() + inserted.len());
    let mut inserted = inserted.into_iter().peekable();
    for (at, entry) in entries.into_iter().enumerate() {
        while let Some((_, next)) = inserted.next_if(|(place, _)| *place <= at) {
            merged.push(next);
        }
        merged.push(entry);
    }
    merged.extend(inserted.map(|(_, entry)| entry));
    merged
}

/// Two tensors whose values are looked at.
struct Pair {
    /// Where what is found of them goes.
    place: usize,
    idx_a: TensorIdx,
    idx_b: TensorIdx,
    /// The type of the blocks that are measured.
    blocks: Option<DType>,
    /// Whether they can be the same, as far as their types go.
    comparable: bool,
}

/// The type that was quantized, if one of two was from what the other may be: of two of blocks, the one of fewer bits.
fn blocks_of(a: DType, b: DType) -> Option<DType> {
    let is_block = |dtype: DType| dtype.class() == Class::Block;
    let bits = |dtype: DType| dtype.item_bytes() as f64 / dtype.item_elements() as f64;
    match (is_block(a), is_block(b)) {
        _ if a == b => None,
        (true, true) => Some(if bits(a) < bits(b) { a } else { b }),
        (true, false) => holds_floats(b).then_some(a),
        (false, true) => holds_floats(a).then_some(b),
        (false, false) => None,
    }
}

/// Whether values of this type can be compared with those of another: real numbers, however they are stored.
fn is_number(dtype: DType) -> bool {
    !matches!(dtype.class(), Class::Complex | Class::Opaque)
}

/// Each tensor of A with its namesake in B; what only B has goes into `found`.
fn pair_up(a: &Model, b: &Model, found: &mut Difference) -> Vec<(TensorIdx, Option<TensorIdx>)> {
    let in_b: HashMap<&str, TensorIdx> =
        b.tensors.iter().enumerate().map(|(idx, tensor)| (tensor.name.as_str(), idx)).collect();
    let in_a: HashSet<&str> = a.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    for tensor in b.tensors.iter().filter(|tensor| !in_a.contains(tensor.name.as_str())) {
        found.entries.push(Entry { name: tensor.name.clone(), change: Change::Extra, counts: true });
    }
    a.tensors.iter().enumerate().map(|(idx, tensor)| (idx, in_b.get(tensor.name.as_str()).copied())).collect()
}

/// Puts a dequantization over a block-quantized tensor: blocks have no numbers to be close, their elements do.
fn as_numbers(model: &mut Model, idx: TensorIdx) -> Result<()> {
    let tensor = &mut model.tensors[idx];
    if tensor.dtype.class() == Class::Block {
        let row = tensor.shape.last().copied().unwrap_or(1);
        tensor.data = model
            .nodes
            .block(BlockFn::Dequantize, tensor.data, DType::F32, row, None)
            .map_err(|error| error.tensor(&tensor.name))?;
        tensor.dtype = DType::F32;
    }
    Ok(())
}

fn metadata_changes(a: &Model, b: &Model) -> Vec<MetadataChange> {
    // Long lists are shown by their first items, which may be equal where the lists are not.
    let text = |value: Option<&Metadata>| value.map(ToString::to_string);
    let mut changes = vec![];
    let keys = a.metadata.iter().chain(b.metadata.iter().filter(|(key, _)| find(a, key).is_none()));
    for (key, _) in keys {
        let (a, b) = (find(a, key), find(b, key));
        if a != b {
            changes.push(MetadataChange { key: key.clone(), a: text(a), b: text(b) });
        }
    }
    changes
}

fn find<'m>(model: &'m Model, key: &str) -> Option<&'m Metadata> {
    model.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}
