//! ggml's searches for one group, value by value; names as in ggml-quants.c.

/// The nearest integer by the trick with 1.5 * 2^23.
pub(super) fn nearest_int(x: f32) -> i32 {
    let bits = (x + 12_582_912.0).to_bits() as i32;
    (bits & 0x007f_ffff) - 0x0040_0000
}

fn clamp(value: i32, low: i32, high: i32) -> i32 {
    let value = if value < high { value } else { high };
    if low > value { low } else { value }
}

fn largest(x: &[f32]) -> (f32, f32) {
    let (mut max, mut magnitude) = (0.0, 0.0);
    for x in x {
        if x.abs() > magnitude {
            magnitude = x.abs();
            max = *x;
        }
    }
    (max, magnitude)
}

/// Scale and codes.
pub(super) fn make_qx_quants(nmax: i32, x: &[f32], w: &[f32]) -> (f32, Vec<i32>) {
    let (max, magnitude) = largest(x);
    if magnitude < 1e-15 {
        return (0.0, vec![0; x.len()]);
    }
    let code = |inverse: f32, x: f32| clamp(nearest_int(inverse * x), -nmax, nmax - 1);
    let sums = |inverse: f32| {
        let (mut lx, mut l2) = (0.0, 0.0);
        for (x, w) in x.iter().zip(w) {
            let l = code(inverse, *x) as f32;
            lx += w * x * l;
            l2 += w * l * l;
        }
        (lx, l2)
    };
    let mut picked = -nmax as f32 / max;
    let (lx, l2): (f32, f32) = sums(picked);
    let mut scale = if l2 != 0.0 { lx / l2 } else { 0.0 };
    let mut best = scale * lx;
    for step in -9..=9 {
        if step == 0 {
            continue;
        }
        let inverse = -(nmax as f32 + 0.1 * step as f32) / max;
        let (lx, l2) = sums(inverse);
        if l2 > 0.0 && lx * lx > best * l2 {
            picked = inverse;
            scale = lx / l2;
            best = scale * lx;
        }
    }
    (scale, x.iter().map(|x| nmax + code(picked, *x)).collect())
}

/// Scale and codes of a group of q3_k.
pub(super) fn make_q3_quants(x: &[f32]) -> (f32, Vec<i32>) {
    const NMAX: i32 = 4;
    let (max, magnitude) = largest(x);
    if magnitude < 1e-15 {
        return (0.0, vec![0; x.len()]);
    }
    let inverse = -NMAX as f32 / max;
    let (mut lx, mut l2) = (0.0, 0.0);
    let mut codes = Vec::new();
    for x in x {
        let l = clamp(nearest_int(inverse * x), -NMAX, NMAX - 1);
        codes.push(l);
        let w = x * x;
        lx += w * x * l as f32;
        l2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut n_changed = 0;
        for (x, code) in x.iter().zip(&mut codes) {
            let w = x * x;
            let old = *code as f32;
            let mut slx: f32 = lx - w * x * old;
            if slx > 0.0 {
                let mut sl2: f32 = l2 - w * old * old;
                let new = clamp(nearest_int(x * sl2 / slx), -NMAX, NMAX - 1);
                if new != *code {
                    slx += w * x * new as f32;
                    sl2 += w * new as f32 * new as f32;
                    if sl2 > 0.0 && slx * slx * l2 > lx * lx * sl2 {
                        *code = new;
                        lx = slx;
                        l2 = sl2;
                        n_changed += 1;
                    }
                }
            }
        }
        if n_changed == 0 {
            break;
        }
    }
    (if l2 > 0.0 { lx / l2 } else { 0.0 }, codes.iter().map(|code| code + NMAX).collect())
}

/// Scale, minimum (to be subtracted) and codes: `make_qkx2_quants`; `make_qkx3_quants` if it is to `cut`.
pub(super) fn make_qkx_quants(
    nmax: i32,
    x: &[f32],
    w: &[f32],
    (rmin, rdelta, nstep): (f32, f32, i32),
    use_mad: bool,
    cut: bool,
) -> (f32, f32, Vec<i32>) {
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = sum_w * x[0];
    for (x, w) in x.iter().zip(w).skip(1) {
        if *x < min {
            min = *x;
        }
        if *x > max {
            max = *x;
        }
        sum_w += w;
        sum_x += w * x;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max == min {
        return (0.0, -min, vec![0; x.len()]);
    }
    let error = |scale: f32, min: f32, codes: &[i32]| {
        let mut sum = 0.0;
        for ((x, w), code) in x.iter().zip(w).zip(codes) {
            let diff = scale * *code as f32 + min - x;
            let diff = if use_mad { diff.abs() } else { diff * diff };
            sum += w * diff;
        }
        sum
    };
    let quantize = |inverse: f32, min: f32| -> Vec<i32> {
        x.iter().map(|x| clamp(nearest_int(inverse * (x - min)), 0, nmax)).collect()
    };
    let inverse = nmax as f32 / (max - min);
    let mut scale = 1.0 / inverse;
    let mut codes = quantize(inverse, min);
    let mut best: f32 = error(scale, min, &codes);
    for step in 0..=nstep {
        let inverse = (rmin + rdelta * step as f32 + nmax as f32) / (max - min);
        let tried = if cut {
            let cut = |x: f32| if x > 0.0 { if x < nmax as f32 { x } else { nmax as f32 } } else { 0.0 };
            x.iter().map(|x| nearest_int(cut(inverse * (x - min)))).collect()
        } else {
            quantize(inverse, min)
        };
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((x, w), code) in x.iter().zip(w).zip(&tried) {
            let l = *code as f32;
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        }
        let det = sum_w * sum_l2 - sum_l * sum_l;
        if det > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / det;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / det;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let error = error(this_scale, this_min, &tried);
            if error < best {
                codes = tried;
                best = error;
                scale = this_scale;
                min = this_min;
            }
        }
    }
    (scale, -min, codes)
}

