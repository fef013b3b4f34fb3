//! Scales beside blocks: llama.cpp multiplies what a matrix of nvfp4 gives by one number for the whole matrix, or one
//! for each expert, which lies beside `X.weight` as `X.scale` (`build_lora_mm` in `src/llama-graph.cpp`).
//!
//! As long as the blocks stay, the scales are tensors like others. What is made of the blocks' values has them in it,
//! and nothing multiplies by them again.

use modelferry_core::expr::{BlockFn, Dim, NodeId, Packing, ScalarFn};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, Tensor, TensorIdx};
use modelferry_core::{DType, Error, Result};
use std::collections::HashMap;

/// A matrix and the scale beside it, by their source names.
pub(crate) struct Scaled {
    weight: TensorIdx,
    scale: TensorIdx,
    scale_name: String,
}

/// The matrices of nvfp4 that have a scale beside them.
pub(crate) fn find(model: &Model) -> Vec<Scaled> {
    let is_scaled = |tensor: &Tensor| tensor.dtype == DType::Nvfp4;
    if !model.tensors.iter().any(is_scaled) {
        return vec![];
    }
    let by_name: HashMap<&str, TensorIdx> =
        model.tensors.iter().enumerate().map(|(idx, tensor)| (tensor.name.as_str(), idx)).collect();
    let weights = model.tensors.iter().enumerate().filter(|(_, tensor)| is_scaled(tensor));
    let pair = |(weight, tensor): (TensorIdx, &Tensor)| {
        let scale_name = format!("{}.scale", tensor.name.strip_suffix(".weight")?);
        let scale = *by_name.get(scale_name.as_str())?;
        Some(Scaled { weight, scale, scale_name })
    };
    weights.filter_map(pair).collect()
}

/// Makes f32 with their scales of the matrices whose type changes, and says which tensors are to go.
///
/// Errors: [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for a scale that is neither one number nor one for
/// each expert.
pub(crate) fn fold(
    model: &mut Model,
    scaled: Vec<Scaled>,
    changes: impl Fn(TensorIdx) -> bool,
    losses: &mut Vec<Loss>,
) -> Result<Vec<TensorIdx>> {
    let mut gone = vec![];
    for Scaled { weight, scale, scale_name } in scaled.into_iter().filter(|scaled| changes(scaled.weight)) {
        let data = multiplied(model, weight, scale).map_err(|error| error.tensor(&scale_name))?;
        let tensor = &mut model.tensors[weight];
        (tensor.data, tensor.dtype) = (data, DType::F32);
        let detail = format!("multiplied into {:?}", tensor.name);
        losses.push(Loss::declared(LossKind::Tensor, &scale_name, detail).asked());
        gone.push(scale);
    }
    gone.sort_unstable();
    gone.dedup();
    Ok(gone)
}

fn multiplied(model: &mut Model, weight: TensorIdx, scale: TensorIdx) -> Result<NodeId> {
    let Model { nodes, tensors, .. } = model;
    let (weight, scale) = (&tensors[weight], &tensors[scale]);
    let n = weight.n_elements();
    let dims = match (&scale.shape[..], &weight.shape[..]) {
        ([] | [1], _) => vec![Dim { count: n, stride: 0 }],
        ([experts], [matrices, _, _]) if experts == matrices => {
            let each = n.checked_div(*experts).unwrap_or(0);
            vec![Dim { count: *experts, stride: 1 }, Dim { count: each, stride: 0 }]
        }
        _ => {
            return Err(Error::unsupported(
                "the scale of a matrix of nvfp4 has another shape than llama.cpp's",
            )
            .expected("one number, or one for each expert")
            .found(format_args!("{:?}", scale.shape)));
        }
    };
    let row = weight.shape.last().copied().unwrap_or(1);
    let values = nodes.block(BlockFn::Dequantize, weight.data, DType::F32, row, None)?;
    let scale = nodes.cast(scale.data, DType::F32)?;
    let scale = nodes.view(scale, 0, &dims)?;
    let zero = nodes.inline(vec![0; 4])?;
    let zero = nodes.decode(zero, DType::F32, 1, Packing::default())?;
    let zero = nodes.view(zero, 0, &[Dim { count: n, stride: 0 }])?;
    // Without the zero there would be one function more; subtracting it changes no bit.
    nodes.map(ScalarFn::SubMul, &[values, zero, scale], DType::F32)
}
