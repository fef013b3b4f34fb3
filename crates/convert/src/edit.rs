//! Changes a file's metadata and nothing else.
//!
//! The model is read, its metadata changed, and a new file laid out by the format's own writer
//! ([`Writer::relayout`]), which takes the old one's name when it is complete: until then, and after any error, the
//! old file is there as it was, and it is never written to. What cannot be carried over exactly is refused, not lost.

use crate::host::{EngineHost, Traces};
use crate::job::{Context, PluginOptions};
use crate::json::{self, Failure, MetadataValue, Object};
use crate::metadata::{Wanted, split_type};
use crate::open::{Opened, open, read};
use modelferry_core::expr::Op;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::layout::Layout;
use modelferry_core::model::{Model, ModelView, Value};
use modelferry_core::plugin::{MetadataForm, Reader, Writer};
use modelferry_core::{Error, Result};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::io::{FileKind, Follow, failed, look, retry};
use modelferry_engine::publish::{Output, Replace, remove_leftovers};
use modelferry_engine::{Part, Plan, execute};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One change of metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key gets this value: in its place if it is there, else at the end.
    Set {
        /// The key, or for a format whose values have types, `KEY:TYPE`.
        key: String,
        /// The value as text, a list as JSON; it takes the type that the key's value has, else that of text.
        text: String,
    },
    /// The key goes.
    Remove {
        /// The key.
        key: String,
    },
}

impl Change {
    fn key(&self) -> &str {
        match self {
            Change::Set { key, .. } | Change::Remove { key } => key,
        }
    }
}

/// What shall be edited how.
#[derive(Clone, Debug, Default)]
pub struct EditJob {
    /// The file.
    pub path: PathBuf,
    /// Its format; otherwise by content.
    pub from: Option<String>,
    /// The changes, each of another key.
    pub changes: Vec<Change>,
    /// Stop before anything is written.
    pub dry_run: bool,
}

/// One key whose value is another now.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The key.
    pub key: String,
    /// Its value before.
    pub before: Option<Value>,
    /// Its value now.
    pub after: Option<Value>,
}

/// The account of one edit, filled as it goes: on failure it holds what was known until then.
#[derive(Clone, Debug, Default)]
pub struct EditReport {
    /// The file as the user named it.
    pub path: String,
    /// Its format.
    pub format: Option<&'static str>,
    /// Keys whose values are others now. With none of them the file is left alone.
    pub changes: Vec<Changed>,
    /// All metadata, as it is now.
    pub metadata: Vec<(String, Value)>,
    /// Tensors carried over.
    pub n_tensors: u64,
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the file now.
    pub bytes: u64,
    /// Other names of the old file (hard links), under which it stays what it was.
    pub n_other_names: u64,
    /// Whether it stopped before writing, as it was told to.
    pub is_dry_run: bool,
    /// Whether the file was replaced.
    pub is_written: bool,
}

