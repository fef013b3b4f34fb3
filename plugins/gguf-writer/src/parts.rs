//! Which tensor goes into which file of a set.

use modelferry_core::model::{ModelView, TensorIdx};
use modelferry_core::plugin::Shards;
use modelferry_hf::output::distribute;

/// The tensors of each file. Their order is kept where the size decides: a file is closed when the next tensor, padded,
/// would not fit, as llama-gguf-split does it. A tensor larger than the size has a file of its own.
pub(crate) fn plan(view: &ModelView<'_>, shards: Shards, alignment: u64) -> Vec<Vec<TensorIdx>> {
    let Shards::Max(max_bytes) = shards else {
        return distribute(view, shards, (0..view.tensors().len()).collect());
    };
    let mut parts = vec![vec![]];
    let mut filled = 0u64;
    for (idx, tensor) in view.tensors().enumerate() {
        let len = tensor.byte_len().checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
        let is_full = filled.checked_add(len).is_none_or(|filled| filled > max_bytes);
        if is_full && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(vec![]);
            filled = 0;
        }
        if let Some(part) = parts.last_mut() {
            part.push(idx);
        }
        filled = filled.saturating_add(len);
    }
    parts
}
