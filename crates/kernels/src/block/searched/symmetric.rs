//! The search for a scale alone: `x` is about `scale * (code - half)`, code from 0 to `2 * half - 1`.
//!
//! `make_qx_quants` of ggml-quants.c with `rmse_type` 1.

use super::lanes::{BATCH, LANES, nearest, to_lanes};
use super::weigh::Weigh;

type Lane = [f32; LANES];

/// Below this largest magnitude a group counts as zero.
pub(super) const EPSILON: f32 = 1e-15;

/// How the codes of a group were made: the nearest integer to `inverse * x`.
#[derive(Clone, Copy, Default)]
pub(super) struct Pick {
    inverse: f32,
    zero: bool,
}

impl Pick {
    /// The code of `x`; a group that counts as zero has codes of 0, which is not zero in the middle.
    #[inline(always)]
    pub(super) fn code(self, x: f32, half: i32) -> u8 {
        let code = nearest(self.inverse * x).min(half - 1).max(-half) + half;
        if self.zero { 0 } else { code as u8 }
    }
}

/// What was found, by lane.
pub(super) struct Symmetric<const W: usize> {
    pub(super) scale: [f32; W],
    inverse: [f32; W],
    zero: [bool; W],
}

impl<const W: usize> Symmetric<W> {
    /// How lane `k` makes its codes.
    #[inline(always)]
    pub(super) fn pick(&self, k: usize) -> Pick {
        Pick { inverse: self.inverse[k], zero: self.zero[k] }
    }
}

/// The first value of the largest magnitude, by lane, and that magnitude.
#[inline(always)]
pub(super) fn extreme<const N: usize, const W: usize>(x: &[[f32; W]; N]) -> ([f32; W], [f32; W]) {
    let (mut value, mut magnitude) = ([0.0; W], [0.0; W]);
    for l in 0..N {
        for k in 0..W {
            let x = x[l][k];
            let larger = x.abs() > magnitude[k];
            magnitude[k] = if larger { x.abs() } else { magnitude[k] };
            value[k] = if larger { x } else { value[k] };
        }
    }
    (value, magnitude)
}

/// The search over `N` elements in each lane.
#[inline(always)]
pub(super) fn search<const N: usize, const W: usize>(
    x: &[[f32; W]; N],
    w: &[[f32; W]; N],
    half: i32,
) -> Symmetric<W> {
    let (max, magnitude) = extreme(x);
    let mut wx = [[0.0; W]; N];
    for l in 0..N {
        for k in 0..W {
            wx[l][k] = w[l][k] * x[l][k];
        }
    }
    let (mut scale, mut best, mut inverse, mut zero) = ([0.0; W], [0.0; W], [0.0; W], [false; W]);
    for k in 0..W {
        inverse[k] = -half as f32 / max[k];
        zero[k] = magnitude[k] < EPSILON;
    }
    let (sum_lx, sum_l2) = sums(x, w, &wx, &inverse, half);
    for k in 0..W {
        scale[k] = if sum_l2[k] != 0.0 { sum_lx[k] / sum_l2[k] } else { 0.0 };
        best[k] = scale[k] * sum_lx[k];
    }
    for step in (-9..=9).filter(|step| *step != 0) {
        let factor = -(half as f32 + 0.1 * step as f32);
        let mut try_inverse = [0.0; W];
        for k in 0..W {
            try_inverse[k] = factor / max[k];
        }
        let (sum_lx, sum_l2) = sums(x, w, &wx, &try_inverse, half);
        for k in 0..W {
            let better = (sum_l2[k] > 0.0) & (sum_lx[k] * sum_lx[k] > best[k] * sum_l2[k]);
            let try_scale = sum_lx[k] / sum_l2[k];
            scale[k] = if better { try_scale } else { scale[k] };
            best[k] = if better { try_scale * sum_lx[k] } else { best[k] };
            inverse[k] = if better { try_inverse[k] } else { inverse[k] };
        }
    }
    for k in 0..W {
        scale[k] = if zero[k] { 0.0 } else { scale[k] };
    }
    Symmetric { scale, inverse, zero }
}

#[inline(always)]
fn sums<const N: usize, const W: usize>(
    x: &[[f32; W]; N],
    w: &[[f32; W]; N],
    wx: &[[f32; W]; N],
    inverse: &[f32; W],
    half: i32,
) -> ([f32; W], [f32; W]) {
    let (mut sum_lx, mut sum_l2) = ([0.0; W], [0.0; W]);
    for l in 0..N {
        for k in 0..W {
            let code = nearest(inverse[k] * x[l][k]).min(half - 1).max(-half) as f32;
            sum_lx[k] += wx[l][k] * code;
            sum_l2[k] += w[l][k] * code * code;
        }
    }
    (sum_lx, sum_l2)
}

/// What was found for a batch of super-blocks of 16 groups each.
pub(super) struct Found {
    pub(super) scale: [[f32; BATCH]; 16],
    pub(super) weight: [[f32; BATCH]; 16],
    pub(super) pick: [[Pick; 16]; BATCH],
}

/// Searches all groups of a batch.
#[inline(always)]
pub(super) fn find(groups: &[[[u8; 4]; 16]], half: i32, rule: &impl Weigh<16>) -> Found {
    let mut found =
        Found { scale: [[0.0; BATCH]; 16], weight: [[0.0; BATCH]; 16], pick: [[Pick::default(); 16]; BATCH] };
    let (mut x, mut w) = ([[0.0; LANES]; 16], [[0.0; LANES]; 16]);
    for start in (0..groups.len().min(BATCH * 16)).step_by(LANES) {
        to_lanes(&groups[start..], &mut x);
        rule.weigh(start, &x, &mut w);
        let lanes = search(&x, &w, half);
        let mut weight: Lane = [0.0; LANES];
        for l in 0..16 {
            for k in 0..LANES {
                weight[k] += w[l][k];
            }
        }
        for k in 0..LANES.min(BATCH * 16 - start) {
            let (block, group) = ((start + k) / 16, (start + k) % 16);
            found.scale[group][block] = lanes.scale[k];
            found.weight[group][block] = weight[k];
            found.pick[block][group] = lanes.pick(k);
        }
    }
    found
}
