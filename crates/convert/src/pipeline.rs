//! One conversion from end to end.

use crate::config::Own;
use crate::host::{EngineHost, Traces};
use crate::job::{Context, Job};
use crate::links::Links;
use crate::open::open_as;
use crate::pick::Target;
use crate::report::{Given, Quantized, Report};
use crate::weights::{Giver, giver};
use crate::{capabilities, metadata, naming, pick, policy, readback};
use modelferry_core::layout::Layout;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView, TensorIdx};
use modelferry_core::options::Options;
use modelferry_core::plugin::{LayoutRequest, Reader, WriterInfo};
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_engine::disk::DiskInputs;
use modelferry_engine::publish::{Replace, remove_leftovers};
use modelferry_engine::{Part, Plan, Seen, Source, Staged, execute};
use modelferry_transform::quantize::Preset;
use modelferry_transform::{Names, Target as Keeping, Ties};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Converts `job.input` to `job.output`, filling `report` on the way: on failure it holds what was known until then.
///
/// Nothing stands under an output's name unless all of it succeeded, and of several outputs all. Errors carry their
/// exit code in their [kind](modelferry_core::ErrorKind).
pub fn convert(cx: &Context<'_>, job: &Job, report: &mut Report) -> Result<()> {
    report.input = job.input.display().to_string();
    report.output = job.output.display().to_string();
    report.is_dry_run = job.dry_run;
    // What the command line got wrong is said before a file is opened.
    let presets = job.presets();
    let paths = job.outputs();
    let mut targets = vec![];
    for path in &paths {
        targets.push(pick::target(cx.registry, path, job.to.as_deref(), job.shards)?);
    }
    let (info, in_folder) = (targets[0].writer.info(), targets[0].in_folder);
    naming::check(&job.output, &job.several, &job.edits, in_folder)?;
    report.to = Some(info.format);
    report.is_folder = targets[0].is_folder();
    let verifier = job.verify.then(|| verifier(cx, info.format)).transpose()?;

    let mut opened = open_as(cx, &job.input, job.from.as_deref(), &job.options, info.place)?;
    report.from = Some(opened.reader.format);
    report.asked.clone_from(&opened.traces.asked);
    let weights = job.weights.as_deref();
    let giver = weights.map(|path| giver(cx, path, &job.options, &opened.inputs)).transpose()?;
    let givers = giver.iter().flat_map(|giver| giver.readers.iter().copied());
    let mut in_use: Vec<_> =
        opened.readers().chain(givers).map(|reader| (reader.format, reader.options)).collect();
    in_use.push((info.format, info.options));
    in_use.extend(targets[0].weights.map(|weights| (weights.info().format, weights.info().options)));
    pick::check_options(cx.registry, &job.options, &in_use)?;
    report.asked.extend(giver.iter().flat_map(|giver| giver.traces.asked.iter().cloned()));
    let n_files = opened.weight_files().len();
    let config = Own::settle(&mut opened, &job.config, &cx.settings.limits)?;

    let head = report.clone();
    let mut made: Vec<Made<'_>> = vec![];
    let n_outputs = paths.len();
    for (number, ((preset, mut target), path)) in (1..).zip(presets.into_iter().zip(targets).zip(paths)) {
        if target.in_folder {
            let extension = info.extensions.first().copied().unwrap_or_default();
            target.file_name =
                naming::in_folder(&opened.model, &*opened.inputs, &job.edits, preset, extension);
        }
        let output = if in_folder { path.join(&target.file_name) } else { path };
        let mut own = Report { output: output.display().to_string(), ..head.clone() };
        // The last output takes the model itself: a copy of a million tensors costs time and memory.
        let is_last = number == n_outputs;
        let model = if is_last { std::mem::take(&mut opened.model) } else { opened.model.clone() };
        let source = (model, &*opened.inputs);
        let result = Made::of(cx, job, source, giver.as_ref(), &config, preset, target, n_files, &mut own);
        match job.several.is_empty() {
            true => *report = own,
            false => report.outputs.push(own),
        }
        made.push(result?);
    }
    report.sum_up();

    let inputs = &opened.inputs;
    let replace = if job.force { Replace::Force } else { Replace::Refuse };
    // Of one output the type is in its place by now; several are staged under the name that stands for all.
    let place = match &made[..] {
        [made] => naming::filled(&job.output, &job.edits, made.preset),
        _ => job.output.clone(),
    };
    let parts: Vec<Part<'_>> =
        made.iter().map(|made| Part { model: &made.model, layout: &made.layout }).collect();
    let plan = Plan {
        parts: &parts,
        inputs,
        output: &place,
        is_folder: in_folder || report.is_folder,
        replace,
        settings: cx.settings,
        control: cx.control,
        io: Arc::clone(&cx.io),
    };
    if !job.dry_run {
        // Also before a run that will be refused: the one that made the output may have been killed while tidying up.
        remove_leftovers(&*cx.io, &place);
    }
    // What would be refused is said before the work, and where there will be none.
    report.stale = plan.check()?.iter().map(|path| path.display().to_string()).collect();
    if job.dry_run {
        return Ok(());
    }
    execute(&plan, &mut |staged| {
        for (number, made) in made.iter().enumerate() {
            let own = if job.several.is_empty() { &mut *report } else { &mut report.outputs[number] };
            made.approve(cx, job, inputs, (staged, number), verifier, own)?;
        }
        Ok(())
    })
    // Damage that only the payload shows is the source's, if there is but one.
    .map_err(|error| match error.kind() {
        ErrorKind::Malformed if job.weights.is_none() => error.format(opened.reader.format),
        _ => error,
    })?;
    Ok(())
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
/// keep the program's. Returns what was changed, and the names of weights that it could not be told of.
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

/// One of the models that are made of the source, and where its bytes go.
struct Made<'a> {
    preset: Option<Preset>,
    target: Target<'a>,
    model: Model,
    layout: Layout,
}

