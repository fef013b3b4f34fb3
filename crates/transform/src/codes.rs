//! `--dtype` on tensors of codes: the numbers they stand for, where no program is carried that computes them.
//!
//! A code `q` stands for `(q - z) * s`, with the zero point and the scale of its group: one expression over three
//! tensors, in the type of the scale. Zero points are zero where there is none, and in the middle for packed codes.

use crate::edits::Edits;
use modelferry_core::codes::{Codes, Groups};
use modelferry_core::expr::{Dim, NodeId, Packing, ScalarFn, volume};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::{DType, Error, Result};
use std::collections::HashSet;

/// Puts the numbers that codes stand for in their place, but for those that are `kept`, and leaves their scales and
/// zero points out. Returns `kept` for the tensors that are left.
///
/// Errors: [`Unsupported`](modelferry_core::ErrorKind::Unsupported) for codes whose scales are computed.
pub(crate) fn dequantize(
    model: &mut Model,
    edits: &Edits,
    kept: Vec<bool>,
    losses: &mut Vec<Loss>,
) -> Result<Vec<bool>> {
    if model.codes.is_empty() || edits.dtype.is_none() && !edits.quantize.is_asked() {
        return Ok(kept);
    }
    let all = std::mem::take(&mut model.codes);
    let (stay, go): (Vec<Codes>, Vec<Codes>) = all.into_iter().partition(|codes| kept[codes.tensor]);
    let mut consumed: HashSet<TensorIdx> = HashSet::new();
    for codes in &go {
        let (data, shape) =
            numbers(model, codes).map_err(|error| error.tensor(&model.tensors[codes.tensor].name))?;
        let dtype = model.nodes[data].dtype;
        let tensor = &mut model.tensors[codes.tensor];
        let detail =
            format!("{} codes of {}, {}, to {dtype}", tensor.dtype, codes.operator, codes.groups.text());
        losses.push(Loss::declared(LossKind::Dtype, &tensor.name, detail).asked());
        (tensor.data, tensor.dtype, tensor.shape) = (data, dtype, shape);
        consumed.extend(codes.scale.into_iter().chain(codes.zero_point));
    }
    // Codes are no storage of numbers: names that shared them do not share these.
    let changed: HashSet<TensorIdx> = go.iter().map(|codes| codes.tensor).collect();
    model.ties.retain(|group| !group.iter().any(|idx| changed.contains(idx)));
    model.codes = stay;
    let needed = model.codes.iter().flat_map(|codes| codes.scale.into_iter().chain(codes.zero_point));
    let needed: HashSet<TensorIdx> = needed.collect();
    let goes = |idx: &TensorIdx| consumed.contains(idx) && !needed.contains(idx) && !changed.contains(idx);
    let keep: Vec<bool> = (0..model.tensors.len()).map(|idx| !goes(&idx)).collect();
    for (tensor, _) in model.tensors.iter().zip(&keep).filter(|(_, keep)| !**keep) {
        let detail = "scale or zero point of codes, which are numbers now";
        losses.push(Loss::declared(LossKind::Tensor, &tensor.name, detail).asked());
    }
    crate::retain(model, &keep);
    Ok(kept.into_iter().zip(&keep).filter(|(_, keep)| **keep).map(|(kept, _)| kept).collect())
}

