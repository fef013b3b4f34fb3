//! One output of a run: the model made for it, its layout, and what its values have shown.

use crate::config::Own;
use crate::host::{EngineHost, Traces};
use crate::job::{Context, Job};
use crate::links::Links;
use crate::pick::Target;
use crate::report::{Given, Quantized, Report};
use crate::weights::Giver;
use crate::{capabilities, metadata, policy, readback};
use modelferry_core::layout::Layout;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView, TensorIdx};
use modelferry_core::options::Options;
use modelferry_core::plugin::{LayoutRequest, Reader, WriterInfo};
use modelferry_core::{Error, Result};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::{Seen, Source, Staged};
use modelferry_transform::quantize::Preset;
use modelferry_transform::{Keeps, Names, Ties};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What all outputs of a run share.
pub(crate) struct Run<'a> {
    pub(crate) cx: &'a Context<'a>,
    pub(crate) job: &'a Job,
    pub(crate) inputs: &'a Arc<DiskInputs>,
    pub(crate) giver: Option<&'a Giver>,
    pub(crate) config: Own<'a>,
    /// Files that hold tensors.
    pub(crate) n_files: usize,
}

/// One of the models that are made of the source, and where its bytes go.
pub(crate) struct Made<'a> {
    pub(crate) preset: Option<Preset>,
    pub(crate) target: Target<'a>,
    pub(crate) model: Model,
    pub(crate) layout: Layout,
}

impl<'a> Run<'a> {
    /// Edits the model that was read and lays it out.
    pub(crate) fn make(
        &self,
        mut model: Model,
        preset: Option<Preset>,
        target: Target<'a>,
        report: &mut Report,
    ) -> Result<Made<'a>> {
        let info = target.writer.info();
        let Run { cx, job, inputs, .. } = *self;
        let writer_options = Options::resolve(info.options, &job.options)?;
        let shards = target.shards.resolve(self.n_files);
        let mut edits = job.edits.clone();
        edits.quantize.preset = preset;
        report.losses.append(&mut model.losses);
        let mut traces = Traces::default();
        let mut host =
            EngineHost { cx, inputs: &**inputs, options: &job.options, traces: &mut traces, links: None };
        let tensors = target.tensors();
        let keeps_graph = model.graph.as_ref().is_some_and(|graph| tensors.carries_graph(graph.dialect));
        let keeps = Keeps { ties: tensors.ties, graph: keeps_graph };
        let mut given = self.giver.map(|giver| giver.weights.clone());
        let names = original_names(&mut model, edits.names, tensors, &mut host);
        let result = names.and_then(|(losses, nameless)| {
            report.losses.extend(losses);
            report.nameless = nameless;
            modelferry_transform::apply(model, &edits, given.as_mut(), keeps, &mut host)
        });
        report.asked.append(&mut traces.asked);
        let (mut model, losses) = result?;
        report.losses.extend(losses);
        report.losses.extend(self.giver.iter().flat_map(|giver| giver.losses.iter().cloned()));
        report.weights = self.giver.zip(given).map(|(giver, given)| Given {
            path: given.name,
            format: giver.readers.first().map_or("", |reader| reader.format),
            n_tensors: given.taken.len() as u64,
        });
        report.keep_nameless(&model);
        report.losses.extend(self.config.report(&mut model, info.config));
        report.losses.extend(metadata::fit(&mut model.metadata, target.tensors().metadata));
        report.n_tensors = model.tensors.len() as u64;
        report.n_elements =
            model.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.n_elements()));

        let view = ModelView::new(&model, &cx.settings.limits)?;
        report.losses.extend(capabilities::check(&view, shards, target.tensors(), info)?);
        let weights = if target.is_folder() { target.tensors().format } else { "" };
        let request =
            LayoutRequest { file_name: &target.file_name, weights, options: &writer_options, shards };
        let links = Some(Links { inputs, output: &job.output, is_folder: target.is_folder() });
        let mut host =
            EngineHost { cx, inputs: &**inputs, options: &job.options, traces: &mut traces, links };
        let result = target.writer.layout(&view, &request, &mut host);
        report.asked.append(&mut traces.asked);
        let (layout, losses) = result.map_err(|error| error.format(info.format))?;
        check_ties(&losses, edits.ties).map_err(|error| error.format(info.format))?;
        report.losses.extend(losses);
        report.notes.extend(layout.notes.iter().cloned());
        report.links = layout.links.iter().map(|link| (link.path.clone(), link.n_tensors)).collect();
        layout.validate(&view).map_err(|error| error.format(info.format))?;
        report.files = layout.files.iter().map(|file| (file.path.clone(), file.len)).collect();
        report.root = layout.files.get(layout.root).map(|file| file.path.clone());
        report.bytes = layout.files.iter().fold(0, |sum, file| sum.saturating_add(file.len));
        policy::check(&report.losses, &job.policy, info.format)?;
        Ok(Made { preset, target, model, layout })
    }

    /// Looks at the staged output, part `number` of the run: what its values have shown, and what is read back of it.
    pub(crate) fn approve(
        &self,
        made: &Made<'_>,
        (staged, number): (&Staged<'_>, usize),
        verifier: Option<&dyn Reader>,
        report: &mut Report,
    ) -> Result<()> {
        let Run { cx, job, inputs, .. } = *self;
        let seen = &staged.seen[number];
        report.quantized = quantized(&made.model, seen);
        let observed = observed(&made.model, seen);
        report.losses.extend(observed.iter().cloned());
        policy::check(&observed, &job.policy, made.target.writer.info().format)?;
        if let Some(reader) = verifier {
            let root = match made.target.is_folder() {
                true => staged.folder(),
                false => staged.path(number, made.layout.root),
            };
            let source = Source { model: &made.model, inputs: &**inputs };
            let links = made.layout.links.iter().map(|link| (link.path.as_str(), inputs.path(link.file)));
            let links: Vec<_> = links.collect();
            report.n_verified =
                Some(readback::check(cx, source, &root, &links, reader, made.target.tensors())?);
        }
        Ok(())
    }
}

