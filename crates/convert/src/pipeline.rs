//! One conversion from end to end.

use crate::config::Own;
use crate::job::{Context, Job};
use crate::made::{Made, Run};
use crate::open::{Opened, open_as};
use crate::report::Report;
use crate::weights::giver;
use crate::{naming, pick};
use modelferry_core::plugin::Reader;
use modelferry_core::{Error, ErrorKind, Result};
use modelferry_engine::publish::{Replace, remove_leftovers};
use modelferry_engine::{Part, Plan, execute};
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

    let Opened { reader, inputs, mut model, .. } = opened;
    let inputs = &inputs;
    let run = Run { cx, job, inputs, giver: giver.as_ref(), config, n_files };
    let head = report.clone();
    let n_outputs = paths.len();
    let mut made: Vec<Made<'_>> = vec![];
    for (number, ((preset, mut target), path)) in presets.into_iter().zip(targets).zip(paths).enumerate() {
        if target.in_folder {
            let extension = info.extensions.first().copied().unwrap_or_default();
            target.file_name = naming::in_folder(&model, &**inputs, &job.edits, preset, extension);
        }
        let output = if in_folder { path.join(&target.file_name) } else { path };
        let mut own = Report { output: output.display().to_string(), ..head.clone() };
        // The last output takes what was read: of a million tensors nothing is held twice for one.
        let model = if number + 1 == n_outputs { std::mem::take(&mut model) } else { model.clone() };
        let result = run.make(model, preset, target, &mut own);
        match job.several.is_empty() {
            true => *report = own,
            false => report.outputs.push(own),
        }
        made.push(result?);
    }
    report.sum_up();

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
            run.approve(made, (staged, number), verifier, own)?;
        }
        Ok(())
    })
    // Damage that only the payload shows is the source's, if there is but one.
    .map_err(|error| match error.kind() {
        ErrorKind::Malformed if job.weights.is_none() => error.format(reader.format),
        _ => error,
    })?;
    Ok(())
}

/// The reader that `--verify` reads the output with.
fn verifier<'a>(cx: &Context<'a>, format: &'static str) -> Result<&'a dyn Reader> {
    cx.registry
        .readers()
        .find(|reader| reader.info().format == format)
        .ok_or_else(|| Error::unsupported("--verify: there is no reader for this format").format(format))
}
