//! Reads all of a model to see whether it can be read and is what it says it is.

mod files;

use crate::control::{Control, Settings};
use crate::eval::{Cx, Evaluator, Source};
use modelferry_core::expr::{NodeId, Op};
use modelferry_core::model::TensorIdx;
use modelferry_core::{Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// What reading all of a model has shown.
#[derive(Debug, Default)]
pub struct Audit {
    /// Bytes read: those of every stream and file region that tensors or checksums are made of, inflated.
    pub n_bytes: u64,
    /// Checksums compared, faulty ones included; not those of bytes that could not be read.
    pub n_checksums: u64,
    /// What is wrong, in file order.
    pub faults: Vec<Fault>,
}

/// Something wrong with some bytes of a model.
#[derive(Debug)]
pub struct Fault {
    /// The tensors that are made of these bytes.
    pub tensors: Vec<TensorIdx>,
    /// [`Malformed`](ErrorKind::Malformed) if the bytes could not be made (a damaged stream),
    /// [`Difference`](ErrorKind::Difference) if they are not those that the source has summed up.
    pub error: Error,
}

/// Bytes that nothing but reading tells anything about: of a file, of a stream, of a plugin.
struct Leaf {
    id: NodeId,
    n: u64,
    item: u64,
    is_sequential: bool,
    has_failed: AtomicBool,
}

/// A run of a leaf's items.
struct Task {
    leaf: usize,
    at: u64,
    len: u64,
}

/// Reads every byte that a tensor or a claim of `source` is made of, once, on all threads, and compares every
/// checksum that the source states. Streams must end where they should.
///
/// Faults of the source are values. Errors: [`Io`](ErrorKind::Io), [`Interrupted`](ErrorKind::Interrupted) and
/// whatever else is not about these bytes.
pub fn check_claims(source: Source<'_>, settings: &Settings, control: &Control) -> Result<Audit> {
    let evaluator = Evaluator::new(source)?;
    let leaves = leaves(&evaluator);
    let n_bytes =
        leaves.iter().fold(0, |sum: u64, leaf| sum.saturating_add(leaf.n.saturating_mul(leaf.item)));
    let n_digested = files::n_bytes(source);
    control.begin(n_bytes.saturating_add(n_digested));
    let run_bytes = settings.tile_bytes().min(1 << 20);
    let tasks = Mutex::new(tasks(&leaves, run_bytes));
    let faults: Mutex<Vec<(usize, Error)>> = Mutex::default();
    let stop: Mutex<Option<Error>> = Mutex::default();
    let work = || {
        let mut cx = Cx::new(settings.tile_bytes() as usize);
        let mut buffer = vec![];
        loop {
            if lock(&stop).is_some() {
                return;
            }
            let Some(task) = lock(&tasks).next() else { return };
            let leaf = &leaves[task.leaf];
            let result = read_run(&evaluator, leaf, &task, run_bytes, &mut buffer, &mut cx, control);
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Malformed => {
                    if !leaf.has_failed.swap(true, Ordering::Relaxed) {
                        lock(&faults).push((task.leaf, error));
                    }
                }
                Err(error) => {
                    lock(&stop).get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let mut helpers = vec![];
        for _ in 1..settings.threads.min(leaves.len().max(1)) {
            // Fewer threads than asked for do the same work.
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(helper) => helpers.push(helper),
                Err(_) => break,
            }
        }
        work();
        if helpers.into_iter().any(|helper| helper.join().is_err()) {
            lock(&stop).get_or_insert(Error::plugin("a worker thread panicked; this is a bug in modelferry"));
        }
    });
    if let Some(error) = stop.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        return Err(error);
    }

    let mut faults = faults.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let place: HashMap<NodeId, usize> = leaves.iter().enumerate().map(|(at, leaf)| (leaf.id, at)).collect();
    let is_read =
        |id: NodeId| place.get(&id).is_some_and(|&at| !leaves[at].has_failed.load(Ordering::Relaxed));
    let n_checksums = source.model.claims.iter().filter(|claim| is_read(claim.node)).count() as u64;
    let mut cx = Cx::new(settings.tile_bytes() as usize);
    evaluator.each_false_claim(&is_read, &mut cx, &mut |claim, found| {
        control.check()?;
        faults.push((place[&claim.node], evaluator.mismatch(ErrorKind::Difference, claim, found)));
        Ok(())
    })?;
    faults.sort_by_key(|(at, _)| *at);
    let users = users(source, faults.iter().map(|(at, _)| leaves[*at].id).collect());
    let faults = faults
        .into_iter()
        .map(|(at, error)| Fault { tensors: users.get(&leaves[at].id).cloned().unwrap_or_default(), error })
        .collect::<Vec<_>>();
    let mut audit = Audit { n_bytes: n_bytes.saturating_add(n_digested), n_checksums, faults };
    files::check(source, run_bytes, control, &mut audit)?;
    Ok(audit)
}

