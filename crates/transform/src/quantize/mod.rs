//! `--quantize` and `--tensor-type`: floats in blocks.

mod importance;
mod mixture;
mod names;
mod policy;
mod preset;
#[cfg(test)]
mod tests;

pub use importance::Importance;
pub use policy::{Choice, Facts, Rules, Source, choose};
pub use preset::Preset;

use crate::dtype::holds_floats;
use crate::glob::Glob;
use crate::names::{all_used, any_match};
use crate::quantized;
use modelferry_core::dtype::Class;
use modelferry_core::expr::{BlockFn, NodeId, Packing, volume};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::Value;
use modelferry_core::model::{Model, Tensor};
use modelferry_core::{DType, Error, Result};
use modelferry_kernels::block::BlockCodec;
use std::collections::HashMap;
use std::sync::Arc;

/// What is quantized.
#[derive(Clone, Debug, Default)]
pub struct Quantize {
    /// The mixture that chooses for tensors that `types` does not name.
    pub preset: Option<Preset>,
    /// Whether every tensor that the mixture would choose a type for gets the preset's own, as by llama-quantize's
    /// switch of that name: `types` still rule, and so do fallbacks of rows that do not fit.
    pub pure: bool,
    /// Target names and the type that their tensors get; of several that match, the first counts.
    pub types: Vec<(Glob, DType)>,
    /// How much the columns of each tensor matter.
    pub importance: Option<Arc<Importance>>,
}

impl Quantize {
    /// Whether any tensor may be quantized.
    pub fn is_asked(&self) -> bool {
        self.preset.is_some() || !self.types.is_empty()
    }
}

/// Types that are written.
pub const WRITTEN: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::Bf16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::Iq4Nl,
    DType::Iq4Xs,
    DType::Tq1_0,
    DType::Tq2_0,
    DType::Mxfp4,
    DType::Q1_0,
    DType::Q2_0,
];

/// Whether the search of a type takes importance into account; the others are rounded the same with and without.
fn minds_importance(dtype: DType) -> bool {
    BlockCodec::new(dtype).is_some_and(|codec| codec.can_quantize_weighted())
}

/// Per tensor, the type that it gets if that is another than it has. Tensors that are `kept` and those that hold no
/// floats get none.
///
/// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) for a pattern that matches nothing, and for an importance matrix
/// or [`pure`](Quantize::pure) that nothing needs; [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for a type that has no quantizer, or
/// none without importance; those of [`choose`].
pub(crate) fn plan(model: &Model, wanted: &Quantize, kept: &[bool]) -> Result<Vec<Option<Choice>>> {
    if wanted.pure && wanted.preset.is_none() {
        return Err(Error::usage("--pure: there is no mixture to do without").hint("pass --quantize"));
    }
    if !wanted.is_asked() {
        return match wanted.importance {
            None => Ok(vec![None; model.tensors.len()]),
            Some(_) => {
                Err(Error::usage("--imatrix: nothing is quantized").hint("pass --quantize or --tensor-type"))
            }
        };
    }
    let named = by_name(model, wanted)?;
    let choices = match wanted.preset {
        Some(preset) => {
            let rules = Rules { preset, pure: wanted.pure, has_matrix: wanted.importance.is_some() };
            let sources: Vec<Source<'_>> = (model.tensors.iter().zip(&named))
                .map(|(tensor, &wanted)| Source {
                    name: &tensor.name,
                    dtype: tensor.dtype,
                    shape: &tensor.shape,
                    wanted,
                })
                .collect();
            choose(rules, &facts(model), &sources)?
        }
        None => (model.tensors.iter().zip(named))
            .map(|(tensor, wanted)| policy::named(tensor, wanted))
            .collect::<Result<_>>()?,
    };
    let mut found = vec![];
    for ((tensor, choice), kept) in model.tensors.iter().zip(choices).zip(kept) {
        let changes = !kept && holds_floats(tensor.dtype) && choice.dtype != tensor.dtype;
        if changes {
            check(tensor, choice, wanted)?;
        }
        found.push(changes.then_some(choice));
    }
    check_importance(model, wanted, &found)?;
    Ok(found)
}

