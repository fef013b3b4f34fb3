//! Answers questions about payload.

use crate::control::Settings;
use crate::eval::{Cx, Evaluator, Source};
use modelferry_core::expr::NodeId;
use modelferry_core::plugin::{Answer, Query};
use modelferry_core::{Error, Result};
use modelferry_kernels::reduce::{all_zero, count_nonzero};

/// Bytes a [`Query::Small`] may ask for.
const SMALL_BYTES: u64 = 1 << 20;

/// Answers `query` about `source`, whose model may still be under construction.
///
/// Errors: [`Limit`](modelferry_core::ErrorKind::Limit) for more than 1 MiB at once, whatever reading gives.
pub fn answer(source: Source<'_>, settings: &Settings, query: &Query) -> Result<Answer> {
    let evaluator = Evaluator::new(source)?;
    let mut cx = Cx::new(settings.tile_bytes() as usize);
    let nodes = &source.model.nodes;
    match query {
        Query::Small { node, at, len } => {
            let bytes = len.saturating_mul(nodes[*node].dtype.item_bytes());
            let inside = at.checked_add(*len).is_some_and(|end| end <= nodes[*node].n);
            if bytes > SMALL_BYTES || !inside {
                return Err(Error::limit("a question asks for too much")
                    .expected(format_args!("at most {SMALL_BYTES} bytes of {} items", nodes[*node].n))
                    .found(format_args!("{len} items from {at}")));
            }
            let mut out = vec![0; bytes as usize];
            evaluator.fill_run(*node, *at, *len as usize, &mut out, &mut cx)?;
            Ok(Answer::Bytes(out))
        }
        Query::Equal(a, b) => {
            if nodes[*a].byte_len() != nodes[*b].byte_len() {
                return Ok(Answer::Bool(false));
            }
            let mut other = vec![];
            let mut equal = true;
            let mut other_cx = Cx::new(cx.cap);
            scan(&evaluator, *a, &mut cx, &mut |at, bytes| {
                // Steps are chosen for `a`; `b` has as many bytes but may have other items.
                other.resize(bytes.len(), 0);
                let item = nodes[*b].dtype.item_bytes();
                let from = at * nodes[*a].dtype.item_bytes();
                if !from.is_multiple_of(item) || !(bytes.len() as u64).is_multiple_of(item) {
                    return Err(Error::unsupported("sequences of these types cannot be compared"));
                }
                evaluator.fill_run(
                    *b,
                    from / item,
                    bytes.len() / item as usize,
                    &mut other,
                    &mut other_cx,
                )?;
                equal = bytes == &other[..];
                Ok(equal)
            })?;
            Ok(Answer::Bool(equal))
        }
        Query::AllZero(node) => {
            let mut zero = true;
            scan(&evaluator, *node, &mut cx, &mut |_, bytes| {
                zero = all_zero(bytes);
                Ok(zero)
            })?;
            Ok(Answer::Bool(zero))
        }
        Query::Nnz(node) => {
            let dtype = nodes[*node].dtype;
            let mut count = 0;
            scan(&evaluator, *node, &mut cx, &mut |_, bytes| {
                count += count_nonzero(dtype, bytes);
                Ok(true)
            })?;
            Ok(Answer::Count(count))
        }
        Query::AbsMax(node) => {
            let stats = crate::stats::of_node(&evaluator, *node, &mut cx, &|| Ok(()))?;
            Ok(Answer::Number(stats.abs_max))
        }
        other => Err(Error::unsupported("a question that this engine does not answer")
            .found(format_args!("{other:?}"))),
    }
}

/// `n` items of `node` from item `at` on, as bytes. Errors as for [`Query::Small`].
pub fn read_items(source: Source<'_>, settings: &Settings, node: NodeId, at: u64, n: u64) -> Result<Vec<u8>> {
    match answer(source, settings, &Query::Small { node, at, len: n })? {
        Answer::Bytes(bytes) => Ok(bytes),
        _ => Ok(vec![]),
    }
}

/// Hands over a sequence in order, run by run, until `visit` has seen enough.
pub(crate) fn scan(
    evaluator: &Evaluator<'_>,
    id: NodeId,
    cx: &mut Cx,
    visit: &mut dyn FnMut(u64, &[u8]) -> Result<bool>,
) -> Result<()> {
    let node = &evaluator.source.model.nodes[id];
    let item = node.dtype.item_bytes();
    let per_item = item + u64::from(evaluator.facts[id].scratch);
    // A multiple of 16 items keeps runs aligned for a sequence of other items compared with this one.
    let step = (cx.cap as u64 / per_item.max(1)).max(16) / 16 * 16;
    let mut buffer = cx.take((step.min(node.n) * item) as usize)?;
    for at in (0..node.n).step_by(step as usize) {
        let n = step.min(node.n - at) as usize;
        let bytes = &mut buffer[..n * item as usize];
        evaluator.fill_run(id, at, n, bytes, cx)?;
        if !visit(at, bytes)? {
            break;
        }
    }
    cx.give(buffer);
    Ok(())
}
