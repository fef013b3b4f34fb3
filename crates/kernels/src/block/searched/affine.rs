//! The search for a scale and a minimum: `x` is about `scale * code - min`, code from 0.
//!
//! `make_qkx2_quants` and `make_qkx3_quants` of ggml-quants.c. The two differ in one thing: since October 2026 the
//! latter, which the weighted quantizers use, cuts values to the range of codes before it rounds them in a try.
//! That matters where rounding is nonsense: for an element beyond 2^22 steps, which no weight keeps in range.

use super::lanes::{BATCH, LANES, nearest, round, to_lanes};
use super::weigh::Weigh;

type Lane = [f32; LANES];

/// Which scales are tried.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// The largest code.
    pub(super) top: i32,
    /// Added to the largest code in the first try, and what is added from try to try.
    pub(super) first: f32,
    pub(super) delta: f32,
    /// The number of the last try; the first one is 0.
    pub(super) last: i32,
    /// Whether errors count, not their squares.
    pub(super) absolute: bool,
    /// Whether tries cut values to the range of codes before they round them.
    pub(super) cut: bool,
}

impl Steps {
    /// The tries of all weighted searches.
    pub(super) const fn weighted(top: i32) -> Steps {
        Steps { top, first: -0.9, delta: 0.05, last: 36, absolute: false, cut: true }
    }
}

/// How the codes of a group were made: the nearest integer to `inverse * (x - min)`.
#[derive(Clone, Copy, Default)]
pub(super) struct Pick {
    inverse: f32,
    min: f32,
    cut: bool,
}

impl Pick {
    /// The code of `x`, from 0 to `top`.
    #[inline(always)]
    pub(super) fn code(self, x: f32, top: i32) -> u8 {
        code(self.inverse * (x - self.min), top, self.cut) as u8
    }
}

/// The code next to `x`.
#[inline(always)]
fn code(x: f32, top: i32, cut: bool) -> f32 {
    if cut {
        // NaN becomes 0.
        let x = if x > 0.0 { x } else { 0.0 };
        round(if x < top as f32 { x } else { top as f32 })
    } else {
        nearest(x).min(top).max(0) as f32
    }
}

/// What was found, by lane.
pub(super) struct Affine {
    pub(super) scale: Lane,
    /// What is to be subtracted: at least zero, for codes must be able to say zero.
    pub(super) min: Lane,
    pub(super) weight: Lane,
    inverse: Lane,
    from: Lane,
    cut: [bool; LANES],
}

impl Affine {
    /// How lane `k` makes its codes.
    #[inline(always)]
    pub(super) fn pick(&self, k: usize) -> Pick {
        Pick { inverse: self.inverse[k], min: self.from[k], cut: self.cut[k] }
    }
}

