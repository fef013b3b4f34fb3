//! Searches that move one code at a time, while that helps.

use super::lanes::{BATCH, LANES, nearest};
use super::symmetric::{EPSILON, extreme};

type Lane = [f32; LANES];

/// Passes over the codes, at most. A lane in which one pass changed nothing would change nothing in the next, so the
/// lanes need not stop one by one.
const PASSES: usize = 5;

/// The scale of each lane and its codes, from 0 to 7; 0 too in groups that count as zero. `make_q3_quants` of
/// ggml-quants.c.
#[inline(always)]
pub(super) fn signed3(x: &[Lane; 16]) -> (Lane, [Lane; 16]) {
    const HALF: i32 = 4;
    let (max, magnitude) = extreme(x);
    let (mut inverse, mut sum_lx, mut sum_l2) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for k in 0..LANES {
        inverse[k] = -HALF as f32 / max[k];
    }
    let mut codes = [[0.0; LANES]; 16];
    for l in 0..16 {
        for k in 0..LANES {
            let x = x[l][k];
            let code = nearest(inverse[k] * x).clamp(-HALF, HALF - 1) as f32;
            let w = x * x;
            codes[l][k] = code;
            sum_lx[k] += w * x * code;
            sum_l2[k] += w * code * code;
        }
    }
    for _ in 0..PASSES {
        let mut changed = [false; LANES];
        for l in 0..16 {
            for k in 0..LANES {
                let (x, old) = (x[l][k], codes[l][k]);
                let w = x * x;
                let lx = sum_lx[k] - w * x * old;
                let l2 = sum_l2[k] - w * old * old;
                let new = nearest(x * l2 / lx).clamp(-HALF, HALF - 1) as f32;
                let new_lx = lx + w * x * new;
                let new_l2 = l2 + w * new * new;
                let better = new_lx * new_lx * sum_l2[k] > sum_lx[k] * sum_lx[k] * new_l2;
                let take = (lx > 0.0) & (new != old) & (new_l2 > 0.0) & better;
                codes[l][k] = if take { new } else { old };
                sum_lx[k] = if take { new_lx } else { sum_lx[k] };
                sum_l2[k] = if take { new_l2 } else { sum_l2[k] };
                changed[k] |= take;
            }
        }
        if changed == [false; LANES] {
            break;
        }
    }
    let mut scale = [0.0; LANES];
    for k in 0..LANES {
        let zero = magnitude[k] < EPSILON;
        scale[k] = if sum_l2[k] > 0.0 { sum_lx[k] / sum_l2[k] } else { 0.0 };
        scale[k] = if zero { 0.0 } else { scale[k] };
        for codes in &mut codes {
            codes[k] = if zero { 0.0 } else { codes[k] + HALF as f32 };
        }
    }
    (scale, codes)
}

/// The scale of each lane and its codes, from 0 to `top` for values from 0: for scales of super-blocks.
/// `make_qp_quants` of ggml-quants.c.
#[inline(always)]
pub(super) fn positive<const N: usize>(
    x: &[[f32; BATCH]; N],
    w: &[[f32; BATCH]; N],
    top: i32,
) -> ([f32; BATCH], [[u8; N]; BATCH]) {
    let mut max = [0.0; BATCH];
    for l in 0..N {
        for k in 0..BATCH {
            max[k] = if max[k] > x[l][k] { max[k] } else { x[l][k] };
        }
    }
    let (mut inverse, mut best) = ([0.0; BATCH], [0.0; BATCH]);
    for k in 0..BATCH {
        inverse[k] = top as f32 / max[k];
    }
    for l in 0..N {
        for k in 0..BATCH {
            // ggml keeps these codes in bytes, whatever they are.
            let code = (nearest(inverse[k] * x[l][k]) & 0xff) as f32;
            let off = x[l][k] - 1.0 / inverse[k] * code;
            best[k] += w[l][k] * off * off;
        }
    }
    for step in (-4..=4).filter(|step| *step != 0) {
        let (mut try_inverse, mut error) = ([0.0; BATCH], [0.0; BATCH]);
        for k in 0..BATCH {
            try_inverse[k] = (0.1 * step as f32 + top as f32) / max[k];
        }
        for l in 0..N {
            for k in 0..BATCH {
                let code = nearest(try_inverse[k] * x[l][k]).min(top) as f32;
                let off = x[l][k] - 1.0 / try_inverse[k] * code;
                error[k] += w[l][k] * off * off;
            }
        }
        for k in 0..BATCH {
            let better = error[k] < best[k];
            best[k] = if better { error[k] } else { best[k] };
            inverse[k] = if better { try_inverse[k] } else { inverse[k] };
        }
    }
    let (mut sum_lx, mut sum_l2) = ([0.0; BATCH], [0.0; BATCH]);
    let mut codes = [[0; BATCH]; N];
    for l in 0..N {
        for k in 0..BATCH {
            let code = nearest(inverse[k] * x[l][k]).min(top);
            codes[l][k] = code & 0xff;
            sum_lx[k] += w[l][k] * x[l][k] * code as f32;
            sum_l2[k] += w[l][k] * code as f32 * code as f32;
        }
    }
    for _ in 0..PASSES {
        let mut changed = [false; BATCH];
        for l in 0..N {
            for k in 0..BATCH {
                let (x, w, old) = (x[l][k], w[l][k], codes[l][k]);
                let lx = sum_lx[k] - w * x * old as f32;
                let l2 = sum_l2[k] - w * old as f32 * old as f32;
                let new = nearest(x * l2 / lx).min(top);
                let new_lx = lx + w * x * new as f32;
                let new_l2 = l2 + w * new as f32 * new as f32;
                let better = new_lx * new_lx * sum_l2[k] > sum_lx[k] * sum_lx[k] * new_l2;
                let take = (lx > 0.0) & (l2 > 0.0) & (new != old) & better;
                codes[l][k] = if take { new & 0xff } else { old };
                sum_lx[k] = if take { new_lx } else { sum_lx[k] };
                sum_l2[k] = if take { new_l2 } else { sum_l2[k] };
                changed[k] |= take;
            }
        }
        if changed == [false; BATCH] {
            break;
        }
    }
    let (mut scale, mut bytes) = ([0.0; BATCH], [[0; N]; BATCH]);
    for k in 0..BATCH {
        let zero = max[k] < EPSILON;
        scale[k] = if sum_l2[k] > 0.0 { sum_lx[k] / sum_l2[k] } else { 0.0 };
        scale[k] = if zero { 0.0 } else { scale[k] };
        for l in 0..N {
            bytes[k][l] = if zero { 0 } else { codes[l][k] as u8 };
        }
    }
    (scale, bytes)
}
