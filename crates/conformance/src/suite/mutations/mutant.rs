//! Plugins that do one thing wrong.

use super::super::content::Held;
use super::plan::Mutation;
use crate::naive::pack;
use modelferry_core::epilogue::{Outcome, SmallFile};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::Packing;
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView, Tensor, Value};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, LayoutRequest, Place, Reader, ReaderInfo, Verdict, Writer, WriterInfo};
use modelferry_core::registry::Registry;
use std::sync::Arc;

/// The plugins of a registry, all of which do the same thing wrong.
pub(super) fn mutants(honest: &Arc<Registry>, mutation: Mutation) -> Registry {
    let mutation = Arc::new(mutation);
    let mut registry = Registry::default();
    for info in honest.readers().map(|reader| reader.info()) {
        registry.add_reader(Mutant { honest: Arc::clone(honest), info, mutation: Arc::clone(&mutation) });
    }
    for info in honest.writers().map(|writer| writer.info()) {
        registry.add_writer(Mutant { honest: Arc::clone(honest), info, mutation: Arc::clone(&mutation) });
    }
    registry
}

/// A reader or a writer around the one of the same format.
struct Mutant<I: 'static> {
    honest: Arc<Registry>,
    info: &'static I,
    mutation: Arc<Mutation>,
}

impl Reader for Mutant<ReaderInfo> {
    fn info(&self) -> &'static ReaderInfo {
        self.info
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        self.honest.reader(self.info.format).map_or(Verdict::No, |reader| reader.identify(inputs))
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let mut model = self.honest.reader(self.info.format)?.read(inputs, options, host)?;
        // The tensors of a folder come from another of these readers, which has been at them.
        if self.info.place == Place::Folder {
            return Ok(model);
        }
        let find = |name: &str| model.tensors.iter().position(|tensor| tensor.name == name);
        match &*self.mutation {
            Mutation::BreakTie { tensor } => {
                if let Some(idx) = find(tensor) {
                    let Tensor { name, dtype, shape, data } = model.tensors[idx].clone();
                    let again = model.push(format!("{name} again"), dtype, shape, data)?;
                    match model.ties.iter_mut().find(|group| group.contains(&idx)) {
                        Some(group) => group.push(again),
                        None => model.ties.push(vec![idx, again]),
                    }
                }
            }
            Mutation::MakeTie { first, second } => {
                if let (Some(first), Some(second)) = (find(first), find(second)) {
                    model.ties.push(vec![first.min(second), first.max(second)]);
                }
            }
            _ => {}
        }
        Ok(model)
    }
}

impl Writer for Mutant<WriterInfo> {
    fn info(&self) -> &'static WriterInfo {
        self.info
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let writer = self.honest.writer(self.info.format)?;
        if self.info.place == Place::Folder {
            let (mut layout, losses) = writer.layout(view, request, host)?;
            spoil_files(&mut layout, &self.mutation);
            return Ok((layout, losses));
        }
        let find = |name: &str| view.tensors().position(|tensor| tensor.name() == name);
        let mut shown = described(view)?;
        let mut left_out = None;
        match &*self.mutation {
            Mutation::LeaveOut { tensor } => {
                left_out = find(tensor);
                if let Some(idx) = left_out {
                    shown.tensors.remove(idx);
                    shown.ties.clear();
                    shown.graph = None;
                }
            }
            Mutation::Rename { tensor } => change(&mut shown, find(tensor), |tensor| tensor.name.push('~')),
            Mutation::Reshape { tensor } => change(&mut shown, find(tensor), |tensor| tensor.shape.push(1)),
            Mutation::Retype { tensor, dtype } => {
                if let Some(idx) = find(tensor) {
                    let known = &view.tensor(idx);
                    let (file, at) = place(view, idx);
                    let region = shown.nodes.region(file, at, known.byte_len())?;
                    let n = shown.tensors[idx].n_elements();
                    shown.tensors[idx].data = shown.nodes.decode(region, *dtype, n, Packing::default())?;
                    shown.tensors[idx].dtype = *dtype;
                }
            }
            Mutation::Describe { key } => {
                for (known, value) in &mut shown.metadata {
                    if known == key {
                        *value = another(value);
                    }
                }
            }
            Mutation::HideTies => shown.ties.clear(),
            _ => {
                let (mut layout, mut losses) = writer.layout(view, request, host)?;
                match &*self.mutation {
                    Mutation::FlipBit { tensor, at, bit } => {
                        // A graph may hold a few numbers itself, out of our reach.
                        let is_done = find(&tensor.name).map(|idx| flip(&mut layout, idx, tensor, *at, *bit));
                        if is_done == Some(false) {
                            return Err(Error::unsupported("no piece of the output is this tensor's"));
                        }
                    }
                    Mutation::Swap { first, second } => swap(&mut layout, find(first), find(second)),
                    Mutation::ClaimLoss(loss) => losses.push(loss.clone()),
                    _ => {}
                }
                return Ok((layout, losses));
            }
        }
        let (mut layout, losses) = writer.layout(&ModelView::new(&shown, host.limits())?, request, host)?;
        if let Some(left_out) = left_out {
            for_each_tensor(&mut layout, |idx| *idx += usize::from(*idx >= left_out));
        }
        Ok((layout, losses))
    }

    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        self.honest.writer(self.info.format)?.epilogue(outcome)
    }
}

