//! Whether a model is what it says it is, and what its source is.
//!
//! Opening it has already proved every rule that its reader insists on; what is left is what a reader does not need:
//! that every byte of payload can be had, that the checksums agree, that what an index says of its shards is true.
//! What does not hold is listed, not only the first of it.

use crate::host::{EngineHost, Traces};
use crate::job::{Context, PluginOptions};
use crate::json::{self, Failure, Object};
use crate::open::Opened;
use modelferry_core::inputs::Inputs;
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::plugin::Carries;
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_engine::{Comparison, TensorDiff, Tolerance, check_claims};
use modelferry_transform::{Edits, Keeps, Ties};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io;

/// What kind of check has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A rule or statement that the reader does not insist on.
    Statement,
    /// A checksum that the source states.
    Checksum,
    /// Bytes that cannot be had: a damaged stream.
    Payload,
    /// A tensor is not in the source.
    Extra,
    /// A tensor of the source is not here.
    Missing,
    /// Type or shape are not the source's.
    Type,
    /// Values are not the source's.
    Values,
}

impl CheckKind {
    /// Its name in `--json` and in the list of failed checks.
    pub fn name(self) -> &'static str {
        match self {
            CheckKind::Statement => "statement",
            CheckKind::Checksum => "checksum",
            CheckKind::Payload => "payload",
            CheckKind::Extra => "extra",
            CheckKind::Missing => "missing",
            CheckKind::Type => "type",
            CheckKind::Values => "values",
        }
    }
}

/// A check that failed.
#[derive(Debug)]
pub struct Failed {
    /// What kind of check.
    pub kind: CheckKind,
    /// The tensors concerned, by name.
    pub tensors: Vec<String>,
    /// What is wrong, and where. Of kind [`Difference`](ErrorKind::Difference), or
    /// [`Malformed`](ErrorKind::Malformed) for what cannot be read.
    pub error: Error,
    /// Where values differ.
    pub values: Option<DifferentValues>,
}

/// How the values of a tensor differ from the source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferentValues {
    /// How many elements; blocks in a block-quantized type.
    pub n_different: u64,
    /// Index of the first on each axis; of its block's first element in a block-quantized type.
    pub first: Vec<u64>,
    /// The tensor whose values in the source these are.
    pub holds: Option<String>,
    /// Whether that one holds this one's in turn.
    pub is_swapped: bool,
}

/// The comparison with a source.
#[derive(Debug, Default)]
pub struct Against {
    /// The source's files: name, bytes.
    pub files: Vec<(String, u64)>,
    /// Format of the source.
    pub format: &'static str,
    /// Tensors compared.
    pub n_compared: u64,
    /// Those of them that are the same.
    pub n_same: u64,
    /// Tensors not compared, for their bytes cannot be had.
    pub n_unreadable: u64,
    /// Whether the source's names were compared without the prefix of a wrapper, which `convert` strips too.
    pub is_stripped: bool,
}

/// What was checked, and what of it failed.
#[derive(Debug, Default)]
pub struct Verification {
    /// Files whose structure was checked: name, bytes.
    pub files: Vec<(String, u64)>,
    /// Tensors whose payload was read to the last byte.
    pub n_tensors: u64,
    /// Those of them that could be.
    pub n_readable: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Bytes read, inflated.
    pub bytes_read: u64,
    /// Checksums compared.
    pub n_checksums: u64,
    /// Rules and statements compared that the reader does not insist on.
    pub n_statements: u64,
    /// The comparison with a source, if there was one.
    pub against: Option<Against>,
    /// What failed, in the order of the checks.
    pub failed: Vec<Failed>,
}

