//! The machine that reads pickles, and what writes them again.

use super::Reached;
use crate::check;
use crate::corpus::File;
use crate::pickle::{SAMPLES, is_likely};
use modelferry_core::error::{Error, ErrorKind, Result as CoreResult};
use modelferry_core::inputs::{Inputs, MemInputs, Window};
use modelferry_core::limits::Limits;
use modelferry_core::tree::Tree;
use modelferry_wire::pickle::{Emitter, Source, emit_tree, read};
use modelferry_wire::zip::{Directory, Method};

/// The input is a pickle.
pub(super) fn check(input: &[u8]) -> Result<Reached, String> {
    let inputs = MemInputs::new("made.pkl", input);
    let window = whole(&inputs);
    let mut source = Source::new(&inputs, window);
    let from_file = read(&mut source, &Limits::default());
    let mut memory = Source::memory(input);
    let from_memory = read(&mut memory, &Limits::default());
    let tree = match (from_file, from_memory) {
        (Ok(tree), Ok(again)) if format!("{tree:?}") == format!("{again:?}") => tree,
        (Err(error), Err(again)) if error.kind() == again.kind() && error.what() == again.what() => {
            return check::refusal(&error);
        }
        (one, other) => return Err(format!("read from a file {one:?}, from memory {other:?}")),
    };
    if source.position() != memory.position() || source.position() > input.len() as u64 {
        return Err(format!("it ends at {} and at {}", source.position(), memory.position()));
    }
    for (id, _) in tree.iter() {
        if tree.children(id).any(|child| child.idx() >= tree.len()) {
            return Err(format!("{id:?} refers to what is not there"));
        }
    }
    // Sets and bytes come back as calls, which from then on stay as they are.
    let Some(written) = emitted(&tree)? else { return Ok(Reached::Read) };
    let again = read_written(&written)?;
    let Some(settled) = emitted(&again)? else { return Err("written once, then refused".to_owned()) };
    let last = emitted(&read_written(&settled)?)?;
    match last.as_ref() == Some(&settled) {
        true => Ok(Reached::Read),
        false => Err("what was written is read as something else".to_owned()),
    }
}

fn read_written(bytes: &[u8]) -> Result<Tree, String> {
    read(&mut Source::memory(bytes), &Limits::default())
        .map_err(|error| format!("we do not read what we wrote: {error}"))
}

/// The tree written again; `None` where our dialect has no way to say it.
fn emitted(tree: &Tree) -> Result<Option<Vec<u8>>, String> {
    let mut emitter = Emitter::default();
    let root = tree.root().ok_or("a pickle without a value")?;
    let outcome: CoreResult<()> = emit_tree(tree, root, &mut emitter, &mut |_, _| Ok(()));
    match outcome.map_err(|error: Error| (error.kind(), error.to_string())) {
        Ok(()) => Ok(Some(emitter.finish())),
        Err((ErrorKind::Target | ErrorKind::Unsupported, _)) => Ok(None),
        Err((_, message)) => Err(format!("not written: {message}")),
    }
}

pub(super) fn whole(inputs: &MemInputs) -> Window {
    Window { file: inputs.root(), at: 0, len: inputs.len(inputs.root()) }
}

/// A pickle, or the one in an archive.
pub(super) fn seed(file: &File) -> Option<Vec<u8>> {
    if !file.bytes.starts_with(b"PK") {
        return is_likely(&file.bytes).then(|| file.bytes.clone());
    }
    let inputs = MemInputs::new("m", &file.bytes[..]);
    let directory = Directory::read(&inputs, whole(&inputs), &Limits::default()).ok()?;
    let is_pickle = |name: &str| name.ends_with("/data.pkl");
    let entry =
        directory.entries.iter().find(|entry| is_pickle(&entry.name) && entry.method == Method::Stored)?;
    let data = directory.data(entry);
    inputs.read_vec(data.file, data.at, data.len, data.len).ok()
}

pub(super) fn beginnings() -> Vec<Vec<u8>> {
    SAMPLES.iter().map(|sample| sample.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_beginning_is_read() {
        for sample in beginnings() {
            assert_eq!(check(&sample), Ok(Reached::Read), "{:?}", String::from_utf8_lossy(&sample));
        }
        assert_eq!(check(b"("), Ok(Reached::Refused));
        // A cycle through a tuple is read, and not written.
        assert_eq!(check(b"((lp0\n(g0\ntp1\na00g1\n."), Ok(Reached::Read));
    }
}
