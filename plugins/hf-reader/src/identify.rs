//! Recognition: by the names in a folder.

use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::plugin::Verdict;
use modelferry_hf::config;
use modelferry_hf::weights::{self, Role};

/// Whether the root is a model's folder, or a file of weights in one.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    let Ok(names) = inputs.list("") else { return Verdict::No };
    let has_config = names.iter().any(|name| name == config::FILE_NAME);
    let root = inputs.root();
    if root != FileId::FOLDER {
        // A lone file of weights is no folder.
        let is_weights = weights::role(&inputs.name(root)) == Role::Weights;
        return if has_config && is_weights { Verdict::Content } else { Verdict::No };
    }
    if has_config || weights::has_usual(&names) {
        return Verdict::Content;
    }
    match weights::choose(&names, None, None) {
        Ok(None) => Verdict::No,
        // Weights of whatever name are worth a try, and several of them an explanation.
        _ => Verdict::Name,
    }
}
