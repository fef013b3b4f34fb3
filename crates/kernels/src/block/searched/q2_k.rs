//! q2_k: super-blocks of 16 groups of 16; scale and minimum of a group have 4 bits each (ggml, `block_q2_K` in
//! ggml-common.h).

use super::affine::{self, Found, Pick, Steps};
use super::descent;
use super::lanes::{BATCH, SUPER_BYTES, groups, half, nearest, unhalf};
use super::weigh::{ImportanceAndSize, Magnitude, Row, squares};
use super::{SUPER, affine_codes, pack2};

const GROUP: usize = 16;
const GROUPS: usize = SUPER / GROUP;
const BYTES: usize = GROUPS + SUPER / 4 + 4;
const TOP: i32 = 3;

per_cpu! {
    /// As `quantize_row_q2_K_ref`.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let steps = Steps { top: TOP, first: -0.5, delta: 0.1, last: 15, absolute: true, cut: false };
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
            let found: Found<GROUPS> =
                affine::find::<GROUP, GROUPS>(groups(supers.as_flattened()), steps, &Magnitude);
            for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
                let (d, scales) = steps_of_15(&found.scale, b);
                let (min, mins) = steps_of_15(&found.min, b);
                finish(floats, block, half(d), half(min), scales, mins, &found.pick[b]);
            }
        }
    }
}

per_cpu! {
    /// As `quantize_q2_K` with weights.
    pub(super) fn quantize_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        let Some(mut row) = Row::new(weights) else { return };
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
            let variance = squares(supers).map(|sum| sum / SUPER as f32);
            let rule = ImportanceAndSize { importance: row.take(supers.len()), variance };
            let found: Found<GROUPS> = affine::find::<GROUP, GROUPS>(
                groups(supers.as_flattened()),
                Steps::weighted(TOP),
                &rule,
            );
            let (d, scales) = descent::positive(&found.scale, &found.weight, 15);
            let (min, mins) = descent::positive(&found.min, &found.weight, 15);
            for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
                finish(floats, block, half(d[b]), half(min[b]), scales[b], mins[b], &found.pick[b]);
            }
        }
    }
}

/// The values of super-block `b` in steps of a fifteenth of the largest.
#[inline(always)]
fn steps_of_15(values: &[[f32; BATCH]; GROUPS], b: usize) -> (f32, [u8; GROUPS]) {
    let largest =
        values.iter().fold(0.0, |largest, value| if value[b] > largest { value[b] } else { largest });
    if largest > 0.0 {
        let inverse = 15.0 / largest;
        (largest / 15.0, std::array::from_fn(|j| nearest(inverse * values[j][b]) as u8))
    } else {
        (0.0, [0; GROUPS])
    }
}

#[inline(always)]
fn finish(
    floats: &[u8; SUPER_BYTES],
    block: &mut [u8; BYTES],
    d: u16,
    min: u16,
    scales: [u8; GROUPS],
    mins: [u8; GROUPS],
    picks: &[Pick; GROUPS],
) {
    let mut codes = [0; SUPER];
    for (j, (floats, codes)) in
        groups::<GROUP>(floats).iter().zip(codes.as_chunks_mut::<GROUP>().0).enumerate()
    {
        let both = scales[j] | mins[j] << 4;
        block[j] = both;
        let d = unhalf(d) * f32::from(both & 15);
        let min = unhalf(min) * f32::from(both >> 4);
        affine_codes(floats, codes, d, min, picks[j], TOP);
    }
    pack2(&codes, &mut block[GROUPS..GROUPS + SUPER / 4]);
    block[BYTES - 4..BYTES - 2].copy_from_slice(&d.to_le_bytes());
    block[BYTES - 2..].copy_from_slice(&min.to_le_bytes());
}
