//! What a file is: the summary that a person reads first, then its tensors.

use crate::capabilities;
use crate::fold::{Fold, fold};
use crate::folder::{self, FolderContent};
use crate::job::Context;
use crate::json::{self, Object};
use crate::open::Opened;
use crate::originals::Originals;
use crate::values::Values;
use crate::{codes, metadata, pick};
use modelferry_core::graph::Origin;
use modelferry_core::inputs::Inputs;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView, TensorIdx};
use modelferry_core::plugin::{Carries, Shards, WriterInfo};
use modelferry_core::{DType, Error, ErrorKind, Result};
use modelferry_engine::{Statistics, TensorStats};
use modelferry_transform::{Edits, Glob};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;

/// Order of the tensors listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// As in the file.
    #[default]
    File,
    /// By name.
    Name,
    /// Largest first.
    Size,
}

/// What is asked about a model.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Names of tensors to list; empty lists all. A pattern that matches nothing is refused.
    pub include: Vec<Glob>,
    /// Their order.
    pub sort: Sort,
    /// Names are cut to this many components, and what is alike then is added up.
    pub depth: Option<usize>,
    /// Whether payload is read for statistics of the listed tensors.
    pub with_stats: bool,
    /// Values to show, as `NAME[0:4]`.
    pub values: Vec<String>,
}

/// All tensors of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DTypeTotal {
    /// The type.
    pub dtype: DType,
    /// How many tensors.
    pub n_tensors: u64,
    /// How many elements.
    pub n_elements: u64,
    /// How many bytes, each tied storage once for each of its names.
    pub bytes: u64,
}

/// All tensors below one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The first components of their names.
    pub prefix: String,
    /// How many tensors.
    pub n_tensors: u64,
    /// How many elements.
    pub n_elements: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// What one writer would make of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The writer's format.
    pub format: &'static str,
    /// Why it refuses, if it does.
    pub refusal: Option<String>,
    /// What it would drop or change, by kind.
    pub losses: Vec<(LossKind, usize)>,
}

/// What a file is.
pub struct Inspection {
    /// Its files: name, bytes.
    pub files: Vec<(String, u64)>,
    /// What lies in the folder, if it is one.
    pub folder: Option<FolderContent>,
    /// Elements, each tied storage once.
    pub n_parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Totals by type, largest first.
    pub dtypes: Vec<DTypeTotal>,
    /// Layers collapsed; of all tensors, listed or not.
    pub folds: Vec<Fold>,
    /// What `convert` would take where nothing else is asked for.
    pub taken: Taken,
    /// What each writer would make of that.
    pub fates: Vec<Fate>,
    /// The listed tensors, in the order asked for.
    pub listed: Vec<TensorIdx>,
    /// The listed tensors by the first components of their names, if asked for.
    pub branches: Option<Vec<Branch>>,
    /// Statistics of the listed tensors, in their order, if asked for; none for types that have none.
    pub stats: Option<Vec<Option<TensorStats>>>,
    /// Values asked for.
    pub values: Vec<Values>,
    /// What the tensors of a graph were before its export, where there is one.
    pub originals: Option<Originals>,
}

/// What `convert` would take of a model where nothing else is asked for.
pub struct Taken {
    /// How many tensors.
    pub n_tensors: usize,
    /// What it would leave or rename, and what the reader could not carry.
    pub losses: Vec<Loss>,
    /// Why it would take nothing: the choice is the user's.
    pub refusal: Option<String>,
}

/// The part of a nested checkpoint that would be taken, or all of a model that is none.
fn taken(model: &Model) -> (Taken, Option<Model>) {
    let mut losses = model.losses.clone();
    let mut selected = model.tree.is_some().then(|| model.clone());
    let result =
        selected.as_mut().map(|part| modelferry_transform::select(part, &Edits::default(), &mut losses));
    let refusal = result.and_then(Result::err).map(|error| error.to_string());
    let part = selected.filter(|_| refusal.is_none());
    let n_tensors = part.as_ref().unwrap_or(model).tensors.len();
    (Taken { n_tensors, losses, refusal }, part)
}

