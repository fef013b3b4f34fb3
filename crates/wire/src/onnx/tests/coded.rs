//! Which tensors are codes, and of what.

use super::*;

/// A node of these inputs and this output.
fn node(operator: &str, domain: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> Vec<u8> {
    let attribute =
        |(name, value): &(&str, i64)| sub(5, &[sub(1, name.as_bytes()), int(3, *value), int(20, 2)].concat());
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| sub(1, name.as_bytes())).collect();
    let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
    let domain = if domain.is_empty() { vec![] } else { sub(7, domain.as_bytes()) };
    let rest = [inputs, sub(2, output.as_bytes()), sub(4, operator.as_bytes()), attributes, domain].concat();
    sub(1, &rest)
}

/// An initializer of two numbers of a type of one byte, or of f32.
fn initializer(name: &str, data_type: i64) -> Vec<u8> {
    let len = if data_type == 1 { 8 } else { 2 };
    sub(5, &[int(1, 2), int(2, data_type), sub(9, &vec![0; len]), sub(8, name.as_bytes())].concat())
}

/// The codes of a graph as `codes operator scale zero`.
fn codes(parts: &[Vec<u8>]) -> Vec<String> {
    let document = read(&model(&[parts.concat(), sub(2, b"g")].concat())).unwrap();
    let name = |idx: Option<usize>| idx.map_or("-", |idx| document.tensors[idx].name.as_str()).to_owned();
    let line = |coded: &Coded| {
        let [codes, scale, zero] = [Some(coded.tensor), coded.scale, coded.zero_point].map(name);
        format!("{codes} {} {scale} {zero}", coded.operator)
    };
    document.codes.iter().map(line).collect()
}

fn tensors() -> Vec<u8> {
    [("w", 3), ("z", 3), ("v", 2), ("s", 1), ("t", 1), ("f", 1)]
        .into_iter()
        .flat_map(|(name, data_type)| initializer(name, data_type))
        .collect()
}

const MICROSOFT: &str = "com.microsoft";

#[test]
fn operators_name_codes_and_their_scales() {
    let dequantize = |inputs: &[&str]| node("DequantizeLinear", "", inputs, "y", &[]);
    assert_eq!(codes(&[dequantize(&["w", "s", "z"]), tensors()]), ["w DequantizeLinear s z"]);
    assert_eq!(codes(&[dequantize(&["w", "s"]), tensors()]), ["w DequantizeLinear s -"]);
    // Neither what is computed nor plain numbers are codes.
    assert_eq!(codes(&[dequantize(&["x", "s", "z"]), tensors()]), [""; 0]);
    assert_eq!(codes(&[dequantize(&["f", "s"]), tensors()]), [""; 0]);
    let packed = node("MatMulNBits", MICROSOFT, &["x", "v", "s"], "y", &[("bits", 4), ("K", 3)]);
    assert_eq!(codes(&[packed.clone(), tensors()]), ["v MatMulNBits s -"]);
    let document = read(&model(&[packed, tensors(), sub(2, b"g")].concat())).unwrap();
    let attributes = document.codes[0].attributes;
    assert_eq!((attributes.bits, attributes.k, attributes.n), (Some(4), Some(3), None));
    // An operator of that name and another domain is another.
    assert_eq!(codes(&[node("MatMulNBits", "mine", &["x", "v", "s"], "y", &[]), tensors()]), [""; 0]);
    let both = node("QLinearMatMul", "", &["v", "s", "", "w", "t", "z", "q", "q"], "y", &[]);
    assert_eq!(codes(&[both, tensors()]), ["v QLinearMatMul s -", "w QLinearMatMul t z"]);
}

#[test]
fn codes_are_found_behind_what_moves_them() {
    let moved = node("Gather", "", &["w", "x"], "some", &[]);
    let turned = node("Transpose", "", &["some"], "turned", &[]);
    let used = node("DequantizeLinear", "", &["turned", "s", "z"], "y", &[]);
    assert_eq!(codes(&[moved.clone(), turned, used, tensors()]), ["w DequantizeLinear s z"]);
    // Names that go round lead nowhere.
    let round = node("Identity", "", &["a"], "a", &[]);
    assert_eq!(codes(&[round, node("DequantizeLinear", "", &["a", "s"], "y", &[]), tensors()]), [""; 0]);
    // In a graph within the graph names of the outer one are known.
    let inner = [node("DequantizeLinear", "", &["w", "s", "z"], "y", &[]), sub(2, b"inner")].concat();
    let outer = [sub(5, &[sub(1, b"then_branch"), sub(6, &inner)].concat()), sub(4, b"If")].concat();
    assert_eq!(codes(&[sub(1, &outer), tensors()]), ["w DequantizeLinear s z"]);
}

#[test]
fn a_scale_that_comes_later_is_its_own() {
    let product = |inputs: &[&str]| node("MatMulInteger", "", inputs, "i", &[]);
    let rest = |first: &str, second: &str| {
        [
            node("Mul", "", &[first, second], "scales", &[]),
            node("Cast", "", &["i"], "c", &[("to", 1)]),
            node("Mul", "", &["c", "scales"], "y", &[]),
            tensors(),
        ]
        .concat()
    };
    let dynamic = product(&["x", "w", "xz", "z"]);
    assert_eq!(codes(&[dynamic.clone(), rest("xs", "s")]), ["w MatMulInteger s z"]);
    assert_eq!(codes(&[dynamic.clone(), rest("s", "xs")]), ["w MatMulInteger s z"]);
    assert_eq!(codes(&[dynamic.clone(), rest("xs", "ws")]), ["w MatMulInteger - z"]);
    // Two tensors of codes take the scales in their order, and one of both scales is nobody's.
    let both = product(&["v", "w"]);
    assert_eq!(codes(&[both.clone(), rest("s", "t")]), ["v MatMulInteger s -", "w MatMulInteger t -"]);
    assert_eq!(codes(&[both, rest("xs", "t")]), ["v MatMulInteger - -", "w MatMulInteger - -"]);
    // A single factor may be the product of both.
    let alone = [node("Cast", "", &["i"], "c", &[]), node("Mul", "", &["c", "s"], "y", &[]), tensors()];
    assert_eq!(codes(&[dynamic, alone.concat()]), ["w MatMulInteger - z"]);
}