/// That an importance matrix knows any of the tensors that it is for: one of another model knows none.
fn check_importance(model: &Model, wanted: &Quantize, choices: &[Option<Choice>]) -> Result<()> {
    let Some(importance) = &wanted.importance else { return Ok(()) };
    let chosen = model.tensors.iter().zip(choices);
    let heeding = chosen.filter(|(_, choice)| choice.is_some_and(|choice| minds_importance(choice.dtype)));
    let names: Vec<&str> = heeding.map(|(tensor, _)| tensor.name.as_str()).collect();
    match names.first() {
        Some(first) if names.iter().all(|name| importance.of(name).is_none()) => {
            Err(Error::usage("--imatrix: it knows none of the tensors that are quantized")
                .expected(format_args!("{first:?} among others"))
                .found(importance.names().next().unwrap_or("nothing")))
        }
        _ => Ok(()),
    }
}

/// The types that `--tensor-type` names, per tensor.
fn by_name(model: &Model, wanted: &Quantize) -> Result<Vec<Option<DType>>> {
    let (globs, types): (Vec<Glob>, Vec<DType>) = wanted.types.iter().cloned().unzip();
    let mut used = vec![false; globs.len()];
    let mut found = vec![];
    for tensor in &model.tensors {
        any_match(&globs, &mut used, &tensor.name);
        found.push(globs.iter().position(|glob| glob.matches(&tensor.name)).map(|idx| types[idx]));
    }
    all_used("--tensor-type", &globs, &used)?;
    Ok(found)
}

/// That there is a quantizer for what was chosen, and what it needs.
fn check(tensor: &Tensor, choice: Choice, wanted: &Quantize) -> Result<()> {
    if !WRITTEN.contains(&choice.dtype) {
        return Err(Error::unsupported("there is no quantizer for this type")
            .tensor(&tensor.name)
            .expected(WRITTEN.iter().map(DType::to_string).collect::<Vec<_>>().join(" "))
            .found(choice.dtype));
    }
    let has_importance = wanted.importance.as_ref().is_some_and(|known| known.of(&tensor.name).is_some());
    if choice.needs_matrix && !has_importance {
        return Err(Error::unsupported("this type is of no use without an importance matrix")
            .tensor(&tensor.name)
            .found(choice.dtype)
            .hint("pass one with --imatrix"));
    }
    Ok(())
}

/// What the metadata says of the model; zeros where it does not.
fn facts(model: &Model) -> Facts<'_> {
    let value = |key: &str| model.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value);
    let architecture = match value("general.architecture") {
        Some(Value::Text(text)) => text.as_str(),
        _ => "",
    };
    let number = |key: &str| {
        value(&format!("{architecture}.{key}")).and_then(|value| match value {
            // One for each layer: llama.cpp goes by the first.
            Value::List(list) => list.items().next().and_then(|first| first.as_u64()),
            value => value.as_u64(),
        })
    };
    let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let n_head = number("attention.head_count").map_or(0, short);
    Facts {
        architecture,
        n_layer: number("block_count").map_or_else(|| policy::n_layers(&model.tensors), short),
        n_head,
        n_head_kv: number("attention.head_count_kv").map_or(n_head, short),
        n_expert: number("expert_count").map_or(0, short),
    }
}