/// Edits a file's metadata, filling `report` on the way.
///
/// Errors: [`Usage`](modelferry_core::ErrorKind::Usage) for an unknown key to remove, a link, and a path that stands
/// for several files; [`Target`](modelferry_core::ErrorKind::Target) for a format without metadata and for a file
/// that could not be carried over whole; those of reading and writing.
pub fn edit(cx: &Context<'_>, job: &EditJob, report: &mut EditReport) -> Result<()> {
    report.path = job.path.display().to_string();
    report.is_dry_run = job.dry_run;
    check_changes(&job.changes)?;
    refuse_link(cx, &job.path)?;
    let options = alone(cx);
    let mut opened = open(cx, &job.path, job.from.as_deref(), &options)?;
    let format = opened.reader.format;
    report.format = Some(format);
    report.n_tensors = opened.model.tensors.len() as u64;
    let named = |error: Error| error.format(format).file(job.path.display());
    let writer = cx.registry.writer(format).map_err(|_| {
        named(Error::target("metadata of this format cannot be edited, for there is no writer for it"))
    })?;
    if writer.info().metadata == MetadataForm::None {
        return Err(named(Error::target("the format holds no metadata")));
    }
    match opened.model.entries {
        // What lies in other files stays there.
        Some(_) => push_whole(&mut opened)?,
        None => refuse_several(&opened).map_err(named)?,
    }

    if !job.dry_run {
        // Also where nothing is to change any more: the run that changed it may have been killed while tidying up.
        remove_leftovers(&*cx.io, &job.path);
    }
    let before = opened.model.metadata.clone();
    apply(&mut opened.model, &job.changes, writer.info().metadata).map_err(named)?;
    report.changes = changed(&before, &opened.model.metadata);
    report.metadata.clone_from(&opened.model.metadata);
    report.bytes_before = opened.inputs.len(opened.inputs.root());
    report.bytes = report.bytes_before;
    if report.changes.is_empty() {
        return Ok(());
    }

    let Opened { model, inputs, reader, .. } = opened;
    let (layout, files) = lay_out(cx, writer, &model, &inputs)?;
    report.bytes = files[0].1;
    let identities = inputs.identities();
    let place = Output {
        path: &job.path,
        is_folder: false,
        files: &files,
        roots: &[0],
        replace: Replace::Input,
        supersedes: &[],
        inputs: &identities,
    };
    place.check(&*cx.io)?;
    report.n_other_names = check_writable(cx, &job.path)?.saturating_sub(1);
    if job.dry_run {
        return Ok(());
    }
    let plan = Plan {
        parts: &[Part { model: &model, layout: &layout }],
        inputs: &inputs,
        output: &job.path,
        is_folder: false,
        replace: Replace::Input,
        settings: cx.settings,
        control: cx.control,
        io: Arc::clone(&cx.io),
    };
    let reader = cx.registry.reader(reader.format)?;
    execute(&plan, &mut |staged| check_staged(cx, reader, &options, (&model, &inputs), &staged.path(0, 0)))?;
    report.is_written = true;
    Ok(())
}

/// One change a key, and at least one.
fn check_changes(changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Err(Error::usage("nothing to change").expected("--set, --set-file or --remove"));
    }
    let mut keys = BTreeSet::new();
    for change in changes {
        if change.key().is_empty() {
            return Err(Error::usage("a metadata key is empty").expected("KEY=VALUE"));
        }
        if !keys.insert(change.key()) {
            return Err(twice(change.key()));
        }
    }
    Ok(())
}

/// Said before the file is read: what a link leads to may be anybody's, such as a blob of the Hugging Face cache that
/// other snapshots share.
fn refuse_link(cx: &Context<'_>, path: &Path) -> Result<()> {
    match look(&*cx.io, path, Follow::No)? {
        Some(stat) if stat.kind == FileKind::Link => {
            let error = Error::usage("a symbolic link, and nothing is written through links");
            let error = match retry(|| cx.io.read_link(path)) {
                Ok(target) => error.hint(format!("it leads to {}; name that", target.display())),
                Err(_) => error,
            };
            Err(error.file(path.display()))
        }
        _ => Ok(()),
    }
}

/// The options under which a file that is one of several is read by itself, for the readers that have such.
fn alone(cx: &Context<'_>) -> PluginOptions {
    let has_it = |reader: &dyn Reader| reader.info().options.iter().any(|spec| spec.name == "shards");
    let has_it = cx.registry.readers().any(has_it);
    has_it.then(|| ("shards".to_owned(), "alone".to_owned())).into_iter().collect()
}