/// Looks at an opened model; payload is read only for statistics and values.
pub fn inspect(cx: &Context<'_>, opened: &mut Opened, request: &Request) -> Result<Inspection> {
    let values = request
        .values
        .iter()
        .map(|text| crate::values::read(cx, opened, text))
        .collect::<Result<Vec<_>>>()?;
    let model = &opened.model;
    let mut tied_elements = 0u64;
    for group in &model.ties {
        for &idx in &group[1..] {
            tied_elements = tied_elements.saturating_add(model.tensors[idx].n_elements());
        }
    }
    let mut totals: BTreeMap<DType, DTypeTotal> = BTreeMap::new();
    for tensor in &model.tensors {
        let dtype = tensor.dtype;
        let total =
            totals.entry(dtype).or_insert(DTypeTotal { dtype, n_tensors: 0, n_elements: 0, bytes: 0 });
        total.n_tensors += 1;
        total.n_elements = total.n_elements.saturating_add(tensor.n_elements());
        total.bytes = total.bytes.saturating_add(tensor.byte_len());
    }
    let mut dtypes: Vec<DTypeTotal> = totals.into_values().collect();
    dtypes.sort_by_key(|total| std::cmp::Reverse(total.bytes));
    let n_elements = dtypes.iter().fold(0u64, |sum, total| sum.saturating_add(total.n_elements));
    let listed = list(opened, request)?;
    let stats = match request.with_stats {
        true => Some({
            let statistics = Statistics::new(opened.source(), cx.settings, cx.control)?;
            listed
                .iter()
                .map(|&idx| match statistics.tensor(idx) {
                    Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
                    result => result.map(Some),
                })
                .collect::<Result<Vec<_>>>()?
        }),
        false => None,
    };
    if stats.is_some() {
        opened.inputs.check_unchanged()?;
    }
    let (taken, part) = taken(&opened.model);
    let fates = fates(cx, part.as_ref().unwrap_or(&opened.model))?;
    Ok(Inspection {
        files: opened
            .files()
            .into_iter()
            .map(|file| (opened.inputs.name(file), opened.inputs.len(file)))
            .collect(),
        folder: folder::content(opened, &cx.settings.limits),
        n_parameters: n_elements.saturating_sub(tied_elements),
        bytes: dtypes.iter().fold(0, |sum, total| sum.saturating_add(total.bytes)),
        dtypes,
        folds: fold(model.tensors.iter()),
        taken,
        fates,
        branches: request.depth.map(|depth| branches(opened, &listed, depth)),
        listed,
        stats,
        values,
        originals: model.graph.as_ref().map(Originals::new),
    })
}

fn list(opened: &Opened, request: &Request) -> Result<Vec<TensorIdx>> {
    let tensors = &opened.model.tensors;
    for glob in &request.include {
        if !tensors.iter().any(|tensor| glob.matches(&tensor.name)) {
            return Err(Error::usage("--include: the pattern matches no tensor").found(glob.text()));
        }
    }
    let included =
        |name: &str| request.include.is_empty() || request.include.iter().any(|glob| glob.matches(name));
    let mut listed: Vec<TensorIdx> = (0..tensors.len()).filter(|&idx| included(&tensors[idx].name)).collect();
    match request.sort {
        Sort::File => {}
        Sort::Name => listed.sort_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name)),
        Sort::Size => listed.sort_by_key(|&idx| std::cmp::Reverse(tensors[idx].byte_len())),
    }
    Ok(listed)
}

fn branches(opened: &Opened, listed: &[TensorIdx], depth: usize) -> Vec<Branch> {
    let mut at: HashMap<&str, usize> = HashMap::new();
    let mut branches: Vec<Branch> = vec![];
    for &idx in listed {
        let tensor = &opened.model.tensors[idx];
        let cut = tensor.name.match_indices('.').nth(depth.saturating_sub(1)).map(|(at, _)| at);
        let prefix = &tensor.name[..cut.unwrap_or(tensor.name.len())];
        let slot = *at.entry(prefix).or_insert_with(|| {
            branches.push(Branch { prefix: prefix.to_owned(), n_tensors: 0, n_elements: 0, bytes: 0 });
            branches.len() - 1
        });
        let branch = &mut branches[slot];
        branch.n_tensors += 1;
        branch.n_elements = branch.n_elements.saturating_add(tensor.n_elements());
        branch.bytes = branch.bytes.saturating_add(tensor.byte_len());
    }
    branches
}