/// Writes tensors in the types that were chosen for them, and has GGUF's metadata say so. `before` is what each was in
/// the source.
pub(crate) fn apply(
    model: &mut Model,
    wanted: &Quantize,
    choices: Vec<Option<Choice>>,
    before: &[DType],
    limits: &Limits,
    losses: &mut Vec<Loss>,
) -> Result<()> {
    let touched: Vec<bool> = choices.iter().map(Option::is_some).collect();
    quantized::refuse(model, &touched, limits)?;
    // Tied tensors share their blocks as they share their source.
    let mut made: HashMap<(NodeId, DType), NodeId> = HashMap::new();
    for (idx, choice) in choices.into_iter().enumerate() {
        let Some(Choice { dtype, instead_of, .. }) = choice else { continue };
        let tensor = &model.tensors[idx];
        if wanted
            .importance
            .as_ref()
            .is_some_and(|known| minds_importance(dtype) && known.of(&tensor.name).is_none())
        {
            let detail = format!("the importance matrix does not know it, {dtype} without");
            losses.push(Loss::declared(LossKind::Fallback, &tensor.name, detail));
        }
        if let Some(wanted) = instead_of {
            let detail = format!("rows hold no whole blocks of {wanted}, written as {dtype}");
            losses.push(Loss::declared(LossKind::Fallback, &tensor.name, detail));
        }
        let key = (tensor.data, dtype);
        let data = match made.get(&key) {
            Some(&data) => data,
            None => {
                let data = node(model, idx, dtype, wanted.importance.as_deref())?;
                made.insert(key, data);
                data
            }
        };
        let tensor = &mut model.tensors[idx];
        let loss = Loss::declared(LossKind::Dtype, &tensor.name, detail(before[idx], dtype));
        // What was rounded in blocks already is rounded a second time: that takes more than asking for the type.
        let is_second = before[idx].class() == Class::Block && dtype.class() == Class::Block;
        losses.push(if is_second { loss } else { loss.asked() });
        (tensor.data, tensor.dtype) = (data, dtype);
    }
    if let Some(preset) = wanted.preset
        && model.metadata.iter().any(|(key, _)| key == "general.architecture")
    {
        set(model, "general.quantization_version", Value::U32(BLOCKS_VERSION));
        set(model, "general.file_type", Value::U32(preset.file_type()));
    }
    Ok(())
}

/// The number that ggml gives the meaning of its blocks (`GGML_QNT_VERSION`). llama-quantize writes it, like the number
/// of the mixture, whatever the types are that come out.
const BLOCKS_VERSION: u32 = 2;

fn set(model: &mut Model, key: &str, value: Value) {
    match model.metadata.iter_mut().find(|(known, _)| known == key) {
        Some((_, found)) => *found = value,
        None => model.metadata.push((key.to_owned(), value)),
    }
}

fn detail(from: DType, to: DType) -> String {
    let bits = to.item_bytes() as f64 * 8.0 / to.item_elements() as f64;
    match (from.class(), to.class()) {
        (Class::Block, Class::Block) => format!("{from} to {to}, quantized a second time"),
        (_, Class::Block) => format!("{from} to {to}, {bits} bits a weight"),
        _ => format!("{from} to {to}"),
    }
}

/// The tensor's values as items of `dtype`.
fn node(model: &mut Model, idx: usize, dtype: DType, importance: Option<&Importance>) -> Result<NodeId> {
    let Model { nodes, tensors, .. } = model;
    let tensor = &tensors[idx];
    let of_tensor = |error: Error| error.tensor(&tensor.name);
    let row = tensor.shape.last().copied().unwrap_or(1);
    let floats = match tensor.dtype.class() {
        Class::Block => {
            nodes.block(BlockFn::Dequantize, tensor.data, DType::F32, row, None).map_err(of_tensor)?
        }
        _ => tensor.data,
    };
    if dtype.class() != Class::Block {
        return nodes.cast(floats, dtype).map_err(of_tensor);
    }
    let floats = nodes.cast(floats, DType::F32).map_err(of_tensor)?;
    let weights = importance.filter(|_| minds_importance(dtype)).and_then(|known| known.of(&tensor.name));
    let Some(weights) = weights else {
        return nodes.block(BlockFn::Quantize, floats, dtype, row, None).map_err(of_tensor);
    };
    let n_matrices = match &tensor.shape[..] {
        [matrices @ .., _, _] => volume(matrices).unwrap_or(0),
        _ => 1,
    };
    if weights.len() as u64 != row.saturating_mul(n_matrices) {
        return Err(Error::malformed("--imatrix: its columns are not those of the tensor")
            .tensor(&tensor.name)
            .expected(format_args!("{row} values for each of {n_matrices} matrices"))
            .found(weights.len()));
    }
    let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
    let bytes = nodes.inline(bytes).map_err(of_tensor)?;
    let n = weights.len() as u64;
    let weights = nodes.decode(bytes, DType::F32, n, Packing::default()).map_err(of_tensor)?;
    nodes.block(BlockFn::Quantize, floats, dtype, row, Some(weights)).map_err(of_tensor)
}
