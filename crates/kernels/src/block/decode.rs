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
    /// `scale * |level|` with the sign of `scale * level`.
    fn mul_then_sign(scale: f32, level: i8) -> f32;
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
    #[inline(always)]
    fn mul_then_sign(scale: f32, level: i8) -> f32 {
        scale * f32::from(level)
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
    fn mul_then_sign(scale: f32, level: i8) -> f32 {
        let product = LikeX86::mul(scale, f32::from(level).abs());
        if level < 0 { f32::from_bits(product.to_bits() ^ 1 << 31) } else { product }
    }
}

/// A function that decodes block by block: with plain arithmetic where no element can be NaN.
///
/// Not a function that takes functions: those would be compiled once, for no instruction set in particular.
macro_rules! decoder {
    (
        $(#[$attribute:meta])*
        $name:ident: $bytes:ident to $elements:ident by $decode:ident, plain if |$block:ident| $is_plain:expr
    ) => {
        per_cpu! {
            $(#[$attribute])*
            pub(super) fn $name(src: &[u8], dst: &mut [u8]) {
                let floats = dst.as_chunks_mut::<4>().0.as_chunks_mut::<$elements>().0;
                for ($block, floats) in src.as_chunks::<$bytes>().0.iter().zip(floats) {
                    if $is_plain {
                        $decode::<$crate::block::decode::Plain>($block, floats);
                    } else {
                        let rare = $decode::<$crate::block::decode::LikeX86>;
                        $crate::block::decode::rarely(rare, $block, floats);
                    }
                }
            }
        }
    };
}

/// Keeps the rare decoder out of the loop.
#[cold]
#[inline(never)]
pub(super) fn rarely<const BYTES: usize, const FLOATS: usize>(
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

/// `scale * level` for each element. Levels that are made first, in bytes, and multiplied then, make vectors of both.
#[inline(always)]
pub(super) fn scaled<A: Arithmetic>(scale: f32, levels: &[i8], floats: &mut [Word]) {
    for (level, float) in levels.iter().zip(floats) {
        *float = A::mul(scale, f32::from(*level)).to_le_bytes();
    }
}

/// The same, where C multiplies by the magnitude first, and then, as compiled, turns the sign: that of a NaN too.
#[inline(always)]
pub(super) fn scaled_then_signed<A: Arithmetic>(scale: f32, levels: &[i8], floats: &mut [Word]) {
    for (level, float) in levels.iter().zip(floats) {
        *float = A::mul_then_sign(scale, *level).to_le_bytes();
    }
}

/// Levels 1 to 127 in the bytes of `group`, negative where bit `n` of `signs` is set, `n` counted from the lowest byte.
#[inline(always)]
pub(super) fn with_signs(group: u64, signs: u8) -> [i8; 8] {
    let mask = SIGN_MASKS[usize::from(signs)];
    // Two's complement; nothing is carried, for no byte is zero.
    let bytes = (group ^ mask) + (mask & 0x0101_0101_0101_0101);
    bytes.to_le_bytes().map(|byte| byte as i8)
}

/// A byte of ones for each bit.
static SIGN_MASKS: [u64; 256] = sign_masks();

const fn sign_masks() -> [u64; 256] {
    let mut masks = [0; 256];
    let mut idx = 0;
    while idx < 256 * 8 {
        if (idx / 8) >> (idx % 8) & 1 == 1 {
            masks[idx / 8] |= 0xff << (idx % 8 * 8);
        }
        idx += 1;
    }
    masks
}
