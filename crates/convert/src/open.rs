//! From a path to a model.

use crate::host::{EngineHost, Traces};
use crate::job::{Context, PluginOptions};
use crate::watched::watched;
use crate::{pick, sniff};
use modelferry_core::expr::{NodeId, Op};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::model::Model;
use modelferry_core::options::Options;
use modelferry_core::plugin::{Place, Reader, ReaderInfo};
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_engine::Source;
use modelferry_engine::disk::DiskInputs;
use modelferry_transform::Edits;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

/// A model with the files behind it.
pub struct Opened {
    /// Its reader, described.
    pub reader: &'static ReaderInfo,
    /// Its files.
    pub inputs: Arc<DiskInputs>,
    /// The description.
    pub model: Model,
    /// What the reader has asked for.
    pub(crate) traces: Traces,
}

impl Opened {
    /// What the engine evaluates.
    pub fn source(&self) -> Source<'_> {
        Source { model: &self.model, inputs: &*self.inputs }
    }

    /// Leaves of a nested checkpoint what `convert` would take: the one set of weights, or the one that `path` names. A
    /// model that is not nested stays whole.
    ///
    /// Errors: those of [`select`](modelferry_transform::select).
    pub fn select(&mut self, path: Option<&str>) -> Result<()> {
        if self.model.tree.is_none() {
            return Ok(());
        }
        let edits = Edits { select: path.map(str::to_owned), ..Edits::default() };
        modelferry_transform::select(&mut self.model, &edits, &mut vec![])
    }

    /// Gives the tensors of a graph the names they had before its export, as a conversion does, where a model without a
    /// graph shows by its names that it was made so.
    ///
    /// Errors are those of [`restore`](modelferry_transform::restore).
    pub(crate) fn restore_like(&mut self, cx: &Context<'_>, other: &Model) -> Result<()> {
        if self.model.graph.is_none() || other.graph.is_some() {
            return Ok(());
        }
        let names: HashSet<&str> = other.tensors.iter().map(|tensor| &*tensor.name).collect();
        let n_known = |model: &Model| {
            let known = model.tensors.iter().filter(|tensor| names.contains(&*tensor.name));
            known.count()
        };
        let mut restored = self.model.clone();
        let (options, mut traces) = (PluginOptions::default(), Traces::default());
        let mut host =
            EngineHost { cx, inputs: &*self.inputs, options: &options, traces: &mut traces, links: None };
        modelferry_transform::restore(&mut restored, false, &mut host)?;
        if n_known(&restored) > n_known(&self.model) {
            self.model = restored;
        }
        Ok(())
    }

    /// The readers that have read it: its own, and those of the models inside it.
    pub fn readers(&self) -> impl Iterator<Item = &'static ReaderInfo> {
        std::iter::once(self.reader).chain(self.traces.readers.iter().copied())
    }

    /// The files that were opened, the root first, then in that order.
    pub fn files(&self) -> Vec<FileId> {
        let mut files: BTreeSet<FileId> = self.inputs.used().into_iter().collect();
        let root = self.inputs.root();
        files.remove(&root);
        std::iter::once(root).filter(|&root| root != FileId::FOLDER).chain(files).collect()
    }

    /// The files that hold tensors, in the order in which they were opened.
    pub fn weight_files(&self) -> BTreeSet<FileId> {
        let assets: HashSet<NodeId> = self.model.assets.iter().map(|asset| asset.data).collect();
        let regions = self.model.nodes.iter().filter(|(id, _)| !assets.contains(id));
        let files = regions.filter_map(|(_, node)| match node.op {
            Op::Region { file, .. } => Some(file),
            _ => None,
        });
        files.collect()
    }
}

/// Opens `path`, picks a reader (`from` by name, else by content), reads and validates.
///
/// `options` may hold options of other plugins too; what belongs to nobody is the caller's to refuse
/// ([`pick::check_options`]).
pub fn open(cx: &Context<'_>, path: &Path, from: Option<&str>, options: &PluginOptions) -> Result<Opened> {
    open_as(cx, path, from, options, Place::File)
}

/// The same for a target that is a folder or a file: where a folder is wanted and a file named, the file's own folder
/// is the model, if a reader of folders says so.
pub(crate) fn open_as(
    cx: &Context<'_>,
    path: &Path,
    from: Option<&str>,
    options: &PluginOptions,
    wanted: Place,
) -> Result<Opened> {
    let inputs = Arc::new(DiskInputs::open(Arc::clone(&cx.io), path)?.limits(&cx.settings.limits));
    let place = if inputs.is_folder() { Place::Folder } else { Place::File };
    let reader = watched(&*inputs, |inputs| {
        if (wanted, place) == (Place::Folder, Place::File)
            && let Some(reader) = pick::folder_of(cx.registry, inputs)
        {
            return Ok(reader);
        }
        pick::reader(cx.registry, from, place, inputs)
    })
    .map_err(|error| if inputs.is_folder() { error.file(path.display()) } else { error })?;
    match read(cx, Arc::clone(&inputs), reader, options) {
        Err(error) if error.kind() == ErrorKind::Malformed => {
            let named =
                error.fields().into_iter().find_map(|(field, text)| (field == "file").then_some(text));
            let blamed =
                named.and_then(|name| inputs.used().into_iter().find(|&file| inputs.name(file) == name));
            // A git-lfs pointer under `--from safetensors`, or behind an index, is better called one than a bad header.
            // Of what was recognized by its content there is nothing more to say.
            let blamed = blamed.unwrap_or(inputs.root());
            let known = Some(blamed).filter(|&file| from.is_some() || file != inputs.root());
            Err(known.map(|file| sniff::foreign(&*inputs, file)).transpose()?.flatten().unwrap_or(error))
        }
        result => result,
    }
}

/// Reads and validates with a reader at hand.
pub(crate) fn read(
    cx: &Context<'_>,
    inputs: Arc<DiskInputs>,
    reader: &dyn Reader,
    options: &PluginOptions,
) -> Result<Opened> {
    let info = reader.info();
    let resolved = Options::resolve(info.options, options)?;
    let mut traces = Traces::default();
    let context = |error: Error| error.format(info.format);
    let read = |inputs: &dyn Inputs| {
        let mut host = EngineHost { cx, inputs, options, traces: &mut traces, links: None };
        reader.read(inputs, &resolved, &mut host)
    };
    let model = watched(&*inputs, read).map_err(context)?;
    // What holds for every model has no place of its own: the named file is the nearest.
    let validated = model.validate(&cx.settings.limits);
    validated.map_err(|error| context(error).file(inputs.name(inputs.root())))?;
    Ok(Opened { reader: info, inputs, model, traces })
}
