//! `--verify`: the staged output, read back through its own reader, against the source's expressions.

use crate::job::Context;
use crate::open::read;
use modelferry_core::inputs::Inputs;
use modelferry_core::model::TensorIdx;
use modelferry_core::plugin::{Carries, Place, Reader, WriterInfo};
use modelferry_core::tree::Tree;
use modelferry_core::{Error, Result};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::{Comparison, Source, Tolerance, read_items};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Compares every tensor of `source` with the file at `staged`, bytes and types, and their names where the format
/// holds names. `links` are files that it points into, by the names that they will have beside it. Returns how many were compared.
///
/// Errors: [`Difference`](modelferry_core::ErrorKind::Difference) naming the first tensor that is not the same.
pub(crate) fn check(
    cx: &Context<'_>,
    source: Source<'_>,
    staged: &Path,
    links: &[(&str, PathBuf)],
    reader: &dyn Reader,
    info: &WriterInfo,
) -> Result<usize> {
    let inputs = DiskInputs::open(Arc::clone(&cx.io), staged)?.limits(&cx.settings.limits);
    links.iter().try_for_each(|(name, path)| inputs.place(name, path))?;
    let inputs = Arc::new(inputs);
    let written = read(cx, inputs, reader, &Default::default())?;
    let (written_source, written_inputs) = (written.source(), Arc::clone(&written.inputs));
    let (written, written_place) = (&written.model, written.reader.place);

    let differs = |what: &'static str, name: &str| {
        Err(Error::difference(what)
            .format(info.format)
            .tensor(name)
            .hint("--verify found it; nothing was published"))
    };
    let by_name: HashMap<&str, TensorIdx> =
        written.tensors.iter().enumerate().map(|(idx, tensor)| (tensor.name.as_str(), idx)).collect();
    if written.tensors.len() > source.model.tensors.len() {
        let known: std::collections::HashSet<&str> =
            source.model.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let extra = written.tensors.iter().find(|tensor| !known.contains(tensor.name.as_str()));
        return differs("the written file holds a tensor more", extra.map_or("", |tensor| &tensor.name));
    }
    // Nothing names the tensor of a document that is one: readers call it after the file.
    let is_bare = info.tree == Carries::Yes && source.model.tree.as_ref().is_some_and(is_tensor);
    let has_names = info.names == Carries::Yes && !is_bare;
    let comparison = Comparison::new(source, written_source, cx.settings, cx.control)?;
    let n_pairs = source.model.tensors.len().min(written.tensors.len());
    comparison.begin((0..n_pairs).map(|idx| (idx, idx)));
    for (idx, tensor) in source.model.tensors.iter().enumerate() {
        let found = match has_names {
            true => by_name.get(tensor.name.as_str()).copied(),
            false => (idx < written.tensors.len()).then_some(idx),
        };
        let Some(found) = found else {
            return differs("the written file does not hold it", &tensor.name);
        };
        let other = &written.tensors[found];
        if (other.dtype, &other.shape) != (tensor.dtype, &tensor.shape) {
            return Err(Error::difference("type or shape are not as written")
                .format(info.format)
                .tensor(&tensor.name)
                .expected(format_args!("{} {:?}", tensor.dtype, tensor.shape))
                .found(format_args!("{} {:?}", other.dtype, other.shape)));
        }
        let diff = comparison.tensors(idx, found, Tolerance::Exact)?;
        if let Some(first) = diff.first {
            return Err(Error::difference("the written values are not the source's")
                .format(info.format)
                .tensor(&tensor.name)
                .found(format_args!("{} different, the first at index {first}", diff.n_different)));
        }
    }
    comparison.check_claims()?;
    if written_place == Place::Folder {
        compare_assets(cx, source, &*written_inputs)?;
    }
    Ok(source.model.tensors.len())
}

/// Whether a document is a tensor and nothing else.
fn is_tensor(document: &Tree) -> bool {
    document.root().is_some_and(|root| document.tensor(root).is_some())
}

/// Compares the files of the model that hold no weights with those in the written folder.
fn compare_assets(cx: &Context<'_>, source: Source<'_>, written: &dyn Inputs) -> Result<()> {
    const CHUNK_BYTES: u64 = 1 << 20;
    for asset in &source.model.assets {
        let differs = |what: &'static str| {
            Error::difference(what).file(&asset.name).hint("--verify found it; nothing was published")
        };
        let file = written.open(&asset.name)?;
        let len = source.model.nodes[asset.data].n;
        if written.len(file) != len {
            let error = differs("the written file has another length");
            return Err(error.expected(len).found(written.len(file)));
        }
        let mut at = 0;
        while at < len {
            cx.control.check()?;
            let n = CHUNK_BYTES.min(len - at);
            let expected = read_items(source, cx.settings, asset.data, at, n)?;
            if written.read_vec(file, at, n, n)? != expected {
                return Err(differs("the written file is not the source's").offset(at));
            }
            at += n;
        }
    }
    Ok(())
}
