//! One conversion from end to end.

use crate::config::Own;
use crate::host::{EngineHost, Traces};
use crate::job::{Context, Job};
use crate::links::Links;
use crate::open::{Opened, open_as};
use crate::report::{Given, Quantized, Report};
use crate::{capabilities, metadata, pick, policy, readback, weights};
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView, TensorIdx};
use modelferry_core::options::Options;
use modelferry_core::plugin::{LayoutRequest, Reader, WriterInfo};
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_engine::publish::{Output, Replace, remove_leftovers};
use modelferry_engine::{Plan, Seen, Source, execute};
use modelferry_transform::{Names, Target, Ties};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Converts `job.input` to `job.output`, filling `report` on the way: on failure it holds what was known until then.
///
/// Nothing stands under the output's name unless all of it succeeded. Errors carry their exit code in their
/// [kind](modelferry_core::ErrorKind).
pub fn convert(cx: &Context<'_>, job: &Job, report: &mut Report) -> Result<()> {
    report.input = job.input.display().to_string();
    report.output = job.output.display().to_string();
    report.is_dry_run = job.dry_run;
    // What the command line got wrong is said before a file is opened.
    let target = pick::target(cx.registry, &job.output, job.to.as_deref(), job.shards)?;
    let info = target.writer.info();
    report.to = Some(info.format);
    report.is_folder = target.is_folder();
    let verifier = job.verify.then(|| verifier(cx, info.format)).transpose()?;

    let mut opened = open_as(cx, &job.input, job.from.as_deref(), &job.options, info.place)?;
    report.from = Some(opened.reader.format);
    report.asked.clone_from(&opened.traces.asked);
    let weights = job.weights.as_deref();
    let mut giver = weights.map(|path| weights::giver(cx, path, &job.options, &opened.inputs)).transpose()?;
    let givers = giver.iter().flat_map(|giver| giver.readers.iter().copied());
    let mut in_use: Vec<_> =
        opened.readers().chain(givers).map(|reader| (reader.format, reader.options)).collect();
    in_use.push((info.format, info.options));
    in_use.extend(target.weights.map(|weights| (weights.info().format, weights.info().options)));
    pick::check_options(cx.registry, &job.options, &in_use)?;
    let writer_options = Options::resolve(info.options, &job.options)?;
    let shards = target.shards.resolve(opened.weight_files().len());

    let config = Own::settle(&mut opened, &job.config, &cx.settings.limits)?;
    let Opened { mut model, inputs, .. } = opened;
    report.losses.append(&mut model.losses);
    let mut traces = Traces::default();
    let mut host =
        EngineHost { cx, inputs: &*inputs, options: &job.options, traces: &mut traces, links: None };
    let keeps_graph = model.graph.as_ref().is_some_and(|graph| target.tensors().carries_graph(graph.dialect));
    let keeping = Target { ties: target.tensors().ties, keeps_graph };
    let given = giver.as_mut().map(|giver| &mut giver.weights);
    let names = original_names(&mut model, job.edits.names, target.tensors(), &mut host);
    let result = names.and_then(|(losses, nameless)| {
        report.losses.extend(losses);
        report.nameless = nameless;
        modelferry_transform::apply(model, &job.edits, given, keeping, &mut host)
    });
    if let Some(giver) = giver {
        report.asked.extend(giver.traces.asked);
        report.losses.extend(giver.losses);
        report.weights = Some(Given {
            path: giver.weights.name,
            format: giver.readers.first().map_or("", |reader| reader.format),
            n_tensors: giver.weights.taken.len() as u64,
        });
    }
    report.asked.append(&mut traces.asked);
    let (mut model, losses) = result?;
    report.losses.extend(losses);
    report.keep_nameless(&model);
    report.losses.extend(config.report(&mut model, info.config));
    report.losses.extend(metadata::fit(&mut model.metadata, target.tensors().metadata));
    report.n_tensors = model.tensors.len() as u64;
    report.n_elements = model.tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.n_elements()));

    let view = ModelView::new(&model, &cx.settings.limits)?;
    report.losses.extend(capabilities::check(&view, shards, target.tensors(), info)?);
    let weights = if target.is_folder() { target.tensors().format } else { "" };
    let request = LayoutRequest { file_name: &target.file_name, weights, options: &writer_options, shards };
    let links = Some(Links { inputs: &inputs, output: &job.output, is_folder: target.is_folder() });
    let mut host = EngineHost { cx, inputs: &*inputs, options: &job.options, traces: &mut traces, links };
    let result = target.writer.layout(&view, &request, &mut host);
    report.asked.append(&mut traces.asked);
    let (layout, losses) = result.map_err(|error| error.format(info.format))?;
    check_ties(&losses, job.edits.ties).map_err(|error| error.format(info.format))?;
    report.losses.extend(losses);
    report.notes.extend(layout.notes.iter().cloned());
    report.links = layout.links.iter().map(|link| (link.path.clone(), link.n_tensors)).collect();
    layout.validate(&view).map_err(|error| error.format(info.format))?;
    report.files = layout.files.iter().map(|file| (file.path.clone(), file.len)).collect();
    report.root = layout.files.get(layout.root).map(|file| file.path.clone());
    report.bytes = layout.files.iter().fold(0, |sum, file| sum.saturating_add(file.len));
    policy::check(&report.losses, &job.policy, info.format)?;

    // That the place is free, and no input's, is said before the work; publishing checks it again.
    let replace = if job.force { Replace::Force } else { Replace::Refuse };
    let identities = inputs.identities();
    let place = Output {
        path: &job.output,
        is_folder: target.is_folder(),
        files: &report.files,
        root: layout.root,
        replace,
        supersedes: &layout.supersedes,
        inputs: &identities,
    };
    if !job.dry_run {
        // Also before a run that will be refused: the one that made the output may have been killed while tidying up.
        remove_leftovers(&*cx.io, &job.output);
    }
    report.stale = place.stale(&*cx.io)?.iter().map(|path| path.display().to_string()).collect();
    if job.dry_run {
        return Ok(());
    }

    let source = Source { model: &model, inputs: &*inputs };
    let plan = Plan {
        model: &model,
        inputs: &inputs,
        layout: &layout,
        output: &job.output,
        is_folder: target.is_folder(),
        replace,
        settings: cx.settings,
        control: cx.control,
        io: Arc::clone(&cx.io),
    };
    execute(&plan, &mut |staged| {
        report.quantized = quantized(&model, staged.seen);
        let observed = observed(&model, staged.seen);
        report.losses.extend(observed.iter().cloned());
        policy::check(&observed, &job.policy, info.format)?;
        if let Some(reader) = verifier {
            let root = if target.is_folder() { staged.folder() } else { staged.path(layout.root) };
            report.n_verified = Some({
                let links = layout.links.iter().map(|link| (link.path.as_str(), inputs.path(link.file)));
                let links: Vec<_> = links.collect();
                readback::check(cx, source, &root, &links, reader, target.tensors())?
            });
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
