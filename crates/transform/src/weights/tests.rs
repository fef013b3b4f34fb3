//! Tests of weights that take the place of others, on models made in memory.

use super::*;
use crate::{Keeps, apply};
use modelferry_core::expr::{Dim, Op};
use modelferry_core::graph::{Graph, Origin};
use modelferry_core::limits::Limits;
use modelferry_core::plugin::{Answer, Query};

struct Answers(Limits, Option<bool>);

impl Host for Answers {
    fn limits(&self) -> &Limits {
        &self.0
    }

    fn ask(&mut self, _: &Model, query: Query) -> Result<Answer> {
        assert!(matches!(query, Query::Equal(..)));
        Ok(Answer::Bool(self.1.expect("nothing should be asked")))
    }
}

fn model(tensors: &[(&str, DType, &[u64])]) -> Model {
    let mut model = Model::default();
    for &(name, dtype, shape) in tensors {
        let n = shape.iter().product();
        let bytes = model.nodes.inline(vec![0u8; dtype.packed_len(n).unwrap() as usize]).unwrap();
        let items = dtype.items(n).unwrap();
        let data = model.nodes.decode(bytes, dtype, items, Default::default()).unwrap();
        model.push(name, dtype, shape.to_vec(), data).unwrap();
    }
    model
}

fn with_origins(mut model: Model, origins: &[(TensorIdx, &str, &[u8])]) -> Model {
    let origin = |&(tensor, name, axes): &(TensorIdx, &str, &[u8])| Origin {
        tensor,
        name: name.into(),
        axes: axes.into(),
    };
    model.graph = Some(Graph {
        dialect: "x",
        body: vec![].into(),
        bindings: vec![],
        parts: vec![],
        origins: origins.iter().map(origin).collect(),
        nameless: vec![],
    });
    model
}

/// Gives `model` the values of `other`; the names that took some, and losses as lines.
fn replaced(
    model: Model,
    other: Model,
    edits: &Edits,
    equal: Option<bool>,
) -> Result<(Model, Vec<String>, Vec<String>)> {
    let mut weights = Weights { model: other, files: 0, name: "other".to_owned(), taken: vec![] };
    let mut host = Answers(Limits::default(), equal);
    let (model, losses) = apply(model, edits, Some(&mut weights), Keeps::ALL, &mut host)?;
    model.validate(&Limits::default()).unwrap();
    let losses = losses.iter().filter(|loss| loss.kind == LossKind::Unmatched).map(ToString::to_string);
    Ok((model, weights.taken, losses.collect()))
}

fn refusal(model: Model, other: Model, edits: &Edits, equal: Option<bool>) -> String {
    replaced(model, other, edits, equal).err().unwrap().to_string()
}

#[test]
fn values_go_by_name_and_what_is_left_is_named() {
    let own = model(&[
        ("a", DType::F32, &[2, 3]),
        ("b", DType::F32, &[2]),
        ("c", DType::F32, &[]),
        ("n", DType::I64, &[2]),
        ("i", DType::I64, &[1]),
    ]);
    let other = model(&[("x", DType::F32, &[1]), ("a", DType::Bf16, &[2, 3]), ("n", DType::I64, &[2])]);
    let before = own.tensors.clone();
    let (found, taken, losses) = replaced(own, other, &Edits::default(), None).unwrap();
    assert_eq!(taken, ["a", "n"]);
    assert_eq!((found.tensors[0].dtype, found.tensors[3].dtype), (DType::Bf16, DType::I64));
    assert!(found.tensors[0].data != before[0].data && found.tensors[3].data != before[3].data);
    assert_eq!(found.tensors[1].data, before[1].data);
    let expected = [
        "unmatched: x: not taken from other: nothing here is called so",
        "unmatched: b: keeps its values: nothing in other is called so",
    ];
    assert_eq!(losses, expected);
}

