//! Recognition: whether a file is one of __NAME__.

use modelferry_core::inputs::Inputs;
use modelferry_core::plugin::Verdict;

/// Whether the root file is of this format.
///
/// It reads a few bytes, never the whole file, and is silent about what is something else: every reader is shown every
/// file. `Content` is a promise that no other format begins like this; if reading then fails, it is a broken file of
/// this format. `Name` says that only the name fits.
pub(crate) fn identify(inputs: &dyn Inputs) -> Verdict {
    let root = inputs.root();
    // STEP 3. Look at the bytes by which the format is known, and give `Content` for them:
    //
    //     let mut start = [0; 4];
    //     if inputs.read_at(root, 0, &mut start).is_ok() && start == *b"FLAT" {
    //         return Verdict::Content;
    //     }
    if inputs.name(root).ends_with(".__NAME__") { Verdict::Name } else { Verdict::No }
}
