//! Recognition: the magic.

use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::Verdict;
use modelferry_wire::gguf::MAGIC;

/// Whether the root file is a GGUF file.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    let root = inputs.root();
    let mut start = MAGIC.map(|_| 0);
    let begins = inputs.len(root) >= start.len() as u64 && inputs.read_at(root, 0, &mut start).is_ok();
    match begins && start == MAGIC {
        true => Verdict::Content,
        false if inputs.name(root).ends_with(".gguf") => Verdict::Name,
        false => Verdict::No,
    }
}
