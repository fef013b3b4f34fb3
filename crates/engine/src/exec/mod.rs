//! Executes a layout: questions and stages first, then independent tasks, then one fold that patches and publishes.

mod digests;
mod fill;
mod tasks;
mod write;

use crate::control::{Control, Settings};
use crate::disk::DiskInputs;
use crate::eval::{Cx, Evaluator, Seen, Source};
use crate::io::{File, Io};
use crate::publish::{Allocate, Output, Replace, Staging, Sync as SyncWhen, remove_leftovers};
use crate::space;
use digests::Crcs;
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::{DigestAlgo, Layout, PatchForm};
use modelferry_core::model::{Model, TensorIdx};
use modelferry_core::{Error, Result};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tasks::Tasks;

/// Everything a run needs.
pub struct Plan<'a> {
    /// The model whose tensors the layout names.
    pub model: &'a Model,
    /// Its files.
    pub inputs: &'a DiskInputs,
    /// A validated layout.
    pub layout: &'a Layout,
    /// The output the user named; the layout's paths are relative to its folder.
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

/// A complete output under its temporary name, and what writing it has shown.
pub struct Staged<'a> {
    staging: &'a Staging,
    /// Per tensor with casts or quantization, what they met.
    pub seen: &'a BTreeMap<TensorIdx, Seen>,
}

impl Staged<'_> {
    /// Where file `idx` of the layout is now.
    pub fn path(&self, idx: usize) -> PathBuf {
        self.staging.path(idx)
    }

    /// The folder they are in now.
    pub fn folder(&self) -> PathBuf {
        self.staging.staged_folder()
    }
}

/// What a run did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Published files and their lengths, in layout order.
    pub files: Vec<(PathBuf, u64)>,
    /// Per tensor with casts or quantization, what they met; a value that an expression evaluates twice is counted
    /// twice.
    pub seen: BTreeMap<TensorIdx, Seen>,
    /// Values of the layout's digests, in its order, as bytes in the order they are written.
    pub digests: Vec<Vec<u8>>,
}

/// Executes `plan`: writes every file of the layout under a temporary name, then lets `approve` look at the result,
/// then publishes. An error anywhere, `approve`'s included, publishes nothing and leaves nothing behind.
///
/// Errors: [`Exists`](modelferry_core::ErrorKind::Exists), [`Io`](modelferry_core::ErrorKind::Io) (no space, a failed
/// call, an input that changed), [`Malformed`](modelferry_core::ErrorKind::Malformed) payload,
/// [`Interrupted`](modelferry_core::ErrorKind::Interrupted), whatever `approve` returns.
pub fn execute(plan: &Plan<'_>, approve: &mut dyn FnMut(&Staged<'_>) -> Result<()>) -> Result<Outcome> {
    let source = Source { model: plan.model, inputs: plan.inputs };
    let mut evaluator = Evaluator::new(source)?;
    let used = used_tensors(plan.layout);
    check_cost(&evaluator, plan, &used)?;
    let roots = || used.iter().map(|&idx| plan.model.tensors[idx].data);
    let stages = evaluator.stages_needed(roots());
    let stage_memory = plan.settings.memory / 2;
    let spool_len = evaluator.spool_len(&stages, stage_memory);

    // A sparse source stays sparse, so it needs no more space than its data.
    let inputs_used: HashSet<FileId> = plan.inputs.used();
    let sparse = inputs_used.iter().any(|&file| plan.inputs.is_sparse(file));
    let lengths: Vec<(String, u64)> =
        plan.layout.files.iter().map(|file| (file.path.clone(), file.len)).collect();
    let total: u64 = lengths.iter().map(|(_, len)| len).sum();
    let need = if sparse { needed_when_sparse(plan, total)? } else { total };
    let output = Output {
        path: plan.output,
        is_folder: plan.is_folder,
        files: &lengths,
        root: plan.layout.root,
        replace: plan.replace,
        supersedes: &plan.layout.supersedes,
        inputs: &plan.inputs.identities(),
    };
    let folder = output.check(&*plan.io)?;
    // What a killed run left behind would count as used space.
    remove_leftovers(&*plan.io, plan.output);
    space::check_free(&*plan.io, &folder, need.saturating_add(spool_len))?;
    let allocate = if sparse { Allocate::Sparse } else { Allocate::Full };
    let staging = Staging::begin(Arc::clone(&plan.io), &output, allocate)?;
    plan.control.begin(total);
    let mut cx = Cx::new(plan.settings.tile_bytes() as usize);
    if !stages.is_empty() {
        evaluator.make_stages(
            &stages,
            &mut crate::eval::Spooler {
                memory: stage_memory,
                spool: &mut |len| Ok((Arc::clone(&plan.io), staging.spool(len)?)),
                check: &|| plan.control.check(),
            },
            &mut cx,
        )?;
    }
    let job = Job::new(plan, evaluator, &staging, stages, sparse);
    job.run()?;

    let node_used = job.nodes_below(roots());
    job.evaluator.check_claims(&|id| node_used[id.idx()], &mut cx)?;
    let digests = job.finish_digests(&mut cx)?;
    plan.inputs.check_unchanged()?;
    let seen = std::mem::take(&mut *lock(&job.seen));
    drop(job);
    approve(&Staged { staging: &staging, seen: &seen })?;
    plan.control.check()?;
    let published =
        staging.publish(if plan.settings.sync { SyncWhen::Always } else { SyncWhen::Replacing })?;
    let files = published.into_iter().zip(lengths).map(|(path, (_, len))| (path, len)).collect();
    Ok(Outcome { files, seen, digests })
}

