//! Recognition: the length field and the first byte of the header, or the first part of an index.

use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::Verdict;
use modelferry_hf::weights::is_index_name;

/// Bytes of an index that are looked at. Its keys are sorted, so `metadata` and the first file names come early.
const INDEX_PREFIX: usize = 4096;

/// Whether the root file is a safetensors file or the index of some.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    let root = inputs.root();
    let name = inputs.name(root);
    if is_index_name(&name) {
        let mut prefix = vec![0; INDEX_PREFIX.min(inputs.len(root) as usize)];
        let is_json = inputs.read_at(root, 0, &mut prefix).is_ok()
            && prefix.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        return match is_json && contains(&prefix, b".safetensors\"") {
            true => Verdict::Content,
            false if name.ends_with(".safetensors.index.json") => Verdict::Name,
            false => Verdict::No,
        };
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

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|window| window == pattern)
}
