//! The files that are read: what lies in testdata, and what the writers make of the made models.

use super::content::{Content, NaiveHost};
use super::scratch::walk;
use super::{Log, Suite, guarded};
use crate::models::{self, Made};
use crate::{layouts, nested, suite::run};
use modelferry_core::error::{Error, ErrorKind, Result as CoreResult};
use modelferry_core::limits::Limits;
use modelferry_core::loss::Loss;
use modelferry_core::model::{ModelView, Value};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Carries, LayoutRequest, Place, Reader, Shards, Verdict, Writer, WriterInfo};
use modelferry_engine::disk::DiskInputs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file or folder, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Fixture {
    /// Its name in reports.
    pub(super) name: String,
    /// The model's root file, or its folder.
    pub(super) path: PathBuf,
    /// The format of the one reader that knows its content.
    pub(super) format: &'static str,
    /// The files that may belong to the model: itself, or all of its folder.
    pub(super) files: Vec<PathBuf>,
}

impl Fixture {
    /// What it is on disk.
    pub(super) fn place(&self) -> Place {
        if self.path.is_dir() { Place::Folder } else { Place::File }
    }
}

/// The models of every `testdata/models`.
pub(super) fn find(suite: &Suite<'_>, log: &mut Log) -> Result<Vec<Fixture>, String> {
    let mut fixtures = vec![];
    for testdata in &suite.testdata {
        fixtures.extend(find_in(suite, &testdata.join("models"), log)?);
    }
    Ok(fixtures)
}

/// The models of a folder. A folder in it with a config is one, and so is everything in that. Else a file beside others
/// there is a model; so is each one in a folder of its own.
fn find_in(suite: &Suite<'_>, folder: &Path, log: &mut Log) -> Result<Vec<Fixture>, String> {
    let files = walk(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    if files.is_empty() {
        return Err(format!("{}: no models", folder.display()));
    }
    let mut fixtures = vec![];
    let folders = folders_of_models(folder, &files);
    for path in &folders {
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let files = files.iter().filter(|file| file.starts_with(path)).cloned().collect();
        if let Some(format) = log.record(&name, owner(suite, path)) {
            fixtures.push(Fixture { name, path: path.clone(), format, files });
        }
    }
    for path in files.iter().filter(|path| !folders.iter().any(|folder| path.starts_with(folder))) {
        let name = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        let own = path.parent().filter(|own| *own != folder);
        let siblings = files.iter().filter(|other| own.is_some_and(|own| other.starts_with(own)));
        let mut members: Vec<PathBuf> = siblings.cloned().collect();
        if members.is_empty() {
            members.push(path.clone());
        }
        if goes_with_others(path) {
            continue;
        }
        if let Some(format) = log.record(&name, owner(suite, path)) {
            fixtures.push(Fixture { name, path: path.clone(), format, files: members });
        }
    }
    Ok(fixtures)
}

/// Whether a file of testdata is no model but a part of one beside or above it: its name has an ending such as `.data`.
pub(super) fn goes_with_others(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.to_string_lossy().ends_with("data"))
}

/// The outermost folders below `models` in which a config lies.
pub(crate) fn folders_of_models(models: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let has_config = |folder: &Path| files.iter().any(|file| *file == folder.join("config.json"));
    let outermost = |file: &PathBuf| {
        let around = file.ancestors().skip(1).take_while(|folder| *folder != models);
        around.filter(|folder| has_config(folder)).last().map(Path::to_owned)
    };
    let folders: BTreeSet<PathBuf> = files.iter().filter_map(outermost).collect();
    folders.into_iter().collect()
}

/// What every writer makes of the made models that its format can hold.
pub(super) fn make(suite: &Suite<'_>, log: &mut Log) -> Result<Vec<Fixture>, String> {
    let made = models::all().map_err(|error| format!("the suite's own models: {error}"))?;
    let mut fixtures = vec![];
    for writer in suite.registry.writers() {
        let info = writer.info();
        for made in &made {
            let name = format!("{} made as {}", made.name, info.format);
            let written = guarded(|| write(suite, made, writer)).and_then(|written| written);
            let Some(Some(written)) = log.record(&name, written) else { continue };
            if let Some(format) = log.record(&name, owner(suite, &written.root)) {
                let around = match info.place {
                    Place::File => written.root.parent().unwrap_or(Path::new("")),
                    Place::Folder => &written.root,
                };
                let files = walk(around).unwrap_or_default();
                fixtures.push(Fixture { name, path: written.root, format, files });
            }
        }
    }
    Ok(fixtures)
}

/// What a writer made of a made model.
pub(super) struct Written {
    pub(super) root: PathBuf,
    pub(super) losses: Vec<Loss>,
}

