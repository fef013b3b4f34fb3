//! Where a tensor's elements lie in the model's file -> an expression.

use modelferry_core::expr::{Arena, Dim, NodeId, Packing, Part, VarintSign, volume};
use modelferry_core::inputs::FileId;
use modelferry_core::{DType, Error, Result};
use modelferry_wire::onnx::{Found, Payload, Run, Values};

/// The elements of a tensor whose payload lies in `file`.
pub(crate) fn data(nodes: &mut Arena, file: FileId, payload: &Payload, found: &Found) -> Result<NodeId> {
    let (dtype, n) = (found.dtype, volume(&found.shape).unwrap_or(u64::MAX));
    match payload {
        Payload::Empty => elements(nodes, file, 0, 0, dtype, n),
        Payload::Raw { at, len } => elements(nodes, file, *at, *len, dtype, n),
        Payload::Typed { values: Values::Fixed(width), runs } => {
            let runs: Result<Vec<NodeId>> = runs.iter().map(|run| fixed(nodes, file, run, *width)).collect();
            let bytes = joined(nodes, runs?)?;
            nodes.decode(bytes, dtype, n, Packing::default())
        }
        Payload::Typed { values: Values::Varints, runs } => {
            // Each value is a byte of several elements.
            let is_packed = dtype.is_sub_byte();
            let (stored, n_values) = match is_packed {
                true => (DType::U8, dtype.packed_len(n).unwrap_or(u64::MAX)),
                false => (dtype, n),
            };
            // Packed runs that follow each other are one stream of numbers; what is in it is all that is in no other.
            let n_tagged = runs.iter().fold(0, |sum: u64, run| sum.saturating_add(run.n));
            let one = |runs: &[Run]| {
                let bytes = runs.iter().map(|run| nodes.region(file, run.at, run.end - run.at));
                let bytes: Result<Vec<NodeId>> = bytes.collect();
                let bytes = joined(nodes, bytes?)?;
                let tag = runs.first().and_then(|run| run.tag);
                let n = if tag.is_some() { runs[0].n } else { n_values.saturating_sub(n_tagged) };
                nodes.varints(bytes, n, stored, tag, VarintSign::Plain)
            };
            let streams = runs.chunk_by(|a, b| a.tag.is_none() && b.tag.is_none());
            let runs: Result<Vec<NodeId>> = streams.map(one).collect();
            let values = joined(nodes, runs?)?;
            match is_packed {
                true => nodes.decode(values, dtype, n, Packing::default()),
                false => Ok(values),
            }
        }
        Payload::External(_) => Err(Error::plugin("external data is not in the model's file")),
    }
}

/// `n` elements, densely packed, little-endian, the first in the low bits.
pub(crate) fn elements(
    nodes: &mut Arena,
    file: FileId,
    at: u64,
    len: u64,
    dtype: DType,
    n: u64,
) -> Result<NodeId> {
    let bytes = nodes.region(file, at, len)?;
    nodes.decode(bytes, dtype, n, Packing::default())
}

/// The bytes of numbers of one width.
fn fixed(nodes: &mut Arena, file: FileId, run: &Run, width: u64) -> Result<NodeId> {
    let len = run.end - run.at;
    let bytes = nodes.region(file, run.at, len)?;
    if run.tag.is_none() {
        return Ok(bytes);
    }
    // A byte of tag stands before each; a longer one means the same and nobody writes it.
    let step = width + 1;
    if len != run.n * step {
        return Err(Error::malformed("tags are longer than they need to be").offset(run.at));
    }
    let dims = [Dim { count: run.n, stride: step as i64 }, Dim { count: width, stride: 1 }];
    nodes.view(bytes, 1, &dims)
}

/// Sequences one behind the other.
fn joined(nodes: &mut Arena, runs: Vec<NodeId>) -> Result<NodeId> {
    if let [only] = runs[..] {
        return Ok(only);
    }
    let mut total = 0;
    let mut pieces = Vec::with_capacity(runs.len());
    for node in runs {
        let n = nodes[node].n;
        pieces.push(Part { lo: [total].into(), extent: [n].into(), node });
        total += n;
    }
    nodes.assemble(&[total], pieces)
}