/// What each writer would make of the model as it is: capabilities only, no layout is made.
fn fates(cx: &Context<'_>, model: &Model) -> Result<Vec<Fate>> {
    let n_tied: usize = model.ties.iter().map(|group| group.len() - 1).sum();
    let untied = (n_tied > 0).then(|| {
        let mut untied = model.clone();
        untied.ties.clear();
        untied
    });
    let view = ModelView::new(model, &cx.settings.limits)?;
    let untied = untied.as_ref().map(|model| ModelView::new(model, &cx.settings.limits)).transpose()?;
    let fate = |info: &'static WriterInfo| {
        let tensors = pick::weights_of(cx.registry, info);
        // Ties that a format does not hold are copied, which the transform would settle.
        let untied = untied.as_ref().filter(|_| tensors.ties == Carries::No);
        let mut losses: BTreeMap<LossKind, usize> = BTreeMap::new();
        let refusal = match capabilities::check(untied.unwrap_or(&view), Shards::One, tensors, info) {
            Ok(mut found) => {
                found.extend(metadata::fit(&mut model.metadata.clone(), tensors.metadata));
                for loss in found {
                    *losses.entry(loss.kind).or_default() += 1;
                }
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if untied.is_some() {
            losses.insert(LossKind::TieCopied, n_tied);
        }
        Fate { format: info.format, refusal, losses: losses.into_iter().collect() }
    };
    Ok(cx.registry.writers().map(|writer| fate(writer.info())).collect())
}

impl Inspection {
    /// Writes everything as one JSON object; tensors are streamed.
    pub fn write_json(&self, opened: &Opened, out: &mut dyn io::Write) -> io::Result<()> {
        let model = &opened.model;
        let mut object = Object::begin(out)?;
        json::head(&mut object, "inspect", None)?;
        object.field("format", opened.reader.format)?;
        object.list("files", self.files.iter().map(|(path, bytes)| json!({"path": path, "bytes": bytes})))?;
        object.field("n_tensors", model.tensors.len())?;
        object.field("n_parameters", self.n_parameters)?;
        object.field("bytes", self.bytes)?;
        let dtype = |total: &DTypeTotal| {
            json!({
                "dtype": total.dtype.to_string(),
                "n_tensors": total.n_tensors,
                "n_elements": total.n_elements,
                "bytes": total.bytes,
            })
        };
        object.list("dtypes", self.dtypes.iter().map(dtype))?;
        let names = |group: &Vec<TensorIdx>| -> Value {
            group.iter().map(|&idx| model.tensors[idx].name.as_str()).collect()
        };
        object.list("ties", model.ties.iter().map(names))?;
        object.field("config", folder::config_json(model.config.as_deref()))?;
        object.field("metadata", json::metadata(&model.metadata))?;
        object.field("metadata_types", json::metadata_types(&model.metadata))?;
        let content = self.folder.clone().unwrap_or_default();
        let file = |(name, bytes): &(String, u64)| json!({"name": name, "bytes": bytes});
        object.field("weights_formats", content.weights_formats.as_slice())?;
        object.list("weights", content.weights.iter().map(file))?;
        object.list("assets", content.assets.iter().map(file))?;
        object.list("losses", model.losses.iter().map(json::loss))?;
        let losses: Vec<Value> = self.taken.losses.iter().map(json::loss).collect();
        let (n_tensors, refusal) = (self.taken.n_tensors, &self.taken.refusal);
        object.field("taken", json!({"n_tensors": n_tensors, "refusal": refusal, "losses": losses}))?;
        let fate = |fate: &Fate| {
            let losses = fate.losses.iter().map(|(kind, n)| (kind.name().to_owned(), Value::from(*n)));
            let losses = Value::Object(losses.collect());
            json!({"format": fate.format, "refusal": fate.refusal, "losses": losses})
        };
        object.list("targets", self.fates.iter().map(fate))?;
        if let Some(branches) = &self.branches {
            let branch = |branch: &Branch| {
                json!({
                    "prefix": branch.prefix,
                    "n_tensors": branch.n_tensors,
                    "n_elements": branch.n_elements,
                    "bytes": branch.bytes,
                })
            };
            object.list("branches", branches.iter().map(branch))?;
        }
        if !self.values.is_empty() {
            object.list("values", self.values.iter().map(Values::json))?;
        }
        let codes = codes::by_tensor(model);
        let tensors = self.listed.iter().enumerate().map(|(position, &idx)| {
            let tensor = &model.tensors[idx];
            let mut value = json!({
                "name": tensor.name,
                "dtype": tensor.dtype.to_string(),
                "shape": tensor.shape,
                "bytes": tensor.byte_len(),
            });
            if let Some(codes) = codes.get(&idx) {
                value["codes"] = codes::json(model, codes);
            }
            if let Some(originals) = &self.originals {
                let origin = |origin: &Origin| json!({"name": origin.name, "axes": origin.axes});
                value["origins"] = originals.of(idx).iter().map(origin).collect();
                value["nameless"] = originals.nameless.contains(&idx).into();
            }
            if let Some(stats) = self.stats.as_ref().and_then(|stats| stats.get(position)) {
                value["stats"] = stats.as_ref().map_or(Value::Null, stats_json);
            }
            value
        });
        object.list("tensors", tensors)?;
        object.end()
    }
}

fn stats_json(stats: &TensorStats) -> Value {
    json!({
        "min": json::number(stats.min),
        "max": json::number(stats.max),
        "mean": json::number(stats.mean),
        "abs_max": json::number(stats.abs_max),
        "n_nan": stats.n_nan,
        "n_inf": stats.n_inf,
        "n_zero": stats.n_zero,
    })
}
