//! A file that ends too early is an error, wherever it ends.

use super::content::{Content, NaiveHost};
use super::fixtures::Fixture;
use super::{Log, Suite, guarded};
use crate::random::Random;
use modelferry_core::error::{ErrorKind, Result as CoreResult};
use modelferry_core::expr::Op;
use modelferry_core::inputs::{Inputs, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::Reader;
use modelferry_engine::{Settings, Source, read_items};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// Files of at most this many bytes are cut at every one of them.
const SMALL_BYTES: usize = 4096;

/// How far around a structural boundary of a larger file every byte is tried.
const AROUND: u64 = 40;

/// Cuts of one larger file, at most.
const MAX_CUTS: usize = 2000;

pub(super) fn check(suite: &Suite<'_>, log: &mut Log) {
    for fixture in &suite.fixtures {
        let Ok(reader) = suite.registry.reader(fixture.format) else { continue };
        let result = guarded(|| all_cuts(fixture, reader, log)).and_then(|result| result);
        if let Err(why) = result {
            log.record::<()>(&fixture.name, Err(why));
        }
    }
}

fn all_cuts(fixture: &Fixture, reader: &dyn Reader, log: &mut Log) -> Result<(), String> {
    let mut files: Vec<(String, Arc<[u8]>)> = vec![];
    for path in &fixture.files {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        files.push((name(path), bytes.into()));
    }
    // The first file is the root.
    files.sort_by_key(|(known, _)| *known != name(&fixture.path));
    let whole = mem_inputs(&files, None);
    let model = read(reader, &whole).map_err(|error| error.to_string())?;
    let content = Content::of(&model, &whole).map_err(|error| error.to_string())?;
    for (idx, (name, bytes)) in files.iter().enumerate() {
        if idx > 0 && !is_used(&model, &whole, name) {
            continue;
        }
        for len in cuts(&model, &whole, name, bytes.len()) {
            let subject = format!("{}, {name} cut to {len} of {} bytes", fixture.name, bytes.len());
            let inputs = mem_inputs(&files, Some((idx, len)));
            let result = guarded(|| is_refused(reader, &inputs, &content)).and_then(|result| result);
            log.record(&subject, result);
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn mem_inputs(files: &[(String, Arc<[u8]>)], cut: Option<(usize, usize)>) -> MemInputs {
    let with = |inputs: MemInputs, (idx, (name, bytes)): (usize, &(String, Arc<[u8]>))| match cut {
        Some((cut, len)) if cut == idx => inputs.with(name, &bytes[..len]),
        _ => inputs.with(name, bytes.clone()),
    };
    files.iter().enumerate().fold(MemInputs::default(), with)
}

fn read(reader: &dyn Reader, inputs: &MemInputs) -> CoreResult<Model> {
    let options = Options::resolve(reader.info().options, &BTreeMap::new())?;
    let mut host = NaiveHost { inputs, limits: Limits::default() };
    let model = reader.read(inputs, &options, &mut host)?;
    model.validate(&host.limits)?;
    Ok(model)
}

/// An error of the input's kind, from reading or from evaluating; or the same model, where only white space was cut.
fn is_refused(reader: &dyn Reader, inputs: &MemInputs, whole: &Content) -> Result<(), String> {
    let content = read(reader, inputs).and_then(|model| {
        let mut content =
            Content { tensors: vec![], ties: model.ties.clone(), metadata: model.metadata.clone() };
        for (idx, tensor) in model.tensors.iter().enumerate() {
            let n = model.nodes[tensor.data].n;
            let source = Source { model: &model, inputs };
            let bytes = read_items(source, &Settings::default(), tensor.data, 0, n)?;
            let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
            let is_verbatim = model.verbatim(idx).is_some();
            content.tensors.push(super::content::Held { name, dtype, shape, bytes, is_verbatim });
        }
        Ok(content)
    });
    match content {
        Ok(content) if content == *whole => Ok(()),
        Ok(_) => Err("it is read without an error, as another model".to_owned()),
        Err(error) => match error.kind() {
            ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::Limit => Ok(()),
            kind => Err(format!("exit {}: {error}", kind.exit_code())),
        },
    }
}

/// Whether a model is made of a file.
fn is_used(model: &Model, inputs: &MemInputs, name: &str) -> bool {
    let reads = |op: &Op| matches!(op, Op::Region { file, .. } if inputs.name(*file) == name);
    model.nodes.iter().any(|(_, node)| reads(&node.op))
}

/// The lengths that a file of `len` bytes is cut to.
fn cuts(model: &Model, inputs: &MemInputs, name: &str, len: usize) -> Vec<usize> {
    if len <= SMALL_BYTES {
        return (0..len).collect();
    }
    let mut boundaries = BTreeSet::from([0, len as u64]);
    for (_, node) in model.nodes.iter() {
        if let Op::Region { file, at } = node.op
            && inputs.name(file) == name
        {
            boundaries.extend([at, at + node.n]);
        }
    }
    let mut cuts: Vec<usize> = boundaries
        .into_iter()
        .flat_map(|at| at.saturating_sub(AROUND)..at + AROUND)
        .filter(|&at| at < len as u64)
        .map(|at| at as usize)
        .collect();
    let mut random = Random::new(len as u64);
    cuts.extend((0..200).map(|_| random.below(len as u64) as usize));
    cuts.sort();
    cuts.dedup();
    random.shuffle(&mut cuts);
    cuts.truncate(MAX_CUTS);
    cuts
}
