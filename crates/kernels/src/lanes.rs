//! Items as byte arrays: a way to loop over dense little-endian values in slices of any alignment.

/// One item of a fixed width.
pub(crate) trait Item: Copy {
    /// The whole items of `bytes`.
    fn split(bytes: &[u8]) -> &[Self];
    /// The whole items of `bytes`.
    fn split_mut(bytes: &mut [u8]) -> &mut [Self];
    /// The bits, zero-extended.
    fn get(self) -> u64;
    /// The low bits of `bits`.
    fn of(bits: u64) -> Self;
}

macro_rules! items {
    ($($width:literal $word:ty;)*) => {$(
        impl Item for [u8; $width] {
            #[inline(always)]
            fn split(bytes: &[u8]) -> &[Self] {
                bytes.as_chunks().0
            }
            #[inline(always)]
            fn split_mut(bytes: &mut [u8]) -> &mut [Self] {
                bytes.as_chunks_mut().0
            }
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "one macro for every width")]
            fn get(self) -> u64 {
                <$word>::from_le_bytes(self) as u64
            }
            #[inline(always)]
            #[allow(clippy::unnecessary_cast, reason = "one macro for every width")]
            fn of(bits: u64) -> Self {
                (bits as $word).to_le_bytes()
            }
        }
    )*};
}

items! { 1 u8; 2 u16; 4 u32; 8 u64; }

/// The 32-bit words of `bytes`, as arrays.
#[inline(always)]
pub(crate) fn words32(bytes: &[u8]) -> &[[u8; 4]] {
    bytes.as_chunks().0
}

/// The 64-bit words of `bytes`, as arrays.
#[inline(always)]
pub(crate) fn words64(bytes: &[u8]) -> &[[u8; 8]] {
    bytes.as_chunks().0
}

/// f16 bits to f32 bits, exactly; a signaling NaN becomes quiet with its payload, as F16C does.
#[inline(always)]
pub(crate) fn f16_to_f32(half: u16) -> u32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    let shifted = magnitude << 13;
    let normal = shifted.wrapping_add((127 - 15) << 23);
    // A subnormal is read as the fraction of 2^-14 * 1.fraction, then the implicit one is taken away: exact.
    let small = (f32::from_bits(shifted + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let special = shifted | 0x7f80_0000 | if magnitude > 0x7c00 { 0x0040_0000 } else { 0 };
    let value = if magnitude < 0x0400 { small } else { normal };
    sign | if magnitude >= 0x7c00 { special } else { value }
}

/// f32 bits to f64 bits, exactly; a signaling NaN becomes quiet with its payload.
#[inline(always)]
pub(crate) fn f32_to_f64(bits: u32) -> u64 {
    let magnitude = bits & 0x7fff_ffff;
    // The language does not fix the payload of a converted NaN, so it is made by hand.
    let nan = (u64::from(bits & 0x8000_0000) << 32)
        | 0x7ff8_0000_0000_0000
        | (u64::from(magnitude & 0x007f_ffff) << 29);
    if magnitude > 0x7f80_0000 { nan } else { f64::from(f32::from_bits(bits)).to_bits() }
}