impl<'a> Made<'a> {
    /// Edits the model and lays it out.
    #[allow(clippy::too_many_arguments, reason = "what was read, and what is wanted of it")]
    fn of(
        cx: &Context<'a>,
        job: &Job,
        (mut model, inputs): (Model, &DiskInputs),
        giver: Option<&Giver>,
        config: &Own<'_>,
        preset: Option<Preset>,
        target: Target<'a>,
        n_files: usize,
        report: &mut Report,
    ) -> Result<Made<'a>> {
        let info = target.writer.info();
        let writer_options = Options::resolve(info.options, &job.options)?;
        let shards = target.shards.resolve(n_files);
        let mut edits = job.edits.clone();
        edits.quantize.preset = preset;
        report.losses.append(&mut model.losses);
        let mut traces = Traces::default();
        let mut host = EngineHost { cx, inputs, options: &job.options, traces: &mut traces, links: None };
        let tensors = target.tensors();
        let keeps_graph = model.graph.as_ref().is_some_and(|graph| tensors.carries_graph(graph.dialect));
        let keeping = Keeping { ties: tensors.ties, keeps_graph };
        let mut given = giver.map(|giver| giver.weights.clone());
        let names = original_names(&mut model, edits.names, tensors, &mut host);
        let result = names.and_then(|(losses, nameless)| {
            report.losses.extend(losses);
            report.nameless = nameless;
            modelferry_transform::apply(model, &edits, given.as_mut(), keeping, &mut host)
        });
        report.asked.append(&mut traces.asked);
        let (mut model, losses) = result?;
        report.losses.extend(losses);
        report.losses.extend(giver.iter().flat_map(|giver| giver.losses.iter().cloned()));
        report.weights = giver.zip(given).map(|(giver, given)| Given {
            path: given.name,
            format: giver.readers.first().map_or("", |reader| reader.format),
            n_tensors: given.taken.len() as u64,
        });
        report.keep_nameless(&model);
        report.losses.extend(config.report(&mut model, info.config));
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
        let mut host = EngineHost { cx, inputs, options: &job.options, traces: &mut traces, links };
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
    fn approve(
        &self,
        cx: &Context<'_>,
        job: &Job,
        inputs: &DiskInputs,
        (staged, number): (&Staged<'_>, usize),
        verifier: Option<&dyn Reader>,
        report: &mut Report,
    ) -> Result<()> {
        let seen = &staged.seen[number];
        report.quantized = quantized(&self.model, seen);
        let observed = observed(&self.model, seen);
        report.losses.extend(observed.iter().cloned());
        policy::check(&observed, &job.policy, self.target.writer.info().format)?;
        if let Some(reader) = verifier {
            let root = match self.target.is_folder() {
                true => staged.folder(),
                false => staged.path(number, self.layout.root),
            };
            let source = Source { model: &self.model, inputs };
            let links = self.layout.links.iter().map(|link| (link.path.as_str(), inputs.path(link.file)));
            let links: Vec<_> = links.collect();
            report.n_verified =
                Some(readback::check(cx, source, &root, &links, reader, self.target.tensors())?);
        }
        Ok(())
    }
}

/// The reader that `--verify` reads the output with.
fn verifier<'a>(cx: &Context<'a>, format: &'static str) -> Result<&'a dyn Reader> {
    cx.registry
        .readers()
        .find(|reader| reader.info().format == format)
        .ok_or_else(|| Error::unsupported("--verify: there is no reader for this format").format(format))
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