/// A run under way: what its threads share.
struct Job<'a> {
    plan: &'a Plan<'a>,
    evaluator: Evaluator<'a>,
    staging: &'a Staging,
    staged: HashSet<NodeId>,
    sparse: bool,
    shares_blocks: bool,
    crcs: Crcs,
    seen: Mutex<BTreeMap<TensorIdx, Seen>>,
    behind: write::WriteBehind,
}

impl<'a> Job<'a> {
    fn new(
        plan: &'a Plan<'a>,
        evaluator: Evaluator<'a>,
        staging: &'a Staging,
        stages: Vec<NodeId>,
        sparse: bool,
    ) -> Job<'a> {
        let total = plan.layout.files.iter().map(|file| file.len).sum();
        let shares_blocks = staging.file(0).is_ok_and(|file| plan.io.shares_blocks(&file));
        Job {
            plan,
            evaluator,
            staging,
            staged: stages.into_iter().collect(),
            sparse,
            shares_blocks,
            crcs: Crcs::of(plan.layout),
            seen: Mutex::default(),
            behind: write::WriteBehind::new(plan, total),
        }
    }

    fn model(&self) -> &'a Model {
        self.plan.model
    }

    fn layout(&self) -> &'a Layout {
        self.plan.layout
    }

    fn settings(&self) -> &'a Settings {
        self.plan.settings
    }

    fn file(&self, idx: usize) -> Result<Arc<File>> {
        self.staging.file(idx)
    }

    /// Where a tensor's bytes lie untouched, unless reading them is also a check of what the source says of them.
    fn verbatim(&self, idx: TensorIdx) -> Option<(FileId, u64)> {
        if self.model().claims.is_empty() { self.model().verbatim(idx) } else { None }
    }

    /// Whether the kernel may copy these output bytes without our seeing them.
    fn may_copy(&self, file: usize, bytes: Range<u64>) -> bool {
        self.shares_blocks && !self.sparse && !self.crcs.touch(file, &bytes)
    }

    /// Whether every sequential source below a node has been staged.
    fn is_staged_below(&self, id: NodeId) -> bool {
        let nodes = &self.model().nodes;
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            if self.staged.contains(&id) || !self.evaluator.facts[id].sequential {
                continue;
            }
            let children = nodes.children(id);
            // A sequential node whose sources are not is the stream itself.
            if !children.iter().any(|&child| self.evaluator.facts[child].sequential) {
                return false;
            }
            stack.extend(children);
        }
        true
    }

    fn nodes_below(&self, roots: impl Iterator<Item = NodeId>) -> Vec<bool> {
        let nodes = &self.model().nodes;
        let mut below = vec![false; nodes.len()];
        let mut stack: Vec<NodeId> = roots.collect();
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut below[id.idx()], true) {
                stack.extend(nodes.children(id));
            }
        }
        below
    }

    /// Runs every task on all threads. Of several errors the one of the earliest task is returned.
    fn run(&self) -> Result<()> {
        let tasks = Mutex::new(Tasks::new(self).enumerate());
        let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
        let work = || {
            let mut worker = write::Worker::new(self);
            loop {
                if lock(&failed).is_some() {
                    return;
                }
                let Some((number, task)) = lock(&tasks).next() else { return };
                if let Err(error) = self.plan.control.check().and_then(|()| worker.perform(task)) {
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
            for _ in 1..self.settings().threads {
                // Fewer threads than asked for do the same work.
                match std::thread::Builder::new().spawn_scoped(scope, work) {
                    Ok(helper) => helpers.push(helper),
                    Err(_) => break,
                }
            }
            work();
            if helpers.into_iter().any(|helper| helper.join().is_err()) {
                let mut failed = lock(&failed);
                failed.get_or_insert((
                    0,
                    Error::plugin("a worker thread panicked; this is a bug in modelferry"),
                ));
            }
        });
        match failed.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Completes checksums and fills their holes; those over other holes are made after these are filled.
    fn finish_digests(&self, cx: &mut Cx) -> Result<Vec<Vec<u8>>> {
        let layout = self.layout();
        let mut values: Vec<Vec<u8>> = vec![vec![]; layout.digests.len()];
        for (digest, crc) in self.crcs.values() {
            values[digest] = crc.to_le_bytes().to_vec();
        }
        self.patch(&values, DigestAlgo::Crc32)?;
        for (digest, value) in layout.digests.iter().zip(&mut values) {
            if digest.algo == DigestAlgo::Sha256 {
                *value = self.sha256(digest.over.file, digest.over.bytes.clone(), cx)?;
            }
        }
        self.patch(&values, DigestAlgo::Sha256)?;
        Ok(values)
    }

    fn patch(&self, values: &[Vec<u8>], algo: DigestAlgo) -> Result<()> {
        for patch in &self.layout().patches {
            if self.layout().digests[patch.digest].algo != algo {
                continue;
            }
            let value = &values[patch.digest];
            let bytes = match patch.form {
                PatchForm::Raw => value.clone(),
                PatchForm::Hex => {
                    value.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
                }
            };
            self.write(patch.file, patch.at, &bytes)?;
        }
        Ok(())
    }
}

/// The tensors that a layout writes, each once.
fn used_tensors(layout: &Layout) -> Vec<TensorIdx> {
    use modelferry_core::layout::Piece;
    let mut used: Vec<TensorIdx> = layout
        .files
        .iter()
        .flat_map(|file| &file.pieces)
        .filter_map(|piece| match piece {
            Piece::Tensor { idx, .. } => Some(*idx),
            _ => None,
        })
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// Refuses a plan whose scratch does not fit the budget or which reads out of all proportion.
fn check_cost(evaluator: &Evaluator<'_>, plan: &Plan<'_>, used: &[TensorIdx]) -> Result<()> {
    for &idx in used {
        let tensor = &plan.model.tensors[idx];
        let fact = evaluator.facts[tensor.data];
        let node = &plan.model.nodes[tensor.data];
        let scratch = (node.dtype.item_bytes() + u64::from(fact.scratch)).saturating_add(fact.fixed);
        if node.n > 0 && scratch > plan.settings.memory.max(1 << 20) {
            return Err(Error::limit("one item of this tensor needs more memory than the budget")
                .tensor(&tensor.name)
                .expected(format_args!("at most {} bytes", plan.settings.memory))
                .found(format_args!("{scratch} bytes")));
        }
        let amplification = fact.reads / node.dtype.item_bytes().max(1);
        let reads = fact.reads.saturating_mul(node.n);
        // What a whole-tensor statistic reads is bounded by its input, not by its own size.
        let input: u64 = plan.inputs.total_len();
        if amplification > plan.settings.limits.read_amplification && reads / 64 > input.max(1 << 20) {
            return Err(Error::limit("computing this tensor would read out of all proportion to its files")
                .tensor(&tensor.name)
                .expected(format_args!("at most {} bytes", input.saturating_mul(64)))
                .found(format_args!("{reads} bytes")));
        }
    }
    Ok(())
}

/// Data, not holes, of the inputs, plus all that is not copied from them.
fn needed_when_sparse(plan: &Plan<'_>, total: u64) -> Result<u64> {
    let mut data = 0u64;
    for file in plan.inputs.used() {
        data = data.saturating_add(plan.inputs.data_len(file)?);
    }
    Ok(data.saturating_mul(2).min(total))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