/// Lays a made model out and writes it with the naive executor; nothing if the format cannot hold it.
pub(super) fn write(suite: &Suite<'_>, made: &Made, writer: &dyn Writer) -> Result<Option<Written>, String> {
    let info = writer.info();
    let content = Content::of(&made.model, &made.inputs).map_err(|error| error.to_string())?;
    if lacks(suite.tensors_of(info), &content, made.shards).is_some() {
        return Ok(None);
    }
    let (layout, model, losses) = match lay_out(suite, made, writer) {
        Ok(laid_out) => laid_out,
        Err(error) if error.kind() == ErrorKind::Target => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let files = layouts::execute(&model, &made.inputs, &layout).map_err(|error| error.to_string())?;
    let folder = suite.scratch.folder().map_err(|error| error.to_string())?.keep();
    for (file, bytes) in layout.files.iter().zip(files) {
        let path = folder.join(&file.path);
        let folder = path.parent().unwrap_or(Path::new(""));
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let root = match info.place {
        Place::File => folder.join(&layout.files[layout.root].path),
        Place::Folder => folder,
    };
    Ok(Some(Written { root, losses }))
}

type LaidOut = (modelferry_core::layout::Layout, modelferry_core::model::Model, Vec<Loss>);

fn lay_out(suite: &Suite<'_>, made: &Made, writer: &dyn Writer) -> CoreResult<LaidOut> {
    let info = writer.info();
    let tensors = suite.tensors_of(info);
    let mut model = made.model.clone();
    if tensors.ties == Carries::No {
        model.ties.clear();
    }
    let mut losses = modelferry_convert::metadata::fit(&mut model.metadata, tensors.metadata);
    let mut host = NaiveHost { registry: suite.registry, inputs: &made.inputs, limits: Limits::default() };
    let view = ModelView::new(&model, &host.limits)?;
    let options = Options::resolve(info.options, &BTreeMap::new())?;
    let file_name = format!("model{}", run::extension(info));
    let weights = nested::weights(suite.registry, info);
    let request = LayoutRequest { file_name: &file_name, weights, options: &options, shards: made.shards };
    let (layout, of_writer) = writer.layout(&view, &request, &mut host)?;
    layout.validate(&view)?;
    losses.extend(of_writer);
    Ok((layout, model, losses))
}

impl Suite<'_> {
    /// What the tensors of a writer's output can be.
    pub(super) fn tensors_of(&self, info: &'static WriterInfo) -> &'static WriterInfo {
        modelferry_convert::pick::weights_of(self.registry, info)
    }
}

/// What a format says it cannot hold of a model, as words that a refusal must contain.
pub(super) fn lacks(info: &WriterInfo, content: &Content, shards: Shards) -> Option<String> {
    let dtype = content.tensors.iter().find(|held| !info.dtypes.contains(&held.dtype));
    let rank = content.tensors.iter().map(|held| held.shape.len()).find(|&rank| rank > info.max_rank);
    let n_tensors = content.tensors.len() as u64;
    if shards != Shards::One && info.shards == Carries::No {
        return Some("several files".to_owned());
    }
    if n_tensors > info.max_tensors {
        // How many are left to write depends on ties too.
        return Some(format!("at most {}", info.max_tensors));
    }
    dtype.map(|held| format!("found {}", held.dtype)).or(rank.map(|rank| format!("found {rank}")))
}

/// Metadata that a writer gives to every model.
pub(super) fn own_metadata(suite: &Suite<'_>, writer: &dyn Writer) -> Vec<(String, Value)> {
    // Some is about block types and nothing else.
    let plain = |made: &Made| ["scalar", "quantized"].contains(&&*made.name);
    let mut own: Vec<(String, Value)> = vec![];
    for made in models::all().unwrap_or_default().into_iter().filter(plain) {
        let written = write(suite, &made, writer).ok().flatten();
        let read = written.and_then(|written| Content::read(suite, &written.root, writer.info().format).ok());
        own.extend(read.map(|(content, _)| content.metadata).unwrap_or_default());
    }
    own.dedup();
    own
}

/// The format of the one reader that knows the content of a file.
fn owner(suite: &Suite<'_>, path: &Path) -> Result<&'static str, String> {
    let open = || DiskInputs::open(suite.io.clone(), path);
    let inputs = open().map_err(|error: Error| error.to_string())?;
    let place = if inputs.is_folder() { Place::Folder } else { Place::File };
    let knows =
        |reader: &&dyn Reader| reader.info().place == place && reader.identify(&inputs) == Verdict::Content;
    let owners: Vec<&str> =
        suite.registry.readers().filter(knows).map(|reader| reader.info().format).collect();
    match owners[..] {
        [format] => Ok(format),
        [] => Err("no reader knows this file".to_owned()),
        _ => Err(format!("several readers take this file: {}", owners.join(", "))),
    }
}
