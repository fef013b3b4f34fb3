//! ONNX documents made from choices: lengths that fit what they are of, but for a few.

use super::Reached;
use crate::check;
use crate::draw::Draw;
use modelferry_conformance::layouts;
use modelferry_core::inputs::MemInputs;
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{LayoutRequest, Reader, Shards};
use modelferry_core::registry::Registry;
use modelferry_core::{DType, Error, ErrorKind};
use std::collections::BTreeMap;

/// Messages within messages, at most.
const MAX_DEPTH: usize = 12;

pub(super) fn check(choices: &[u8]) -> Result<Reached, String> {
    let mut draw = Draw::new(choices);
    let document = model(&mut draw);
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("onnx").map_err(|error| error.to_string())?;
    let data: Vec<u8> = (0..64).collect();
    let inputs = MemInputs::new("made.onnx", document).with("w.data", data);
    let (reached, found) = check::reader(reader, &inputs)?;
    if let Some(found) = found {
        restores(&found, &inputs)?;
        follows(&registry, reader, found, &inputs)?;
    }
    Ok(reached)
}

/// What the reader says that tensors were can be made of them, and they are that from then on.
fn restores(found: &Model, inputs: &MemInputs) -> Result<(), String> {
    let mut model = found.clone();
    // Streams that are damaged show it when two tensors are compared.
    let Ok(_) = modelferry_transform::restore(&mut model, false, &mut check::EngineHost::new(inputs)) else {
        return Ok(());
    };
    model.validate(&Limits::default()).map_err(|error| format!("as it was exported: {error}"))?;
    let again = modelferry_transform::restore(&mut model, false, &mut check::EngineHost::new(inputs));
    match again.map_err(|error| error.to_string())?.first() {
        None => Ok(()),
        Some(loss) => Err(format!("restored twice: {loss}")),
    }
}

