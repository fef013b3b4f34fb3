//! Recognition: the length field and the first byte of the header, or the first part of an index.

use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::Verdict;
use modelferry_hf::set::is_index_of;

/// Whether the root file is a safetensors file or the index of some.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    let root = inputs.root();
    let name = inputs.name(root);
    if let Some(verdict) = is_index_of(inputs, ".safetensors") {
        return verdict;
    }
    let mut start = [0u8; 9];
    if inputs.len(root) >= 9 && inputs.read_at(root, 0, &mut start).is_ok() {
        let (length, first) = start.split_at(8);
        let header_len = u64::from_le_bytes(length.try_into().unwrap_or_default());
        if first == b"{" && header_len >= 2 && header_len <= inputs.len(root) - 8 {
            return Verdict::Content;
        }
    }
    if name.ends_with(".safetensors") { Verdict::Name } else { Verdict::No }
}
