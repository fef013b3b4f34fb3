//! Executes a layout: questions and stages first, then independent tasks, then one fold that patches and publishes.

mod cost;
mod digests;
mod fill;
mod job;
mod shared;
mod staged;
mod tasks;
mod write;

use crate::control::{Control, Settings};
use crate::disk::DiskInputs;
use crate::eval::{Cx, Evaluator, Source};
use crate::io::{Identity, Io};
use crate::publish::{Allocate, Output, Replace, Staging, Sync as SyncWhen, remove_leftovers};
use crate::space;
use cost::{check_cost, used_tensors};
use job::{Common, Job};
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::Layout;
use modelferry_core::model::Model;
use modelferry_core::{Error, Result};
use shared::SharedTensor;
pub use staged::Staged;
use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tasks::{Task, Tasks};

/// One of the models that a run makes of the same files.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The model whose tensors the layout names.
    pub model: &'a Model,
    /// A validated layout. No two parts have a path in common.
    pub layout: &'a Layout,
}

/// Everything a run needs.
pub struct Plan<'a> {
    /// What is made, at least one. Of several, tensors of one name and shape are made side by side, so that what they
    /// are made of is read once; all are published together.
    pub parts: &'a [Part<'a>],
    /// The files of all their models.
    pub inputs: &'a DiskInputs,
    /// The output the user named; the layouts' paths are relative to its folder.
    pub output: &'a Path,
    /// Whether it is a folder itself, and the layout's paths are relative to it.
    pub is_folder: bool,
    /// What to do about files that are there already.
    pub replace: Replace,
    /// What the run may use.
    pub settings: &'a Settings,
    /// Progress and cancellation.
    pub control: &'a Control,
    /// The system.
    pub io: Arc<dyn Io>,
}

impl Plan<'_> {
    /// Fails for what [`execute`] would refuse before it reads: a place that is taken, a function of blocks that no
    /// codec has, an item that needs more memory than there is. Changes nothing. Returns the files of an earlier output
    /// that would be removed.
    ///
    /// Errors: those of [`Output::check`], [`Unsupported`](modelferry_core::ErrorKind::Unsupported),
    /// [`Limit`](modelferry_core::ErrorKind::Limit).
    pub fn check(&self) -> Result<Vec<PathBuf>> {
        let stale = FileSet::of(self.parts).output(self, &self.inputs.identities()).stale(&*self.io)?;
        self.parts.iter().try_for_each(|&part| Prepared::of(self, part).map(drop))?;
        Ok(stale)
    }
}

/// What a run has published.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The files and their lengths: of each part those of its layout, then those that it promises.
    pub files: Vec<(PathBuf, u64)>,
}

/// Executes `plan`: writes every file of every layout under a temporary name, then lets `approve` look at the result
/// and write what the layouts promise, then publishes. An error anywhere, `approve`'s included, publishes nothing and
/// leaves nothing behind.
///
/// Errors: [`Exists`](modelferry_core::ErrorKind::Exists), [`Io`](modelferry_core::ErrorKind::Io) (no space, a failed
/// call, an input that changed), [`Malformed`](modelferry_core::ErrorKind::Malformed) payload,
/// [`Interrupted`](modelferry_core::ErrorKind::Interrupted), whatever `approve` returns.
pub fn execute(plan: &Plan<'_>, approve: &mut dyn FnMut(&Staged<'_>) -> Result<()>) -> Result<Published> {
    let settings = plan.settings.for_parts(plan.parts.len());
    let mut prepared = plan.parts.iter().map(|&part| Prepared::of(plan, part)).collect::<Result<Vec<_>>>()?;
    // What is held in memory for all parts is one budget.
    let stage_memory = settings.memory / 2 / plan.parts.len().max(1) as u64;
    let spool_len = prepared
        .iter()
        .map(|part| part.evaluator.spool_len(&part.stages, stage_memory))
        .fold(0, u64::saturating_add);

    // A sparse source stays sparse, so it needs no more space than its data.
    let inputs_used: HashSet<FileId> = plan.inputs.used();
    let sparse = inputs_used.iter().any(|&file| plan.inputs.is_sparse(file));
    let set = FileSet::of(plan.parts);
    let total = set.payload;
    let need = if sparse { needed_when_sparse(plan, total)? } else { total }.saturating_add(set.promised);
    let identities = plan.inputs.identities();
    let output = set.output(plan, &identities);
    let folder = output.check(&*plan.io)?;
    // What a killed run left behind would count as used space.
    remove_leftovers(&*plan.io, plan.output);
    space::check_free(&*plan.io, &folder, need.saturating_add(spool_len))?;
    let allocate = if sparse { Allocate::Sparse } else { Allocate::Full };
    let staging = Staging::begin(Arc::clone(&plan.io), &output, allocate)?;
    plan.control.begin(total);
    let mut cx = Cx::new(settings.tile_bytes() as usize);
    for Prepared { evaluator, stages, .. } in &mut prepared {
        if stages.is_empty() {
            continue;
        }
        evaluator.make_stages(
            stages,
            &mut crate::eval::Spooler {
                memory: stage_memory,
                spool: &mut |len| Ok((Arc::clone(&plan.io), staging.spool(len)?)),
                check: &|| plan.control.check(),
            },
            &mut cx,
        )?;
    }
    let common = Common { plan, settings: &settings, staging: &staging, sparse, total };
    let mut jobs: Vec<Job<'_>> = prepared
        .into_iter()
        .zip(plan.parts)
        .zip(&set.first_files)
        .map(|((made, part), first)| Job::new(&common, *part, *first, made.evaluator, made.stages))
        .collect();
    let shared = SharedTensor::find(&mut jobs);
    run(&common, &jobs, &shared)?;

    let (mut seen, mut digests) = (vec![], vec![]);
    for job in jobs {
        let roots = used_tensors(job.layout()).into_iter().map(|idx| job.model().tensors[idx].data);
        let node_used = job.nodes_below(roots);
        job.evaluator.check_claims(&|id| node_used[id.idx()], &mut cx)?;
        let values = job.finish_digests(&mut cx)?;
        digests.push(if job.layout().promises.is_empty() { vec![] } else { values });
        seen.push(std::mem::take(&mut *lock(&job.seen)));
    }
    plan.inputs.check_unchanged()?;
    let staged = Staged::new(plan, &staging, &set, &seen, &digests);
    approve(&staged)?;
    let lengths = staged.into_lengths()?;
    plan.control.check()?;
    let published =
        staging.publish(if plan.settings.sync { SyncWhen::Always } else { SyncWhen::Replacing })?;
    Ok(Published { files: published.into_iter().zip(lengths).collect() })
}