/// A graph whose weights have other names and types is refused, or is read as one with those.
fn follows(
    registry: &Registry,
    reader: &dyn Reader,
    mut model: Model,
    inputs: &MemInputs,
) -> Result<(), String> {
    let fault = |error: Error| error.to_string();
    for tensor in &mut model.tensors {
        tensor.name = format!("new.{}", tensor.name);
        if tensor.dtype == DType::F32 {
            tensor.dtype = DType::F16;
            tensor.data = model.nodes.cast(tensor.data, DType::F16).map_err(fault)?;
        }
    }
    let writer = registry.writer("onnx").map_err(fault)?;
    let options = Options::resolve(writer.info().options, &BTreeMap::new()).map_err(fault)?;
    let view = ModelView::new(&model, &Limits::default()).map_err(fault)?;
    let request =
        LayoutRequest { file_name: "out.onnx", weights: "", options: &options, shards: Shards::One };
    let layout = match writer.layout(&view, &request, &mut check::EngineHost::new(inputs)) {
        Ok((layout, _)) => layout,
        Err(error) if matches!(error.kind(), ErrorKind::Target | ErrorKind::Limit) => return Ok(()),
        Err(error) => return Err(format!("with other weights: {error}")),
    };
    // Streams that are damaged show it only now.
    let Ok(files) = layouts::execute(&model, inputs, &layout) else { return Ok(()) };
    let written = MemInputs::new("out.onnx", files[layout.root].clone());
    let again =
        check::read(reader, &written).map_err(|error| format!("our own graph is refused: {error}"))?;
    let shown = |model: &Model| -> Vec<String> {
        let shown = model
            .tensors
            .iter()
            .map(|tensor| format!("{:?} {} {:?}", tensor.name, tensor.dtype, tensor.shape));
        shown.collect()
    };
    match shown(&again) == shown(&model) {
        true => Ok(()),
        false => Err(format!("{:?} became {:?}", shown(&model), shown(&again))),
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A number in the field `number`.
fn int(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

/// Bytes in the field `number`, of the length that they have, or nearly.
fn sub(out: &mut Vec<u8>, number: u64, bytes: &[u8], draw: &mut Draw<'_>) {
    varint(out, number << 3 | 2);
    let wrong = if draw.rarely(3) { draw.byte() } else { 0 };
    varint(out, bytes.len() as u64 + u64::from(wrong));
    out.extend_from_slice(bytes);
}

/// A field that the message may or may not know.
fn other(out: &mut Vec<u8>, draw: &mut Draw<'_>) {
    let number = draw.below(32) as u64;
    match draw.below(4) {
        0 => int(out, number, draw.u64()),
        1 => {
            varint(out, number << 3 | 5);
            out.extend_from_slice(&[1, 2, 3, 4]);
        }
        2 => {
            varint(out, number << 3 | 1);
            out.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        }
        _ => {
            let bytes = draw.slice().to_vec();
            sub(out, number, &bytes, draw);
        }
    }
}

fn model(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut out = vec![];
    int(&mut out, 1, 8);
    sub(&mut out, 8, &[0x10, 17], draw);
    for _ in 0..1 + draw.below(4) {
        match draw.below(8) {
            0..4 => {
                let graph = graph(draw, 0);
                sub(&mut out, 7, &graph, draw);
            }
            4 => {
                let mut function = vec![];
                sub(&mut function, 1, name(draw), draw);
                for _ in 0..draw.below(4) {
                    let node = node(draw, 1);
                    sub(&mut function, 7, &node, draw);
                }
                sub(&mut out, 25, &function, draw);
            }
            5 => {
                let (mut training, number) = (vec![], 1 + draw.below(3) as u64);
                let graph = graph(draw, 1);
                sub(&mut training, number, &graph, draw);
                sub(&mut out, 20, &training, draw);
            }
            6 => {
                let mut entry = vec![];
                sub(&mut entry, 1, name(draw), draw);
                sub(&mut entry, 2, name(draw), draw);
                sub(&mut out, 14, &entry, draw);
            }
            _ => other(&mut out, draw),
        }
    }
    out
}

fn name<'a>(draw: &mut Draw<'_>) -> &'a [u8] {
    const NAMES: [&[u8]; 13] = [
        b"w",
        b"x",
        b"y",
        b"c",
        b"",
        b"value",
        b"a.b",
        b"\xc3\xa9",
        b"\xff",
        b"w.values",
        b"onnx::MatMul_1",
        b"/a/MatMul",
        b"a.bias",
    ];
    NAMES[draw.below(NAMES.len())]
}

fn graph(draw: &mut Draw<'_>, depth: usize) -> Vec<u8> {
    let mut out = vec![];
    sub(&mut out, 2, b"g", draw);
    for _ in 0..draw.below(6) {
        match draw.below(8) {
            0..3 => {
                let tensor = tensor(draw);
                sub(&mut out, 5, &tensor, draw);
            }
            3..6 => {
                let node = node(draw, depth);
                sub(&mut out, 1, &node, draw);
            }
            6 => {
                let sparse = sparse(draw);
                sub(&mut out, 15, &sparse, draw);
            }
            _ => other(&mut out, draw),
        }
    }
    out
}

fn sparse(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut out = vec![];
    for number in [1, 2] {
        if !draw.rarely(20) {
            let tensor = tensor(draw);
            sub(&mut out, number, &tensor, draw);
        }
    }
    if draw.rarely(40) {
        other(&mut out, draw);
    }
    out
}

fn node(draw: &mut Draw<'_>, depth: usize) -> Vec<u8> {
    const OPERATORS: [&[u8]; 8] =
        [b"Constant", b"If", b"Add", b"", b"MatMul", b"Gemm", b"Gather", b"Transpose"];
    let mut out = vec![];
    for number in [1, 1, 2, 3] {
        if !draw.rarely(60) {
            sub(&mut out, number, name(draw), draw);
        }
    }
    let operator = OPERATORS[draw.below(OPERATORS.len())];
    sub(&mut out, 4, operator, draw);
    for _ in 0..draw.below(3) {
        let attribute = attribute(draw, depth + 1);
        sub(&mut out, 5, &attribute, draw);
    }
    if draw.rarely(30) {
        other(&mut out, draw);
    }
    out
}

fn attribute(draw: &mut Draw<'_>, depth: usize) -> Vec<u8> {
    const ATTRIBUTES: [&[u8]; 8] = [
        b"value",
        b"value_float",
        b"value_floats",
        b"value_int",
        b"value_ints",
        b"sparse_value",
        b"value_strings",
        b"then_branch",
    ];
    let mut out = vec![];
    let known = ATTRIBUTES[draw.below(ATTRIBUTES.len())];
    sub(&mut out, 1, known, draw);
    match draw.below(10) {
        0 | 1 => {
            let tensor = tensor(draw);
            sub(&mut out, if draw.rarely(40) { 10 } else { 5 }, &tensor, draw);
        }
        2 if depth < MAX_DEPTH => {
            let graph = graph(draw, depth);
            sub(&mut out, if draw.rarely(80) { 11 } else { 6 }, &graph, draw);
        }
        3 => {
            let sparse = sparse(draw);
            sub(&mut out, 22, &sparse, draw);
        }
        4 => out.extend_from_slice(&[2 << 3 | 5, 0, 0, 0x80, 0x3f]),
        5 => int(&mut out, 3, draw.u64()),
        6 => {
            let bytes = draw.slice().to_vec();
            sub(&mut out, 8, &bytes, draw);
        }
        7 => (0..draw.below(4)).for_each(|_| int(&mut out, 8, draw.u64())),
        8 => (0..draw.below(4)).for_each(|_| out.extend_from_slice(&[7 << 3 | 5, 1, 2, 3, 4])),
        _ => other(&mut out, draw),
    }
    if draw.rarely(20) {
        sub(&mut out, 21, b"of", draw);
    }
    out
}

/// A tensor whose elements are as many as its shape says, most often.
fn tensor(draw: &mut Draw<'_>) -> Vec<u8> {
    let mut out = vec![];
    let mut n = 1u64;
    for _ in 0..draw.below(4) {
        let extent = draw.below(4) as u64;
        int(&mut out, 1, extent);
        n *= extent;
    }
    let data_type = 1 + draw.below(26) as u64;
    int(&mut out, 2, data_type);
    sub(&mut out, 8, name(draw), draw);
    let bits = match data_type {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        _ => 2,
    };
    let len = (n * bits).div_ceil(8) + u64::from(draw.rarely(8));
    match draw.below(6) {
        0..3 => {
            let bytes: Vec<u8> = (0..len).map(|at| at as u8 & 1).collect();
            sub(&mut out, 9, &bytes, draw);
        }
        3 => {
            let field = [5, 7, 11][draw.below(3)];
            match draw.rarely(128) {
                true => (0..n).for_each(|at| int(&mut out, field, at)),
                false => {
                    let mut bytes = vec![];
                    (0..n).for_each(|at| varint(&mut bytes, at * 77));
                    sub(&mut out, field, &bytes, draw);
                }
            }
        }
        4 => {
            for (key, value) in [("location", "w.data".to_owned()), ("offset", draw.below(40).to_string())] {
                let mut entry = vec![];
                sub(&mut entry, 1, key.as_bytes(), draw);
                sub(&mut entry, 2, value.as_bytes(), draw);
                sub(&mut out, 13, &entry, draw);
            }
            int(&mut out, 14, 1);
        }
        _ => other(&mut out, draw),
    }
    if draw.rarely(20) {
        other(&mut out, draw);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_choices_get_past_the_start() {
        let n_read = crate::targets::tests::n_read(check);
        assert!(n_read > 20, "{n_read}");
    }
}
