//! How much each element counts in a search.

use super::SUPER;
use super::lanes::{BATCH, LANES, SUPER_BYTES, groups, to_lanes};

/// A rule that fills in the weights of groups that lie in lanes, `start` being the number of the first within what is
/// quantized at once. A trait, not a closure, for it must be inlined to be compiled for each instruction set.
pub(super) trait Weigh<const N: usize> {
    fn weigh(&self, start: usize, x: &[[f32; LANES]; N], w: &mut [[f32; LANES]; N]);
}

/// By magnitude.
pub(super) struct Magnitude;

impl<const N: usize> Weigh<N> for Magnitude {
    #[inline(always)]
    fn weigh(&self, _: usize, x: &[[f32; LANES]; N], w: &mut [[f32; LANES]; N]) {
        for l in 0..N {
            for k in 0..LANES {
                w[l][k] = x[l][k].abs();
            }
        }
    }
}

/// By square.
pub(super) struct Square;

impl<const N: usize> Weigh<N> for Square {
    #[inline(always)]
    fn weigh(&self, _: usize, x: &[[f32; LANES]; N], w: &mut [[f32; LANES]; N]) {
        for l in 0..N {
            for k in 0..LANES {
                w[l][k] = x[l][k] * x[l][k];
            }
        }
    }
}

/// By magnitude, plus the quadratic mean of the group.
pub(super) struct MeanAndMagnitude;

impl<const N: usize> Weigh<N> for MeanAndMagnitude {
    #[inline(always)]
    fn weigh(&self, _: usize, x: &[[f32; LANES]; N], w: &mut [[f32; LANES]; N]) {
        let mut mean = [0.0; LANES];
        for l in 0..N {
            for k in 0..LANES {
                mean[k] += x[l][k] * x[l][k];
            }
        }
        for k in 0..LANES {
            mean[k] = (mean[k] / N as f32).sqrt();
        }
        for l in 0..N {
            for k in 0..LANES {
                w[l][k] = mean[k] + x[l][k].abs();
            }
        }
    }
}

/// By importance alone.
pub(super) struct Importance<'a, const N: usize>(pub(super) &'a [[[u8; 4]; N]]);

impl<const N: usize> Weigh<N> for Importance<'_, N> {
    #[inline(always)]
    fn weigh(&self, start: usize, _: &[[f32; LANES]; N], w: &mut [[f32; LANES]; N]) {
        to_lanes(&self.0[start..], w);
    }
}

/// By importance times `sqrt(variance + x^2)`, the variance that of the super-block.
pub(super) struct ImportanceAndSize<'a, const N: usize> {
    pub(super) importance: &'a [[[u8; 4]; N]],
    pub(super) variance: [f32; BATCH],
}

impl<const N: usize> Weigh<N> for ImportanceAndSize<'_, N> {
    #[inline(always)]
    fn weigh(&self, start: usize, x: &[[f32; LANES]; N], w: &mut [[f32; LANES]; N]) {
        let mut variance = [0.0; LANES];
        for k in 0..LANES {
            variance[k] = self.variance[((start + k) * N / SUPER).min(BATCH - 1)];
        }
        to_lanes(&self.importance[start..], w);
        by_size(x, w, &variance);
    }
}

/// Multiplies weights by `sqrt(variance + x^2)`.
#[inline(always)]
pub(super) fn by_size<const N: usize>(
    x: &[[f32; LANES]; N],
    w: &mut [[f32; LANES]; N],
    variance: &[f32; LANES],
) {
    for l in 0..N {
        for k in 0..LANES {
            w[l][k] *= (variance[k] + x[l][k] * x[l][k]).sqrt();
        }
    }
}

/// The sum of squares of each super-block, added up from its first element to its last.
#[inline(always)]
pub(super) fn squares(supers: &[[u8; SUPER_BYTES]]) -> [f32; BATCH] {
    let mut sums = [0.0; BATCH];
    // Side by side, for each sum waits for its last addition.
    for at in 0..SUPER {
        for (sum, floats) in sums.iter_mut().zip(supers) {
            let x = f32::from_le_bytes(floats.as_chunks().0[at]);
            *sum += x * x;
        }
    }
    sums
}

/// A row of importance weights, which holds for every row of the tensor, cut like its super-blocks.
pub(super) struct Row<'a> {
    row: &'a [[u8; SUPER_BYTES]],
    next: usize,
    batch: [[u8; SUPER_BYTES]; BATCH],
}

impl<'a> Row<'a> {
    /// `None` if the row holds no super-block.
    #[inline(always)]
    pub(super) fn new(row: &'a [u8]) -> Option<Row<'a>> {
        let row = row.as_chunks().0;
        (!row.is_empty()).then_some(Row { row, next: 0, batch: [[0; SUPER_BYTES]; BATCH] })
    }

    /// The weights of the groups of the next `count` super-blocks.
    #[inline(always)]
    pub(super) fn take<const N: usize>(&mut self, count: usize) -> &[[[u8; 4]; N]] {
        for weights in self.batch.iter_mut().take(count) {
            *weights = self.row[self.next];
            self.next = (self.next + 1) % self.row.len();
        }
        groups(self.batch.as_flattened())
    }
}