/// An index stands for files that it does not hold.
fn refuse_several(opened: &Opened) -> Result<()> {
    let root = opened.inputs.root();
    let files: BTreeSet<FileId> = opened
        .model
        .nodes
        .iter()
        .filter_map(|(_, node)| match node.op {
            Op::Region { file, .. } => Some(file),
            _ => None,
        })
        .collect();
    if files.iter().all(|&file| file == root) {
        return Ok(());
    }
    let names: Vec<String> = files.iter().take(3).map(|&file| opened.inputs.name(file)).collect();
    let more = if files.len() > names.len() { ", …" } else { "" };
    Err(Error::usage("this stands for other files, and edit changes one file")
        .hint(format!("name one of them: {}{more}", names.join(", "))))
}

/// Makes the file itself an asset, of which the writer takes what does not change.
fn push_whole(opened: &mut Opened) -> Result<()> {
    let root = opened.inputs.root();
    let whole = opened.model.nodes.region(root, 0, opened.inputs.len(root))?;
    opened.model.push_asset(opened.inputs.name(root), whole)
}

/// Changes the metadata of a model.
fn apply(model: &mut Model, changes: &[Change], form: MetadataForm) -> Result<()> {
    let mut done = BTreeSet::new();
    for change in changes {
        let at = |key: &str| model.metadata.iter().position(|(known, _)| known == key);
        // A key that is there is meant as it stands, whatever it ends in.
        let typed =
            split_type(change.key()).filter(|_| form == MetadataForm::Typed && at(change.key()).is_none());
        let (key, wanted) = match (change, typed) {
            (Change::Set { .. }, Some((key, wanted))) => (key, Some(wanted)),
            _ => (change.key(), None),
        };
        if !done.insert(key) {
            return Err(twice(key));
        }
        match (change, at(key)) {
            (Change::Set { text, .. }, Some(at)) => {
                let value = &mut model.metadata[at].1;
                *value = value_of(key, text, wanted.unwrap_or(Wanted::of(value)))?;
            }
            (Change::Set { text, .. }, None) => {
                let value = match wanted {
                    Some(wanted) => value_of(key, text, wanted)?,
                    None => Value::Text(text.clone()),
                };
                model.metadata.push((key.to_owned(), value));
            }
            (Change::Remove { .. }, Some(at)) => drop(model.metadata.remove(at)),
            (Change::Remove { .. }, None) => {
                let known: Vec<String> = model.metadata.iter().map(|(key, _)| format!("{key:?}")).collect();
                let known =
                    if known.is_empty() { "no key, for there are none".to_owned() } else { known.join(", ") };
                return Err(Error::usage("--remove: no such key")
                    .expected(known)
                    .found(format_args!("{key:?}")));
            }
        }
    }
    Ok(())
}

fn twice(key: &str) -> Error {
    Error::usage("a metadata key is changed twice").found(key)
}

/// A value of the type that the key has or was given.
fn value_of(key: &str, text: &str, wanted: Wanted) -> Result<Value> {
    wanted.parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(80).collect();
        Error::usage(format!("the value of {key:?} is not of its type"))
            .expected(wanted.name())
            .found(format_args!("{shown:?}"))
    })
}

