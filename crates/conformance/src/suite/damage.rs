//! Fixtures in memory, and what a reader may say of one that was damaged.

use super::content::{Content, Held};
use super::fixtures::Fixture;
use crate::nested;
use modelferry_core::error::{Error, ErrorKind, Result as CoreResult};
use modelferry_core::expr::{NodeId, Op};
use modelferry_core::inputs::{FileId, Inputs, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Host, Place, Query, Reader};
use modelferry_core::registry::Registry;
use modelferry_engine::{Settings, Source, answer, read_items};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The files of a fixture.
pub(super) struct Files {
    /// Name and bytes; the first is the root, where that is a file.
    pub(super) files: Vec<(String, Arc<[u8]>)>,
    place: Place,
}

impl Files {
    pub(super) fn of(fixture: &Fixture) -> Result<Files, String> {
        let place = fixture.place();
        let folder = match place {
            Place::File => fixture.path.parent().unwrap_or(Path::new("")),
            Place::Folder => &fixture.path,
        };
        let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        let mut files: Vec<(String, Arc<[u8]>)> = vec![];
        for path in &fixture.files {
            let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            files.push((name(path), bytes.into()));
        }
        files.sort_by_key(|(known, _)| *known != name(&fixture.path));
        Ok(Files { files, place })
    }

    pub(super) fn whole(&self) -> MemInputs {
        let with = |inputs: MemInputs, (name, bytes): &(String, Arc<[u8]>)| inputs.with(name, bytes.clone());
        self.files.iter().fold(self.empty(), with)
    }

    /// The files, but `bytes` instead of the one at `idx`.
    pub(super) fn with(&self, idx: usize, bytes: &[u8]) -> MemInputs {
        let with = |inputs: MemInputs, (at, (name, whole)): (usize, &(String, Arc<[u8]>))| {
            inputs.with(name, if at == idx { bytes.into() } else { whole.clone() })
        };
        self.files.iter().enumerate().fold(self.empty(), with)
    }

    fn empty(&self) -> MemInputs {
        match self.place {
            Place::File => MemInputs::default(),
            Place::Folder => MemInputs::folder("model"),
        }
    }

    /// The files that a model is made of: its root or config, and those with bytes of its tensors. The others of a
    /// folder are carried whatever is in them.
    pub(super) fn used(&self, model: &Model, inputs: &MemInputs) -> Vec<usize> {
        let is_asset = |id: NodeId| model.assets.iter().any(|asset| asset.data == id);
        let is_read = |name: &str| {
            let reads = |op: &Op| matches!(op, Op::Region { file, .. } if inputs.name(*file) == name);
            model.nodes.iter().any(|(id, node)| reads(&node.op) && !is_asset(id))
        };
        let is_root = |idx: usize| match self.place {
            Place::File => idx == 0,
            Place::Folder => self.files[idx].0 == "config.json",
        };
        (0..self.files.len()).filter(|&idx| is_root(idx) || is_read(&self.files[idx].0)).collect()
    }
}

/// One thread: the default asks the system for its number of cores, which takes longer than most of the files here.
fn settings() -> Settings {
    Settings { threads: 1, memory: 8 << 20, limits: Limits::default(), sync: false }
}

/// Reads and validates, as the pipeline does.
pub(super) fn read(registry: &Registry, reader: &dyn Reader, inputs: &MemInputs) -> CoreResult<Model> {
    let options = Options::resolve(reader.info().options, &BTreeMap::new())?;
    let mut host = EngineHost { registry, inputs, settings: settings() };
    let model = reader.read(inputs, &options, &mut host)?;
    model.validate(host.limits())?;
    Ok(model)
}

/// Answers as the program does: what a damaged header claims to hold would be too much for the naive evaluator.
struct EngineHost<'a> {
    registry: &'a Registry,
    inputs: &'a dyn Inputs,
    settings: Settings,
}

impl Host for EngineHost<'_> {
    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn ask(&mut self, model: &Model, query: Query) -> CoreResult<Answer> {
        answer(Source { model, inputs: self.inputs }, &self.settings, &query)
    }

    fn read(&mut self, inputs: &dyn Inputs, root: FileId) -> CoreResult<Model> {
        nested::read(self.registry, inputs, root, self)
    }
}

/// Everything in a model, as the engine makes it.
pub(super) fn evaluate(model: &Model, inputs: &MemInputs) -> CoreResult<Content> {
    let mut content = Content::around(model, inputs)?;
    let settings = settings();
    for (idx, tensor) in model.tensors.iter().enumerate() {
        let n = model.nodes[tensor.data].n;
        let bytes = read_items(Source { model, inputs }, &settings, tensor.data, 0, n)?;
        let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
        let is_verbatim = model.verbatim(idx).is_some();
        content.tensors.push(Held { name, dtype, shape, bytes, is_verbatim });
    }
    Ok(content)
}

/// Whether an error blames the input.
pub(super) fn blames_input(error: &Error) -> Result<(), String> {
    match error.kind() {
        ErrorKind::Malformed | ErrorKind::Unsupported | ErrorKind::Limit => Ok(()),
        kind => Err(format!("exit {}: {error}", kind.exit_code())),
    }
}

/// The parts of a file that hold bytes of tensors, in order and apart from each other. What lies between them is
/// headers.
pub(super) fn payload(model: &Model, inputs: &MemInputs, name: &str) -> Vec<Range<u64>> {
    let mut seen = BTreeSet::new();
    let mut left: Vec<NodeId> = model.tensors.iter().map(|tensor| tensor.data).collect();
    let mut parts = vec![];
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        if let Op::Region { file, at } = model.nodes[id].op
            && inputs.name(file) == name
            && model.nodes[id].n > 0
        {
            parts.push(at..at + model.nodes[id].n);
        }
        left.extend(model.nodes.children(id));
    }
    parts.sort_by_key(|part| part.start);
    let mut apart: Vec<Range<u64>> = vec![];
    for part in parts {
        match apart.last_mut() {
            Some(last) if part.start <= last.end => last.end = last.end.max(part.end),
            _ => apart.push(part),
        }
    }
    apart
}
