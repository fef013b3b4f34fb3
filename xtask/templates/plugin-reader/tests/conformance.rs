//! The suite that every plugin passes, on this one; before that, the steps that are left.

use modelferry_conformance::{Left, reader_is_done};
use modelferry_core::registry::Registry;
use std::path::Path;

/// With `MODELFERRY_UPDATE=1` it writes what the files of `testdata/bad` give; look at it before you keep it.
#[test]
fn the_reader_is_done() -> Result<(), Left> {
    let mut registry = Registry::default();
    __IDENT__::register(&mut registry);
    // A format to convert to, and the reader that sees what came of it. Not judged here.
    safetensors_reader::register(&mut registry);
    safetensors_writer::register(&mut registry);
    reader_is_done(&registry, "__NAME__", &Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"))
}