/// What is done to the files of a folder; its tensors are in the hands of another of these writers.
fn spoil_files(layout: &mut Layout, mutation: &Mutation) {
    match mutation {
        Mutation::SpoilFile { name } => {
            for file in layout.files.iter_mut().filter(|file| file.path == *name) {
                file.pieces.push(Piece::Zero(1));
                file.len += 1;
            }
        }
        Mutation::LeaveFileOut { name } => {
            // Assets come first, and nothing but the root is named by its place behind them.
            let place = layout.files.iter().position(|file| file.path == *name);
            if let Some(place) = place.filter(|place| *place < layout.root) {
                layout.files.remove(place);
                layout.root -= 1;
                layout.digests.iter_mut().for_each(|digest| digest.over.file -= 1);
                layout.patches.iter_mut().for_each(|patch| patch.file -= 1);
                for maker in layout.promises.iter_mut().filter_map(|promise| promise.by.as_mut()) {
                    maker.files = maker.files.start - 1..maker.files.end - 1;
                }
            }
        }
        _ => {}
    }
}

/// A model that looks to a writer as `view` does, to be changed.
fn described(view: &ModelView<'_>) -> Result<Model> {
    let mut model = Model::default();
    for (idx, tensor) in view.tensors().enumerate() {
        let (file, at) = place(view, idx);
        let region = model.nodes.region(file, at, tensor.byte_len())?;
        let n = tensor.dtype().items(tensor.shape().iter().product()).unwrap_or_default();
        let mut data = model.nodes.decode(region, tensor.dtype(), n, Packing::default())?;
        if view.verbatim(idx).is_none() {
            data = model.nodes.stage(data)?;
        }
        model.push(tensor.name(), tensor.dtype(), tensor.shape().to_vec(), data)?;
    }
    model.ties = view.ties().to_vec();
    model.metadata = view.metadata().to_vec();
    model.config = view.config().map(Into::into);
    model.graph = view.graph().cloned();
    let first = model.nodes.iter().map(|(id, _)| id).next();
    for binding in model.graph.iter_mut().flat_map(|graph| &mut graph.bindings) {
        let shown = model.tensors[binding.tensor].data;
        // What the graph did not come with is some other node.
        binding.data =
            if view.is_untouched(binding) { shown } else { first.filter(|id| *id != shown).unwrap_or(shown) };
    }
    Ok(model)
}

/// Where a tensor's bytes lie as far as a writer can tell.
fn place(view: &ModelView<'_>, idx: usize) -> (FileId, u64) {
    view.verbatim(idx).unwrap_or((view.source_file(idx).unwrap_or(FileId(0)), 0))
}

/// A value that is not this one: of the same type, where that is a number.
fn another(value: &Value) -> Value {
    let mut packed = vec![];
    value.pack(&mut packed);
    let number = match value {
        Value::Text(_) | Value::Bytes(_) | Value::List(_) => None,
        number => {
            // Twice as much, or one: what must be a power of two stays one.
            let mut carry = u8::from(packed.iter().all(|byte| *byte == 0));
            for byte in &mut packed {
                (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
            }
            number.item_type().unpack(&packed).map(|(value, _)| value)
        }
    };
    match number {
        Some(number) if number != *value => number,
        _ => Value::Text(format!("not {value:?}")),
    }
}

fn change(model: &mut Model, idx: Option<usize>, change: impl FnOnce(&mut Tensor)) {
    if let Some(tensor) = idx.and_then(|idx| model.tensors.get_mut(idx)) {
        change(tensor);
    }
}

fn for_each_tensor(layout: &mut Layout, mut change: impl FnMut(&mut usize)) {
    for piece in layout.files.iter_mut().flat_map(|file| &mut file.pieces) {
        if let Piece::Tensor { idx, .. } = piece {
            change(idx);
        }
    }
}

/// Puts bytes into a layout where it had a few of a tensor's: the same, but for one bit. Says whether it had them.
fn flip(layout: &mut Layout, idx: usize, tensor: &Held, at: u64, bit: u32) -> bool {
    let mut is_done = false;
    for file in &mut layout.files {
        let found = file.pieces.iter().enumerate().find_map(|(place, piece)| match piece {
            Piece::Tensor { idx: known, bytes, packing } if *known == idx && bytes.contains(&at) => {
                Some((place, bytes.clone(), *packing))
            }
            _ => None,
        });
        let Some((place, bytes, packing)) = found else { continue };
        let mut packed = pack(&tensor.bytes, tensor.dtype, packing);
        packed[at as usize] ^= 1 << bit;
        // Neither an item may be split, nor eight items that share bytes.
        let unit = tensor.dtype.bits().filter(|bits| *bits < 8).map_or(tensor.dtype.item_bytes(), u64::from);
        let from = at / unit * unit;
        let to = (from + unit).min(bytes.end);
        let rest = |bytes| Piece::Tensor { idx, bytes, packing };
        let spoilt = Piece::Bytes(packed[from as usize..to as usize].into());
        file.pieces.splice(place..=place, [rest(bytes.start..from), spoilt, rest(to..bytes.end)]);
        is_done = true;
    }
    is_done
}

fn swap(layout: &mut Layout, first: Option<usize>, second: Option<usize>) {
    let (Some(first), Some(second)) = (first, second) else { return };
    for_each_tensor(layout, |idx| {
        *idx = match *idx {
            known if known == first => second,
            known if known == second => first,
            other => other,
        }
    });
}