/// Checks an opened model, and compares it with `against` if there is such.
///
/// What does not hold is in the result. Errors are what keeps us from checking: I/O, an input that changed, an
/// interruption, a source that is itself damaged.
pub fn verify(cx: &Context<'_>, opened: &Opened, against: Option<&mut Opened>) -> Result<Verification> {
    let model = &opened.model;
    let mut found = Verification {
        files: files(opened),
        n_tensors: model.tensors.len() as u64,
        bytes: model.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.byte_len())),
        n_statements: model.checks.len() as u64,
        ..Verification::default()
    };
    for check in model.checks.iter().filter(|check| !check.holds) {
        let error = Error::difference(check.fault).format(opened.reader.format).file(&check.file);
        let error = error.expected(&check.expected).found(&check.found);
        found.failed.push(Failed { kind: CheckKind::Statement, tensors: vec![], error, values: None });
    }
    let audit = check_claims(opened.source(), cx.settings, cx.control)?;
    found.bytes_read = audit.n_bytes;
    found.n_checksums = audit.n_checksums;
    let mut unreadable = HashSet::new();
    for fault in audit.faults {
        let kind = match fault.error.kind() {
            ErrorKind::Malformed => CheckKind::Payload,
            _ => CheckKind::Checksum,
        };
        if kind == CheckKind::Payload {
            unreadable.extend(fault.tensors.iter().copied());
        }
        let tensors: Vec<String> = fault.tensors.iter().map(|&idx| model.tensors[idx].name.clone()).collect();
        let error = fault.error.format(opened.reader.format);
        let error = match tensors.first() {
            Some(name) => error.tensor(name),
            None => error,
        };
        found.failed.push(Failed { kind, tensors, error, values: None });
    }
    found.n_readable = found.n_tensors - unreadable.len() as u64;
    if let Some(source) = against {
        compare(cx, opened, source, &unreadable, &mut found)?;
        source.inputs.check_unchanged()?;
    }
    opened.inputs.check_unchanged()?;
    Ok(found)
}

fn files(opened: &Opened) -> Vec<(String, u64)> {
    let file = |&file| (opened.inputs.name(file), opened.inputs.len(file));
    opened.files().iter().map(file).collect()
}

/// Compares every tensor with its namesake in the source, bit by bit.
fn compare(
    cx: &Context<'_>,
    opened: &Opened,
    source: &mut Opened,
    unreadable: &HashSet<TensorIdx>,
    found: &mut Verification,
) -> Result<()> {
    let mut against = Against { files: files(source), format: source.reader.format, ..Against::default() };
    source.restore_like(cx, &opened.model)?;
    against.is_stripped = strip_wrappers(cx, &opened.model, source)?;
    let format = opened.reader.format;
    let failed = |kind, name: &str, error: Error| Failed {
        kind,
        tensors: vec![name.to_owned()],
        error: error.format(format).tensor(name),
        values: None,
    };
    let (here, there) = (&opened.model.tensors, &source.model.tensors);
    let pairs = pair_up(cx, opened, source);
    let mut to_compare = vec![];
    let mut taken = vec![false; there.len()];
    for (idx, pair) in pairs.into_iter().enumerate() {
        let tensor = &here[idx];
        let Some(other_idx) = pair else {
            let error = Error::difference("the source holds no such tensor");
            found.failed.push(failed(CheckKind::Extra, &tensor.name, error));
            continue;
        };
        taken[other_idx] = true;
        let other = &there[other_idx];
        if (tensor.dtype, &tensor.shape) != (other.dtype, &other.shape) {
            let error = Error::difference("type or shape are not the source's")
                .expected(format_args!("{} {:?}", other.dtype, other.shape))
                .found(format_args!("{} {:?}", tensor.dtype, tensor.shape));
            found.failed.push(failed(CheckKind::Type, &tensor.name, error));
        } else if unreadable.contains(&idx) {
            against.n_unreadable += 1;
        } else {
            to_compare.push((idx, other_idx));
        }
    }
    for (other, _) in there.iter().zip(&taken).filter(|(_, taken)| !**taken) {
        let error = Error::difference("a tensor of the source is missing");
        found.failed.push(failed(CheckKind::Missing, &other.name, error));
    }

    let comparison = Comparison::new(opened.source(), source.source(), cx.settings, cx.control)?;
    comparison.begin(to_compare.iter().copied());
    let mut different: Vec<(TensorIdx, TensorIdx, TensorDiff)> = vec![];
    against.n_compared = to_compare.len() as u64;
    for (idx, other_idx) in to_compare {
        let diff = comparison.tensors(idx, other_idx, Tolerance::Exact)?;
        match diff.first {
            None => against.n_same += 1,
            Some(_) => different.push((idx, other_idx, diff)),
        }
    }
    // The source's own checksums are seen on the way; a source that is damaged proves nothing.
    if found.failed.iter().all(|failed| !matches!(failed.kind, CheckKind::Checksum | CheckKind::Payload)) {
        comparison.check_claims()?;
    }
    let places = moved(&comparison, &opened.model, &different)?;
    for (at, (idx, _, diff)) in different.iter().enumerate() {
        let tensor = &here[*idx];
        let first = diff.first.unwrap_or(0).saturating_mul(tensor.dtype.item_elements());
        let first = unravel(first, &tensor.shape);
        let what = if tensor.dtype.item_elements() == 1 { "elements" } else { "blocks" };
        let mut text = format!("{} of {} {what} differ, the first at {first:?}", diff.n_different, diff.n);
        let is_swapped = places[at].is_some_and(|other| places[other] == Some(at));
        let holds = places[at].map(|other| here[different[other].0].name.clone());
        if let Some(name) = &holds {
            match is_swapped {
                true => text.push_str(&format!("; looks swapped with {name:?}")),
                false => text.push_str(&format!("; it holds what the source has under {name:?}")),
            }
        }
        let error = Error::difference("the values are not the source's").found(text);
        let values = Some(DifferentValues { n_different: diff.n_different, first, holds, is_swapped });
        found.failed.push(Failed { values, ..failed(CheckKind::Values, &tensor.name, error) });
    }
    found.against = Some(against);
    Ok(())
}

