//! `training_args.bin` as JSON: the one pickle that lies beside nearly every model.

use modelferry_core::inputs::{FileId, Inputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::tree::{Object, Tree};
use modelferry_core::{Error, Result};
use modelferry_hf::tree_json;
use modelferry_wire::pickle::{self, Source};
use modelferry_wire::zip::{Directory, Method};

/// What the first pickle of torch's files from before 1.6 says: 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Pickles that stand before the object in such a file: magic number, version, and what machine wrote it.
const LEGACY_PREAMBLE: usize = 3;

/// The text of the object that `torch.save` has put into a file: an archive, the older stream, or a plain pickle.
/// Nothing in it is run or looked up.
///
/// Errors: those of reading zip archives and pickles; [`Limit`](modelferry_core::ErrorKind::Limit) for a document that
/// is too large or too deep as text.
pub(crate) fn as_json(inputs: &dyn Inputs, file: FileId, limits: &Limits) -> Result<String> {
    let whole = Window { file, at: 0, len: inputs.len(file) };
    let start = inputs.read_vec(file, 0, whole.len.min(4), 4)?;
    let window = if start == b"PK\x03\x04" { data(inputs, whole, limits)? } else { whole };
    let mut source = Source::new(inputs, window);
    let mut tree = pickle::read(&mut source, limits)?;
    if is_legacy(&tree) {
        for _ in 0..LEGACY_PREAMBLE {
            tree = pickle::read(&mut source, limits)?;
        }
    }
    tree_json::render(&tree, limits)
}

/// The pickle in a torch archive.
fn data(inputs: &dyn Inputs, whole: Window, limits: &Limits) -> Result<Window> {
    let directory = Directory::read(inputs, whole, limits)?;
    directory.refuse_case_variants()?;
    let is_data = |name: &str| name == "data.pkl" || name.ends_with("/data.pkl");
    match directory.entries.iter().find(|entry| is_data(&entry.name)) {
        Some(entry) if entry.method == Method::Stored => Ok(directory.data(entry)),
        Some(_) => Err(Error::unsupported("a deflated pickle")),
        None => Err(Error::unsupported("an archive without data.pkl")),
    }
}

fn is_legacy(tree: &Tree) -> bool {
    let root = tree.root().map(|root| &tree[root]);
    matches!(root, Some(Object::BigInt(bytes)) if **bytes == LEGACY_MAGIC)
}
