//! q4_k and q5_k: super-blocks of 8 groups of 32; scale and minimum of a group have 6 bits each (ggml,
//! `block_q4_K` and `block_q5_K` in ggml-common.h).

use super::SUPER;
use super::affine::{self, Found, Pick, Steps};
use super::descent;
use super::lanes::{BATCH, SUPER_BYTES, groups, half, nearest, unhalf};
use super::weigh::{ImportanceAndSize, MeanAndMagnitude, Row, squares};

const GROUP: usize = 32;
const GROUPS: usize = SUPER / GROUP;
/// Scale, minimum, and the scales and minima of the groups.
const HEAD: usize = 4 + 12;
const Q4_BYTES: usize = HEAD + SUPER / 2;
const Q5_BYTES: usize = HEAD + SUPER / 8 + SUPER / 2;

per_cpu! {
    /// As `quantize_row_q4_K_ref`.
    pub(super) fn quantize_q4(src: &[u8], dst: &mut [u8]) {
        let steps = Steps { top: 15, first: -1.0, delta: 0.1, last: 20, absolute: false, cut: false };
        plain::<Q4_BYTES>(src, dst, steps, pack4);
    }
}

per_cpu! {
    /// As `quantize_q4_K` with weights.
    pub(super) fn quantize_q4_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        weighted::<Q4_BYTES>(src, weights, dst, 15, u8::MAX, pack4);
    }
}

per_cpu! {
    /// As `quantize_row_q5_K_ref`.
    pub(super) fn quantize_q5(src: &[u8], dst: &mut [u8]) {
        let steps = Steps { top: 31, first: -0.5, delta: 0.1, last: 15, absolute: false, cut: false };
        plain::<Q5_BYTES>(src, dst, steps, pack5);
    }
}

per_cpu! {
    /// As `quantize_q5_K` with weights.
    pub(super) fn quantize_q5_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        weighted::<Q5_BYTES>(src, weights, dst, 31, 63, pack5);
    }
}

#[inline(always)]
fn plain<const BYTES: usize>(
    src: &[u8],
    dst: &mut [u8],
    steps: Steps,
    pack: impl Fn(&[u8; SUPER], &mut [u8]),
) {
    let supers = src.as_chunks::<SUPER_BYTES>().0;
    for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
        let found: Found<GROUPS> =
            affine::find::<GROUP, GROUPS>(groups(supers.as_flattened()), steps, &MeanAndMagnitude);
        for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
            let (mut max_scale, mut max_min) = (0.0, 0.0);
            for j in 0..GROUPS {
                max_scale = if found.scale[j][b] > max_scale { found.scale[j][b] } else { max_scale };
                max_min = if found.min[j][b] > max_min { found.min[j][b] } else { max_min };
            }
            let inverse = if max_scale > 0.0 { 63.0 / max_scale } else { 0.0 };
            let inverse_min = if max_min > 0.0 { 63.0 / max_min } else { 0.0 };
            let (mut scales, mut mins) = ([0; GROUPS], [0; GROUPS]);
            for j in 0..GROUPS {
                scales[j] = (nearest(inverse * found.scale[j][b]) as u8).min(63);
                mins[j] = (nearest(inverse_min * found.min[j][b]) as u8).min(63);
            }
            let (d, min) = (half(max_scale / 63.0), half(max_min / 63.0));
            let (head, body) = block.split_at_mut(HEAD);
            write_head(head, d, min, scales, mins);
            pack(&codes(floats, head, &found.pick[b], steps.top), body);
        }
    }
}

#[inline(always)]
fn weighted<const BYTES: usize>(
    src: &[u8],
    weights: &[u8],
    dst: &mut [u8],
    top: i32,
    most: u8,
    pack: impl Fn(&[u8; SUPER], &mut [u8]),
) {
    let Some(mut row) = Row::new(weights) else { return };
    let supers = src.as_chunks::<SUPER_BYTES>().0;
    for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
        let variance = squares(supers).map(|sum| 2.0 * sum / SUPER as f32);
        let rule = ImportanceAndSize { importance: row.take(supers.len()), variance };
        let found: Found<GROUPS> =
            affine::find::<GROUP, GROUPS>(groups(supers.as_flattened()), Steps::weighted(top), &rule);
        let (d, scales) = descent::positive(&found.scale, &found.weight, 63);
        let (min, mins) = descent::positive(&found.min, &found.weight, 63);
        for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
            let (head, body) = block.split_at_mut(HEAD);
            let at_most = |codes: [u8; GROUPS]| codes.map(|code| code.min(most));
            write_head(head, half(d[b]), half(min[b]), at_most(scales[b]), at_most(mins[b]));
            pack(&codes(floats, head, &found.pick[b], top), body);
        }
    }
}

/// The low bits of the first four groups' scales and minima have bytes of their own, with room for the upper two bits
/// of the last four.
#[inline(always)]
fn write_head(head: &mut [u8], d: u16, min: u16, scales: [u8; GROUPS], mins: [u8; GROUPS]) {
    head[..2].copy_from_slice(&d.to_le_bytes());
    head[2..4].copy_from_slice(&min.to_le_bytes());
    let packed = &mut head[4..HEAD];
    for j in 0..4 {
        let (scale, min) = (scales[j + 4], mins[j + 4]);
        packed[j] = scales[j] | (scale >> 4) << 6;
        packed[j + 4] = mins[j] | (min >> 4) << 6;
        packed[j + 8] = scale & 15 | min << 4;
    }
}

/// The scale and the minimum of group `j`.
#[inline(always)]
fn read_head(head: &[u8], j: usize) -> (f32, f32) {
    let packed = &head[4..HEAD];
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4, packed[j + 4] >> 4 | (packed[j] >> 6) << 4)
    };
    let d = unhalf(u16::from_le_bytes([head[0], head[1]]));
    let d_min = unhalf(u16::from_le_bytes([head[2], head[3]]));
    (d * f32::from(scale), d_min * f32::from(min))
}

/// The codes for the scales as they were written; those of the search where a scale became zero.
#[inline(always)]
fn codes(floats: &[u8; SUPER_BYTES], head: &[u8], picks: &[Pick; GROUPS], top: i32) -> [u8; SUPER] {
    let mut codes = [0; SUPER];
    for (j, (floats, codes)) in
        groups::<GROUP>(floats).iter().zip(codes.as_chunks_mut::<GROUP>().0).enumerate()
    {
        let (d, min) = read_head(head, j);
        super::affine_codes(floats, codes, d, min, picks[j], top);
    }
    codes
}

#[inline(always)]
fn pack4(codes: &[u8; SUPER], body: &mut [u8]) {
    for (codes, bytes) in codes.as_chunks::<64>().0.iter().zip(body.as_chunks_mut::<32>().0) {
        for l in 0..32 {
            bytes[l] = codes[l] | codes[l + 32] << 4;
        }
    }
}

#[inline(always)]
fn pack5(codes: &[u8; SUPER], body: &mut [u8]) {
    let (high, low) = body.split_at_mut(SUPER / 8);
    high.fill(0);
    for (j, (codes, bytes)) in codes.as_chunks::<64>().0.iter().zip(low.as_chunks_mut::<32>().0).enumerate() {
        for l in 0..32 {
            high[l] |= (codes[l] >> 4 | codes[l + 32] >> 4 << 1) << (2 * j);
            bytes[l] = codes[l] & 15 | codes[l + 32] << 4;
        }
    }
}
