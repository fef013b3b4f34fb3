//! What a part of a run writes, and whether it can be afforded.

use super::Plan;
use crate::eval::Evaluator;
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::model::TensorIdx;
use modelferry_core::{Error, Result};

/// The tensors that a layout writes, each once.
pub(super) fn used_tensors(layout: &Layout) -> Vec<TensorIdx> {
    let mut used: Vec<TensorIdx> = layout
        .files
        .iter()
        .flat_map(|file| &file.pieces)
        .filter_map(|piece| match piece {
            Piece::Tensor { idx, .. } => Some(*idx),
            _ => None,
        })
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// Refuses a plan whose scratch does not fit the budget or which reads out of all proportion.
pub(super) fn check_cost(evaluator: &Evaluator<'_>, plan: &Plan<'_>, used: &[TensorIdx]) -> Result<()> {
    for &idx in used {
        let tensor = &evaluator.source.model.tensors[idx];
        let fact = evaluator.facts[tensor.data];
        let node = &evaluator.source.model.nodes[tensor.data];
        let scratch = (node.dtype.item_bytes() + u64::from(fact.scratch)).saturating_add(fact.fixed);
        if node.n > 0 && scratch > plan.settings.memory.max(1 << 20) {
            return Err(Error::limit("one item of this tensor needs more memory than the budget")
                .tensor(&tensor.name)
                .expected(format_args!("at most {} bytes", plan.settings.memory))
                .found(format_args!("{scratch} bytes")));
        }
        let amplification = fact.reads / node.dtype.item_bytes().max(1);
        let reads = fact.reads.saturating_mul(node.n);
        // What a whole-tensor statistic reads is bounded by its input, not by its own size.
        let input: u64 = plan.inputs.total_len();
        if amplification > plan.settings.limits.read_amplification && reads / 64 > input.max(1 << 20) {
            return Err(Error::limit("computing this tensor would read out of all proportion to its files")
                .tensor(&tensor.name)
                .expected(format_args!("at most {} bytes", input.saturating_mul(64)))
                .found(format_args!("{reads} bytes")));
        }
    }
    Ok(())
}
