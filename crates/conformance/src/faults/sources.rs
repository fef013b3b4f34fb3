//! What is converted: models that every writer makes, and the files of testdata.

use super::Depth;
use crate::{layouts, nested, suite};
use modelferry_convert::{Context, pick};
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, ErrorKind, Result as CoreResult};
use modelferry_core::expr::{Op, Packing};
use modelferry_core::inputs::{FileId, Inputs as _, MemInputs};
use modelferry_core::layout::Layout;
use modelferry_core::limits::Limits;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Answer, Host, LayoutRequest, Place, Query, Shards, Writer};
use modelferry_core::registry::Registry;
use modelferry_engine::io::OsIo;
use modelferry_engine::{Control, Settings};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model as files.
pub(super) struct Source {
    /// What it is, in reports.
    pub(super) name: String,
    /// Its format.
    pub(super) format: &'static str,
    /// Its files, by the path relative to the root's folder.
    pub(super) files: BTreeMap<PathBuf, Vec<u8>>,
    /// The file that stands for it; empty for a folder.
    pub(super) root: PathBuf,
    /// Whether it is several files.
    pub(super) is_sharded: bool,
    /// One of the many files of testdata that are read alike: one writer is enough for it.
    pub(super) is_one_of_many: bool,
}

/// Files of testdata beyond this are as good as smaller ones, and slower.
const MAX_BYTES: u64 = 64 << 10;

/// What every writer makes of a small model: one file, and several where it can.
pub(super) fn made(registry: &Registry) -> Result<Vec<Source>, String> {
    let mut sources = vec![];
    for writer in registry.writers() {
        let format = writer.info().format;
        if !registry.readers().any(|reader| reader.info().format == format) {
            continue;
        }
        for shards in [Shards::One, SHARDS] {
            let made =
                make(registry, writer, shards).map_err(|error| format!("a source of {format}: {error}"))?;
            if let Some((files, root)) = made.filter(|(files, _)| shards == Shards::One || files.len() > 1) {
                let is_sharded = shards != Shards::One;
                let what = if is_sharded { "several files" } else { "one file" };
                let name = format!("{format} made as {what}");
                sources.push(Source { name, format, files, root, is_sharded, is_one_of_many: false });
            }
        }
    }
    Ok(sources)
}

/// Two of the larger tensors fit into a file.
pub(super) const SHARDS: Shards = Shards::Max(1100);

/// The models tried on a writer, the richest first: a format may hold one type only, or one nameless tensor.
const MODELS: [&[(&str, DType, &[u64])]; 3] = [
    &[
        ("layers.0.weight", DType::F32, &[16, 8]),
        ("layers.1.weight", DType::F32, &[16, 8]),
        ("layers.2.weight", DType::F32, &[16, 8]),
        ("zeros", DType::F32, &[64, 128]),
        ("layers.0.bias", DType::F16, &[5]),
        ("steps", DType::I64, &[]),
    ],
    &[("layers.0.weight", DType::F32, &[16, 8]), ("layers.1.weight", DType::F32, &[16, 8])],
    &[("weight", DType::F32, &[16, 8])],
];

type Files = (BTreeMap<PathBuf, Vec<u8>>, PathBuf);

fn make(registry: &Registry, writer: &dyn Writer, shards: Shards) -> CoreResult<Option<Files>> {
    for tensors in MODELS {
        match lay_out(registry, writer, tensors, shards) {
            Ok(made) => return Ok(Some(made)),
            Err(error) if matches!(error.kind(), ErrorKind::Target | ErrorKind::Unsupported) => {}
            Err(error) => return Err(error),
        }
    }
    // A format without shards refuses them for every model.
    if shards == Shards::One { Err(Error::plugin("it takes none of the models")) } else { Ok(None) }
}

fn lay_out(
    registry: &Registry,
    writer: &dyn Writer,
    tensors: &[(&str, DType, &[u64])],
    shards: Shards,
) -> CoreResult<Files> {
    let is_folder = writer.info().place == Place::Folder;
    let info = pick::weights_of(registry, writer.info());
    let n_tensors = tensors.len() as u64;
    let is_held = |(_, dtype, _): &(&str, DType, &[u64])| info.dtypes.contains(dtype);
    if n_tensors > info.max_tensors || !tensors.iter().all(is_held) {
        return Err(Error::target("more than the format holds"));
    }
    if shards != Shards::One && info.shards == modelferry_core::plugin::Carries::No {
        return Err(Error::target("the format has no shards"));
    }
    let mut model = Model::default();
    let mut file = vec![];
    for &(name, dtype, shape) in tensors {
        let n: u64 = shape.iter().product();
        let len = n * dtype.item_bytes();
        let at = file.len() as u64;
        // Small positive numbers in every type, and one long run of zeros.
        let byte = |idx: u64| if name == "zeros" || !idx.is_multiple_of(2) { 0 } else { (idx % 61) as u8 };
        file.extend((0..len).map(byte));
        let region = model.nodes.region(FileId(0), at, len)?;
        let data = model.nodes.decode(region, dtype, n, Packing::default())?;
        model.push(name, dtype, shape.to_vec(), data)?;
    }
    if is_folder {
        model.config = Some("{}".into());
        for name in ["tokenizer.json", "1_Pooling/config.json"] {
            let text = model.nodes.inline(name.as_bytes().to_vec())?;
            model.push_asset(name, text)?;
        }
    }
    let inputs = MemInputs::new("file", file);
    let mut host = MemHost { registry, inputs: &inputs, settings: Settings::default() };
    let extension = info.extensions.last().copied().unwrap_or_default();
    let options = Options::resolve(writer.info().options, &BTreeMap::new())?;
    let weights = nested::weights(registry, writer.info());
    let file_name = format!("model{extension}");
    let request = LayoutRequest { file_name: &file_name, weights, options: &options, shards };
    let view = ModelView::new(&model, &host.settings.limits)?;
    let (layout, _) = writer.layout(&view, &request, &mut host)?;
    layout.validate(&view)?;
    let contents = layouts::execute(&model, &inputs, &layout)?;
    let root = if is_folder { PathBuf::new() } else { PathBuf::from(&layout.files[layout.root].path) };
    let names = layout.files.iter().map(|file| PathBuf::from(&file.path));
    Ok((names.zip(contents).collect(), root))
}