/// The search over `N` elements in each lane.
#[inline(always)]
pub(super) fn search<const N: usize>(x: &[Lane; N], w: &[Lane; N], steps: Steps) -> Affine {
    let (mut min, mut max, mut sum_w, mut sum_x) = (x[0], x[0], w[0], [0.0; LANES]);
    for k in 0..LANES {
        sum_x[k] = w[0][k] * x[0][k];
    }
    for l in 1..N {
        for k in 0..LANES {
            let (x, w) = (x[l][k], w[l][k]);
            min[k] = if x < min[k] { x } else { min[k] };
            max[k] = if x > max[k] { x } else { max[k] };
            sum_w[k] += w;
            sum_x[k] += w * x;
        }
    }
    let (mut scale, mut inverse, mut from) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    let (mut flat, mut cut) = ([false; LANES], [false; LANES]);
    for k in 0..LANES {
        min[k] = if min[k] > 0.0 { 0.0 } else { min[k] };
        flat[k] = max[k] == min[k];
        inverse[k] = steps.top as f32 / (max[k] - min[k]);
        from[k] = min[k];
        scale[k] = 1.0 / inverse[k];
    }
    let mut codes = [[0.0; LANES]; N];
    for l in 0..N {
        for k in 0..LANES {
            codes[l][k] = code(inverse[k] * (x[l][k] - min[k]), steps.top, false);
        }
    }
    let mut best = error(x, w, &codes, &scale, &min, steps.absolute);

    for step in 0..=steps.last {
        let factor = steps.first + steps.delta * step as f32 + steps.top as f32;
        let mut try_inverse = [0.0; LANES];
        for k in 0..LANES {
            try_inverse[k] = factor / (max[k] - min[k]);
        }
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        for l in 0..N {
            for k in 0..LANES {
                let code = code(try_inverse[k] * (x[l][k] - min[k]), steps.top, steps.cut);
                codes[l][k] = code;
                let weighted = w[l][k] * code;
                sum_l[k] += weighted;
                sum_l2[k] += weighted * code;
                sum_xl[k] += weighted * x[l][k];
            }
        }
        let (mut try_scale, mut try_min, mut solvable) = ([0.0; LANES], [0.0; LANES], [false; LANES]);
        for k in 0..LANES {
            let det = sum_w[k] * sum_l2[k] - sum_l[k] * sum_l[k];
            let solved_scale = (sum_w[k] * sum_xl[k] - sum_x[k] * sum_l[k]) / det;
            let solved_min = (sum_l2[k] * sum_x[k] - sum_l[k] * sum_xl[k]) / det;
            let positive = solved_min > 0.0;
            try_scale[k] = if positive { sum_xl[k] / sum_l2[k] } else { solved_scale };
            try_min[k] = if positive { 0.0 } else { solved_min };
            solvable[k] = det > 0.0;
        }
        let errors = error(x, w, &codes, &try_scale, &try_min, steps.absolute);
        for k in 0..LANES {
            let better = solvable[k] & (errors[k] < best[k]);
            best[k] = if better { errors[k] } else { best[k] };
            scale[k] = if better { try_scale[k] } else { scale[k] };
            inverse[k] = if better { try_inverse[k] } else { inverse[k] };
            from[k] = if better { min[k] } else { from[k] };
            cut[k] |= better & steps.cut;
            min[k] = if better { try_min[k] } else { min[k] };
        }
    }
    for k in 0..LANES {
        scale[k] = if flat[k] { 0.0 } else { scale[k] };
        inverse[k] = if flat[k] { 0.0 } else { inverse[k] };
        from[k] = if flat[k] { 0.0 } else { from[k] };
        min[k] = -min[k];
    }
    Affine { scale, min, weight: sum_w, inverse, from, cut }
}

#[inline(always)]
fn error<const N: usize>(
    x: &[Lane; N],
    w: &[Lane; N],
    codes: &[Lane; N],
    scale: &Lane,
    min: &Lane,
    absolute: bool,
) -> Lane {
    let mut sum = [0.0; LANES];
    for l in 0..N {
        for k in 0..LANES {
            let off = scale[k] * codes[l][k] + min[k] - x[l][k];
            let off = if absolute { off.abs() } else { off * off };
            sum[k] += w[l][k] * off;
        }
    }
    sum
}

/// What was found for a batch of super-blocks of `J` groups each.
pub(super) struct Found<const J: usize> {
    pub(super) scale: [[f32; BATCH]; J],
    pub(super) min: [[f32; BATCH]; J],
    pub(super) weight: [[f32; BATCH]; J],
    pub(super) pick: [[Pick; J]; BATCH],
}

/// Searches all groups of a batch.
#[inline(always)]
pub(super) fn find<const N: usize, const J: usize>(
    groups: &[[[u8; 4]; N]],
    steps: Steps,
    rule: &impl Weigh<N>,
) -> Found<J> {
    let mut found = Found {
        scale: [[0.0; BATCH]; J],
        min: [[0.0; BATCH]; J],
        weight: [[0.0; BATCH]; J],
        pick: [[Pick::default(); J]; BATCH],
    };
    let (mut x, mut w) = ([[0.0; LANES]; N], [[0.0; LANES]; N]);
    for start in (0..groups.len().min(BATCH * J)).step_by(LANES) {
        to_lanes(&groups[start..], &mut x);
        rule.weigh(start, &x, &mut w);
        let lanes = search(&x, &w, steps);
        for k in 0..LANES.min(BATCH * J - start) {
            let (block, group) = ((start + k) / J, (start + k) % J);
            found.scale[group][block] = lanes.scale[k];
            found.min[group][block] = lanes.min[k];
            found.weight[group][block] = lanes.weight[k];
            found.pick[block][group] = lanes.pick(k);
        }
    }
    found
}