/// What codes stand for, and its shape.
fn numbers(model: &mut Model, codes: &Codes) -> Result<(NodeId, Vec<u64>)> {
    let unable = || {
        Error::unsupported("--dtype: what these codes stand for is computed elsewhere in the graph")
            .found(format_args!("codes of {}, {}", codes.operator, codes.groups.text()))
            .hint("leave out --dtype, or name them in --keep-dtype")
    };
    let scale = codes.scale.filter(|_| codes.operator != "MatMulBnb4").ok_or_else(unable)?;
    let tensor = &model.tensors[codes.tensor];
    let (q, own, shape) = (tensor.data, tensor.dtype, tensor.shape.clone());
    let (scale, scale_dtype) = (model.tensors[scale].data, model.tensors[scale].dtype);
    let zero = codes.zero_point.map(|idx| (model.tensors[idx].data, model.tensors[idx].dtype));
    let n = volume(&shape).ok_or_else(unable)?;
    let Groups::Packed { bits, rows, columns, size } = codes.groups else {
        let spread = |model: &mut Model, of: NodeId| {
            let spread = match codes.groups {
                Groups::Tensor => model.nodes.view(of, 0, &[Dim { count: n, stride: 0 }]),
                Groups::Axis(axis) => along(model, of, &shape, axis, None),
                Groups::Blocks { axis, size } => along(model, of, &shape, axis, Some(size)),
                Groups::Packed { .. } | Groups::Unknown => return Err(unable()),
            };
            spread.map_err(|error| unable().source(error))
        };
        let s = spread(model, scale)?;
        let z = match zero {
            Some((zero, _)) => spread(model, zero)?,
            None => constant(model, own, 0, n)?,
        };
        return Ok((model.nodes.map(ScalarFn::SubMul, &[q, z, s], scale_dtype)?, shape));
    };
    let code = match bits {
        2 => DType::U2,
        4 => DType::U4,
        8 => DType::U8,
        _ => return Err(unable()),
    };
    let per_byte = 8 / bits;
    let in_row = n.checked_mul(per_byte).filter(|_| own == DType::U8 && size > 0).and_then(|all| {
        let in_row = all.checked_div(rows)?;
        (in_row.checked_mul(rows) == Some(all) && in_row >= columns).then_some(in_row)
    });
    let in_row = in_row.ok_or_else(unable)?;
    let all = rows.checked_mul(columns).ok_or_else(unable)?;
    let (dims, n_groups) = (
        [Dim { count: rows, stride: step(in_row)? }, Dim { count: columns, stride: 1 }],
        columns.div_ceil(size),
    );
    let q = model.nodes.decode(q, code, n.saturating_mul(per_byte), Packing::default())?;
    let q = model.nodes.view(q, 0, &dims)?;
    // Of a row of `stride` scales or zero points, each for as many codes as share it.
    let spread = |model: &mut Model, of: NodeId, stride: u64| {
        let dims = [
            Dim { count: rows, stride: step(stride)? },
            Dim { count: n_groups, stride: 1 },
            Dim { count: size, stride: 0 },
        ];
        let whole = model.nodes.view(of, 0, &dims)?;
        let filled = step(n_groups.saturating_mul(size))?;
        model.nodes.view(whole, 0, &[Dim { count: rows, stride: filled }, Dim { count: columns, stride: 1 }])
    };
    let s = spread(model, scale, n_groups)?;
    let z = match zero {
        None => constant(model, code, 1 << (bits - 1), all)?,
        Some((zero, DType::U8)) => {
            // Packed as codes are, each row in bytes of its own.
            let in_row = n_groups.div_ceil(per_byte).saturating_mul(per_byte);
            let n = model.nodes[zero].n.saturating_mul(per_byte);
            let zero = model.nodes.decode(zero, code, n, Packing::default())?;
            spread(model, zero, in_row)?
        }
        Some((zero, _)) => spread(model, zero, n_groups)?,
    };
    let numbers = model.nodes.map(ScalarFn::SubMul, &[q, z, s], scale_dtype)?;
    let shape = match (codes.operator, &shape[..]) {
        ("GatherBlockQuantized", [before @ .., _]) => before.iter().copied().chain([columns]).collect(),
        _ => vec![rows, columns],
    };
    Ok((numbers, shape))
}

fn step(stride: u64) -> Result<i64> {
    i64::try_from(stride).map_err(|_| Error::malformed("a stride is too long").found(stride))
}

/// One value of `dtype`, whose bits these are, `n` times.
fn constant(model: &mut Model, dtype: DType, bits: u8, n: u64) -> Result<NodeId> {
    let mut bytes = vec![0; dtype.packed_len(1).unwrap_or(0) as usize];
    bytes.iter_mut().take(1).for_each(|byte| *byte = bits);
    let bytes = model.nodes.inline(bytes)?;
    let one = model.nodes.decode(bytes, dtype, 1, Packing::default())?;
    model.nodes.view(one, 0, &[Dim { count: n, stride: 0 }])
}

/// The items of `of` spread over a tensor of `shape`: one for each place of an axis, or, where `size` codes along the
/// axis share one, one for each such block at each place of the others.
fn along(model: &mut Model, of: NodeId, shape: &[u64], axis: usize, size: Option<u64>) -> Result<NodeId> {
    let misfit = || {
        let error = Error::malformed("scales or zero points do not fit their codes");
        error.found(format_args!("{} for axis {axis} of {shape:?}", model.nodes[of].n))
    };
    let extent = *shape.get(axis).ok_or_else(misfit)?;
    let n_groups = extent.div_ceil(size.unwrap_or(1).max(1));
    let (before, after) = (volume(&shape[..axis]), volume(&shape[axis + 1..]));
    let (before, after) = (before.ok_or_else(misfit)?, after.ok_or_else(misfit)?);
    let size_there = size.unwrap_or(1);
    let (n, strides) = match size {
        None => (Some(n_groups), [0, 1, 0]),
        Some(_) => {
            let of_one = n_groups.saturating_mul(after);
            (of_one.checked_mul(before), [step(of_one)?, step(after)?, 1])
        }
    };
    if Some(model.nodes[of].n) != n {
        return Err(misfit());
    }
    let dims = [
        Dim { count: before, stride: strides[0] },
        Dim { count: n_groups, stride: strides[1] },
        Dim { count: size_there, stride: 0 },
        Dim { count: after, stride: strides[2] },
    ];
    let whole = model.nodes.view(of, 0, &dims)?;
    // The last block may be longer than what is left of the axis.
    let filled = n_groups.saturating_mul(size_there).saturating_mul(after);
    let dims = [
        Dim { count: before, stride: step(filled)? },
        Dim { count: extent, stride: step(after)? },
        Dim { count: after, stride: 1 },
    ];
    model.nodes.view(whole, 0, &dims)
}

#[cfg(test)]
mod tests;
