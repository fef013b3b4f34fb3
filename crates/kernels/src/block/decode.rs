//! What every decoder of blocks needs: the loop over blocks, f16 scales, and arithmetic whose NaN are fixed too.

use crate::lanes::f16_to_f32;

/// One f32 of the output.
pub(super) type Word = [u8; 4];

/// How a decoder computes.
pub(super) trait Arithmetic {
    /// `a * b`.
    fn mul(a: f32, b: f32) -> f32;
    /// `a + b`.
    fn add(a: f32, b: f32) -> f32;
    /// `a - b`.
    fn sub(a: f32, b: f32) -> f32;
}

/// The machine's own arithmetic, for blocks whose elements cannot be NaN.
pub(super) struct Plain;

impl Arithmetic for Plain {
    #[inline(always)]
    fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
}

/// The same numbers, and NaN as x86-64 makes them: the first operand that is one comes out quiet, and a new one is
/// negative without payload. Neither the language nor other machines promise that.
pub(super) struct LikeX86;

impl LikeX86 {
    fn settle(a: f32, b: f32, result: f32) -> f32 {
        let quiet = |nan: f32| f32::from_bits(nan.to_bits() | 0x0040_0000);
        if a.is_nan() {
            quiet(a)
        } else if b.is_nan() {
            quiet(b)
        } else if result.is_nan() {
            f32::from_bits(0xffc0_0000)
        } else {
            result
        }
    }
}

impl Arithmetic for LikeX86 {
    fn mul(a: f32, b: f32) -> f32 {
        LikeX86::settle(a, b, a * b)
    }
    fn add(a: f32, b: f32) -> f32 {
        LikeX86::settle(a, b, a + b)
    }
    fn sub(a: f32, b: f32) -> f32 {
        LikeX86::settle(a, b, a - b)
    }
}

/// Decodes block by block: with `plain` where `is_plain` says that no element can be NaN, else with `rare`.
#[inline(always)]
pub(super) fn each_block<const BYTES: usize, const FLOATS: usize>(
    src: &[u8],
    dst: &mut [u8],
    is_plain: impl Fn(&[u8; BYTES]) -> bool,
    plain: impl Fn(&[u8; BYTES], &mut [Word; FLOATS]),
    rare: fn(&[u8; BYTES], &mut [Word; FLOATS]),
) {
    let floats = dst.as_chunks_mut::<4>().0.as_chunks_mut::<FLOATS>().0;
    for (block, floats) in src.as_chunks::<BYTES>().0.iter().zip(floats) {
        if is_plain(block) { plain(block, floats) } else { rarely(rare, block, floats) }
    }
}

/// Keeps the rare decoder out of the loop.
#[cold]
#[inline(never)]
fn rarely<const BYTES: usize, const FLOATS: usize>(
    decode: fn(&[u8; BYTES], &mut [Word; FLOATS]),
    block: &[u8; BYTES],
    floats: &mut [Word; FLOATS],
) {
    decode(block, floats);
}

/// The f16 at byte `at` of a block.
#[inline(always)]
pub(super) fn half(block: &[u8], at: usize) -> f32 {
    f32::from_bits(f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]])))
}

/// Whether the f16 at byte `at` of a block is a number.
#[inline(always)]
pub(super) fn is_finite(block: &[u8], at: usize) -> bool {
    block[at + 1] & 0x7c != 0x7c
}

/// `scale * group * ±1`, one bit of `signs` for each item of a group from a codebook.
#[inline(always)]
pub(super) fn signed<A: Arithmetic>(scale: f32, group: &[i8], signs: u8, floats: &mut [Word]) {
    for (idx, (level, float)) in group.iter().zip(floats).enumerate() {
        let sign = if signs >> idx & 1 == 1 { -1.0 } else { 1.0 };
        *float = A::mul(A::mul(scale, f32::from(*level)), sign).to_le_bytes();
    }
}
