//! Groups side by side: element `l` of the `k`-th group lies in lane `k` of row `l`.
//!
//! A group is searched by a long chain of additions whose order is part of the result, so vectors run across groups:
//! every lane does what ggml does for one group, in its order, and a branch becomes a choice between two values.

use super::SUPER;
use crate::cast::f32_to_f16;

/// How many groups are searched at once.
pub(super) const LANES: usize = 64;

/// How many super-blocks are quantized at once; so many lanes has a search over their scales.
pub(super) const BATCH: usize = 16;

/// The bytes of a super-block of floats.
pub(super) const SUPER_BYTES: usize = 4 * SUPER;

/// 1.5 * 2^23: what is added to it is rounded to an integer, which then lies in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// The nearest integer, half to even, by ggml's trick: right below 2^22, and the same nonsense as there beyond; NaN,
/// which has no fraction but the quiet bit when arithmetic makes it, gives 0.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    ((x + ROUNDER).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The same as a float, for what is below 2^22.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + ROUNDER) - ROUNDER
}

/// The largest integer that is not above `x`, which is below 2^22.
#[inline(always)]
pub(super) fn floor(x: f32) -> i32 {
    let rounded = x + ROUNDER;
    (rounded.to_bits() & 0x007f_ffff) as i32 - 0x0040_0000 - i32::from(rounded - ROUNDER > x)
}

/// The bits of the nearest f16; NaN as ggml writes it.
#[inline(always)]
pub(super) fn half(x: f32) -> u16 {
    let sign = (x.to_bits() >> 16) as u16 & 0x8000;
    if x.is_nan() { sign | 0x7e00 } else { f32_to_f16(x.to_bits()) }
}

/// The value that [`half`] keeps.
#[inline(always)]
pub(super) fn unhalf(bits: u16) -> f32 {
    f32::from_bits(crate::lanes::f16_to_f32(bits))
}

/// Little-endian floats, cut into groups.
#[inline(always)]
pub(super) fn groups<const N: usize>(bytes: &[u8]) -> &[[[u8; 4]; N]] {
    bytes.as_chunks::<4>().0.as_chunks::<N>().0
}

/// Lays up to `W` groups into lanes, zeros into the others.
#[inline(always)]
pub(super) fn to_lanes<const N: usize, const W: usize>(groups: &[[[u8; 4]; N]], lanes: &mut [[f32; W]; N]) {
    if groups.len() < W {
        *lanes = [[0.0; W]; N];
    }
    for (k, group) in groups.iter().take(W).enumerate() {
        for l in 0..N {
            lanes[l][k] = f32::from_le_bytes(group[l]);
        }
    }
}