#[test]
fn what_an_exporter_renamed_and_turned_over_is_found() {
    let own = model(&[("onnx::MatMul_1", DType::F32, &[3, 2]), ("v", DType::F32, &[3])]);
    let own = with_origins(own, &[(0, "w", &[1, 0]), (1, "norm", &[])]);
    let other = || model(&[("w", DType::F32, &[2, 3]), ("norm", DType::F16, &[3])]);
    let (found, taken, losses) = replaced(own.clone(), other(), &Edits::default(), None).unwrap();
    assert_eq!((taken.len(), losses.len()), (2, 0));
    let Op::View { dims, .. } = &found.nodes[found.tensors[0].data].op else { panic!() };
    assert_eq!(**dims, [Dim { count: 3, stride: 1 }, Dim { count: 2, stride: 3 }]);
    // The graph's own name comes first, and its shape is the graph's.
    let named = model(&[("onnx::MatMul_1", DType::F32, &[3, 2]), ("norm", DType::F32, &[3])]);
    let (found, ..) = replaced(own.clone(), named, &Edits::default(), None).unwrap();
    assert!(!matches!(found.nodes[found.tensors[0].data].op, Op::View { .. }));
    let wrong = model(&[("w", DType::F32, &[3, 2])]);
    assert_eq!(
        refusal(own, wrong, &Edits::default(), None),
        "tensor \"onnx::MatMul_1\": --weights: the tensor has another shape, expected [2, 3], \
         found [3, 2], of \"w\" in other"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let own = || model(&[("a", DType::F32, &[256])]);
    let none = Edits::default();
    assert_eq!(
        refusal(own(), model(&[("b", DType::F32, &[256])]), &none, None),
        "other: --weights: no tensor has the name of one here, expected a, found b"
    );
    assert!(refusal(own(), model(&[("a", DType::F32, &[1, 256])]), &none, None).contains("another shape"));
    for dtype in [DType::I8, DType::C64, DType::F4E2M1] {
        assert!(refusal(own(), model(&[("a", dtype, &[256])]), &none, None).contains("another type"));
    }
    assert!(
        refusal(model(&[("a", DType::I8, &[4])]), model(&[("a", DType::U8, &[4])]), &none, None)
            .contains("another type")
    );
    // Codes beside their scales are no plain numbers.
    let codes = model(&[("a.weight", DType::F8E4M3, &[4]), ("a.weight_scale_inv", DType::F32, &[1])]);
    let own = model(&[("a.weight", DType::F32, &[4])]);
    assert!(refusal(own, codes, &none, None).contains("fp8 with scales"));
}

#[test]
fn blocks_are_turned_over_only_as_numbers() {
    let own = || with_origins(model(&[("t", DType::F32, &[256, 2])]), &[(0, "w", &[1, 0])]);
    let blocks = || model(&[("w", DType::Q4K, &[2, 256])]);
    assert!(refusal(own(), blocks(), &Edits::default(), None).contains("pass --dtype"));
    let edits = Edits { dtype: Some(DType::F16), ..Edits::default() };
    let (found, ..) = replaced(own(), blocks(), &edits, None).unwrap();
    assert_eq!(found.tensors[0].dtype, DType::F16);
}

#[test]
fn ties_follow_the_values() {
    let tied = |names: &[&str]| {
        let mut model = model(&names.iter().map(|name| (*name, DType::F32, &[4u64][..])).collect::<Vec<_>>());
        model.ties = vec![(0..names.len()).collect()];
        model
    };
    // Both take the values of the one that is there.
    let one = || model(&[("head", DType::F32, &[4])]);
    let (found, taken, losses) = replaced(tied(&["embed", "head"]), one(), &Edits::default(), None).unwrap();
    assert_eq!((found.ties, taken.len(), losses.len()), (vec![vec![0, 1]], 2, 0));
    assert_eq!(found.tensors[0].data, found.tensors[1].data);
    // Each takes its own.
    let two = || model(&[("embed", DType::F32, &[4]), ("head", DType::F32, &[4])]);
    let (found, ..) = replaced(tied(&["embed", "head"]), two(), &Edits::default(), None).unwrap();
    assert!(found.ties.is_empty());
    // One storage there is one here.
    let (found, ..) = replaced(two(), tied(&["head", "embed"]), &Edits::default(), None).unwrap();
    assert_eq!(found.ties, [[0, 1]]);
    // Two that are one tensor of the graph have to be one.
    let own = || with_origins(one(), &[(0, "embed", &[]), (0, "head", &[])]);
    let (_, taken, losses) = replaced(own(), two(), &Edits::default(), Some(true)).unwrap();
    assert_eq!((taken.len(), losses.len()), (1, 0));
    assert!(refusal(own(), two(), &Edits::default(), Some(false)).contains("several tensors are one here"));
}

#[test]
fn what_a_class_ties_stands_for_both() {
    let own = || {
        model(&[
            ("cls.predictions.decoder.weight", DType::F32, &[4, 2]),
            ("cls.predictions.decoder.bias", DType::F32, &[4]),
            ("pos", DType::F32, &[1]),
        ])
    };
    let saved = |config: &str| {
        let mut other = model(&[
            ("bert.embeddings.word_embeddings.weight", DType::F32, &[4, 2]),
            ("cls.predictions.bias", DType::F32, &[4]),
            ("pos", DType::F32, &[1]),
        ]);
        other.config = Some(config.into());
        other
    };
    let none = Edits::default();
    let tied = saved(r#"{"tie_word_embeddings": true}"#);
    let (_, taken, losses) = replaced(own(), tied, &none, None).unwrap();
    assert_eq!((taken.len(), losses.len()), (3, 0), "{losses:?}");
    let (_, taken, losses) =
        replaced(own(), saved(r#"{"tie_word_embeddings": false}"#), &none, None).unwrap();
    assert_eq!((taken.len(), losses.len()), (1, 4));
}