/// Each tensor's counterpart: its namesake, or in a format without names the one at its place.
fn pair_up(cx: &Context<'_>, opened: &Opened, source: &Opened) -> Vec<Option<TensorIdx>> {
    let is_nameless =
        |format: &str| cx.registry.writer(format).is_ok_and(|writer| writer.info().names == Carries::No);
    let (here, there) = (&opened.model.tensors, &source.model.tensors);
    if is_nameless(opened.reader.format) || is_nameless(source.reader.format) {
        return (0..here.len()).map(|idx| (idx < there.len()).then_some(idx)).collect();
    }
    let by_name: HashMap<&str, TensorIdx> =
        there.iter().enumerate().map(|(idx, tensor)| (tensor.name.as_str(), idx)).collect();
    here.iter().map(|tensor| by_name.get(tensor.name.as_str()).copied()).collect()
}

/// `convert` takes the model out of a checkpoint and strips the prefix of wrappers unless told otherwise: where the
/// source has tensors that are not here, it is compared as it would have been converted, if no fewer are then. Says
/// whether that was so.
fn strip_wrappers(cx: &Context<'_>, model: &Model, source: &mut Opened) -> Result<bool> {
    let names: HashSet<&str> = model.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let n_known =
        |model: &Model| model.tensors.iter().filter(|tensor| names.contains(tensor.name.as_str())).count();
    let n_before = n_known(&source.model);
    if n_before == source.model.tensors.len() {
        return Ok(false);
    }
    let (options, mut traces) = (PluginOptions::default(), Traces::default());
    let mut host =
        EngineHost { cx, inputs: &*source.inputs, options: &options, traces: &mut traces, links: None };
    let edits = Edits { ties: Ties::Keep, ..Edits::default() };
    // A checkpoint of several sets of weights is compared whole.
    let stripped = modelferry_transform::apply(source.model.clone(), &edits, None, Keeps::ALL, &mut host);
    let Ok((stripped, _)) = stripped else { return Ok(false) };
    let is_better = n_known(&stripped) >= n_before && !stripped.tensors.is_empty();
    if is_better {
        source.model = stripped;
    }
    Ok(is_better)
}

/// For each different tensor, the one of them whose values in the source it holds, by position in `different`.
fn moved(
    comparison: &Comparison<'_>,
    model: &Model,
    different: &[(TensorIdx, TensorIdx, TensorDiff)],
) -> Result<Vec<Option<usize>>> {
    if different.len() < 2 {
        return Ok(vec![None; different.len()]);
    }
    // Only tensors that another could be mistaken for are worth another look.
    let kind = |idx: TensorIdx| (model.tensors[idx].dtype, &model.tensors[idx].shape);
    let mut n_alike: HashMap<_, usize> = HashMap::new();
    for (idx, ..) in different {
        *n_alike.entry(kind(*idx)).or_default() += 1;
    }
    let mut sums: Vec<Option<(u32, u32)>> = Vec::with_capacity(different.len());
    let mut by_source: HashMap<_, Vec<usize>> = HashMap::new();
    for (at, (idx, other, _)) in different.iter().enumerate() {
        let is_alone = n_alike.get(&kind(*idx)).is_none_or(|&n| n < 2);
        let sum = if is_alone { None } else { Some(comparison.checksums(*idx, *other)?) };
        if let Some((_, there)) = sum {
            by_source.entry((kind(*idx), there)).or_default().push(at);
        }
        sums.push(sum);
    }
    let mut places = vec![None; different.len()];
    for (at, (idx, ..)) in different.iter().enumerate() {
        let Some((here, there)) = sums[at] else { continue };
        let candidates = by_source.get(&(kind(*idx), here)).map_or(&[][..], Vec::as_slice);
        // One that holds this one's values in turn comes first.
        let in_turn = |&&other: &&usize| sums[other].is_some_and(|(theirs, _)| theirs == there);
        let best = candidates.iter().find(in_turn).or(candidates.first()).copied();
        // Equal checksums are a reason to look, not a proof.
        if let Some(best) = best
            && comparison.tensors(*idx, different[best].1, Tolerance::Exact)?.first.is_none()
        {
            places[at] = Some(best);
        }
    }
    Ok(places)
}

