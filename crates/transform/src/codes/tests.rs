//! Tests of codes, by their expressions.

use super::*;
use crate::{Keeps, apply};
use modelferry_core::limits::Limits;
use modelferry_core::plugin::{Carries, SilentHost};

/// Codes `w` with scale `s` and zero points `z`, and a tensor that has nothing to do with them.
fn model(tensors: &[(&str, DType, &[u64])], groups: Groups, operator: &'static str) -> Model {
    let mut model = Model::default();
    for &(name, dtype, shape) in tensors {
        let n = shape.iter().product();
        let bytes = model.nodes.inline(vec![0; dtype.packed_len(n).unwrap() as usize]).unwrap();
        let data = model.nodes.decode(bytes, dtype, n, Packing::default()).unwrap();
        model.push(name, dtype, shape.to_vec(), data).unwrap();
    }
    let find = |name: &str| model.tensors.iter().position(|tensor| tensor.name == name);
    let (scale, zero_point) = (find("s"), find("z"));
    model.codes.push(Codes { tensor: find("w").unwrap(), operator, scale, zero_point, groups });
    model
}

fn edited(model: Model, edits: &Edits) -> Result<(Model, Vec<String>)> {
    let keeps = Keeps { ties: Carries::No, graph: false };
    let (model, losses) = apply(model, edits, None, keeps, &mut SilentHost::default())?;
    model.validate(&Limits::default()).unwrap();
    Ok((model, losses.iter().map(ToString::to_string).collect()))
}

fn to(dtype: DType) -> Edits {
    Edits { dtype: Some(dtype), ..Edits::default() }
}

fn names(model: &Model) -> Vec<String> {
    let name = |tensor: &modelferry_core::model::Tensor| {
        format!("{}:{} {:?}", tensor.name, tensor.dtype, tensor.shape)
    };
    model.tensors.iter().map(name).collect()
}

#[test]
fn codes_become_numbers_and_scales_go() {
    type Case = (Groups, DType, &'static [u64], &'static [u64]);
    let cases: [Case; 6] = [
        (Groups::Tensor, DType::I8, &[3, 4], &[]),
        (Groups::Axis(0), DType::U8, &[3, 4], &[3]),
        (Groups::Axis(1), DType::I4, &[3, 4], &[4]),
        (Groups::Blocks { axis: 0, size: 2 }, DType::I4, &[3, 4], &[2, 4]),
        (Groups::Blocks { axis: 1, size: 4 }, DType::U4, &[3, 4], &[3, 1]),
        (Groups::Blocks { axis: 1, size: 1 }, DType::U4, &[3, 4], &[3, 4]),
    ];
    for (groups, dtype, shape, scale) in cases {
        for zero in [None, Some(("z", dtype, scale))] {
            let mut tensors =
                vec![("w", dtype, shape), ("s", DType::F16, scale), ("b", DType::F32, &[2][..])];
            tensors.extend(zero);
            let own = model(&tensors, groups, "DequantizeLinear");
            let (found, losses) = edited(own, &to(DType::F32)).unwrap();
            assert_eq!(names(&found), ["w:f32 [3, 4]", "b:f32 [2]"], "{groups:?}");
            assert!(found.codes.is_empty() && losses.len() >= 3, "{losses:?}");
        }
    }
}

#[test]
fn packed_codes_are_unpacked() {
    // Rows of 40 in blocks of 32: two blocks of 16 bytes each.
    let groups = Groups::Packed { bits: 4, rows: 3, columns: 40, size: 32 };
    for (zero, shape) in [(DType::U8, vec![3]), (DType::F32, vec![6])] {
        let tensors = [("w", DType::U8, &[3, 2, 16][..]), ("s", DType::F32, &[6]), ("z", zero, &shape[..])];
        let (found, _) = edited(model(&tensors, groups, "MatMulNBits"), &to(DType::Bf16)).unwrap();
        assert_eq!(names(&found), ["w:bf16 [3, 40]"]);
    }
    let tensors = [("w", DType::U8, &[3, 2, 16][..]), ("s", DType::F32, &[3, 2])];
    let (found, _) = edited(model(&tensors, groups, "MatMulNBits"), &to(DType::F32)).unwrap();
    assert_eq!(names(&found), ["w:f32 [3, 40]"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let i8s = ("w", DType::I8, &[3, 4][..]);
    let cases = [
        (Groups::Axis(0), "DequantizeLinear", vec![i8s, ("s", DType::F32, &[4][..])]),
        (Groups::Axis(2), "DequantizeLinear", vec![i8s, ("s", DType::F32, &[3][..])]),
        (Groups::Unknown, "MatMulInteger", vec![i8s]),
        (Groups::Tensor, "DequantizeLinear", vec![i8s]),
        (Groups::Blocks { axis: 0, size: u64::MAX }, "DequantizeLinear", vec![i8s, ("s", DType::F32, &[4])]),
        (
            Groups::Packed { bits: 4, rows: 3, columns: 9, size: 8 },
            "MatMulNBits",
            vec![("w", DType::U8, &[12][..]), ("s", DType::F32, &[6])],
        ),
        (
            Groups::Packed { bits: 3, rows: 3, columns: 8, size: 8 },
            "MatMulNBits",
            vec![("w", DType::U8, &[12][..]), ("s", DType::F32, &[3])],
        ),
        (
            Groups::Packed { bits: 4, rows: u64::MAX, columns: 8, size: 8 },
            "MatMulNBits",
            vec![("w", DType::U8, &[12][..]), ("s", DType::F32, &[3])],
        ),
    ];
    for (groups, operator, tensors) in cases {
        let error = edited(model(&tensors, groups, operator), &to(DType::F32)).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("tensor \"w\""), "{groups:?}: {text}");
    }
}

#[test]
fn codes_that_are_kept_keep_their_scales() {
    let tensors = [("w", DType::I8, &[4][..]), ("s", DType::F32, &[]), ("b", DType::F32, &[1])];
    let own = || model(&tensors, Groups::Tensor, "DequantizeLinear");
    let (found, _) = edited(own(), &Edits::default()).unwrap();
    assert_eq!((names(&found).len(), found.codes.len()), (3, 1));
    let keep = |name: &str| Edits { keep_dtype: vec![crate::Glob::new(name).unwrap()], ..to(DType::F16) };
    // The scale is not to be rounded behind the codes' back.
    assert!(edited(own(), &keep("w")).err().unwrap().to_string().contains("codes of DequantizeLinear"));
    let (found, _) = edited(own(), &keep("[ws]")).unwrap();
    assert_eq!(names(&found), ["w:i8 [4]", "s:f32 []", "b:f16 [1]"]);
    // What is left out leaves nothing behind.
    let edits = Edits { exclude: vec![crate::Glob::new("s").unwrap()], ..Edits::default() };
    let (found, _) = edited(own(), &edits).unwrap();
    assert_eq!(found.codes[0].scale, None);
}
