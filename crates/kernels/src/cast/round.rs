//! One rounding, to nearest even, from f32 or f64 to any smaller format; without branches, so that it vectorizes.

use super::CastStats;
use super::format::{Float, Format, Nan};
use crate::lanes::{Item, words32, words64};

/// The same algorithm for both widths of source: `$word` holds the bits of `$float`, which has `$mantissa` explicit
/// mantissa bits and the bias `$bias`.
macro_rules! lane {
    ($module:ident, $word:ident, $float:ident, $words:ident, $mantissa:literal, $bias:literal) => {
        pub(super) mod $module {
            use super::*;

            const SIGN: $word = 1 << ($word::BITS - 1);
            const INFINITY: $word = (2 * $bias + 1) << $mantissa;

            /// The bits of 2^-n.
            const fn power(n: u32) -> $word {
                if n < $bias { ($bias - n as $word) << $mantissa } else { 1 << ($bias - 1 + $mantissa - n) }
            }

            /// The smallest magnitude that rounds to more than the largest finite value.
            const fn overflows_from(format: Format) -> $word {
                let shift = $mantissa - format.mantissa_bits;
                let max = (format.max as $word + (($bias - format.bias as $word) << format.mantissa_bits)) << shift;
                // The tie above an odd value goes up, the tie above an even one comes back.
                if format.max % 2 == 1 { max + (1 << (shift - 1)) } else { max + (1 << (shift - 1)) + 1 }
            }

            /// The item of the value with these bits.
            #[inline(always)]
            pub(in crate::cast) fn encode<T: Float>(bits: $word) -> u64 {
                let format = T::FORMAT;
                let shift = $mantissa - format.mantissa_bits;
                let magnitude = bits & !SIGN;
                let sign = bits >> ($word::BITS - 1);

                let rounding = ((1 as $word) << (shift - 1)) - 1 + (magnitude >> shift & 1);
                let rebias = ($bias - format.bias as $word) << format.mantissa_bits;
                let normal = (magnitude.wrapping_add(rounding) >> shift).wrapping_sub(rebias);
                let mut code = if format.bias == $bias {
                    // The exponents agree, so subnormals are rounded like the rest.
                    normal
                } else {
                    // Adding 2^k, whose last bit weighs as much as the smallest subnormal, rounds to that weight.
                    let magic: $word = (2 * $bias - $bias + 1 + $mantissa
                        - format.bias as $word
                        - format.mantissa_bits as $word)
                        << $mantissa;
                    let sum = $float::from_bits(magnitude) + $float::from_bits(magic);
                    let subnormal = sum.to_bits().wrapping_sub(magic);
                    if magnitude < power(format.bias - 1) { subnormal } else { normal }
                };
                code = if magnitude >= overflows_from(format) { format.over as $word } else { code };
                let is_nan = magnitude > INFINITY;
                let sign_bit = format.sign_bit();
                let signed = code | sign << sign_bit;
                let signed = match format.nan {
                    Nan::Payload => {
                        let quiet = format.over as $word | 1 << (format.mantissa_bits - 1);
                        let payload = magnitude >> shift & (((1 as $word) << format.mantissa_bits) - 1);
                        if is_nan { sign << sign_bit | quiet | payload } else { signed }
                    }
                    Nan::Signed(nan) => if is_nan { sign << sign_bit | nan as $word } else { signed },
                    Nan::Single(nan) => if is_nan { nan as $word } else { signed },
                    Nan::OppositeZero => if is_nan { (sign ^ 1) << sign_bit } else { signed },
                };
                if format.has_negative_zero || code != 0 { signed as u64 } else { 0 }
            }

            per_cpu! {
                /// Rounds dense items and counts what happened to them.
                pub(in crate::cast) fn round<T: Float>(src: &[u8], dst: &mut [u8]) -> CastStats {
                    let format = T::FORMAT;
                    let (mut over, mut infinite, mut nan, mut under) = (0 as $word, 0 as $word, 0 as $word, 0 as $word);
                    for (from, to) in $words(src).iter().zip(T::Item::split_mut(dst)) {
                        let bits = $word::from_le_bytes(*from);
                        let magnitude = bits & !SIGN;
                        over += $word::from(magnitude >= overflows_from(format));
                        infinite += $word::from(magnitude >= INFINITY);
                        nan += $word::from(magnitude > INFINITY);
                        // Zero wraps around and is not counted; half the smallest value is a tie that goes to zero.
                        under += $word::from(magnitude.wrapping_sub(1) < power(format.bias + format.mantissa_bits));
                        *to = T::Item::of(encode::<T>(bits));
                    }
                    let carried = if format.has_infinity { infinite } else { nan };
                    CastStats { overflow: (over - carried) as u64, underflow: under as u64, nan: nan as u64 }
                }
            }
        }
    };
}

lane!(from_f32, u32, f32, words32, 23, 127);
lane!(from_f64, u64, f64, words64, 52, 1023);

per_cpu! {
    /// f32 to f8_e8m0: see [`e8m0_from_f64`].
    pub(super) fn e8m0_from_f32(src: &[u8], dst: &mut [u8]) -> CastStats {
        let (mut over, mut nan, mut under) = (0u32, 0u32, 0u32);
        for (from, to) in words32(src).iter().zip(dst) {
            let bits = u32::from_le_bytes(*from);
            let magnitude = bits & 0x7fff_ffff;
            let code = (magnitude + 0x003f_ffff + u32::from(magnitude >= 0x0080_0000)) >> 23;
            let is_nan = magnitude > 0x7f80_0000;
            over += u32::from(!is_nan & ((code >= 255) | (bits > 0x8000_0000)));
            under += u32::from((magnitude < 0x0040_0000) & (bits <= 0x8000_0000));
            nan += u32::from(is_nan);
            *to = code.min(255) as u8;
        }
        CastStats { overflow: u64::from(over), underflow: u64::from(under), nan: u64::from(nan) }
    }
}

per_cpu! {
    /// f64 to f8_e8m0, which has neither sign nor zero nor infinity.
    ///
    /// As torch does (c10/util/Float8_e8m0fnu.h): the sign is dropped, the nearest power of two is taken with ties
    /// up, but everything between 2^-127 and 2^-126 goes up; what is too small, zero included, becomes 2^-127, and
    /// what is too large becomes NaN. A negative value counts as overflow, one below 2^-127 as underflow.
    pub(super) fn e8m0_from_f64(src: &[u8], dst: &mut [u8]) -> CastStats {
        const INFINITY: u64 = 0x7ff0_0000_0000_0000;
        const SIGN: u64 = 1 << 63;
        let mut stats = CastStats::default();
        for (from, to) in words64(src).iter().zip(dst) {
            let bits = u64::from_le_bytes(*from);
            let magnitude = bits & !SIGN;
            let nearest = ((magnitude + (1 << 51)) >> 52).saturating_sub(1023 - 127);
            let smallest = u64::from(magnitude > (1023 - 127) << 52);
            let code = if magnitude < (1023 - 126) << 52 { smallest } else { nearest.min(255) };
            let is_nan = magnitude > INFINITY;
            stats.overflow += u64::from(!is_nan & ((code == 255) | (bits > SIGN)));
            stats.underflow += u64::from((magnitude < (1023 - 127) << 52) & (bits <= SIGN));
            stats.nan += u64::from(is_nan);
            *to = code as u8;
        }
        stats
    }
}