/// Reads the items of a task: all at once, or piece by piece in the order a stream wants.
fn read_run(
    evaluator: &Evaluator<'_>,
    leaf: &Leaf,
    task: &Task,
    run_bytes: u64,
    buffer: &mut Vec<u8>,
    cx: &mut Cx,
    control: &Control,
) -> Result<()> {
    let step = (run_bytes / leaf.item).max(1);
    let mut done = 0;
    while done < task.len && !leaf.has_failed.load(Ordering::Relaxed) {
        control.check()?;
        let n = step.min(task.len - done);
        buffer.resize((n * leaf.item) as usize, 0);
        evaluator.fill_run(leaf.id, task.at + done, n as usize, buffer, cx)?;
        control.advance(buffer.len() as u64);
        done += n;
    }
    Ok(())
}

/// Runs of random access; a stream as a whole.
fn tasks(leaves: &[Leaf], run_bytes: u64) -> impl Iterator<Item = Task> {
    leaves.iter().enumerate().flat_map(move |(at_leaf, leaf)| {
        let step = if leaf.is_sequential { leaf.n } else { run_bytes / leaf.item }.max(1);
        let n_runs = leaf.n.div_ceil(step);
        (0..n_runs).map(move |run| Task { leaf: at_leaf, at: run * step, len: step.min(leaf.n - run * step) })
    })
}

fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::Region { .. } | Op::Inflate { .. } | Op::Varints { .. } | Op::Plugin { .. })
}

/// What the tensors and the claims are made of, each once, in file order.
fn leaves(evaluator: &Evaluator<'_>) -> Vec<Leaf> {
    let model = evaluator.source.model;
    let claimed: HashSet<NodeId> = model.claims.iter().map(|claim| claim.node).collect();
    let mut seen = vec![false; model.nodes.len()];
    let mut stack: Vec<NodeId> = model.tensors.iter().map(|tensor| tensor.data).collect();
    stack.extend(&claimed);
    let mut ids = vec![];
    while let Some(id) = stack.pop() {
        if std::mem::replace(&mut seen[id.idx()], true) {
            continue;
        }
        if is_leaf(&model.nodes[id].op) || claimed.contains(&id) {
            ids.push(id);
        } else {
            stack.extend(model.nodes.children(id));
        }
    }
    ids.sort_by_key(|&id| (evaluator.first_region(id), id));
    let leaf = |id: NodeId| {
        let node = &model.nodes[id];
        Leaf {
            id,
            n: node.n,
            item: node.dtype.item_bytes().max(1),
            is_sequential: evaluator.facts[id].sequential,
            has_failed: AtomicBool::new(false),
        }
    };
    ids.into_iter().map(leaf).collect()
}

/// The tensors made of each of these nodes.
fn users(source: Source<'_>, of: HashSet<NodeId>) -> HashMap<NodeId, Vec<TensorIdx>> {
    let mut users: HashMap<NodeId, Vec<TensorIdx>> = HashMap::new();
    if of.is_empty() {
        return users;
    }
    let nodes = &source.model.nodes;
    let mut seen = HashSet::new();
    for (idx, tensor) in source.model.tensors.iter().enumerate() {
        seen.clear();
        let mut stack = vec![tensor.data];
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            if of.contains(&id) {
                users.entry(id).or_default().push(idx);
            }
            stack.extend(nodes.children(id));
        }
    }
    users
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
