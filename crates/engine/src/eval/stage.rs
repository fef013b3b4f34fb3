//! Values made once per run: held in memory below a limit, else spooled to a file without a name.

use super::{Cx, Evaluator};
use crate::io::{File, Io, read_exact_at, write_all_at};
use modelferry_core::expr::{NodeId, Op};
use modelferry_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The staged nodes of an evaluator.
#[derive(Default)]
pub(crate) struct Stages {
    made: BTreeMap<NodeId, Staged>,
}

/// One staged sequence.
pub(crate) enum Staged {
    Memory(Vec<u8>),
    Spool { io: Arc<dyn Io>, file: File },
}

impl Staged {
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        match self {
            Staged::Memory(bytes) => {
                let from = at as usize;
                let bytes = bytes.get(from..from + out.len()).ok_or_else(|| {
                    Error::plugin("a read lies outside a staged value; this is a bug in modelferry")
                })?;
                out.copy_from_slice(bytes);
                Ok(())
            }
            Staged::Spool { io, file } => {
                read_exact_at(&**io, file, at, out).map_err(|error| error.file("spool"))
            }
        }
    }
}

impl Stages {
    pub(crate) fn get(&self, id: NodeId) -> Option<&Staged> {
        if self.made.is_empty() { None } else { self.made.get(&id) }
    }
}

/// Where staged values may be kept.
pub(crate) struct Spooler<'s> {
    /// Bytes that may be held in memory, all stages together.
    pub(crate) memory: u64,
    /// Makes an unnamed file of a given length.
    pub(crate) spool: &'s mut dyn FnMut(u64) -> Result<(Arc<dyn Io>, File)>,
    /// Called between steps; an error stops.
    pub(crate) check: &'s dyn Fn() -> Result<()>,
}

impl Evaluator<'_> {
    /// The nodes that `roots` need staged, children first: every [`Op::Stage`], and every sequential source that a
    /// root would read out of order.
    pub(crate) fn stages_needed(&self, roots: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let nodes = self.nodes();
        let mut needed = vec![];
        let mut seen = vec![false; nodes.len()];
        let mut disordered = vec![false; nodes.len()];
        let mut used = vec![0u32; nodes.len()];
        let mut stack: Vec<NodeId> = roots.collect();
        for &root in &stack {
            used[root.idx()] += 1;
        }
        while let Some(id) = stack.pop() {
            if std::mem::replace(&mut seen[id.idx()], true) {
                continue;
            }
            for child in nodes.children(id) {
                used[child.idx()] += 1;
                stack.push(child);
            }
        }
        // Parents stand behind their children: walking backwards carries disorder down from the roots.
        for (id, node) in nodes.iter().rev() {
            if !seen[id.idx()] {
                continue;
            }
            let here = disordered[id.idx()];
            let fact = self.facts[id];
            let is_stream = matches!(node.op, Op::Inflate { .. } | Op::Varints { .. } | Op::Plugin { .. })
                && fact.sequential;
            if matches!(node.op, Op::Stage { .. }) || is_stream && (here || used[id.idx()] > 1) {
                needed.push(id);
                continue;
            }
            // A node out of order itself, or read by several, reads what is below it so.
            let below = here || !fact.linear || used[id.idx()] > 1 && fact.sequential;
            for child in nodes.children(id) {
                disordered[child.idx()] |= below;
            }
        }
        needed.reverse();
        needed
    }

    /// Bytes that staging `ids` takes beyond what `memory` holds: what a spool needs on disk.
    pub(crate) fn spool_len(&self, ids: &[NodeId], memory: u64) -> u64 {
        let mut left = memory;
        let mut spooled = 0;
        for &id in ids {
            let len = self.nodes()[id].byte_len();
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => spooled += len,
            }
        }
        spooled
    }

    /// Makes the staged nodes `ids`, which are in arena order.
    pub(crate) fn make_stages(
        &mut self,
        ids: &[NodeId],
        spooler: &mut Spooler<'_>,
        cx: &mut Cx,
    ) -> Result<()> {
        let mut left = spooler.memory;
        for &id in ids {
            let node = &self.nodes()[id];
            // A stage is filled from its source, anything else from itself.
            let from = match node.op {
                Op::Stage { of } => of,
                _ => id,
            };
            let item = node.dtype.item_bytes();
            let len = node.byte_len();
            let step =
                (cx.cap as u64 / (item + u64::from(self.facts[from].scratch)).max(1)).clamp(1, 1 << 20);
            let fits = left.checked_sub(len);
            let mut staged = match fits {
                Some(rest) => {
                    left = rest;
                    Staged::Memory(cx.take(len as usize)?)
                }
                None => {
                    let (io, file) = (spooler.spool)(len)?;
                    Staged::Spool { io, file }
                }
            };
            for at in (0..node.n).step_by(step as usize) {
                (spooler.check)()?;
                let n = step.min(node.n - at);
                let n_bytes = (n * item) as usize;
                match &mut staged {
                    Staged::Memory(bytes) => {
                        let place = &mut bytes[(at * item) as usize..][..n_bytes];
                        self.fill_run(from, at, n as usize, place, cx)?;
                    }
                    Staged::Spool { io, file } => {
                        let mut buffer = cx.take(n_bytes)?;
                        self.fill_run(from, at, n as usize, &mut buffer, cx)?;
                        write_all_at(&**io, file, at * item, &buffer).map_err(|error| error.file("spool"))?;
                        cx.give(buffer);
                    }
                }
            }
            self.stages.made.insert(id, staged);
        }
        Ok(())
    }
}
