//! Casts that lose nothing: into the f32 or f64 from which the one rounding starts.

use super::CastStats;
use crate::lanes::{Item, f16_to_f32, f32_to_f64};

macro_rules! widen {
    ($($(#[$doc:meta])* $name:ident: $from:literal to $to:literal, |$bits:ident| $value:expr, nan $nan:expr;)*) => {$(
        per_cpu! {
            $(#[$doc])*
            pub(super) fn $name(src: &[u8], dst: &mut [u8]) -> CastStats {
                let mut nan = 0u32;
                for (from, to) in <[u8; $from]>::split(src).iter().zip(<[u8; $to]>::split_mut(dst)) {
                    let $bits = from.get();
                    nan += u32::from($nan);
                    *to = <[u8; $to]>::of($value);
                }
                CastStats { nan: u64::from(nan), ..CastStats::default() }
            }
        }
    )*};
}

widen! {
    f16_f32: 2 to 4, |bits| u64::from(f16_to_f32(bits as u16)), nan bits & 0x7fff > 0x7c00;
    /// The bits as they are, signaling NaNs included, as torch does: bf16 comes back unchanged unless it is one.
    bf16_f32: 2 to 4, |bits| bits << 16, nan bits & 0x7fff > 0x7f80;
    i16_f32: 2 to 4, |bits| u64::from(f32::from(bits as i16).to_bits()), nan false;
    u16_f32: 2 to 4, |bits| u64::from(f32::from(bits as u16).to_bits()), nan false;
    f32_f64: 4 to 8, |bits| f32_to_f64(bits as u32), nan bits & 0x7fff_ffff > 0x7f80_0000;
    i32_f64: 4 to 8, |bits| f64::from(bits as i32).to_bits(), nan false;
    u32_f64: 4 to 8, |bits| f64::from(bits as u32).to_bits(), nan false;
    /// Rounded to nearest even: for a cast that ends in f64.
    i64_f64: 8 to 8, |bits| (bits as i64 as f64).to_bits(), nan false;
    /// Rounded to nearest even: for a cast that ends in f64.
    u64_f64: 8 to 8, |bits| (bits as f64).to_bits(), nan false;
    /// Rounded to odd, so that a later rounding to at most 51 bits is the only one that counts.
    i64_f64_odd: 8 to 8, |bits| odd((bits as i64).unsigned_abs()) | (bits & 1 << 63), nan false;
    /// Rounded to odd, so that a later rounding to at most 51 bits is the only one that counts.
    u64_f64_odd: 8 to 8, |bits| odd(bits), nan false;
}

/// The f64 bits of an integer, rounded to odd: cut off, and the last bit set if anything was.
#[inline(always)]
fn odd(value: u64) -> u64 {
    // With the low 11 bits folded into one, at most 54 bits are left to round, and only values of 2^63 and more have
    // so many; cutting relative to the length of the value keeps 53 in every case.
    let excess = 11u32.saturating_sub(value.leading_zeros());
    let lost = value & ((1 << excess) - 1);
    let kept = (value ^ lost) | u64::from(lost != 0) << excess;
    (kept as f64).to_bits()
}