/// Scale and codes of values from 0.
pub(super) fn make_qp_quants(nmax: i32, x: &[f32], w: &[f32]) -> (f32, Vec<u8>) {
    let mut max = 0.0;
    for x in x {
        max = if max > *x { max } else { *x };
    }
    if max < 1e-15 {
        return (0.0, vec![0; x.len()]);
    }
    let mut inverse = nmax as f32 / max;
    let scale = 1.0 / inverse;
    let mut best = 0.0;
    for (x, w) in x.iter().zip(w) {
        let diff = x - scale * f32::from(nearest_int(inverse * x) as u8);
        best += w * diff * diff;
    }
    for step in -4..=4 {
        if step == 0 {
            continue;
        }
        let this_inverse = (0.1 * step as f32 + nmax as f32) / max;
        let this_scale = 1.0 / this_inverse;
        let mut error = 0.0;
        for (x, w) in x.iter().zip(w) {
            let diff = x - this_scale * nearest_int(this_inverse * x).min(nmax) as f32;
            error += w * diff * diff;
        }
        if error < best {
            best = error;
            inverse = this_inverse;
        }
    }
    let (mut lx, mut l2) = (0.0, 0.0);
    let mut codes = Vec::new();
    for (x, w) in x.iter().zip(w) {
        let l = nearest_int(inverse * x).min(nmax);
        codes.push(l as u8);
        lx += w * x * l as f32;
        l2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut n_changed = 0;
        for ((x, w), code) in x.iter().zip(w).zip(&mut codes) {
            let old = f32::from(*code);
            let mut slx: f32 = lx - w * x * old;
            let mut sl2: f32 = l2 - w * old * old;
            if slx > 0.0 && sl2 > 0.0 {
                let new = nearest_int(x * sl2 / slx).min(nmax);
                if new != i32::from(*code) {
                    slx += w * x * new as f32;
                    sl2 += w * new as f32 * new as f32;
                    if slx * slx * l2 > lx * lx * sl2 {
                        *code = new as u8;
                        lx = slx;
                        l2 = sl2;
                        n_changed += 1;
                    }
                }
            }
        }
        if n_changed == 0 {
            break;
        }
    }
    (if l2 > 0.0 { lx / l2 } else { 0.0 }, codes)
}

pub(super) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `best_index_int8`.
pub(super) fn best_index(x: f32) -> usize {
    let value = |at: usize| f32::from(VALUES[at]);
    if x <= value(0) {
        return 0;
    }
    if x >= value(15) {
        return 15;
    }
    let (mut low, mut high) = (0, 15);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if x < value(middle) { high = middle } else { low = middle }
    }
    if x - value(high - 1) < value(high) - x { high - 1 } else { high }
}

/// The scale of one group of `quantize_row_iq4_nl_impl`.
pub(super) fn iq4_scale(x: &[f32], w: &[f32]) -> f32 {
    let (max, magnitude) = largest(x);
    if magnitude < 1e-15 {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut qx, mut q2) = (0.0, 0.0);
        for (x, w) in x.iter().zip(w) {
            let q = f32::from(VALUES[best_index(inverse * x)]);
            qx += w * q * x;
            q2 += w * q * q;
        }
        (qx, q2)
    };
    let (qx, q2): (f32, f32) = sums(1.0 / (-max / f32::from(VALUES[0])));
    let mut d = if q2 > 0.0 { qx / q2 } else { 0.0 };
    let mut best = d * qx;
    for step in -7..=7 {
        let (qx, q2) = sums((step + i32::from(VALUES[0])) as f32 / max);
        if q2 > 0.0 && qx * qx > best * q2 {
            d = qx / q2;
            best = d * qx;
        }
    }
    d
}
