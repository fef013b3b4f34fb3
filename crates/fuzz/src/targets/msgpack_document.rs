//! Documents of flax made from choices: lengths that fit what they are of, but for a few; what was read is written and
//! read again.

use super::Reached;
use crate::check;
use crate::draw::Draw;
use modelferry_conformance::layouts;
use modelferry_core::ErrorKind;
use modelferry_core::inputs::MemInputs;
use modelferry_core::limits::Limits;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{LayoutRequest, Shards};
use modelferry_core::tree::beside_tensors;
use modelferry_wire::msgpack::{ARRAY, CHUNKED, COMPLEX, Emitter, SCALAR};
use std::collections::BTreeMap;

/// Values within values, at most.
const MAX_DEPTH: usize = 12;

pub(super) fn check(choices: &[u8]) -> Result<Reached, String> {
    let mut draw = Draw::new(choices);
    let document = value(&mut draw, 0);
    let inputs = MemInputs::new("made.msgpack", document);
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("msgpack").map_err(|error| error.to_string())?;
    let (reached, found) = check::reader(reader, &inputs)?;
    if let Some(found) = found {
        written_again(&found, &inputs)?;
    }
    Ok(reached)
}

/// What was read is written as a document that says the same; once more it is the same bytes.
fn written_again(model: &Model, inputs: &MemInputs) -> Result<(), String> {
    let Some(once) = written(model, inputs)? else { return Ok(()) };
    let registry = modelferry_cli::builtin::files();
    let reader = registry.reader("msgpack").map_err(|error| error.to_string())?;
    let inputs = MemInputs::new("made.msgpack", once.clone());
    let again = check::read(reader, &inputs).map_err(|error| format!("our own file is refused: {error}"))?;
    if shown(&again) != shown(model) {
        return Err(format!("{:?} became {:?}", shown(model), shown(&again)));
    }
    match written(&again, &inputs)? {
        Some(twice) if twice == once => Ok(()),
        _ => Err("written twice, it is two files".to_owned()),
    }
}

