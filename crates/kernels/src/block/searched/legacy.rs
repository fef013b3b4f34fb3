//! q4_0, q4_1, q5_0 and q5_1 with importance weights: blocks of 32 elements, one scale or a scale and a minimum (ggml,
//! `block_q4_0` and so on in ggml-common.h). How much sizes count is a matter of the whole row.

use super::affine::{self, Steps};
use super::lanes::{LANES, groups, half, to_lanes};
use super::symmetric;
use super::weigh::by_size;

const GROUP: usize = 32;
/// Rows whose sums are made at once.
const ROWS: usize = 16;

type Groups = [[f32; LANES]; GROUP];

/// One of the four types.
#[derive(Clone, Copy)]
struct Kind {
    bits: u32,
    has_min: bool,
}

per_cpu! {
    /// As `quantize_q4_0` with weights.
    pub(super) fn quantize_q4_0(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        quantize::<18>(Kind { bits: 4, has_min: false }, src, row, weights, dst);
    }
}

per_cpu! {
    /// As `quantize_q4_1` with weights.
    pub(super) fn quantize_q4_1(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        quantize::<20>(Kind { bits: 4, has_min: true }, src, row, weights, dst);
    }
}

per_cpu! {
    /// As `quantize_q5_0` with weights.
    pub(super) fn quantize_q5_0(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        quantize::<22>(Kind { bits: 5, has_min: false }, src, row, weights, dst);
    }
}

per_cpu! {
    /// As `quantize_q5_1` with weights.
    pub(super) fn quantize_q5_1(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        quantize::<24>(Kind { bits: 5, has_min: true }, src, row, weights, dst);
    }
}

#[inline(always)]
fn quantize<const BYTES: usize>(kind: Kind, src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
    debug_assert_eq!(weights.len(), 4 * row);
    let importance = groups::<GROUP>(weights);
    let per_row = importance.len();
    if per_row == 0 {
        return;
    }
    let (mut x, mut w) = ([[0.0; LANES]; GROUP], [[0.0; LANES]; GROUP]);
    let blocks = dst.as_chunks_mut::<BYTES>().0.chunks_mut(ROWS * per_row);
    for (rows, blocks) in groups::<GROUP>(src).chunks(ROWS * per_row).zip(blocks) {
        let sums = squares(rows, per_row);
        for (run, (groups, blocks)) in rows.chunks(LANES).zip(blocks.chunks_mut(LANES)).enumerate() {
            let mut variance = [0.0; LANES];
            for k in 0..LANES {
                variance[k] = sums[((run * LANES + k) / per_row).min(ROWS - 1)] / row as f32;
            }
            to_lanes(groups, &mut x);
            row_to_lanes(importance, run * LANES, &mut w);
            by_size(&x, &mut w, &variance);
            if kind.has_min {
                with_min(kind, groups, &x, &w, blocks);
            } else {
                without_min(kind, groups, &x, &w, blocks);
            }
        }
    }
}

/// The sum of squares of each row, added up from its first element to its last.
#[inline(always)]
fn squares(rows: &[[[u8; 4]; GROUP]], per_row: usize) -> [f32; ROWS] {
    let mut sums = [0.0; ROWS];
    for at in 0..per_row {
        for l in 0..GROUP {
            // Side by side, for each sum waits for its last addition.
            for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(per_row)) {
                let x = f32::from_le_bytes(row[at][l]);
                *sum += x * x;
            }
        }
    }
    sums
}

/// The weights of the groups from the given one on, in lanes; the row starts anew after its last.
#[inline(always)]
pub(super) fn row_to_lanes(row: &[[[u8; 4]; GROUP]], first: usize, lanes: &mut Groups) {
    let mut at = first % row.len();
    for k in 0..LANES {
        for l in 0..GROUP {
            lanes[l][k] = f32::from_le_bytes(row[at][l]);
        }
        at = if at + 1 == row.len() { 0 } else { at + 1 };
    }
}

#[inline(always)]
fn without_min<const BYTES: usize>(
    kind: Kind,
    groups: &[[[u8; 4]; GROUP]],
    x: &Groups,
    w: &Groups,
    blocks: &mut [[u8; BYTES]],
) {
    let middle = 1 << (kind.bits - 1);
    let found = symmetric::search(x, w, middle);
    for (k, (floats, block)) in groups.iter().zip(blocks).enumerate() {
        let (pick, mut codes) = (found.pick(k), [0; GROUP]);
        for l in 0..GROUP {
            codes[l] = pick.code(f32::from_le_bytes(floats[l]), middle);
        }
        block[..2].copy_from_slice(&half(found.scale[k]).to_le_bytes());
        pack(kind, &codes, &mut block[2..]);
    }
}

#[inline(always)]
fn with_min<const BYTES: usize>(
    kind: Kind,
    groups: &[[[u8; 4]; GROUP]],
    x: &Groups,
    w: &Groups,
    blocks: &mut [[u8; BYTES]],
) {
    let top = (1 << kind.bits) - 1;
    let found = affine::search(x, w, Steps::weighted(top));
    for (k, (floats, block)) in groups.iter().zip(blocks).enumerate() {
        let (pick, mut codes) = (found.pick(k), [0; GROUP]);
        for l in 0..GROUP {
            codes[l] = pick.code(f32::from_le_bytes(floats[l]), top);
        }
        block[..2].copy_from_slice(&half(found.scale[k]).to_le_bytes());
        block[2..4].copy_from_slice(&half(-found.min[k]).to_le_bytes());
        pack(kind, &codes, &mut block[4..]);
    }
}

/// The fifth bits of all codes, if there are any; then the lower four, two to a byte, the second half of the block in
/// the high bits.
#[inline(always)]
fn pack(kind: Kind, codes: &[u8; GROUP], bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(if kind.bits == 5 { 4 } else { 0 });
    if kind.bits == 5 {
        let fifth = codes.iter().enumerate().fold(0u32, |bits, (l, code)| bits | u32::from(code >> 4) << l);
        high.copy_from_slice(&fifth.to_le_bytes());
    }
    for (l, byte) in low.iter_mut().enumerate().take(GROUP / 2) {
        *byte = codes[l] & 15 | codes[l + GROUP / 2] << 4;
    }
}
