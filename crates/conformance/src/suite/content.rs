//! What a model holds, all of it in memory, and what became of it.

use super::Suite;
use super::Verdict;
use crate::naive::Naive;
use crate::{nested, numbers};
use modelferry_core::dtype::{Class, DType};
use modelferry_core::error::Result as CoreResult;
use modelferry_core::expr::{NodeId, Op};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::layout::Layout;
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView, Value};
use modelferry_core::plugin::{Answer, Host, LayoutRequest, MetadataForm, Query};
use modelferry_core::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What losses call a config.
const CONFIG: &str = "config.json";

/// Everything a model says, with its payload as the naive evaluator makes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) tensors: Vec<Held>,
    pub(super) ties: Vec<Vec<usize>>,
    pub(super) metadata: Vec<(String, Value)>,
    /// Paths of what a nested document holds beside its tensors.
    pub(super) parts: Vec<String>,
    /// What the program around the tensors holds beside them.
    pub(super) graph: Vec<String>,
    /// The text of the config.
    pub(super) config: Option<String>,
    /// Files that hold no weights, by name.
    pub(super) assets: BTreeMap<String, Vec<u8>>,
}

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: Vec<u8>,
    /// Whether the bytes lie in the source as they are.
    pub(super) is_verbatim: bool,
}

impl Content {
    pub(super) fn of(model: &Model, inputs: &dyn Inputs) -> CoreResult<Content> {
        let mut naive = Naive::new(model, inputs);
        let mut tensors = vec![];
        for (idx, tensor) in model.tensors.iter().enumerate() {
            tensors.push(Held {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                bytes: naive.items(tensor.data)?.bytes().to_vec(),
                is_verbatim: model.verbatim(idx).is_some(),
            });
        }
        Ok(Content { tensors, ..Content::around(model, inputs)? })
    }

    /// All but the tensors.
    pub(super) fn around(model: &Model, inputs: &dyn Inputs) -> CoreResult<Content> {
        let mut assets = BTreeMap::new();
        for asset in &model.assets {
            let bytes = match &model.nodes[asset.data].op {
                Op::Region { file, at } => {
                    inputs.read_vec(*file, *at, model.nodes[asset.data].n, u64::MAX)?
                }
                Op::Inline(bytes) => bytes.to_vec(),
                _ => vec![],
            };
            assets.insert(asset.name.clone(), bytes);
        }
        Ok(Content {
            tensors: vec![],
            ties: model.ties.clone(),
            metadata: model.metadata.clone(),
            parts: parts(model),
            graph: model.graph.iter().flat_map(|graph| &graph.parts).map(|part| part.path.clone()).collect(),
            config: model.config.as_deref().map(str::to_owned),
            assets,
        })
    }

    /// Whether a file of this name is carried.
    pub(in crate::suite) fn holds_file(&self, name: &str) -> bool {
        self.assets.contains_key(name) || name == CONFIG && self.config.is_some()
    }

    /// What lies at `path`, read by the reader of `format`, and what that reader left out.
    pub(super) fn read(suite: &Suite<'_>, path: &Path, format: &str) -> CoreResult<(Content, Vec<Loss>)> {
        let settings = Default::default();
        let opened =
            modelferry_convert::open(&suite.context(&settings), path, Some(format), &BTreeMap::new())?;
        Ok((Content::of(&opened.model, &*opened.inputs)?, opened.model.losses))
    }

    /// What of the model at `path` is converted where nothing else is asked for: of a nested checkpoint the weights.
    pub(super) fn read_weights(suite: &Suite<'_>, path: &Path, format: &str) -> CoreResult<Content> {
        let settings = Default::default();
        let mut opened =
            modelferry_convert::open(&suite.context(&settings), path, Some(format), &BTreeMap::new())?;
        opened.select(None)?;
        Content::of(&opened.model, &*opened.inputs)
    }
}

fn parts(model: &Model) -> Vec<String> {
    let parts = model.tree.iter().flat_map(modelferry_core::tree::beside_tensors);
    parts.map(|part| part.path).collect()
}

