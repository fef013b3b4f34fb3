//! q3_k: super-blocks of 16 groups of 16 with a signed scale of 6 bits each (ggml, `block_q3_K` in ggml-common.h).

use super::lanes::{BATCH, LANES, SUPER_BYTES, groups, half, nearest, to_lanes, unhalf};
use super::weigh::{ImportanceAndSize, Row, squares};
use super::{SUPER, descent, pack2, signed_codes, symmetric};

const GROUP: usize = 16;
const GROUPS: usize = SUPER / GROUP;
const BYTES: usize = SUPER / 8 + SUPER / 4 + 12 + 2;
const HALF: i32 = 4;
/// Batches of lanes in a batch of super-blocks.
const RUNS: usize = BATCH * GROUPS / LANES;

per_cpu! {
    /// As `quantize_row_q3_K_ref`.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        let mut x = [[0.0; LANES]; GROUP];
        let mut runs = [([0.0; LANES], [[0.0; LANES]; GROUP]); RUNS];
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
            for (groups, run) in groups::<GROUP>(supers.as_flattened()).chunks(LANES).zip(&mut runs) {
                to_lanes(groups, &mut x);
                *run = descent::signed3(&x);
            }
            for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
                let place = |j: usize| ((b * GROUPS + j) / LANES, (b * GROUPS + j) % LANES);
                let values: [f32; GROUPS] = std::array::from_fn(|j| runs[place(j).0].0[place(j).1]);
                let (d, scales) = scales_by_largest(&values);
                finish(floats, block, d, scales, |j, l, _| runs[place(j).0].1[l][place(j).1] as u8);
            }
        }
    }
}

per_cpu! {
    /// As `quantize_q3_K` with weights.
    pub(super) fn quantize_weighted(src: &[u8], row: usize, weights: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(weights.len(), 4 * row);
        let Some(mut row) = Row::new(weights) else { return };
        let supers = src.as_chunks::<SUPER_BYTES>().0;
        for (supers, blocks) in supers.chunks(BATCH).zip(dst.as_chunks_mut::<BYTES>().0.chunks_mut(BATCH)) {
            let variance = squares(supers).map(|sum| 2.0 * sum / SUPER as f32);
            let rule = ImportanceAndSize { importance: row.take(supers.len()), variance };
            let found = symmetric::find(groups(supers.as_flattened()), HALF, &rule);
            let scales = symmetric::search(&found.scale, &found.weight, 32);
            for (b, (floats, block)) in supers.iter().zip(blocks).enumerate() {
                let codes = std::array::from_fn(|j| scales.pick(b).code(found.scale[j][b], 32));
                finish(floats, block, half(scales.scale[b]), codes, |j, _, x| found.pick[b][j].code(x, HALF));
            }
        }
    }
}

/// The scale of the super-block and those of its groups, from 0 to 63, in steps of a 32nd of the largest.
#[inline(always)]
fn scales_by_largest(values: &[f32; GROUPS]) -> (u16, [u8; GROUPS]) {
    let (mut largest, mut magnitude) = (0.0, 0.0);
    for value in values {
        if value.abs() > magnitude {
            (largest, magnitude) = (*value, value.abs());
        }
    }
    if largest == 0.0 {
        return (0, [0; GROUPS]);
    }
    let inverse = -32.0 / largest;
    (half(1.0 / inverse), values.map(|value| ((nearest(inverse * value) as i8).clamp(-32, 31) + 32) as u8))
}

/// `picked` says the code of an element of a group whose scale became zero.
#[inline(always)]
fn finish(
    floats: &[u8; SUPER_BYTES],
    block: &mut [u8; BYTES],
    d: u16,
    scales: [u8; GROUPS],
    picked: impl Fn(usize, usize, f32) -> u8,
) {
    let mut codes = [0; SUPER];
    for (j, (floats, codes)) in
        groups::<GROUP>(floats).iter().zip(codes.as_chunks_mut::<GROUP>().0).enumerate()
    {
        let d = unhalf(d) * (f32::from(scales[j]) - 32.0);
        signed_codes(floats, codes, d, HALF, |l, x| picked(j, l, x));
    }
    let (high, rest) = block.split_at_mut(SUPER / 8);
    let (low, rest) = rest.split_at_mut(SUPER / 4);
    high.fill(0);
    for (bit, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
        for l in 0..32 {
            high[l] |= codes[l] >> 2 << bit;
        }
    }
    pack2(&codes, low);
    for j in 0..4 {
        rest[j] = scales[j] & 15 | scales[j + 8] << 4;
        rest[j + 4] = scales[j + 4] & 15 | scales[j + 12] << 4;
        rest[j + 8] =
            scales[j] >> 4 | scales[j + 4] >> 4 << 2 | scales[j + 8] >> 4 << 4 | scales[j + 12] >> 4 << 6;
    }
    rest[12..].copy_from_slice(&d.to_le_bytes());
}
