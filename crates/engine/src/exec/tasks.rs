//! The work of one layout, cut into tasks that any thread may take.

use super::job::Job;
use crate::tiling::Tiling;
use modelferry_core::expr::Packing;
use modelferry_core::inputs::FileId;
use modelferry_core::layout::Piece;
use std::ops::Range;
use std::sync::Arc;

/// One unit of work. Tasks write disjoint ranges and may run in any order.
pub(super) enum Task {
    /// Output bytes `at`, in one file, one write; the first of them is byte `skip` of piece `piece`.
    Linear { file: usize, at: Range<u64>, piece: usize, skip: u64 },
    /// One box of a tensor whose bytes begin at `base` in the file.
    Boxed { file: usize, base: u64, idx: usize, tiling: Arc<Tiling>, tile: u64, packing: Packing },
    /// A whole tensor piece that must be read in order: linear tasks, one after another.
    InOrder { file: usize, at: Range<u64>, piece: usize },
    /// Bytes that the kernel can copy from file to file.
    Copy { file: usize, at: u64, from: FileId, from_at: u64, len: u64 },
}

/// Bytes of one kernel copy: small enough to stop in time.
const COPY_BYTES: u64 = 16 << 20;
/// Shorter stretches are not worth a task of their own.
const MIN_COPY_BYTES: u64 = 4 << 20;
/// `copy_file_range` is fast only where both offsets agree modulo the page size.
const PAGE: u64 = 4096;

/// Hands out the tasks of a layout in file order.
pub(super) struct Tasks<'j> {
    job: &'j Job<'j>,
    file: usize,
    piece: usize,
    /// Output byte where `piece` begins, and the first byte not handed out yet.
    piece_at: u64,
    at: u64,
    boxes: Option<(Arc<Tiling>, u64)>,
}

/// How a piece is best made.
pub(super) enum Way {
    Linear,
    Boxed(Tiling),
    InOrder,
    Copy { from: FileId, from_at: u64 },
}

impl<'j> Tasks<'j> {
    pub(super) fn new(job: &'j Job<'j>) -> Tasks<'j> {
        Tasks { job, file: 0, piece: 0, piece_at: 0, at: 0, boxes: None }
    }

    fn pieces(&self) -> &'j [Piece] {
        &self.job.layout().files[self.file].pieces
    }

    /// Whether the piece is made together with those of other parts.
    fn is_shared(&self) -> bool {
        self.job.shared.contains(&(self.file, self.piece))
    }

    fn step_over(&mut self) {
        self.piece_at += self.pieces()[self.piece].byte_len();
        self.piece += 1;
        self.at = self.piece_at;
    }
}

impl Job<'_> {
    /// How a piece that begins at byte `at` of its file is best made.
    pub(super) fn way(&self, file: usize, piece: &Piece, at: u64) -> Way {
        let Piece::Tensor { idx, bytes, packing } = piece else { return Way::Linear };
        let job = self;
        let tensor = &job.model().tensors[*idx];
        let fact = job.evaluator.facts[tensor.data];
        if fact.sequential && !job.is_staged_below(tensor.data) {
            return Way::InOrder;
        }
        let len = piece.byte_len();
        if *packing == Packing::default()
            && len >= MIN_COPY_BYTES
            && let Some((from, from_at)) = job.verbatim(*idx)
            && (from_at + bytes.start) % PAGE == at % PAGE
            && job.may_copy(file, at..at + len)
        {
            return Way::Copy { from, from_at: from_at + bytes.start };
        }
        let whole = bytes.start == 0 && bytes.end == tensor.byte_len();
        if !fact.linear && whole && len > job.settings().linear_bytes() && !tensor.dtype.is_sub_byte() {
            let tiling = Tiling::of(&job.evaluator, tensor.data, job.settings().tile_bytes());
            if tiling.is_boxed() {
                return Way::Boxed(tiling);
            }
        }
        Way::Linear
    }
}

/// Where the kernel copy that begins at `at` ends: the pages that lie whole between `at` and `end` are copied by
/// themselves, for only those can be shared.
fn copy_end(at: u64, end: u64) -> u64 {
    let (first, last) = (at.next_multiple_of(PAGE), end / PAGE * PAGE);
    match () {
        () if at < first => first.min(end),
        () if at < last => last.min((at / COPY_BYTES + 1) * COPY_BYTES),
        () => end,
    }
}

impl Iterator for Tasks<'_> {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        loop {
            let files = &self.job.layout().files;
            files.get(self.file)?;
            let Some(piece) = self.pieces().get(self.piece) else {
                *self = Tasks { file: self.file + 1, ..Tasks::new(self.job) };
                continue;
            };
            let file = self.file;
            let end = self.piece_at + piece.byte_len();
            if self.at == end || self.is_shared() {
                self.step_over();
                continue;
            }
            if let (Some((tiling, next)), Piece::Tensor { idx, packing, .. }) = (&mut self.boxes, piece) {
                let (tiling, tile) = (Arc::clone(tiling), *next);
                *next += 1;
                let task =
                    Task::Boxed { file, base: self.piece_at, idx: *idx, tiling, tile, packing: *packing };
                if tile + 1 == self.boxes.as_ref().map_or(0, |(tiling, _)| tiling.len()) {
                    self.boxes = None;
                    self.step_over();
                }
                return Some(task);
            }
            match self.job.way(file, piece, self.piece_at) {
                Way::Boxed(tiling) => self.boxes = Some((Arc::new(tiling), 0)),
                Way::InOrder => {
                    let task = Task::InOrder { file, at: self.piece_at..end, piece: self.piece };
                    self.step_over();
                    return Some(task);
                }
                Way::Copy { from, from_at } => {
                    let done = self.at - self.piece_at;
                    let len = copy_end(self.at, end) - self.at;
                    let task = Task::Copy { file, at: self.at, from, from_at: from_at + done, len };
                    self.at += len;
                    return Some(task);
                }
                Way::Linear => {
                    // To the next multiple of the write size, or to the first piece that is made another way.
                    let from = self.at;
                    let (first, skip) = (self.piece, self.at - self.piece_at);
                    let step = self.job.settings().linear_bytes();
                    let stop = (from / step + 1) * step;
                    loop {
                        let end = self.piece_at + self.pieces()[self.piece].byte_len();
                        if end > stop {
                            self.at = stop;
                            break;
                        }
                        self.step_over();
                        let Some(next) = self.pieces().get(self.piece) else { break };
                        if self.at == stop
                            || self.is_shared()
                            || !matches!(self.job.way(file, next, self.piece_at), Way::Linear)
                        {
                            break;
                        }
                    }
                    return Some(Task::Linear { file, at: from..self.at, piece: first, skip });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_copies_are_cut_at_pages() {
        let mut at = 100;
        let mut ends = vec![];
        while at < 40_000_000 {
            at = copy_end(at, 40_000_000);
            ends.push(at);
        }
        assert_eq!(ends, [4096, 16 << 20, 32 << 20, 39_997_440, 40_000_000]);
        assert_eq!((copy_end(0, 4096), copy_end(1, 4000), copy_end(4096, 4097)), (4096, 4000, 4097));
    }
}