/// Answers a writer's questions about the model in memory.
struct MemHost<'a> {
    registry: &'a Registry,
    inputs: &'a MemInputs,
    settings: Settings,
}

impl Host for MemHost<'_> {
    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn ask(&mut self, model: &Model, query: Query) -> CoreResult<Answer> {
        let source = modelferry_engine::Source { model, inputs: self.inputs };
        modelferry_engine::answer(source, &self.settings, &query)
    }

    fn layout(
        &mut self,
        view: &ModelView<'_>,
        format: &str,
        request: &LayoutRequest<'_>,
    ) -> CoreResult<(Layout, Vec<Loss>)> {
        nested::layout(self.registry, view, format, request, self)
    }
}

/// How a file is read: its format, the kinds of nodes that its tensors are made of, whether it is several files, and
/// whether the file that was named holds tensors itself.
type Kind = (&'static str, BTreeSet<String>, bool, bool);

/// The smallest file of testdata of each kind; all of them for [`Depth::Full`].
pub(super) fn found(registry: &Registry, testdata: &Path, depth: Depth) -> Result<Vec<Source>, String> {
    let (settings, control) = (Settings::default(), Control::new());
    let cx = Context { registry, io: Arc::new(OsIo), settings: &settings, control: &control };
    let models = testdata.join("models");
    let mut smallest: BTreeMap<Kind, (u64, Source)> = BTreeMap::new();
    let mut others = vec![];
    let files = files_below(&models).map_err(|error| format!("{}: {error}", models.display()))?;
    let folders = suite::folders_of_models(&models, &files);
    let is_alone = |path: &PathBuf| !folders.iter().any(|folder| path.starts_with(folder));
    for path in folders.iter().chain(files.iter().filter(|path| is_alone(path))) {
        // What is no model is a shard's asset, or the conformance suite's to complain about.
        let Ok(opened) = modelferry_convert::open(&cx, path, None, &BTreeMap::new()) else { continue };
        let len = opened.inputs.total_len();
        if len > MAX_BYTES {
            continue;
        }
        let mut files = BTreeMap::new();
        for file in opened.files() {
            let name = PathBuf::from(opened.inputs.name(file));
            let bytes = opened.inputs.read_vec(file, 0, opened.inputs.len(file), MAX_BYTES);
            files.insert(name, bytes.map_err(|error| error.to_string())?);
        }
        let is_sharded = opened.weight_files().len() > 1;
        let root = opened.inputs.root();
        let is_root_read = opened
            .model
            .nodes
            .iter()
            .any(|(_, node)| matches!(node.op, Op::Region { file, .. } if file == root));
        let ops = opened.model.nodes.iter().map(|(_, node)| op_name(&node.op)).collect();
        let source = Source {
            name: path.strip_prefix(testdata).unwrap_or(path).display().to_string(),
            format: opened.reader.format,
            files,
            root: match root {
                FileId::FOLDER => PathBuf::new(),
                file => PathBuf::from(opened.inputs.name(file)),
            },
            is_sharded,
            is_one_of_many: false,
        };
        let kind = (source.format, ops, is_sharded, is_root_read);
        match smallest.get_mut(&kind) {
            None => drop(smallest.insert(kind, (len, source))),
            Some(known) if known.0 > len => others.push(std::mem::replace(known, (len, source)).1),
            Some(_) => others.push(source),
        }
    }
    let mut sources: Vec<Source> = smallest.into_values().map(|(_, source)| source).collect();
    if depth == Depth::Full {
        sources.extend(others.into_iter().map(|source| Source { is_one_of_many: true, ..source }));
    }
    Ok(sources)
}

/// `Region` of `Region { file: …`.
fn op_name(op: &Op) -> String {
    let text = format!("{op:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let list = if entry.file_type()?.is_dir() { &mut folders } else { &mut files };
            list.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