/// The bytes of a file; nothing where the format cannot hold the model.
fn written(model: &Model, inputs: &MemInputs) -> Result<Option<Vec<u8>>, String> {
    let fault = |error: modelferry_core::Error| error.to_string();
    let registry = modelferry_cli::builtin::files();
    let writer = registry.writer("msgpack").map_err(fault)?;
    let options = Options::resolve(writer.info().options, &BTreeMap::new()).map_err(fault)?;
    let view = ModelView::new(model, &Limits::default()).map_err(fault)?;
    let request =
        LayoutRequest { file_name: "made.msgpack", weights: "", options: &options, shards: Shards::One };
    let layout = match writer.layout(&view, &request, &mut check::EngineHost::new(inputs)) {
        Ok((layout, losses)) if losses.is_empty() => layout,
        Ok((_, losses)) => return Err(format!("lost of its own: {}", losses[0])),
        Err(error) if error.kind() == ErrorKind::Target => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let mut files = layouts::execute(model, inputs, &layout).map_err(fault)?;
    Ok(files.pop())
}

/// Tensors, and what lies beside them.
fn shown(model: &Model) -> Vec<String> {
    let tensors = model.tensors.iter();
    let tensors = tensors.map(|tensor| format!("{:?} {} {:?}", tensor.name, tensor.dtype, tensor.shape));
    let parts = model.tree.iter().flat_map(beside_tensors);
    tensors.chain(parts.map(|part| part.path)).collect()
}

fn value(draw: &mut Draw<'_>, depth: usize) -> Vec<u8> {
    let mut out = Emitter::default();
    // The root is a dictionary, nearly always.
    let kind = if depth == 0 && !draw.rarely(8) { 0 } else { draw.below(16) };
    // Lengths below 2^32 are no errors.
    let _ = match kind {
        0..4 if depth < MAX_DEPTH => members(&mut out, draw, depth, true),
        4 if depth < MAX_DEPTH => members(&mut out, draw, depth, false),
        5..9 => {
            let array = array(draw);
            let code = if draw.rarely(60) { SCALAR } else { ARRAY };
            extension(&mut out, draw, code, &array)
        }
        9 => parts(&mut out, draw),
        10 => {
            let number = draw.u64();
            let _: () = if draw.rarely(128) { out.uint(number) } else { out.int(number as i64) };
            Ok(())
        }
        11 => {
            out.float(f64::from_bits(draw.u64()));
            Ok(())
        }
        12 => out.text(key(draw)),
        13 => out.bytes(draw.slice()),
        14 => {
            let mut inner = Emitter::default();
            let _ = inner.list(2);
            inner.float(f64::from(draw.byte()));
            inner.float(f64::from(draw.byte()));
            extension(&mut out, draw, COMPLEX, &inner.take())
        }
        _ => {
            // Any value, or the byte that begins none.
            out.raw(&[0xc0 + draw.byte() % 4]);
            Ok(())
        }
    };
    out.take()
}

/// A list, or a dictionary. The count is nearly always right.
fn members(
    out: &mut Emitter,
    draw: &mut Draw<'_>,
    depth: usize,
    is_map: bool,
) -> modelferry_core::Result<()> {
    let n = draw.below(5) as u64;
    let said = if draw.rarely(3) { u64::from(draw.byte()) << draw.below(24) } else { n };
    if is_map {
        out.map(said)?
    } else {
        out.list(said)?
    };
    for _ in 0..n {
        match is_map.then(|| draw.below(24)) {
            Some(0) => out.int(i64::from(draw.byte()) - 128),
            Some(1) => out.nil(),
            Some(2) => out.raw(&value(draw, depth + 1)),
            Some(_) => out.text(key(draw))?,
            None => {}
        }
        out.raw(&value(draw, depth + 1));
    }
    Ok(())
}

fn key(draw: &mut Draw<'_>) -> &'static str {
    const KEYS: [&str; 14] =
        ["a", "b", "c", "w", "kernel", "a.b", "", "0", "1", "é", "params", "\u{7}", "shape", CHUNKED];
    KEYS[draw.below(KEYS.len())]
}

/// An extension of the length that it has, or nearly.
fn extension(out: &mut Emitter, draw: &mut Draw<'_>, code: i8, bytes: &[u8]) -> modelferry_core::Result<()> {
    let wrong = if draw.rarely(3) { u64::from(draw.byte()) } else { 0 };
    out.extension(code, bytes.len() as u64 + wrong)?;
    out.raw(bytes);
    Ok(())
}

/// What an array's extension holds: elements as many as its shape says, most often.
fn array(draw: &mut Draw<'_>) -> Vec<u8> {
    let shape: Vec<u64> = (0..draw.below(4)).map(|_| draw.below(4) as u64).collect();
    elements(draw, &shape)
}

fn elements(draw: &mut Draw<'_>, shape: &[u64]) -> Vec<u8> {
    const TYPES: [(&str, u64); 9] = [
        ("float32", 4),
        ("bool", 1),
        ("bfloat16", 2),
        ("int64", 8),
        ("complex128", 16),
        ("float8_e4m3fn", 1),
        ("float32", 4),
        ("float32", 4),
        ("int4", 1),
    ];
    let (name, width) = *draw.pick(&TYPES);
    let n = shape.iter().product::<u64>() * width + u64::from(draw.rarely(4));
    let mut out = Emitter::default();
    let write = |out: &mut Emitter| -> modelferry_core::Result<()> {
        out.list(3)?;
        out.list(shape.len() as u64)?;
        shape.iter().for_each(|&extent| out.uint(extent));
        out.text(name)?;
        out.bytes(&(0..n).map(|at| at as u8 & 1).collect::<Vec<_>>())
    };
    // Nothing here is 4 GiB long.
    let _ = write(&mut out);
    out.take()
}

/// An array in parts.
fn parts(out: &mut Emitter, draw: &mut Draw<'_>) -> modelferry_core::Result<()> {
    let counts: Vec<u64> = (0..draw.below(4)).map(|_| draw.below(3) as u64).collect();
    let sum: u64 = counts.iter().sum::<u64>() + u64::from(draw.rarely(4));
    out.map(3)?;
    out.text(CHUNKED)?;
    out.bool(true);
    out.text("shape")?;
    out.map(1)?;
    out.text("0")?;
    out.uint(sum);
    out.text(if draw.rarely(4) { key(draw) } else { "chunks" })?;
    out.map(counts.len() as u64)?;
    let of_one_type = draw.byte();
    for (number, &count) in counts.iter().enumerate() {
        let number = if draw.rarely(4) { draw.below(4) } else { number };
        out.text(&number.to_string())?;
        let bytes = elements(&mut Draw::new(&[of_one_type]), &[count]);
        extension(out, draw, ARRAY, &bytes)?;
    }
    Ok(())
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
