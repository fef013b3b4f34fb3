//! iq4_nl and iq4_xs: codes of 4 bits name one of 16 uneven values; groups of 32 with an f16 scale each, or
//! super-blocks of 8 of them with a signed scale of 6 bits each (ggml, `block_iq4_nl` and `block_iq4_xs` in
//! ggml-common.h).

use super::lanes::{BATCH, LANES, SUPER_BYTES, floor, groups, half, nearest, to_lanes};
use super::symmetric::{EPSILON, extreme};
use super::weigh::{ImportanceAndSize, Row, Square, Weigh, by_size, squares};
use super::{SUPER, legacy};

const GROUP: usize = 32;
const GROUPS: usize = SUPER / GROUP;
const NL_BYTES: usize = 2 + GROUP / 2;
const XS_BYTES: usize = 2 + 2 + GROUPS / 2 + SUPER / 2;
/// Scales are tried from this many below to this many above the one that gives the extreme the first value.
const TRIES: i32 = 7;

/// The values, in ggml `kvalues_iq4nl`.
const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The code of every half of an integer from the first value to the last, and up to the next one: values change hands
/// midway, and all that lies midway is a half of an integer.
const CODES: [u8; 512] = {
    let mut codes = [15; 512];
    let mut at = 0;
    while at <= 2 * (VALUES[15] as i32 - VALUES[0] as i32) {
        let mut code = 0;
        while code < 15 && at + 2 * VALUES[0] as i32 >= VALUES[code] as i32 + VALUES[code + 1] as i32 {
            code += 1;
        }
        codes[at as usize] = code as u8;
        at += 1;
    }
    codes
};

/// The values of [`CODES`].
const NEAREST: [f32; 512] = {
    let mut values = [0.0; 512];
    let mut at = 0;
    while at < 512 {
        values[at] = VALUES[CODES[at] as usize] as f32;
        at += 1;
    }
    values
};

type Groups = [[f32; LANES]; GROUP];

/// Where the nearest value to `x` stands in the tables, the greater of two; NaN gets the last one.
#[inline(always)]
fn place(x: f32) -> usize {
    let (first, last) = (f32::from(VALUES[0]), f32::from(VALUES[15]));
    let x = if x < last { x } else { last };
    let x = if x > first { x } else { first };
    (floor(x + x) - 2 * i32::from(VALUES[0])) as usize & 511
}

/// The code of the nearest value.
#[inline(always)]
pub(super) fn code(x: f32) -> u8 {
    CODES[place(x)]
}

/// The scale of each lane; `quantize_row_iq4_nl_impl` of ggml-quants.c, up to the scales of super-blocks.
#[inline(always)]
fn search(x: &Groups, w: &Groups) -> [f32; LANES] {
    let (max, magnitude) = extreme(x);
    let (mut scale, mut best, mut inverse) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for k in 0..LANES {
        inverse[k] = 1.0 / (-max[k] / f32::from(VALUES[0]));
    }
    let (sum_qx, sum_q2) = sums(x, w, &inverse);
    for k in 0..LANES {
        scale[k] = if sum_q2[k] > 0.0 { sum_qx[k] / sum_q2[k] } else { 0.0 };
        best[k] = scale[k] * sum_qx[k];
    }
    for step in -TRIES..=TRIES {
        for k in 0..LANES {
            inverse[k] = (step + i32::from(VALUES[0])) as f32 / max[k];
        }
        let (sum_qx, sum_q2) = sums(x, w, &inverse);
        for k in 0..LANES {
            let better = (sum_q2[k] > 0.0) & (sum_qx[k] * sum_qx[k] > best[k] * sum_q2[k]);
            let try_scale = sum_qx[k] / sum_q2[k];
            scale[k] = if better { try_scale } else { scale[k] };
            best[k] = if better { try_scale * sum_qx[k] } else { best[k] };
        }
    }
    for k in 0..LANES {
        scale[k] = if magnitude[k] < EPSILON { 0.0 } else { scale[k] };
    }
    scale
}

