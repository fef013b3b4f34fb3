//! Performing tasks: fill a buffer, account for it, write it.

use super::job::Job;
use super::shared::{ALIGNMENT, SharedTensor, Step};
use super::tasks::Task;
use super::{Plan, Work, lock};
use crate::control::Settings;
use crate::eval::Cx;
use crate::io::{advise_done, copy_all, read_exact_at, write_all_at};
use modelferry_core::Result;
use modelferry_core::layout::Piece;
use sha2::{Digest as _, Sha256};
use std::ops::Range;
use std::sync::Mutex;

/// One thread of a run, with its buffers.
pub(super) struct Worker<'j> {
    jobs: &'j [Job<'j>],
    linear_bytes: u64,
    cx: Cx,
    buffer: Vec<u8>,
}

impl<'j> Worker<'j> {
    pub(super) fn new(settings: &Settings, jobs: &'j [Job<'j>]) -> Worker<'j> {
        // One part alone reads nothing twice.
        let kept = if jobs.len() > 1 { settings.kept_bytes() } else { 0 };
        let cx = Cx::keeping(settings.tile_bytes() as usize, kept);
        Worker { jobs, linear_bytes: settings.linear_bytes(), cx, buffer: vec![] }
    }

    pub(super) fn perform(&mut self, work: Work<'j>) -> Result<()> {
        match work {
            Work::Alone(job, task) => {
                self.cx.reads.forget();
                self.perform_alone(job, task)
            }
            Work::Together(tensor, elements) => self.perform_together(tensor, elements),
        }
    }

    fn perform_together(&mut self, tensor: &SharedTensor, elements: Range<u64>) -> Result<()> {
        tensor.each(elements, self.linear_bytes, &mut |step| match step {
            Step::Other => {
                self.cx.reads.forget();
                self.jobs[0].plan.control.check()
            }
            Step::Bytes { place, at, skip } => {
                self.write_linear(&self.jobs[place.job], place.file, at, place.piece, skip)
            }
        })
    }

    fn perform_alone(&mut self, job: &'j Job<'j>, task: Task) -> Result<()> {
        match task {
            Task::Linear { file, at, piece, skip } => self.write_linear(job, file, at, piece, skip),
            Task::InOrder { file, at, piece } => {
                let Piece::Tensor { idx, .. } = &job.layout().files[file].pieces[piece] else {
                    return Ok(());
                };
                // Between items: what two writes share would be made twice, and the stream be read again for it.
                let unit = job.model().tensors[*idx].dtype.packed_len(ALIGNMENT).unwrap_or(1).max(1);
                let step = (job.settings().linear_bytes() / unit).max(1) * unit;
                let mut next = at.start;
                while next < at.end {
                    job.plan.control.check()?;
                    let end = next.saturating_add(step).min(at.end);
                    self.write_linear(job, file, next..end, piece, next - at.start)?;
                    next = end;
                }
                Ok(())
            }
            Task::Boxed { file, base, idx, tiling, tile, packing } => {
                let tile = tiling.tile(tile);
                let tensor = &job.model().tensors[idx];
                let item = tensor.dtype.item_bytes();
                self.buffer.resize(tile.n() * item as usize, 0);
                job.fill_box(idx, &tile, packing, &mut self.buffer, &mut self.cx)
                    .map_err(|error| error.tensor(&tensor.name))?;
                job.note(idx, &mut self.cx);
                for (at, from, n) in tile.runs() {
                    let bytes = &self.buffer[from * item as usize..][..n * item as usize];
                    job.put(file, base + at * item, bytes)?;
                }
                job.progress(self.buffer.len() as u64)
            }
            Task::Copy { file, at, from, from_at, len } => {
                let source = job.plan.inputs.handle(from)?;
                copy_all(&*job.plan.io, &source, from_at, &*job.file(file)?, at, len)
                    .map_err(|error| error.file(&job.layout().files[file].path))?;
                job.progress(len)
            }
        }
    }

    fn write_linear(
        &mut self,
        job: &Job<'_>,
        file: usize,
        at: Range<u64>,
        piece: usize,
        skip: u64,
    ) -> Result<()> {
        self.buffer.resize((at.end - at.start) as usize, 0);
        job.fill_linear(file, piece, skip, &mut self.buffer, &mut self.cx)?;
        job.put(file, at.start, &self.buffer)?;
        job.progress(at.end - at.start)
    }
}

impl Job<'_> {
    /// Moves what a fill has shown to the tensor that it was made for.
    pub(super) fn note(&self, idx: usize, cx: &mut Cx) {
        let seen = std::mem::take(&mut cx.seen);
        if seen != Default::default() {
            *lock(&self.seen).entry(idx).or_default() += seen;
        }
    }

    /// Writes payload bytes and adds them to the checksums over them. In a sparse output zeros stay holes.
    pub(super) fn put(&self, file: usize, at: u64, bytes: &[u8]) -> Result<()> {
        self.crcs.wrote(file, at, bytes);
        if self.sparse && modelferry_kernels::reduce::all_zero(bytes) {
            return Ok(());
        }
        self.write(file, at, bytes)
    }

    pub(super) fn write(&self, file: usize, at: u64, bytes: &[u8]) -> Result<()> {
        write_all_at(&*self.plan.io, &*self.file(file)?, at, bytes)
            .map_err(|error| error.file(&self.layout().files[file].path))
    }

    pub(super) fn sha256(&self, file: usize, bytes: Range<u64>, cx: &mut Cx) -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        let mut buffer = cx.take(1 << 20)?;
        let mut at = bytes.start;
        while at < bytes.end {
            self.plan.control.check()?;
            let len = (bytes.end - at).min(buffer.len() as u64) as usize;
            read_exact_at(&*self.plan.io, &*self.file(file)?, at, &mut buffer[..len])
                .map_err(|error| error.file(&self.layout().files[file].path))?;
            hash.update(&buffer[..len]);
            at += len as u64;
        }
        cx.give(buffer);
        Ok(hash.finalize().to_vec())
    }

    fn progress(&self, bytes: u64) -> Result<()> {
        self.plan.control.advance(bytes);
        self.behind.wrote(self, bytes)
    }
}

/// Keeps an output larger than memory from pushing everything else out of it: above half of RAM, what is written is
/// sent to the disk piece by piece and dropped from the page cache.
pub(super) struct WriteBehind {
    active: bool,
    pending: Mutex<u64>,
}

/// Bytes written between two flushes.
const FLUSH_BYTES: u64 = 256 << 20;

impl WriteBehind {
    pub(super) fn new(plan: &Plan<'_>, total: u64) -> WriteBehind {
        WriteBehind { active: total > plan.io.memory_bytes() / 2, pending: Mutex::new(0) }
    }

    fn wrote(&self, job: &Job<'_>, bytes: u64) -> Result<()> {
        if !self.active {
            return Ok(());
        }
        let due = {
            let mut pending = lock(&self.pending);
            *pending += bytes;
            let due = *pending >= FLUSH_BYTES;
            if due {
                *pending = 0;
            }
            due
        };
        if due {
            for idx in 0..job.layout().files.len() {
                advise_done(&*job.plan.io, &*job.file(idx)?)
                    .map_err(|error| error.file(&job.layout().files[idx].path))?;
            }
            for file in job.plan.inputs.used() {
                job.plan.inputs.advise_done(file)?;
            }
        }
        Ok(())
    }
}