fn changed(before: &[(String, Value)], after: &[(String, Value)]) -> Vec<Changed> {
    let get = |list: &[(String, Value)], key: &str| {
        list.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    let mut changes = vec![];
    for (key, value) in before {
        let after = get(after, key);
        if after.as_ref() != Some(value) {
            changes.push(Changed { key: key.clone(), before: Some(value.clone()), after });
        }
    }
    for (key, value) in after.iter().filter(|(key, _)| get(before, key).is_none()) {
        changes.push(Changed { key: key.clone(), before: None, after: Some(value.clone()) });
    }
    changes
}

/// The new file, which holds all of the old one, and its name and length.
fn lay_out(
    cx: &Context<'_>,
    writer: &dyn Writer,
    model: &Model,
    inputs: &DiskInputs,
) -> Result<(Layout, Vec<(String, u64)>)> {
    let info = writer.info();
    let name = inputs.name(inputs.root());
    let named = |error: Error| error.format(info.format).file(&name);
    // What the reader did not carry, the new file would not hold.
    if let Some(loss) = model.losses.first() {
        return Err(named(Error::target("not everything in this file could be kept").found(loss)));
    }
    let view = ModelView::new(model, &cx.settings.limits)?;
    let (options, mut traces) = (PluginOptions::default(), Traces::default());
    let mut host = EngineHost { cx, inputs, options: &options, traces: &mut traces, links: None };
    let layout = writer.relayout(&view, &name, &mut host).map_err(named)?;
    layout.validate(&view).map_err(named)?;
    let files: Vec<(String, u64)> = layout.files.iter().map(|file| (file.path.clone(), file.len)).collect();
    match &files[..] {
        [(path, _)] if *path == name && layout.promises.is_empty() => Ok((layout, files)),
        _ => Err(named(Error::plugin("an edited file is not laid out as itself"))),
    }
}

/// Fails for a file that its owner has protected; gives the number of its names.
fn check_writable(cx: &Context<'_>, path: &Path) -> Result<u64> {
    let stat = retry(|| cx.io.stat_link(path)).map_err(|error| failed("looking at it", path, error))?;
    if stat.permissions.mode & 0o222 == 0 {
        let error = Error::io("the file is write-protected", io::ErrorKind::PermissionDenied.into());
        return Err(error.file(path.display()).hint("chmod u+w lets it be edited"));
    }
    Ok(stat.n_names)
}

/// The new file, read back: it must describe the model it was made from.
fn check_staged(
    cx: &Context<'_>,
    reader: &dyn Reader,
    options: &PluginOptions,
    (model, of): (&Model, &DiskInputs),
    path: &Path,
) -> Result<()> {
    let inputs = DiskInputs::open(Arc::clone(&cx.io), path)?.limits(&cx.settings.limits);
    let others = of.used().into_iter().filter(|&file| file != of.root());
    others.into_iter().try_for_each(|file| inputs.place(&of.name(file), &of.path(file)))?;
    let found = read(cx, Arc::new(inputs), reader, options)?.model;
    let same_tensors = found.tensors.len() == model.tensors.len()
        && found
            .tensors
            .iter()
            .zip(&model.tensors)
            .all(|(a, b)| (&a.name, a.dtype, &a.shape) == (&b.name, b.dtype, &b.shape));
    if same_tensors && found.metadata == model.metadata && found.losses.is_empty() {
        return Ok(());
    }
    let what = if same_tensors { "the metadata is not as written" } else { "the tensors are not as written" };
    Err(Error::plugin(what).format(reader.info().format).hint("the file was left as it was"))
}

impl EditReport {
    /// Writes the report as one JSON object, with the error that ended the run if one did.
    pub fn write_json(&self, out: &mut dyn io::Write, failure: Option<Failure<'_>>) -> io::Result<()> {
        #[derive(Serialize)]
        struct Row<'a> {
            key: &'a str,
            before: Option<MetadataValue<&'a Value>>,
            after: Option<MetadataValue<&'a Value>>,
        }
        fn row(change: &Changed) -> Row<'_> {
            let [before, after] =
                [&change.before, &change.after].map(|value| value.as_ref().map(MetadataValue));
            Row { key: &change.key, before, after }
        }
        let mut object = Object::begin(out)?;
        json::head(&mut object, "edit", failure)?;
        object.field("path", self.path.as_str())?;
        object.field("format", self.format)?;
        object.field("dry_run", self.is_dry_run)?;
        object.field("written", self.is_written)?;
        object.rows("changes", self.changes.iter().map(row))?;
        object.field("metadata", json::metadata(&self.metadata))?;
        object.field("n_tensors", self.n_tensors)?;
        object.field("bytes_before", self.bytes_before)?;
        object.field("bytes", self.bytes)?;
        object.field("other_names", self.n_other_names)?;
        object.list("losses", std::iter::empty())?;
        object.end()
    }
}
