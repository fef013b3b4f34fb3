//! `--quantize` and `--tensor-type`: floats in blocks.

mod importance;

use crate::dtype::is_castable;
use crate::glob::Glob;
use crate::names::{all_used, any_match};
use crate::quantized;
pub use importance::Importance;
use modelferry_core::dtype::Class;
use modelferry_core::expr::{BlockFn, NodeId, Packing, volume};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, Tensor};
use modelferry_core::{DType, Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// What is quantized.
#[derive(Clone, Debug, Default)]
pub struct Quantize {
    /// Target names and the type that their tensors get; of several that match, the first counts.
    pub types: Vec<(Glob, DType)>,
    /// How much the columns of each tensor matter.
    pub importance: Option<Arc<Importance>>,
}

/// Types that `--tensor-type` writes.
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
];

/// Types whose search takes importance into account; the others are rounded the same with and without.
const WEIGHTED: &[DType] = &[
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::Iq4Nl,
    DType::Iq4Xs,
];

/// The type that a tensor gets.
pub(crate) struct Choice {
    dtype: DType,
    /// What was asked for, where that was another.
    instead_of: Option<DType>,
}

/// Writes tensors in the types that were chosen for them.
pub(crate) fn apply(
    model: &mut Model,
    wanted: &Quantize,
    choices: Vec<Option<Choice>>,
    limits: &Limits,
    losses: &mut Vec<Loss>,
) -> Result<()> {
    let touched: Vec<bool> = choices.iter().map(Option::is_some).collect();
    quantized::refuse(model, &touched, limits)?;
    // Tied tensors share their blocks as they share their source.
    let mut made: HashMap<(NodeId, DType), NodeId> = HashMap::new();
    for (idx, choice) in choices.into_iter().enumerate() {
        let Some(Choice { dtype, instead_of }) = choice else { continue };
        let tensor = &model.tensors[idx];
        if let Some(wanted) = instead_of {
            let detail = format!("rows of {} hold no whole blocks of {wanted}: {dtype}", row(tensor));
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
        let from = tensor.dtype;
        let loss = Loss::declared(LossKind::Dtype, &tensor.name, detail(from, dtype));
        // What was rounded in blocks already is rounded twice: that takes more than asking for the type.
        let is_twice = from.class() == Class::Block && dtype.class() == Class::Block;
        losses.push(if is_twice { loss } else { loss.asked() });
        (tensor.data, tensor.dtype) = (data, dtype);
    }
    Ok(())
}

fn detail(from: DType, to: DType) -> String {
    match (from.class(), to.class()) {
        (Class::Block, Class::Block) => format!("{from} to {to}, quantized a second time"),
        (_, Class::Block) => {
            let bits = to.item_bytes() as f64 * 8.0 / to.item_elements() as f64;
            format!("{from} to {to}, {bits} bits a weight")
        }
        _ => format!("{from} to {to}"),
    }
}

/// Elements in a row.
fn row(tensor: &Tensor) -> u64 {
    tensor.shape.last().copied().unwrap_or(1)
}

/// Which tensors get which type, but for those that are `kept`.
pub(crate) fn choose(model: &Model, wanted: &Quantize, kept: &[bool]) -> Result<Vec<Option<Choice>>> {
    if wanted.types.is_empty() && wanted.importance.is_some() {
        return Err(Error::usage("--imatrix: nothing is quantized").hint("--tensor-type"));
    }
    let (globs, types): (Vec<Glob>, Vec<DType>) = wanted.types.iter().cloned().unzip();
    let mut used = vec![false; globs.len()];
    let mut choices = vec![];
    for (tensor, kept) in model.tensors.iter().zip(kept) {
        let matched = globs.iter().position(|glob| glob.matches(&tensor.name));
        any_match(&globs, &mut used, &tensor.name);
        let is_number = is_castable(tensor.dtype) || tensor.dtype.class() == Class::Block;
        let dtype = matched.filter(|_| is_number && !kept).map(|idx| types[idx]);
        let dtype = dtype.filter(|dtype| *dtype != tensor.dtype);
        choices.push(dtype.map(|dtype| fitting(dtype, row(tensor))));
    }
    all_used("--tensor-type", &globs, &used)?;
    Ok(choices)
}

/// `dtype`, or what llama.cpp takes for it where rows do not hold whole blocks of it (`tensor_type_fallback` in
/// llama-quant.cpp).
fn fitting(dtype: DType, row: u64) -> Choice {
    let fits = |dtype: DType| row.is_multiple_of(dtype.item_elements());
    if fits(dtype) {
        return Choice { dtype, instead_of: None };
    }
    let smaller = match dtype {
        DType::Iq4Xs => DType::Iq4Nl,
        DType::Q2K | DType::Q3K | DType::Tq1_0 | DType::Tq2_0 => DType::Q4_0,
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        other => other,
    };
    Choice { dtype: if fits(smaller) { smaller } else { DType::F16 }, instead_of: Some(dtype) }
}

/// The tensor's values as items of `dtype`.
fn node(model: &mut Model, idx: usize, dtype: DType, importance: Option<&Importance>) -> Result<NodeId> {
    let Model { nodes, tensors, .. } = model;
    let tensor = &tensors[idx];
    let of_tensor = |error: Error| error.tensor(&tensor.name);
    let row = row(tensor);
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
    let weights = importance.filter(|_| WEIGHTED.contains(&dtype)).and_then(|known| known.of(&tensor.name));
    let weights = match weights {
        Some(weights) => {
            let n_matrices = match &tensor.shape[..] {
                [matrices @ .., _, _] => volume(matrices).unwrap_or(0),
                _ => 1,
            };
            if weights.len() as u64 != row * n_matrices {
                return Err(Error::malformed("--imatrix: its columns are not those of the tensor")
                    .tensor(&tensor.name)
                    .expected(format_args!("{row} values for each of {n_matrices} matrices"))
                    .found(weights.len()));
            }
            let bytes: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let bytes = nodes.inline(bytes).map_err(of_tensor)?;
            Some(nodes.decode(bytes, DType::F32, Packing::default()).map_err(of_tensor)?)
        }
        None => None,
    };
    nodes.block(BlockFn::Quantize, floats, dtype, row, weights).map_err(of_tensor)
}
