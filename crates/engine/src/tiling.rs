//! The units of work of one tensor: runs where its bytes are read in order, boxes where they are not.

use crate::eval::Evaluator;
use crate::eval::access::{Access, Loop};
use modelferry_core::expr::{Dim, NodeId, Op};

/// A partition of a sequence into accesses of bounded size.
pub(crate) struct Tiling {
    /// Extents of the axes that boxes are cut from; one axis for runs.
    shape: Vec<u64>,
    /// Extent of a tile on each axis; clipped at the end of an axis.
    tile: Vec<u64>,
    item: usize,
}

/// One part of a [`Tiling`].
pub(crate) struct Tile {
    lo: Vec<u64>,
    extent: Vec<u64>,
    /// Items of the sequence per step of each axis.
    steps: Vec<u64>,
    item: usize,
}

/// Contiguous stretches shorter than this cost more to fetch or write than to compute: the page size.
const MIN_RUN_BYTES: u64 = 4096;

impl Tiling {
    /// A partition of node `id` whose tiles take at most `budget` bytes of output and scratch together, unless a
    /// single item takes more; where items are made in groups, of whole groups.
    ///
    /// Behind a transposing view a tile is a box that is at least a page long both where it is read and where it is
    /// written: a 1.5 GB transpose took 29 s by flat runs, 22 s by bands of rows, 1.7 s by such boxes.
    pub(crate) fn of(evaluator: &Evaluator<'_>, id: NodeId, budget: u64) -> Tiling {
        let node = &evaluator.source.model.nodes[id];
        let item = node.dtype.item_bytes().max(1);
        let fact = evaluator.facts[id];
        let n_items = budget.saturating_sub(fact.fixed) / (item + u64::from(fact.scratch));
        let n_items = fact.whole(n_items).max(1);
        match transposed(evaluator, id) {
            Some(dims) if node.n > n_items => {
                let tile = box_extents(&dims, item, n_items);
                Tiling { shape: dims.iter().map(|dim| dim.count).collect(), tile, item: item as usize }
            }
            _ => Tiling { shape: vec![node.n], tile: vec![n_items], item: item as usize },
        }
    }

    /// Whether tiles are boxes, whose output is not one run.
    pub(crate) fn is_boxed(&self) -> bool {
        self.shape.len() > 1
    }

    /// Bytes of the items that tile accesses are packed for.
    pub(crate) fn item(&self) -> usize {
        self.item
    }

    /// Number of tiles.
    pub(crate) fn len(&self) -> u64 {
        self.counts().product()
    }

    fn counts(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.shape.iter().zip(&self.tile).map(|(extent, tile)| extent.div_ceil(*tile))
    }

    /// Tile number `idx`.
    pub(crate) fn tile(&self, mut idx: u64) -> Tile {
        let rank = self.shape.len();
        let mut lo = vec![0; rank];
        let counts: Vec<u64> = self.counts().collect();
        for axis in (0..rank).rev() {
            lo[axis] = idx % counts[axis] * self.tile[axis];
            idx /= counts[axis];
        }
        let extent = (0..rank).map(|axis| self.tile[axis].min(self.shape[axis] - lo[axis])).collect();
        let mut steps = vec![1u64; rank];
        for axis in (1..rank).rev() {
            steps[axis - 1] = steps[axis] * self.shape[axis];
        }
        Tile { lo, extent, steps, item: self.item }
    }
}

impl Tile {
    /// Number of items.
    pub(crate) fn n(&self) -> usize {
        self.extent.iter().product::<u64>() as usize
    }

    /// The items, packed densely in row-major order of the box.
    pub(crate) fn access(&self) -> Access {
        let at = self.lo.iter().zip(&self.steps).map(|(lo, step)| lo * step).sum();
        let mut dst = self.item as isize;
        let mut loops: Vec<Loop> = (0..self.lo.len())
            .rev()
            .map(|axis| {
                let count = self.extent[axis] as usize;
                let l = Loop { count, src: self.steps[axis] as i64, dst };
                dst *= count as isize;
                l
            })
            .collect();
        loops.reverse();
        Access { at, dst: 0, loops }
    }

