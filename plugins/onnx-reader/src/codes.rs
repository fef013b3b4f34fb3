//! What operators make of codes -> which of them share a scale.

use modelferry_core::DType;
use modelferry_core::codes::{Codes, Groups};
use modelferry_core::expr::volume;
use modelferry_core::model::Model;
use modelferry_wire::onnx::Coded;

/// The tensors of codes among a model's, which are those of the document in its order.
pub(crate) fn codes(model: &Model, coded: &[Coded]) -> Vec<Codes> {
    let of = |found: &Coded| Codes {
        tensor: found.tensor,
        operator: found.operator,
        scale: found.scale,
        zero_point: found.zero_point,
        groups: groups(model, found).unwrap_or(Groups::Unknown),
    };
    coded.iter().map(of).collect()
}

/// Which codes share a scale; nothing where that is not at hand: scales that are computed, codes that are moved before
/// they meet theirs.
fn groups(model: &Model, found: &Coded) -> Option<Groups> {
    let shape_of = |tensor: Option<usize>| Some(&model.tensors.get(tensor?)?.shape);
    let codes = shape_of(Some(found.tensor))?;
    let scale = shape_of(found.scale)?;
    let [_, has_zero_point] = found.names;
    if has_zero_point && found.zero_point.is_none() {
        return None;
    }
    let is_packed = matches!(found.operator, "MatMulNBits" | "MatMulBnb4" | "GatherBlockQuantized");
    if shape_of(found.zero_point).is_some_and(|zero| !is_packed && volume(zero) != volume(scale)) {
        return None;
    }
    let whole = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let states = &found.attributes;
    let axis = |default: i64| {
        let axis = states.axis.unwrap_or(default);
        let rank = i64::try_from(codes.len()).ok()?;
        usize::try_from(if axis < 0 { axis.checked_add(rank)? } else { axis }).ok()
    };
    if scale.iter().all(|&extent| extent == 1) && !is_packed {
        return Some(Groups::Tensor);
    }
    if found.is_moved {
        return None;
    }
    match found.operator {
        "DequantizeLinear" => match whole(states.block_size).filter(|&size| size > 0) {
            Some(size) => Some(Groups::Blocks { axis: axis(1)?, size }),
            None => Some(Groups::Axis(axis(1)?)).filter(|_| scale.len() == 1),
        },
        "QLinearConv" | "ConvInteger" => Some(Groups::Axis(0)).filter(|_| scale.len() == 1),
        "QLinearMatMul" | "MatMulInteger" | "QGemm" | "MatMulIntegerToFloat" | "DynamicQuantizeMatMul" => {
            Some(Groups::Axis(codes.len().checked_sub(1)?)).filter(|_| scale.len() == 1)
        }
        "GatherBlockQuantized" if model.tensors.get(found.tensor)?.dtype == DType::U8 => {
            let bits = whole(states.bits.or(Some(4)))?;
            let (last, before) = codes.split_last()?;
            let columns = last.checked_mul(8)?.checked_div(bits)?;
            let size = whole(states.block_size.or(Some(128)))?;
            Some(Groups::Packed { bits, rows: volume(before)?, columns, size })
        }
        "GatherBlockQuantized" => {
            let size = whole(states.block_size.or(Some(128)))?;
            Some(Groups::Blocks { axis: axis(1)?, size })
        }
        "MatMulNBits" => Some(Groups::Packed {
            bits: whole(states.bits.or(Some(4)))?,
            rows: whole(states.n)?,
            columns: whole(states.k)?,
            size: whole(states.block_size)?,
        }),
        "MatMulBnb4" => Some(Groups::Packed {
            bits: 4,
            rows: whole(states.n)?,
            columns: whole(states.k)?,
            size: whole(states.block_size)?,
        }),
        _ => None,
    }
}