/// A writer may hold ties in some layouts only: where they are to be kept, another one has to be asked for.
fn check_ties(losses: &[Loss], wish: Ties) -> Result<()> {
    let copied = losses.iter().find(|loss| loss.kind == LossKind::TieCopied);
    match copied.filter(|_| wish == Ties::Keep) {
        None => Ok(()),
        Some(loss) => Err(Error::target("--ties keep: this tie cannot be kept")
            .tensor(&loss.subject)
            .found(&loss.detail)
            .hint("pass --ties copy or --ties drop")),
    }
}

/// Gives the tensors of a program that is not carried the names that they had before it was exported, unless they are to
/// keep the program's. Returns what was changed, and the names of those of which the program shows nothing.
fn original_names(
    model: &mut Model,
    wish: Names,
    target: &WriterInfo,
    host: &mut EngineHost<'_>,
) -> Result<(Vec<Loss>, Vec<String>)> {
    let Some(dialect) = model.graph.as_ref().map(|graph| graph.dialect) else { return Ok((vec![], vec![])) };
    match wish {
        Names::Original if target.carries_graph(dialect) => {
            return Err(Error::usage(
                "--names original: the output keeps the graph, which has names of its own",
            )
            .format(target.format));
        }
        Names::Auto | Names::Original if !target.carries_graph(dialect) => {}
        _ => return Ok((vec![], vec![])),
    }
    let losses = modelferry_transform::restore(model, wish == Names::Original, host)?;
    let nameless = model.graph.iter().flat_map(|graph| &graph.nameless);
    let nameless = nameless.filter_map(|&idx| model.tensors.get(idx)).map(|tensor| tensor.name.clone());
    Ok((losses, nameless.collect()))
}

/// What quantization cost each tensor, in file order.
fn quantized(model: &Model, seen: &BTreeMap<TensorIdx, Seen>) -> Vec<Quantized> {
    let quantized = seen.iter().filter(|(_, seen)| seen.quantized.n > 0);
    let of = |(idx, seen): (&TensorIdx, &Seen)| {
        let tensor = &model.tensors[*idx];
        let (rms, largest) = (seen.quantized.rms(), seen.quantized.largest);
        Quantized { name: tensor.name.clone(), dtype: tensor.dtype, rms, largest }
    };
    quantized.map(of).collect()
}

/// Losses that only the values showed. Underflow is what rounding does to small values, which `--dtype` asked for;
/// overflow is refused unless allowed by name.
fn observed(model: &Model, seen: &BTreeMap<TensorIdx, Seen>) -> Vec<Loss> {
    let mut losses = vec![];
    for (idx, Seen { casts: stats, quantized }) in seen {
        let tensor = &model.tensors[*idx];
        let of = format!("of {} values", tensor.n_elements());
        if stats.overflow > 0 {
            let detail = format!("{} {of} do not fit {}", stats.overflow, tensor.dtype);
            losses.push(Loss::observed(LossKind::Overflow, &tensor.name, detail));
        }
        if stats.underflow > 0 {
            let detail = format!("{} {of} become zero in {}", stats.underflow, tensor.dtype);
            losses.push(Loss::observed(LossKind::Underflow, &tensor.name, detail).asked());
        }
        if quantized.overflow > 0 {
            let detail = format!("{} {of} have a scale beyond {}", quantized.overflow, tensor.dtype);
            losses.push(Loss::observed(LossKind::Overflow, &tensor.name, detail));
        }
        if quantized.non_finite > 0 {
            let detail = format!("{} {of} are NaN or infinite", quantized.non_finite);
            losses.push(Loss::observed(LossKind::NonFinite, &tensor.name, detail));
        }
    }
    losses
}
