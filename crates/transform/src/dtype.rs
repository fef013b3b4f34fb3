//! `--dtype`: one more node over each floating tensor, two over one of blocks.

use crate::edits::Edits;
use crate::names::{all_used, any_match};
use crate::quantized;
use modelferry_core::dtype::Class;
use modelferry_core::expr::{Arena, BlockFn, NodeId};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, Tensor};
use modelferry_core::{DType, Error, Result};
use modelferry_hf::config::Config;
use std::collections::{BTreeMap, HashMap};

/// What `--dtype` writes: plain floating scalars. float6 and float4 are not among them: in practice their values are
/// codes under block scales, which a cast would leave behind.
pub fn is_castable(dtype: DType) -> bool {
    dtype.is_float() && !dtype.is_sub_byte()
}

/// What `--dtype` reads: the same, and blocks that bring their scales along.
pub fn holds_floats(dtype: DType) -> bool {
    is_castable(dtype) || dtype.class() == Class::Block
}

/// Whether every value of `from` is also a value of `to`; the values of blocks are those of f32 that they stand for.
pub(crate) fn is_exact(from: DType, to: DType) -> bool {
    let float8 = from.is_float() && from.bits() == Some(8);
    match to {
        _ if from == to => true,
        DType::F64 => true,
        DType::F32 => from != DType::F64,
        // E8M0 reaches from 2^-127 to 2^127: only the types with 8 exponent bits hold that.
        DType::F16 => float8 && from != DType::F8E8M0,
        DType::Bf16 => float8,
        _ => false,
    }
}

/// Per tensor, whether `--keep-dtype` names it.
pub(crate) fn kept(model: &Model, edits: &Edits) -> Result<Vec<bool>> {
    let changes = edits.dtype.is_some() || edits.quantize.is_asked();
    if let Some(glob) = edits.keep_dtype.first().filter(|_| !changes) {
        return Err(Error::usage("--keep-dtype: there is no --dtype to keep from").found(glob.text()));
    }
    let mut used = vec![false; edits.keep_dtype.len()];
    let kept = model.tensors.iter().map(|tensor| any_match(&edits.keep_dtype, &mut used, &tensor.name));
    let kept = kept.collect();
    all_used("--keep-dtype", &edits.keep_dtype, &used)?;
    Ok(kept)
}

/// Casts floating and block-quantized tensors to `edits.dtype`, except those that are `kept`. `before` is what each was
/// in the source.
pub(crate) fn cast(
    model: &mut Model,
    edits: &Edits,
    kept: &[bool],
    before: &[DType],
    limits: &Limits,
    losses: &mut Vec<Loss>,
) -> Result<()> {
    let Some(to) = edits.dtype else { return Ok(()) };
    if !is_castable(to) {
        return Err(Error::usage("--dtype: not a floating-point type").found(to));
    }
    let touched = before.iter().zip(kept).map(|(&from, kept)| !kept && holds_floats(from) && from != to);
    let touched: Vec<bool> = touched.collect();
    quantized::refuse(model, &touched, limits)?;
    let any_touched = touched.contains(&true);

    // Tied tensors share their cast as they share their source.
    let mut casts: HashMap<NodeId, NodeId> = HashMap::new();
    let Model { nodes, tensors, .. } = model;
    let tensors = tensors.iter_mut().zip(before).zip(touched).filter(|(_, touched)| *touched);
    for ((tensor, from), _) in tensors {
        tensor.data = match casts.get(&tensor.data) {
            Some(&done) => done,
            None => {
                let done = cast_one(nodes, tensor, to).map_err(|error| error.tensor(&tensor.name))?;
                casts.insert(tensor.data, done);
                done
            }
        };
        let manner = if is_exact(*from, to) { "exact" } else { "rounded" };
        let detail = format!("{from} to {to}, {manner}");
        losses.push(Loss::declared(LossKind::Dtype, &tensor.name, detail).asked());
        tensor.dtype = to;
    }
    if any_touched {
        tell_config(model, limits);
    }
    Ok(())
}

/// The values of a tensor as items of `to`. Those of blocks are f32, which is what they are computed in.
fn cast_one(nodes: &mut Arena, tensor: &Tensor, to: DType) -> Result<NodeId> {
    let mut data = tensor.data;
    if tensor.dtype.class() == Class::Block {
        let row = tensor.shape.last().copied().unwrap_or(1);
        data = nodes.block(BlockFn::Dequantize, data, DType::F32, row, None)?;
    }
    nodes.cast(data, to)
}

/// Has the config name the type that most of the floating bytes now have: transformers loads a model in the type that
/// its config names, whatever its weights are.
fn tell_config(model: &mut Model, limits: &Limits) {
    let mut bytes: BTreeMap<DType, u64> = BTreeMap::new();
    for tensor in model.tensors.iter().filter(|tensor| is_castable(tensor.dtype)) {
        let sum = bytes.entry(tensor.dtype).or_default();
        *sum = sum.saturating_add(tensor.byte_len());
    }
    let Some((&most, _)) = bytes.iter().max_by_key(|(_, sum)| **sum) else { return };
    let told = || Config::parse(model.config.as_deref()?, limits).ok()?.with_dtype(most);
    if let Some(text) = told() {
        model.config = Some(text.into());
    }
}
