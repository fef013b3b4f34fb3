//! The suite that every plugin passes, on this one; before that, the steps that are left.

use modelferry_conformance::{Left, writer_is_done};
use modelferry_core::registry::Registry;
use std::path::Path;

#[test]
fn the_writer_is_done() -> Result<(), Left> {
    let mut registry = Registry::default();
    __IDENT__::register(&mut registry);
    // STEP 1. The reader that sees what was written.
    __JUDGE__
    // A format to convert from: testdata/models has a file of it. Not judged here.
    safetensors_reader::register(&mut registry);
    writer_is_done(&registry, "__NAME__", &Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"))
}
