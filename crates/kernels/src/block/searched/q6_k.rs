//! q6_k: super-blocks of 16 groups of 16 with a signed scale of 8 bits each (ggml, `block_q6_K` in ggml-common.h).

use super::lanes::{BATCH, SUPER_BYTES, groups, half, nearest, unhalf};
use super::symmetric::{self, EPSILON, Pick};
use super::weigh::{Importance, Row, Square};
use super::{SUPER, signed_codes};

const GROUP: usize = 16;
const GROUPS: usize = SUPER / GROUP;
const BYTES: usize = SUPER / 2 + SUPER / 4 + GROUPS + 2;
const HALF: i32 = 32;

per_cpu! {
    /// As `quantize_row_q6_K_ref`.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
            let found = symmetric::find(groups(supers.as_flattened()), HALF, &Square);
            for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
                finish(floats, block, &found.scale.map(|lane| lane[b]), &found.pick[b]);
            }
        }
    }
}

per_cpu! {
    /// As `quantize_q6_K` with weights, which count as they are.
    pub(super) fn quantize_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        let Some(mut row) = Row::new(weights) else { return };
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
            let rule = Importance(row.take(supers.len()));
            let found = symmetric::find(groups(supers.as_flattened()), HALF, &rule);
            for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
                finish(floats, block, &found.scale.map(|lane| lane[b]), &found.pick[b]);
            }
        }
    }
}

#[inline(always)]
fn finish(
    floats: &[u8; SUPER_BYTES],
    block: &mut [u8; BYTES],
    values: &[f32; GROUPS],
    picks: &[Pick; GROUPS],
) {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for value in values {
        if value.abs() > magnitude {
            (largest, magnitude) = (*value, value.abs());
        }
    }
    if magnitude < EPSILON {
        block.fill(0);
        return;
    }
    let inverse = -128.0 / largest;
    let d = half(1.0 / inverse);
    let mut codes = [0; SUPER];
    for (j, (floats, codes)) in
        groups::<GROUP>(floats).iter().zip(codes.as_chunks_mut::<GROUP>().0).enumerate()
    {
        let scale = nearest(inverse * values[j]).min(127) as i8;
        block[BYTES - 2 - GROUPS + j] = scale as u8;
        signed_codes(floats, codes, unhalf(d) * f32::from(scale), HALF, |_, x| picks[j].code(x, HALF));
    }
    block[BYTES - 2..].copy_from_slice(&d.to_le_bytes());
    let (low, rest) = block.split_at_mut(SUPER / 2);
    let low = low.as_chunks_mut::<64>().0;
    let high = rest.as_chunks_mut::<32>().0;
    for ((codes, low), high) in codes.as_chunks::<128>().0.iter().zip(low).zip(high) {
        for l in 0..32 {
            let [a, b, c, d] = [codes[l], codes[l + 32], codes[l + 64], codes[l + 96]];
            low[l] = a & 15 | c << 4;
            low[l + 32] = b & 15 | d << 4;
            high[l] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
        }
    }
}