    /// The contiguous runs of the tile, as (first item in the sequence, first item in the tile, items), in order of
    /// both.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, usize, usize)> + '_ {
        let rank = self.lo.len();
        // Inner axes taken whole join the run of the axis outside them.
        let mut split = rank - 1;
        while split > 0 && self.extent[split] * self.steps[split] == self.steps[split - 1] {
            split -= 1;
        }
        let run: u64 = self.extent[split..].iter().product();
        let n_runs: u64 = self.extent[..split].iter().product();
        let base: u64 = self.lo.iter().zip(&self.steps).map(|(lo, step)| lo * step).sum();
        (0..n_runs).map(move |idx| {
            let mut left = idx;
            let mut at = base;
            for axis in (0..split).rev() {
                at += left % self.extent[axis] * self.steps[axis];
                left /= self.extent[axis];
            }
            (at, (idx * run) as usize, run as usize)
        })
    }
}

/// The axes of the first view below `id` that reorders items, as long as item `i` of `id` is made from item `i` of
/// that view.
fn transposed(evaluator: &Evaluator<'_>, mut id: NodeId) -> Option<Vec<Dim>> {
    let nodes = &evaluator.source.model.nodes;
    loop {
        if evaluator.facts[id].linear {
            return None;
        }
        match &nodes[id].op {
            Op::View { dims, .. } if dims.len() > 1 => return Some(dims.to_vec()),
            Op::Map { args, .. } => {
                id = args.ids().iter().copied().find(|&arg| !evaluator.facts[arg].linear)?
            }
            _ => return None,
        }
    }
}

/// Extents of a box of at most `n_items` items: first grown until both its output runs and its source runs are a
/// page long, then evenly.
fn box_extents(dims: &[Dim], item: u64, n_items: u64) -> Vec<u64> {
    let rank = dims.len();
    let mut by_source: Vec<usize> = (0..rank).filter(|&axis| dims[axis].stride != 0).collect();
    by_source.sort_by_key(|&axis| dims[axis].stride.unsigned_abs());
    let by_output: Vec<usize> = (0..rank).rev().collect();
    let mut tile = vec![1u64; rank];
    // The run in one order: axes taken whole, and as much of the next.
    let run = |tile: &[u64], order: &[usize]| {
        let mut run = 1;
        for &axis in order {
            run *= tile[axis];
            if tile[axis] < dims[axis].count {
                break;
            }
        }
        run
    };
    let next =
        |tile: &[u64], order: &[usize]| order.iter().copied().find(|&axis| tile[axis] < dims[axis].count);
    loop {
        let volume: u64 = tile.iter().product();
        let (out_run, in_run) = (run(&tile, &by_output), run(&tile, &by_source));
        let long_enough = |run: u64| run * item >= MIN_RUN_BYTES;
        let (first, second) = match (long_enough(out_run), long_enough(in_run)) {
            (false, true) => (&by_output, &by_source),
            (true, false) => (&by_source, &by_output),
            _ if in_run < out_run => (&by_source, &by_output),
            _ => (&by_output, &by_source),
        };
        let Some(axis) = next(&tile, first).or_else(|| next(&tile, second)) else { return tile };
        let grown = (tile[axis] * 2).min(dims[axis].count);
        if volume / tile[axis] * grown > n_items {
            return tile;
        }
        tile[axis] = grown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_matrix_is_cut_into_squares() {
        let dims = [Dim { count: 32768, stride: 1 }, Dim { count: 32768, stride: 32768 }];
        assert_eq!(box_extents(&dims, 4, 1 << 20), [1024, 1024]);
    }

    #[test]
    fn narrow_axes_are_taken_whole() {
        // [224, 224, 3] seen as [3, 224, 224].
        let dims = [Dim { count: 3, stride: 1 }, Dim { count: 50176, stride: 3 }];
        assert_eq!(box_extents(&dims, 4, 1 << 16), [3, 16384]);
    }

    #[test]
    fn tiles_cover_everything_once() {
        let tiling = Tiling { shape: vec![5, 7, 4], tile: vec![2, 3, 4], item: 2 };
        let mut seen = vec![0; 140];
        for idx in 0..tiling.len() {
            let tile = tiling.tile(idx);
            let mut next = 0;
            for (at, from, n) in tile.runs() {
                assert_eq!(from, next);
                next += n;
                seen[at as usize..at as usize + n].iter_mut().for_each(|count| *count += 1);
            }
            assert_eq!(next, tile.n());
        }
        assert!(seen.iter().all(|&count| count == 1));
    }
}
