//! Tensors that several parts of a run make of the same bytes.
//!
//! One thread takes a range of a tensor's elements and makes them for every part, one after another, while it holds
//! what it has read: every byte is read once, however many threads there are. A range is no more than its bytes and
//! those that it is made of fit a thread's share of the budget.

use super::Job;
use super::tasks::Way;
use modelferry_core::layout::Piece;
use modelferry_core::{DType, Result};
use std::collections::HashMap;
use std::ops::Range;

/// A tensor and where each part has it.
pub(super) struct SharedTensor {
    n_elements: u64,
    /// Elements made at once.
    step: u64,
    /// Whether it must be made in order, and so by one thread.
    in_order: bool,
    places: Vec<Place>,
}

/// Where one part has a tensor.
pub(super) struct Place {
    /// The part.
    pub(super) job: usize,
    /// File of its layout, and the piece that is the tensor.
    pub(super) file: usize,
    pub(super) piece: usize,
    /// The tensor's first byte in the file.
    at: u64,
    dtype: DType,
}

/// Ranges begin at multiples of this: of every number of elements that a block has, and of those that fill bytes.
pub(super) const ALIGNMENT: u64 = 256;

impl SharedTensor {
    /// The tensors that several parts have, in the order of the first; parts leave them out of their own tasks.
    pub(super) fn find(jobs: &mut [Job<'_>]) -> Vec<SharedTensor> {
        if jobs.len() < 2 {
            return vec![];
        }
        let mut found: Vec<Vec<Place>> = vec![];
        let mut by_name: HashMap<(&str, &[u64]), usize> = HashMap::new();
        for (number, job) in jobs.iter().enumerate() {
            for (file, out) in job.layout().files.iter().enumerate() {
                let mut at = 0;
                for (piece, of) in out.pieces.iter().enumerate() {
                    let begin = at;
                    at += of.byte_len();
                    let Piece::Tensor { idx, bytes, .. } = of else { continue };
                    let tensor = &job.model().tensors[*idx];
                    let is_whole = bytes.start == 0 && bytes.end == tensor.byte_len() && bytes.end > 0;
                    if !is_whole || !matches!(job.way(file, of, begin), Way::Linear | Way::InOrder) {
                        continue;
                    }
                    let place = Place { job: number, file, piece, at: begin, dtype: tensor.dtype };
                    let group = *by_name.entry((&tensor.name, &tensor.shape)).or_insert_with(|| {
                        found.push(vec![]);
                        found.len() - 1
                    });
                    found[group].push(place);
                }
            }
        }
        found.retain(|places| places.len() > 1);
        let shared: Vec<SharedTensor> =
            found.into_iter().map(|places| SharedTensor::new(jobs, places)).collect();
        for place in shared.iter().flat_map(|tensor| &tensor.places) {
            jobs[place.job].shared.insert((place.file, place.piece));
        }
        shared
    }

    fn new(jobs: &[Job<'_>], places: Vec<Place>) -> SharedTensor {
        let mut shared = SharedTensor { n_elements: 0, step: u64::MAX, in_order: false, places };
        let mut grain = ALIGNMENT;
        for place in &shared.places {
            let job = &jobs[place.job];
            let Piece::Tensor { idx, .. } = &job.layout().files[place.file].pieces[place.piece] else {
                continue;
            };
            let tensor = &job.model().tensors[*idx];
            let fact = job.evaluator.facts[tensor.data];
            shared.n_elements = tensor.n_elements();
            let in_order = fact.sequential && !job.is_staged_below(tensor.data);
            shared.in_order |= in_order;
            let each = tensor.dtype.item_elements();
            // Rows that are made whole are whole blocks of every type, aligned or not.
            if fact.grain > 1 {
                grain = fact.grain.saturating_mul(each);
            }
            // What is read for an element, rounded up, and what is made of it.
            let bytes = fact.reads.max(tensor.dtype.item_bytes()).div_ceil(each).max(1);
            // A stream is fetched in stretches of its own, which lie over the ends of ours.
            let room = job.settings().kept_bytes() >> u32::from(in_order);
            shared.step = shared.step.min(room / bytes);
        }
        shared.step = (shared.step / grain).max(1).saturating_mul(grain);
        shared
    }

    /// The ranges of elements, in order; the whole where one thread must make it.
    pub(super) fn steps(&self) -> impl Iterator<Item = Range<u64>> + Send + '_ {
        let step = if self.in_order { self.n_elements } else { self.step };
        (0..self.n_elements.div_ceil(step)).map(move |number| self.range(number * step, step))
    }

    fn range(&self, begin: u64, step: u64) -> Range<u64> {
        begin..begin.saturating_add(step).min(self.n_elements)
    }

    /// Hands over the output bytes of a range of elements, cut where the source's bytes that are held give way to
    /// others: each part's in turn, at most about `most` at a time.
    pub(super) fn each(
        &self,
        elements: Range<u64>,
        most: u64,
        next: &mut dyn FnMut(Step<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut begin = elements.start;
        while begin < elements.end {
            let range = self.range(begin, self.step);
            let range = range.start..range.end.min(elements.end);
            next(Step::Other)?;
            for place in &self.places {
                let bytes = |n: u64| place.dtype.packed_len(n).unwrap_or(0);
                // Pieces that end where a block may begin.
                let unit = bytes(ALIGNMENT).max(1);
                let chunk = (most / unit).max(1) * unit;
                let (mut from, end) = (bytes(range.start), bytes(range.end));
                while from < end {
                    let to = (from + chunk).min(end);
                    next(Step::Bytes { place, at: place.at + from..place.at + to, skip: from })?;
                    from = to;
                }
            }
            begin = range.end;
        }
        Ok(())
    }
}

/// What [`SharedTensor::each`] hands over.
pub(super) enum Step<'s> {
    /// Other bytes of the source come.
    Other,
    /// These bytes of a file are to be made, of a piece's from byte `skip` on.
    Bytes { place: &'s Place, at: Range<u64>, skip: u64 },
}