/// Whether a loss of a part of a nested document is about what stands at `path`: the part, or something in it.
fn is_about(loss: &Loss, path: &str) -> bool {
    let is_in = |path: &str| {
        path.strip_prefix(&*loss.subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // A writer knows paths in the part of the document that it was given.
    let mut ends = path.match_indices('.').map(|(at, _)| &path[at + 1..]);
    matches!(loss.kind, LossKind::State | LossKind::Tree)
        && (is_in(path) || loss.kind == LossKind::Tree && ends.any(is_in))
}

/// Something that is not the same any more: the kind of loss that must say so, and what it must name, where it must.
#[derive(Clone, Debug)]
struct Change {
    kind: LossKind,
    subjects: Vec<String>,
}

/// Compares a model with what was written of it.
///
/// Errors: a change that was not declared, a declaration that nothing shows, or a change that no declaration covers.
pub(super) fn compare(
    before: &Content,
    after: &Content,
    losses: &[Loss],
    own_metadata: &[(String, Value)],
) -> Result<Verdict, String> {
    let changes = changes(before, after, losses, own_metadata)?;
    for change in &changes {
        let says = |loss: &&Loss| {
            let is_left_out = matches!(change.kind, LossKind::Tensor | LossKind::TieDropped | LossKind::Tree);
            let as_a_part = is_left_out && change.subjects.iter().any(|path| is_about(loss, path));
            as_a_part || loss.kind == change.kind && change.names(&loss.subject)
        };
        if !losses.iter().any(|loss| says(&loss)) {
            return Err(format!("nobody declared a change: {} {:?}", change.kind.name(), change.subjects));
        }
    }
    // A tensor that is renamed in steps is named in each.
    let is_step = |loss: &Loss| {
        loss.kind == LossKind::Name
            && losses.iter().any(|other| other.renamed.as_ref() == Some(&loss.subject))
    };
    for loss in losses.iter().filter(|loss| !is_step(loss)) {
        if !is_seen(loss, losses, &changes, before, after) {
            return Err(format!("a declared loss cannot be seen: {loss}"));
        }
    }
    Ok(if changes.is_empty() { Verdict::Exact } else { Verdict::Declared })
}

impl Change {
    fn of(kind: LossKind, subjects: &[&str]) -> Change {
        Change { kind, subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect() }
    }

    fn names(&self, subject: &str) -> bool {
        // An order is not one tensor's.
        self.kind == LossKind::Order || self.subjects.iter().any(|known| known == subject)
    }
}

fn is_seen(loss: &Loss, losses: &[Loss], changes: &[Change], before: &Content, after: &Content) -> bool {
    let was_there = before.tensors.iter().find(|held| held.name == loss.subject);
    match loss.kind {
        // An order of axes is looked at where the values are: see `turned`.
        LossKind::Layout if !loss.axes.is_empty() => {
            let source = losses.iter().find(|other| other.renamed.as_ref() == Some(&loss.subject));
            let name = source.map_or(&loss.subject, |other| &other.subject);
            before.tensors.iter().any(|held| held.name == *name && held.shape.len() == loss.axes.len())
        }
        LossKind::Layout => was_there.is_some_and(|held| !held.is_verbatim),
        // The reader could not carry it, so it is on neither side.
        LossKind::Tensor if was_there.is_none() => after.tensors.iter().all(|held| held.name != loss.subject),
        LossKind::State | LossKind::Tree => {
            let paths = || before.tensors.iter().map(|held| &held.name).chain(&before.parts);
            // The reader could not carry it, and it is on neither side; or it is gone.
            !paths().any(|path| is_about(loss, path))
                || changes.iter().any(|change| change.subjects.iter().any(|path| is_about(loss, path)))
        }
        // What the reader left in the folder, and a config that a target would have liked.
        LossKind::Asset if !before.holds_file(&loss.subject) => !after.holds_file(&loss.subject),
        LossKind::Metadata if before.metadata.iter().all(|(key, _)| *key != loss.subject) => {
            after.metadata.iter().all(|(key, _)| *key != loss.subject)
        }
        _ => changes.iter().any(|change| change.kind == loss.kind && change.names(&loss.subject)),
    }
}

/// What differs, in words that losses use. Errors: what no loss can excuse.
fn changes(
    before: &Content,
    after: &Content,
    losses: &[Loss],
    own_metadata: &[(String, Value)],
) -> Result<Vec<Change>, String> {
    let mut changes = vec![];
    let partner = partners(before, after, losses)?;
    for (idx, held) in before.tensors.iter().enumerate() {
        let Some(other) = partner.get(&idx).map(|&other| &after.tensors[other]) else {
            let is_tied = before.ties.iter().any(|group| group.contains(&idx) && group[0] != idx);
            let kind = if is_tied { LossKind::TieDropped } else { LossKind::Tensor };
            changes.push(Change::of(kind, &[&held.name]));
            continue;
        };
        if held.name != other.name {
            changes.push(Change::of(LossKind::Name, &[&held.name]));
        }
        let turned = turned(held, &other.name, losses);
        let held = turned.as_ref().unwrap_or(held);
        if held.shape != other.shape {
            return Err(format!("{:?} has shape {:?} instead of {:?}", held.name, other.shape, held.shape));
        }
        let expected = if held.dtype == other.dtype {
            held.bytes.clone()
        } else {
            changes.push(Change::of(LossKind::Dtype, &[&held.name, &other.name]));
            cast(&held.bytes, held.dtype, other.dtype)
        };
        if other.bytes != expected {
            let at = other.bytes.iter().zip(&expected).position(|(a, b)| a != b);
            let at = at.unwrap_or(other.bytes.len().min(expected.len()));
            return Err(format!("{:?} ({}) differs at byte {at}", held.name, held.dtype));
        }
    }
    if !partner.values().is_sorted() {
        changes.push(Change { kind: LossKind::Order, subjects: vec![] });
    }
    changes.extend(tie_changes(before, after, &partner)?);
    for path in &before.parts {
        // The part that was taken has its paths shortened.
        let is_kept = |other: &String| path == other || path.ends_with(&format!(".{other}"));
        if !after.parts.iter().any(is_kept) {
            changes.push(Change::of(LossKind::Tree, &[path]));
        }
    }
    let lost = before.graph.iter().filter(|path| !after.graph.contains(path));
    changes.extend(lost.map(|path| Change::of(LossKind::Graph, &[path])));
    if let Some(path) = after.graph.iter().find(|path| !before.graph.contains(path)) {
        return Err(format!("the graph's part {path:?} came from nowhere"));
    }
    changes.extend(file_changes(before, after)?);
    for (key, value) in &before.metadata {
        let found = after.metadata.iter().find(|(known, _)| known == key).map(|(_, found)| found);
        if found == Some(value) {
            continue;
        }
        // A value becomes its text, or is gone; it never becomes another.
        let mut as_text = vec![(key.clone(), value.clone())];
        modelferry_convert::metadata::fit(&mut as_text, MetadataForm::Text);
        if found.is_some_and(|found| as_text.first().is_none_or(|(_, text)| text != found)) {
            return Err(format!("nobody declared a change: metadata {key:?} has another value"));
        }
        changes.push(Change::of(LossKind::Metadata, &[key]));
    }
    let is_known = |entry: &&(String, Value)| {
        before.metadata.iter().any(|(key, _)| *key == entry.0) || own_metadata.contains(entry)
    };
    match after.metadata.iter().find(|entry| !is_known(entry)) {
        Some((key, _)) => Err(format!("metadata {key:?} came from nowhere")),
        None => Ok(changes),
    }
}

/// A tensor with its axes in the order that a loss says they are written in, if one does.
fn turned(held: &Held, written_as: &str, losses: &[Loss]) -> Option<Held> {
    let is_it = |loss: &&Loss| loss.kind == LossKind::Layout && loss.subject == written_as;
    let axes = &losses.iter().find(is_it)?.axes;
    let axes: Vec<usize> = axes.iter().map(|&axis| usize::from(axis)).collect();
    let width = held.dtype.bits().filter(|bits| bits % 8 == 0)? as usize / 8;
    if axes.is_empty() || axes.len() != held.shape.len() {
        return None;
    }
    let after: Vec<u64> = axes.iter().map(|&axis| held.shape[axis]).collect();
    let mut bytes = Vec::with_capacity(held.bytes.len());
    for number in 0..after.iter().product() {
        let (mut rest, mut place) = (number, vec![0; axes.len()]);
        for (&axis, &extent) in axes.iter().zip(&after).rev() {
            place[axis] = rest % extent;
            rest /= extent;
        }
        let from = place.iter().zip(&held.shape).fold(0, |at, (&index, &extent)| at * extent + index);
        bytes.extend_from_slice(&held.bytes[from as usize * width..][..width]);
    }
    Some(Held { shape: after, bytes, ..held.clone() })
}

/// What differs in files that hold no weights. Of these only a config is ever changed.
fn file_changes(before: &Content, after: &Content) -> Result<Vec<Change>, String> {
    let mut changes = vec![];
    match (&before.config, &after.config) {
        (None, Some(_)) => return Err("a config came from nowhere".to_owned()),
        (before, after) if before != after => changes.push(Change::of(LossKind::Asset, &[CONFIG])),
        _ => {}
    }
    for (name, bytes) in &before.assets {
        match after.assets.get(name) {
            None => changes.push(Change::of(LossKind::Asset, &[name])),
            Some(other) if other != bytes => return Err(format!("the file {name:?} is another")),
            Some(_) => {}
        }
    }
    match after.assets.keys().find(|name| !before.assets.contains_key(*name)) {
        Some(name) => Err(format!("the file {name:?} came from nowhere")),
        None => Ok(changes),
    }
}

/// Which tensor became which: by name, and those that are left by their order.
fn partners(before: &Content, after: &Content, losses: &[Loss]) -> Result<BTreeMap<usize, usize>, String> {
    let by_name: BTreeMap<&str, usize> =
        after.tensors.iter().enumerate().map(|(idx, held)| (&*held.name, idx)).collect();
    if by_name.len() != after.tensors.len() {
        return Err("a name was written twice".to_owned());
    }
    let is_left_out = |held: &Held| {
        let by_name = |loss: &Loss| {
            matches!(loss.kind, LossKind::Tensor | LossKind::TieDropped) && loss.subject == held.name
        };
        losses.iter().any(|loss| by_name(loss) || is_about(loss, &held.name))
    };
    // Names change in steps: the part that is taken, then prefixes, then what the user asked for.
    let mut renames: BTreeMap<&str, &str> = BTreeMap::new();
    for loss in losses.iter().filter(|loss| loss.kind == LossKind::Name) {
        if let Some(name) = &loss.renamed {
            renames.entry(&loss.subject).or_insert(name);
        }
    }
    let written_as = |held: &Held| {
        let first = renames.get(held.name.as_str()).copied();
        let steps = std::iter::successors(first, |name| renames.get(name).copied());
        steps.take(losses.len()).last().map_or_else(|| held.name.clone(), str::to_owned)
    };
    // Something else may have taken the name of a part that was left out.
    let is_in_part = |held: &Held| losses.iter().any(|loss| is_about(loss, &held.name));
    let found = |held: &Held| match is_in_part(held) {
        true => None,
        false => by_name.get(&*written_as(held)).copied(),
    };
    let lost = |held: &&Held| {
        renames.contains_key(held.name.as_str()) && !is_left_out(held) && found(held).is_none()
    };
    if let Some(held) = before.tensors.iter().find(lost) {
        // It was declared to get a name that nothing has.
        return Err(format!("nobody declared a change: name {:?}", [written_as(held)]));
    }
    let mut partner: BTreeMap<usize, usize> =
        before.tensors.iter().enumerate().filter_map(|(idx, held)| Some((idx, found(held)?))).collect();
    let taken: BTreeSet<usize> = partner.values().copied().collect();
    let new: Vec<usize> = (0..after.tensors.len()).filter(|idx| !taken.contains(idx)).collect();
    let is_gone = |idx: &usize| !partner.contains_key(idx) && !is_left_out(&before.tensors[*idx]);
    let gone: Vec<usize> = (0..before.tensors.len()).filter(is_gone).collect();
    let still_there = before
        .tensors
        .iter()
        .find(|held| is_in_part(held) && new.iter().any(|&idx| after.tensors[idx].name == held.name));
    if let (Some(held), true) = (still_there, new.len() != gone.len())
        && let Some(loss) = losses.iter().find(|loss| is_about(loss, &held.name))
    {
        return Err(format!("a declared loss cannot be seen: {loss}"));
    }
    if !new.is_empty() && new.len() != gone.len() {
        return Err(format!("{:?} came from nowhere", after.tensors[new[0]].name));
    }
    if !new.is_empty() {
        partner.extend(gone.into_iter().zip(new));
    }
    Ok(partner)
}

fn tie_changes(
    before: &Content,
    after: &Content,
    partner: &BTreeMap<usize, usize>,
) -> Result<Vec<Change>, String> {
    let sets = |ties: &[Vec<usize>]| ties.iter().map(|group| group.iter().copied().collect()).collect();
    let mut left: Vec<BTreeSet<usize>> = sets(&after.ties);
    let mut changes = vec![];
    for group in &before.ties {
        let written: BTreeSet<usize> = group.iter().filter_map(|idx| partner.get(idx).copied()).collect();
        match left.iter().position(|known| *known == written) {
            Some(known) => {
                left.remove(known);
            }
            None if written.len() > 1 => {
                let later = group[1..].iter().map(|&idx| &*before.tensors[idx].name);
                changes.extend(later.map(|name| Change::of(LossKind::TieCopied, &[name])));
            }
            None => {}
        }
    }
    match left.first().and_then(BTreeSet::first) {
        Some(&idx) => Err(format!("{:?} is tied and was not", after.tensors[idx].name)),
        None => Ok(changes),
    }
}

/// Items of `from` as items of `to`, real scalars, with one rounding; the values of blocks are f32.
pub(super) fn cast(bytes: &[u8], from: DType, to: DType) -> Vec<u8> {
    if let (Class::Block, Ok(floats)) = (from.class(), crate::naive::dequantized(from, bytes)) {
        return cast(&floats, DType::F32, to);
    }
    let (from_width, to_width) = (from.item_bytes() as usize, to.item_bytes() as usize);
    let convert = |item: &[u8]| numbers::cast(from, to, crate::naive::little(item));
    bytes
        .chunks_exact(from_width)
        .flat_map(|item| convert(item).to_le_bytes().into_iter().take(to_width))
        .collect()
}

/// Answers questions about payload by evaluating everything.
pub(super) struct NaiveHost<'a> {
    pub(super) registry: &'a Registry,
    pub(super) inputs: &'a dyn Inputs,
    pub(super) limits: Limits,
}

impl Host for NaiveHost<'_> {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn ask(&mut self, model: &Model, query: Query) -> CoreResult<Answer> {
        let mut naive = Naive::new(model, self.inputs);
        let mut bytes = |node: NodeId| Ok(naive.items(node)?.bytes().to_vec());
        Ok(match query {
            Query::Equal(a, b) => Answer::Bool(bytes(a)? == bytes(b)?),
            Query::AllZero(node) => Answer::Bool(bytes(node)?.iter().all(|&byte| byte == 0)),
            Query::Small { node, at, len } => {
                let width = model.nodes[node].dtype.item_bytes();
                Answer::Bytes(bytes(node)?[(at * width) as usize..((at + len) * width) as usize].to_vec())
            }
            other => {
                let text = format!("{other:?}");
                return Err(modelferry_core::Error::unsupported("the suite cannot answer this").found(text));
            }
        })
    }

    fn read(&mut self, inputs: &dyn Inputs, root: FileId) -> CoreResult<Model> {
        nested::read(self.registry, inputs, root, self)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, bytes: &[u8]) -> Held {
        Held {
            name: name.to_owned(),
            dtype: DType::U8,
            shape: vec![bytes.len() as u64],
            bytes: bytes.to_vec(),
            is_verbatim: true,
        }
    }

    fn content(tensors: &[Held]) -> Content {
        let assets = BTreeMap::new();
        Content {
            tensors: tensors.to_vec(),
            ties: vec![],
            metadata: vec![],
            parts: vec![],
            graph: vec![],
            config: None,
            assets,
        }
    }

    fn loss(kind: LossKind, subject: &str) -> Loss {
        Loss::declared(kind, subject, "a reason")
    }

    #[track_caller]
    fn check(before: &Content, after: &Content, losses: &[Loss], expected: Result<Verdict, &str>) {
        let found = compare(before, after, losses, &[]);
        assert_eq!(found.as_ref().map(|verdict| *verdict).map_err(String::as_str), expected);
    }

    #[test]
    fn what_changed_was_declared_and_what_was_declared_changed() {
        use LossKind::{Dtype, Layout, Metadata, Name, Order, Tensor, TieCopied, TieDropped};
        let (a, b) = (held("a", &[1, 2]), held("b", &[3]));
        let both = content(&[a.clone(), b.clone()]);
        check(&both, &both, &[], Ok(Verdict::Exact));
        check(&both, &both, &[loss(Tensor, "a")], Err("a declared loss cannot be seen: tensor: a: a reason"));
        check(&both, &both, &[loss(Layout, "a")], Err("a declared loss cannot be seen: layout: a: a reason"));

        let one = content(std::slice::from_ref(&a));
        check(&both, &one, &[loss(Tensor, "b")], Ok(Verdict::Declared));
        check(&both, &one, &[loss(Tensor, "a")], Err("nobody declared a change: tensor [\"b\"]"));
        check(&one, &both, &[], Err("\"b\" came from nowhere"));

        let swapped = content(&[b.clone(), a.clone()]);
        check(&both, &swapped, &[], Err("nobody declared a change: order []"));
        check(&both, &swapped, &[loss(Order, "the file")], Ok(Verdict::Declared));
        check(&both, &content(&[held("a", &[1, 3]), b.clone()]), &[], Err("\"a\" (u8) differs at byte 1"));
        check(&one, &content(&[held("z", &[1, 2])]), &[loss(Name, "a")], Ok(Verdict::Declared));
        check(&one, &content(&[held("z", &[1, 2])]), &[], Err("nobody declared a change: name [\"a\"]"));

        let mut signed = one.clone();
        signed.tensors[0].dtype = DType::I8;
        check(&one, &signed, &[], Err("nobody declared a change: dtype [\"a\", \"a\"]"));
        check(&one, &signed, &[loss(Dtype, "a")], Ok(Verdict::Declared));
        signed.tensors[0].bytes = vec![1, 9];
        check(&one, &signed, &[loss(Dtype, "a")], Err("\"a\" (u8) differs at byte 1"));

        let mut tied = content(&[a.clone(), held("c", &[1, 2])]);
        let untied = tied.clone();
        tied.ties.push(vec![0, 1]);
        check(&tied, &tied, &[], Ok(Verdict::Exact));
        check(&tied, &untied, &[], Err("nobody declared a change: tie-copied [\"c\"]"));
        check(&tied, &untied, &[loss(TieCopied, "c")], Ok(Verdict::Declared));
        check(&tied, &one, &[loss(TieDropped, "c")], Ok(Verdict::Declared));
        check(&untied, &tied, &[], Err("\"a\" is tied and was not"));

        let mut described = one.clone();
        described.metadata.push(("key".to_owned(), Value::Text("value".to_owned())));
        check(&described, &one, &[], Err("nobody declared a change: metadata [\"key\"]"));
        check(&described, &one, &[loss(Metadata, "key")], Ok(Verdict::Declared));
        check(&one, &described, &[], Err("metadata \"key\" came from nowhere"));
    }

    #[test]
    fn axes_are_looked_at_where_a_loss_turns_them() {
        let shaped = |name: &str, shape: &[u64], bytes: &[u8]| {
            content(&[Held { shape: shape.to_vec(), ..held(name, bytes) }])
        };
        let before = shaped("a", &[2, 3], &[1, 2, 3, 4, 5, 6]);
        let after = shaped("b", &[3, 2], &[1, 4, 2, 5, 3, 6]);
        let losses = [Loss::renamed("a", "b", "was"), Loss::turned("b", [1, 0].into())];
        check(&before, &after, &losses, Ok(Verdict::Declared));
        check(&before, &after, &losses[..1], Err("\"a\" has shape [3, 2] instead of [2, 3]"));
        let wrong = shaped("b", &[3, 2], &[1, 2, 3, 4, 5, 6]);
        check(&before, &wrong, &losses, Err("\"a\" (u8) differs at byte 1"));
        let unlike = [Loss::renamed("a", "b", "was"), Loss::turned("c", [1, 0].into())];
        let unseen = "a declared loss cannot be seen: layout: c: an exporter turned it over, axes [1, 0] of the graph's \
                      tensor are written";
        let kept = shaped("b", &[2, 3], &[1, 2, 3, 4, 5, 6]);
        check(&before, &kept, &unlike, Err(unseen));
        let cube = shaped("a", &[2, 1, 2], &[1, 2, 3, 4]);
        let turned = shaped("a", &[2, 2, 1], &[1, 3, 2, 4]);
        check(&cube, &turned, &[Loss::turned("a", [2, 0, 1].into())], Ok(Verdict::Exact));
    }
}