#[inline(always)]
fn sums(x: &Groups, w: &Groups, inverse: &[f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    let (mut sum_qx, mut sum_q2) = ([0.0; LANES], [0.0; LANES]);
    for l in 0..GROUP {
        for k in 0..LANES {
            let value = NEAREST[place(inverse[k] * x[l][k])];
            let weighted = w[l][k] * value;
            sum_qx[k] += weighted * x[l][k];
            sum_q2[k] += weighted * value;
        }
    }
    (sum_qx, sum_q2)
}

/// The codes of a group by the inverse of its scale, two to a byte, the second half in the high bits.
#[inline(always)]
fn write_codes(floats: &[[u8; 4]; GROUP], inverse: f32, bytes: &mut [u8]) {
    let mut codes = [0; GROUP];
    for l in 0..GROUP {
        codes[l] = code(inverse * f32::from_le_bytes(floats[l]));
    }
    for (l, byte) in bytes.iter_mut().enumerate().take(GROUP / 2) {
        *byte = codes[l] | codes[l + GROUP / 2] << 4;
    }
}

#[inline(always)]
fn invert(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

per_cpu! {
    /// As `quantize_iq4_nl` without weights.
    pub(super) fn quantize_nl(src: &[u8], dst: &mut [u8]) {
        let (mut x, mut w) = ([[0.0; LANES]; GROUP], [[0.0; LANES]; GROUP]);
        let blocks = dst.as_chunks_mut::<NL_BYTES>().0.chunks_mut(LANES);
        for (groups, blocks) in groups::<GROUP>(src).chunks(LANES).zip(blocks) {
            to_lanes(groups, &mut x);
            Square.weigh(0, &x, &mut w);
            finish_nl(groups, &search(&x, &w), blocks);
        }
    }
}

per_cpu! {
    /// As `quantize_iq4_nl` with weights.
    pub(super) fn quantize_nl_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        let row = groups::<GROUP>(weights);
        if row.is_empty() {
            return;
        }
        let (mut x, mut w) = ([[0.0; LANES]; GROUP], [[0.0; LANES]; GROUP]);
        let blocks = dst.as_chunks_mut::<NL_BYTES>().0.chunks_mut(LANES);
        for (run, (groups, blocks)) in groups::<GROUP>(src).chunks(LANES).zip(blocks).enumerate() {
            to_lanes(groups, &mut x);
            legacy::row_to_lanes(row, run * LANES, &mut w);
            let mut variance = [0.0; LANES];
            for l in 0..GROUP {
                for k in 0..LANES {
                    variance[k] += x[l][k] * x[l][k];
                }
            }
            by_size(&x, &mut w, &variance.map(|sum| sum * (2.0 / GROUP as f32)));
            finish_nl(groups, &search(&x, &w), blocks);
        }
    }
}

#[inline(always)]
fn finish_nl(groups: &[[[u8; 4]; GROUP]], scales: &[f32; LANES], blocks: &mut [[u8; NL_BYTES]]) {
    for ((floats, scale), block) in groups.iter().zip(scales).zip(blocks) {
        let (d, bytes) = block.split_at_mut(2);
        d.copy_from_slice(&half(*scale).to_le_bytes());
        write_codes(floats, invert(*scale), bytes);
    }
}

per_cpu! {
    /// As `quantize_iq4_xs` without weights.
    pub(super) fn quantize_xs(src: &[u8], dst: &mut [u8]) {
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<XS_BYTES>().0.chunks_mut(BATCH)) {
            let scales = find_xs(groups(supers.as_flattened()), &Square);
            for ((floats, scales), block) in supers.iter().zip(&scales).zip(blocks) {
                finish_xs(floats, scales, block);
            }
        }
    }
}

per_cpu! {
    /// As `quantize_iq4_xs` with weights.
    pub(super) fn quantize_xs_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        let Some(mut row) = Row::new(weights) else { return };
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<XS_BYTES>().0.chunks_mut(BATCH)) {
            let variance = squares(supers).map(|sum| sum * (2.0 / SUPER as f32));
            let rule = ImportanceAndSize { importance: row.take(supers.len()), variance };
            let scales = find_xs(groups(supers.as_flattened()), &rule);
            for ((floats, scales), block) in supers.iter().zip(&scales).zip(blocks) {
                finish_xs(floats, scales, block);
            }
        }
    }
}

#[inline(always)]
fn find_xs(groups: &[[[u8; 4]; GROUP]], rule: &impl Weigh<GROUP>) -> [[f32; GROUPS]; BATCH] {
    let mut scales = [[0.0; GROUPS]; BATCH];
    let (mut x, mut w) = ([[0.0; LANES]; GROUP], [[0.0; LANES]; GROUP]);
    let runs = scales.as_flattened_mut().as_chunks_mut::<LANES>().0;
    for (run, (groups, scales)) in groups.chunks(LANES).zip(runs).enumerate() {
        to_lanes(groups, &mut x);
        rule.weigh(run * LANES, &x, &mut w);
        *scales = search(&x, &w);
    }
    scales
}

#[inline(always)]
fn finish_xs(floats: &[u8; SUPER_BYTES], scales: &[f32; GROUPS], block: &mut [u8; XS_BYTES]) {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for scale in scales {
        if scale.abs() > magnitude {
            (largest, magnitude) = (*scale, scale.abs());
        }
    }
    let d = -largest / 32.0;
    let (head, bytes) = block.split_at_mut(4 + GROUPS / 2);
    let (mut low, mut high) = ([0; GROUPS / 2], 0u16);
    let inverse = invert(d);
    for (j, (floats, bytes)) in
        groups(floats).iter().zip(bytes.as_chunks_mut::<{ GROUP / 2 }>().0).enumerate()
    {
        let scale = nearest(inverse * scales[j]).clamp(-32, 31);
        write_codes(floats, invert(d * scale as f32), bytes);
        let code = (scale + 32) as u8;
        low[j / 2] |= (code & 15) << (4 * (j % 2));
        high |= u16::from(code >> 4) << (2 * j);
    }
    head[..2].copy_from_slice(&half(d).to_le_bytes());
    head[2..4].copy_from_slice(&high.to_le_bytes());
    head[4..].copy_from_slice(&low);
}