/// The files of all parts as one set: of each part those of its layout, then those that it promises.
struct FileSet {
    /// Paths and bytes; of promised files the most that they can have, for which there is to be room.
    lengths: Vec<(String, u64)>,
    /// Bytes of all that is not promised.
    payload: u64,
    /// Bytes of all that is.
    promised: u64,
    /// Where each part's first file stands.
    first_files: Vec<usize>,
    roots: Vec<usize>,
    supersedes: Vec<String>,
}

impl FileSet {
    fn of(parts: &[Part<'_>]) -> FileSet {
        let mut set = FileSet {
            lengths: vec![],
            payload: 0,
            promised: 0,
            first_files: vec![],
            roots: vec![],
            supersedes: vec![],
        };
        for Part { layout, .. } in parts {
            let first = set.lengths.len();
            set.first_files.push(first);
            set.roots.push(first + layout.root);
            let sum = |sum: u64, len: u64| sum.saturating_add(len);
            set.payload = layout.files.iter().map(|file| file.len).fold(set.payload, sum);
            set.promised = layout.promises.iter().map(|promise| promise.at_most).fold(set.promised, sum);
            set.lengths.extend(layout.files.iter().map(|file| (file.path.clone(), file.len)));
            let promises = layout.promises.iter();
            set.lengths.extend(promises.map(|promise| (promise.path.clone(), promise.at_most)));
            set.supersedes.extend(layout.supersedes.iter().cloned());
        }
        set
    }

    fn output<'s>(&'s self, plan: &Plan<'s>, identities: &'s [Identity]) -> Output<'s> {
        Output {
            path: plan.output,
            is_folder: plan.is_folder,
            files: &self.lengths,
            roots: &self.roots,
            replace: plan.replace,
            supersedes: &self.supersedes,
            inputs: identities,
        }
    }
}

/// What is known of a part before anything is written.
struct Prepared<'a> {
    evaluator: Evaluator<'a>,
    stages: Vec<NodeId>,
}

impl<'a> Prepared<'a> {
    fn of(plan: &Plan<'a>, part: Part<'a>) -> Result<Prepared<'a>> {
        let evaluator = Evaluator::new(Source { model: part.model, inputs: plan.inputs })?;
        let used = used_tensors(part.layout);
        check_cost(&evaluator, plan, &used)?;
        let stages = evaluator.stages_needed(used.iter().map(|&idx| part.model.tensors[idx].data));
        Ok(Prepared { evaluator, stages })
    }
}

/// A unit of work that any thread may take.
enum Work<'j> {
    /// A task of one part.
    Alone(&'j Job<'j>, Task),
    /// The same elements of a tensor for several parts.
    Together(&'j SharedTensor, Range<u64>),
}

/// Runs every task on all threads. Of several errors the one of the earliest task is returned.
fn run(common: &Common<'_>, jobs: &[Job<'_>], shared: &[SharedTensor]) -> Result<()> {
    let &Common { plan, settings, .. } = common;
    let alone = jobs.iter().flat_map(|job| Tasks::new(job).map(move |task| Work::Alone(job, task)));
    let together =
        shared.iter().flat_map(|tensor| tensor.steps().map(move |step| Work::Together(tensor, step)));
    let tasks = Mutex::new(together.chain(alone).enumerate());
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let work = || {
        let mut worker = write::Worker::new(settings, jobs);
        loop {
            if lock(&failed).is_some() {
                return;
            }
            let Some((number, task)) = lock(&tasks).next() else { return };
            if let Err(error) = plan.control.check().and_then(|()| worker.perform(task)) {
                let mut failed = lock(&failed);
                if failed.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                    *failed = Some((number, error));
                }
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        let mut helpers = vec![];
        for _ in 1..settings.threads {
            // Fewer threads than asked for do the same work.
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(helper) => helpers.push(helper),
                Err(_) => break,
            }
        }
        work();
        if helpers.into_iter().any(|helper| helper.join().is_err()) {
            let mut failed = lock(&failed);
            failed.get_or_insert((0, Error::plugin("a worker thread panicked; this is a bug in modelferry")));
        }
    });
    match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Data, not holes, of the inputs, plus all that is not copied from them.
fn needed_when_sparse(plan: &Plan<'_>, total: u64) -> Result<u64> {
    let mut data = 0u64;
    for file in plan.inputs.used() {
        data = data.saturating_add(plan.inputs.data_len(file)?);
    }
    Ok(data.saturating_mul(2 * plan.parts.len() as u64).min(total))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
