//! q8_0: 32 elements as an f16 scale and 32 signed bytes (ggml, `block_q8_0` in ggml-common.h).

use crate::cast::f32_to_f16;
use crate::lanes::f16_to_f32;

const ELEMENTS: usize = 32;
const BYTES: usize = 2 + ELEMENTS;
const INFINITY: u32 = 0x7f80_0000;

per_cpu! {
    /// As `quantize_row_q8_0_ref` of ggml-quants.c, byte for byte; where C leaves the result open (a block that holds
    /// NaN or infinity, or whose largest magnitude is so small that its inverse is infinite), as x86-64 runs it.
    pub(super) fn quantize(src: &[u8], dst: &mut [u8]) {
        let floats = src.as_chunks::<4>().0.as_chunks::<ELEMENTS>().0;
        for (floats, block) in floats.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
            // Magnitudes of floats are ordered like their bits.
            let mut largest = 0;
            for float in floats {
                largest = largest.max(u32::from_le_bytes(*float) & 0x7fff_ffff);
            }
            let largest = if largest > INFINITY { largest_with_nan(floats) } else { f32::from_bits(largest) };
            let d = largest / 127.0;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let scale = if d.is_nan() { 0x7e00 } else { f32_to_f16(d.to_bits()) };
            let (scale_bytes, quants) = block.split_at_mut(2);
            scale_bytes.copy_from_slice(&scale.to_le_bytes());
            for (float, quant) in floats.iter().zip(quants) {
                let scaled = f32::from_le_bytes(*float) * inverse;
                // The machine converts what is out of range to -2^31, whose low byte is 0; NaN too.
                let scaled = if scaled.abs() < 2_147_483_648.0 { scaled } else { 0.0 };
                // Half away from zero: the fraction that is cut off is exact.
                let cut = scaled as i32;
                let fraction = scaled - cut as f32;
                let up = i32::from(fraction >= 0.5) - i32::from(fraction <= -0.5);
                *quant = (cut + up) as u8;
            }
        }
    }
}

/// `MAX(amax, fabsf(x))` element by element, which forgets a NaN at the next element.
#[cold]
fn largest_with_nan(floats: &[[u8; 4]; ELEMENTS]) -> f32 {
    floats.iter().fold(0.0, |largest, float| {
        let magnitude = f32::from_le_bytes(*float).abs();
        if largest > magnitude { largest } else { magnitude }
    })
}

per_cpu! {
    /// As `dequantize_row_q8_0`.
    pub(super) fn dequantize(src: &[u8], dst: &mut [u8]) {
        let floats = dst.as_chunks_mut::<4>().0.as_chunks_mut::<ELEMENTS>().0;
        for (block, floats) in src.as_chunks::<BYTES>().0.iter().zip(floats) {
            let scale = f32::from_bits(f16_to_f32(u16::from_le_bytes([block[0], block[1]])));
            for (quant, float) in block[2..].iter().zip(floats) {
                *float = (f32::from(*quant as i8) * scale).to_le_bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    /// The C code, transliterated; `roundf` is Rust's `round`.
    fn reference(floats: &[f32]) -> Vec<u8> {
        let mut largest = 0.0f32;
        for x in floats {
            largest = if largest > x.abs() { largest } else { x.abs() };
        }
        let d = largest / 127.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        let mut block = half::f16::from_f32(d).to_le_bytes().to_vec();
        block.extend(floats.iter().map(|x| {
            let rounded = (x * inverse).round();
            if rounded.abs() < 2f32.powi(31) { rounded as i32 as u8 } else { 0 }
        }));
        block
    }

    #[test]
    fn like_ggml() {
        let seed = 0x5eed_0070;
        println!("seed {seed:#x}");
        let mut random = Random(seed);
        let mut floats: Vec<f32> = Vec::new();
        for block in 0..3000 {
            let scale = 2f32.powi((random.next() % 290) as i32 - 149);
            floats.extend((0..32).map(|k| match block % 4 {
                0 => (random.next() as i32) as f32 / 2f32.powi(31) * scale,
                // Ties, when the largest is 127.
                1 => (random.next() % 255) as f32 / 2.0 - 63.5 + if k == 7 { 63.5 } else { 0.0 },
                2 if k == 3 => 127.0,
                2 => (random.next() % 508) as f32 / 4.0 - 63.5,
                _ => f32::from_bits(random.next() as u32 & 0xbfff_ffff),
            }));
        }
        floats.extend([0.0; 32]);
        floats.extend([f32::from_bits(1); 32]);
        floats.extend([f32::MAX; 32]);
        floats.extend((0..32).map(|k| if k == 5 { f32::INFINITY } else { k as f32 }));
        floats.extend((0..32).map(|k| if k == 5 { f32::NAN } else { k as f32 }));
        floats.extend((0..32).map(|k| if k == 5 { f32::NAN } else { 1e5 / (k * k * k + 1) as f32 }));
        floats.extend((0..32).map(|k| if k == 31 { f32::NAN } else { k as f32 }));
        let src: Vec<u8> = floats.iter().flat_map(|x| x.to_le_bytes()).collect();
        let want: Vec<u8> = floats.chunks(32).flat_map(reference).collect();
        at_every_level(|level| {
            let mut got = vec![0xaa; want.len()];
            quantize(&src, &mut got);
            for (k, (got, want)) in got.chunks(BYTES).zip(want.chunks(BYTES)).enumerate() {
                assert_eq!(got, want, "block {k} of {:?} at {level:?}", &floats[k * 32..k * 32 + 32]);
            }
            let mut back = vec![0xaa; src.len()];
            dequantize(&got, &mut back);
            for (k, float) in back.as_chunks::<4>().0.iter().enumerate() {
                let block = &got[k / 32 * BYTES..][..BYTES];
                let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
                let want = f32::from(block[2 + k % 32] as i8) * scale;
                let got = f32::from_le_bytes(*float);
                assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan());
            }
        });
    }
}