/// The index on each axis of a row-major position.
pub fn unravel(mut at: u64, shape: &[u64]) -> Vec<u64> {
    let mut index: Vec<u64> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let here = at % extent.max(1);
            at /= extent.max(1);
            here
        })
        .collect();
    index.reverse();
    index
}

impl Verification {
    /// Whether every check holds.
    pub fn is_ok(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether every byte could be had, true or not.
    pub fn is_readable(&self) -> bool {
        self.failed.iter().all(|failed| failed.kind != CheckKind::Payload)
    }

    /// Checks made: files, tensors, checksums, statements, comparisons.
    pub fn n_checks(&self) -> u64 {
        let compared = self.against.as_ref().map_or(0, |against| against.n_compared);
        let unpaired =
            |failed: &&Failed| matches!(failed.kind, CheckKind::Extra | CheckKind::Missing | CheckKind::Type);
        let n_unpaired = self.failed.iter().filter(unpaired).count() as u64;
        self.files.len() as u64
            + self.n_tensors
            + self.n_checksums
            + self.n_statements
            + compared
            + n_unpaired
    }

    /// The exit status as an error: [`Malformed`](ErrorKind::Malformed) if something cannot be read, else
    /// [`Difference`](ErrorKind::Difference); none if every check holds.
    pub fn failure(&self) -> Option<Error> {
        let what = format!("{} of {} checks failed", self.failed.len(), self.n_checks());
        match (self.is_ok(), self.is_readable()) {
            (true, _) => None,
            (false, true) => Some(Error::difference(what)),
            (false, false) => Some(Error::malformed(what)),
        }
    }

    /// Writes what was found as one JSON object.
    pub fn write_json(
        &self,
        opened: &Opened,
        failure: Option<Failure<'_>>,
        out: &mut dyn io::Write,
    ) -> io::Result<()> {
        let file = |(name, bytes): &(String, u64)| json!({"path": name, "bytes": bytes});
        let mut object = Object::begin(out)?;
        json::head(&mut object, "verify", failure)?;
        object.field("format", opened.reader.format)?;
        object.list("files", self.files.iter().map(file))?;
        object.field("n_checks", self.n_checks())?;
        object.field("n_failed", self.failed.len())?;
        object.field("n_tensors", self.n_tensors)?;
        object.field("n_readable", self.n_readable)?;
        object.field("bytes", self.bytes)?;
        object.field("bytes_read", self.bytes_read)?;
        object.field("n_checksums", self.n_checksums)?;
        object.field("n_statements", self.n_statements)?;
        let against = self.against.as_ref().map(|against| {
            json!({
                "format": against.format,
                "files": against.files.iter().map(file).collect::<Vec<_>>(),
                "n_compared": against.n_compared,
                "n_same": against.n_same,
                "n_unreadable": against.n_unreadable,
                "prefix_stripped": against.is_stripped,
            })
        });
        object.field("against", against)?;
        object.list("failed", self.failed.iter().map(failed_json))?;
        object.list("losses", opened.model.losses.iter().map(json::loss))?;
        object.end()
    }
}

fn failed_json(failed: &Failed) -> Value {
    let mut object = serde_json::Map::new();
    object.insert("check".into(), failed.kind.name().into());
    for (name, value) in failed.error.fields() {
        if name != "kind" && name != "tensor" {
            object.insert(name.to_owned(), value.into());
        }
    }
    object.insert("offset".into(), failed.error.byte_offset().into());
    object.insert("tensors".into(), failed.tensors.clone().into());
    if let Some(values) = &failed.values {
        object.insert("n_different".into(), values.n_different.into());
        object.insert("first".into(), values.first.clone().into());
        object.insert("holds".into(), values.holds.clone().into());
        object.insert("swapped".into(), values.is_swapped.into());
    }
    Value::Object(object)
}
