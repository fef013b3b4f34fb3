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

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::expr::Packing;
    use modelferry_wire::onnx::Attributes;

    /// How codes of this type and shape are grouped under scales and zero points of these shapes.
    fn grouped(
        operator: &'static str,
        (dtype, shape): (DType, &[u64]),
        companions: [Option<&[u64]>; 2],
        attributes: Attributes,
    ) -> Groups {
        let mut model = Model::default();
        let mut push = |dtype: DType, shape: &[u64]| {
            let n = shape.iter().product();
            let bytes = model.nodes.inline(vec![0; dtype.packed_len(n).unwrap() as usize]).unwrap();
            let data = model.nodes.decode(bytes, dtype, n, Packing::default()).unwrap();
            model.push(format!("{}", model.tensors.len()), dtype, shape.to_vec(), data).unwrap()
        };
        let tensor = push(dtype, shape);
        let [scale, zero_point] = companions.map(|shape| shape.map(|shape| push(DType::F32, shape)));
        let names = [scale.is_some(), zero_point.is_some()];
        let coded = Coded { tensor, operator, scale, zero_point, names, attributes, is_moved: false };
        codes(&model, &[coded])[0].groups
    }

    #[test]
    fn groups_follow_from_shapes_and_attributes() {
        let none = Attributes::default();
        let i8s = (DType::I8, &[4, 6][..]);
        let one: Option<&[u64]> = Some(&[]);
        assert_eq!(grouped("DequantizeLinear", i8s, [one, None], none), Groups::Tensor);
        assert_eq!(grouped("DequantizeLinear", i8s, [Some(&[6]), Some(&[6])], none), Groups::Axis(1));
        let last = Attributes { axis: Some(-2), ..none };
        assert_eq!(grouped("DequantizeLinear", i8s, [Some(&[4]), None], last), Groups::Axis(0));
        let blocks = Attributes { block_size: Some(3), ..none };
        let expected = Groups::Blocks { axis: 1, size: 3 };
        assert_eq!(grouped("DequantizeLinear", i8s, [Some(&[4, 2]), None], blocks), expected);
        assert_eq!(grouped("MatMulInteger", i8s, [Some(&[6]), Some(&[6])], none), Groups::Axis(1));
        let packed = Attributes { bits: Some(4), block_size: Some(16), n: Some(4), k: Some(12), ..none };
        let expected = Groups::Packed { bits: 4, rows: 4, columns: 12, size: 16 };
        assert_eq!(grouped("MatMulNBits", (DType::U8, &[4, 1, 8]), [Some(&[4]), None], packed), expected);
        let gathered = Attributes { block_size: Some(16), ..none };
        let expected = Groups::Packed { bits: 4, rows: 4, columns: 32, size: 16 };
        let found = grouped("GatherBlockQuantized", (DType::U8, &[4, 16]), [Some(&[4, 2]), None], gathered);
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_at_hand_is_not_guessed() {
        let none = Attributes::default();
        let i8s = (DType::I8, &[4, 6][..]);
        let cases = [
            ("MatMulInteger", [None, None], none),
            // Zero points of another number than scales.
            ("DequantizeLinear", [Some(&[][..]), Some(&[6][..])], none),
            ("DequantizeLinear", [Some(&[4, 6]), None], none),
            ("DequantizeLinear", [Some(&[6]), None], Attributes { axis: Some(-3), ..none }),
            ("MatMulNBits", [Some(&[4]), None], Attributes { block_size: Some(-1), ..none }),
        ];
        for (operator, companions, attributes) in cases {
            assert_eq!(grouped(operator, i8s, companions, attributes), Groups::Unknown, "{operator}");
        }
    }
}
