//! One element of one block, as `dequantize_row_*` of ggml-quants.c defines it.

use crate::block::grids;
use modelferry_core::dtype::DType;

fn half(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The bits `from..from + n` of byte `at`.
fn bits(block: &[u8], at: usize, from: usize, n: usize) -> i32 {
    i32::from(block[at]) >> from & ((1 << n) - 1)
}

/// Two codes of 4 bits in a byte, `width` elements apart.
fn nibble(block: &[u8], at: usize, idx: usize, width: usize) -> i32 {
    bits(block, at + idx / (2 * width) * width + idx % width, idx / width % 2 * 4, 4)
}

fn sign(is_negative: bool) -> f32 {
    if is_negative { -1.0 } else { 1.0 }
}

/// The 7 stored signs and the one that makes their number even.
fn even_sign(stored: u32, idx: usize) -> bool {
    (if idx < 7 { stored >> idx & 1 } else { stored.count_ones() & 1 }) == 1
}

fn word(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(block[at..at + 4].try_into().unwrap())
}

fn short(block: &[u8], at: usize) -> i32 {
    i32::from(u16::from_le_bytes([block[at], block[at + 1]]))
}

const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
const NL: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Scale and minimum of q4_k and q5_k (`get_scale_min_k4`).
fn scale_and_min(codes: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = match j {
        0..4 => (codes[j] & 63, codes[j + 4] & 63),
        _ => {
            ((codes[j + 4] & 0xf) | ((codes[j - 4] >> 6) << 4), (codes[j + 4] >> 4) | ((codes[j] >> 6) << 4))
        }
    };
    (f32::from(scale), f32::from(min))
}

/// Element `i` of a block.
pub(super) fn reference(dtype: DType, block: &[u8], i: usize) -> f32 {
    match dtype {
        DType::Q1_0 => half(block, 0) * sign(bits(block, 2 + i / 8, i % 8, 1) == 0),
        DType::Q2_0 => (bits(block, 2 + i / 4, i % 4 * 2, 2) - 1) as f32 * half(block, 0),
        DType::Q4_0 => (nibble(block, 2, i, 16) - 8) as f32 * half(block, 0),
        DType::Q4_1 => nibble(block, 4, i, 16) as f32 * half(block, 0) + half(block, 2),
        DType::Q5_0 => {
            let fifth = (word(block, 2) >> i & 1) as i32 * 16;
            (nibble(block, 6, i, 16) + fifth - 16) as f32 * half(block, 0)
        }
        DType::Q5_1 => {
            let fifth = (word(block, 4) >> i & 1) as i32 * 16;
            (nibble(block, 8, i, 16) + fifth) as f32 * half(block, 0) + half(block, 2)
        }
        DType::Q8_0 => f32::from(block[2 + i] as i8) * half(block, 0),
        DType::Q2K => {
            let scales = i32::from(block[i / 16]);
            let scale = half(block, 80) * (scales & 15) as f32;
            let min = half(block, 82) * (scales >> 4) as f32;
            scale * bits(block, 16 + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2) as f32 - min
        }
        DType::Q3K => {
            let j = i / 16;
            let low = bits(block, 96 + j % 8, j / 8 * 4, 4);
            let high = bits(block, 104 + j % 4, j / 4 * 2, 2);
            let scale = half(block, 108) * (low + high * 16 - 32) as f32;
            let code = bits(block, 32 + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2);
            let third = bits(block, i % 32, i / 32, 1);
            scale * (code - if third == 1 { 0 } else { 4 }) as f32
        }
        DType::Q4K => {
            let (scale, min) = scale_and_min(&block[4..16], i / 32);
            let (scale, min) = (half(block, 0) * scale, half(block, 2) * min);
            scale * nibble(block, 16, i, 32) as f32 - min
        }
        DType::Q5K => {
            let (scale, min) = scale_and_min(&block[4..16], i / 32);
            let (scale, min) = (half(block, 0) * scale, half(block, 2) * min);
            scale * (nibble(block, 48, i, 32) + 16 * bits(block, 16 + i % 32, i / 32, 1)) as f32 - min
        }
        DType::Q6K => {
            let low = nibble(block, 0, i, 64);
            let high = bits(block, 128 + i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2);
            half(block, 208) * f32::from(block[192 + i / 16] as i8) * (low + high * 16 - 32) as f32
        }
        DType::Q8K => f32::from_bits(word(block, 0)) * f32::from(block[4 + i] as i8),
        DType::Iq1S => {
            let j = i / 8;
            let qh = short(block, 34 + j / 4 * 2);
            let group = i32::from(block[2 + j]) | (qh >> (3 * (j % 4)) & 7) << 8;
            let scale = half(block, 0) * (2 * (qh >> 12 & 7) + 1) as f32;
            scale
                * (f32::from(grids::IQ1S[group as usize].to_le_bytes()[i % 8]) - 1.0
                    + 0.125 * sign(qh & 0x8000 != 0))
        }
        DType::Iq1M => {
            let scales: [i32; 4] = std::array::from_fn(|k| short(block, 48 + 2 * k));
            let d = scales[0] >> 12 | scales[1] >> 8 & 0xf0 | scales[2] >> 4 & 0xf00 | scales[3] & 0xf000;
            let j = i / 8;
            let qh = bits(block, 32 + j / 2, j % 2 * 4, 4);
            let group = i32::from(block[j]) | (qh & 7) << 8;
            let scale = 2 * (scales[i / 64] >> (i / 16 % 4 * 3) & 7) + 1;
            let scale = half::f16::from_bits(d as u16).to_f32() * scale as f32;
            scale
                * (f32::from(grids::IQ1S[group as usize].to_le_bytes()[i % 8]) - 1.0
                    + 0.125 * sign(qh & 8 != 0))
        }
        DType::Iq2Xxs => {
            let at = 2 + i / 32 * 8;
            let tail = word(block, at + 4);
            let scale = half(block, 0) * (0.5 + (tail >> 28) as f32) * 0.25;
            let group = grids::IQ2XXS[usize::from(block[at + i / 8 % 4])];
            scale
                * f32::from(group.to_le_bytes()[i % 8])
                * sign(even_sign(tail >> (7 * (i / 8 % 4)) & 127, i % 8))
        }
        DType::Iq2Xs => {
            let code = short(block, 2 + i / 8 * 2);
            let scale = half(block, 0) * (0.5 + bits(block, 66 + i / 32, i / 16 % 2 * 4, 4) as f32) * 0.25;
            let group = grids::IQ2XS[code as usize & 511];
            scale * f32::from(group.to_le_bytes()[i % 8]) * sign(even_sign(code as u32 >> 9, i % 8))
        }
        DType::Iq2S => {
            let scale = half(block, 0) * (0.5 + bits(block, 74 + i / 32, i / 16 % 2 * 4, 4) as f32) * 0.25;
            let high = bits(block, 66 + i / 32, i / 8 % 4 * 2, 2);
            let group = grids::IQ2S[usize::from(block[2 + i / 8]) + 256 * high as usize];
            scale * f32::from(group.to_le_bytes()[i % 8]) * sign(bits(block, 34 + i / 8, i % 8, 1) == 1)
        }
        DType::Iq3Xxs => {
            let tail = word(block, 66 + i / 32 * 4);
            let scale = half(block, 0) * (0.5 + (tail >> 28) as f32) * 0.5;
            let level = grids::IQ3XXS[usize::from(block[2 + i / 4])].to_le_bytes()[i % 4];
            scale * f32::from(level) * sign(even_sign(tail >> (7 * (i / 8 % 4)) & 127, i % 8))
        }
        DType::Iq3S => {
            let scale = half(block, 0) * (1 + 2 * bits(block, 106 + i / 64, i / 32 % 2 * 4, 4)) as f32;
            let ninth = bits(block, 66 + i / 32, i / 4 % 8, 1);
            let level =
                grids::IQ3S[usize::from(block[2 + i / 4]) + 256 * ninth as usize].to_le_bytes()[i % 4];
            scale * f32::from(level) * sign(bits(block, 74 + i / 8, i % 8, 1) == 1)
        }
        DType::Iq4Nl => half(block, 0) * f32::from(NL[nibble(block, 2, i, 16) as usize]),
        DType::Iq4Xs => {
            let low = bits(block, 4 + i / 64, i / 32 % 2 * 4, 4);
            let high = short(block, 2) >> (i / 32 * 2) & 3;
            half(block, 0) * (low + 16 * high - 32) as f32 * f32::from(NL[nibble(block, 8, i, 16) as usize])
        }
        DType::Tq1_0 => {
            let (byte, digit) = match i {
                0..160 => (i % 32, i / 32),
                160..240 => (32 + (i - 160) % 16, (i - 160) / 16),
                _ => (48 + i % 4, (i - 240) / 4),
            };
            let shifted = u32::from(block[byte]) * 3u32.pow(digit as u32) % 256;
            ((shifted * 3 / 256) as f32 - 1.0) * half(block, 52)
        }
        DType::Tq2_0 => {
            (bits(block, i / 128 * 32 + i % 32, i % 128 / 32 * 2, 2) - 1) as f32 * half(block, 64)
        }
        DType::Mxfp4 => {
            let scale = (f64::from(block[0]) - 128.0).exp2() as f32;
            f32::from(FP4[nibble(block, 1, i, 16) as usize]) * scale
        }
        DType::Nvfp4 => {
            let scale = i32::from(block[i / 16] & 0x7f);
            let scale = match (block[i / 16], scale >> 3) {
                (0x7f, _) => 0.0,
                (_, 0) => (scale & 7) as f32 / 1024.0,
                (_, exponent) => (1.0 + (scale & 7) as f32 / 8.0) * 2f32.powi(exponent - 8),
            };
            f32::from(FP4[nibble(block, 4, i, 8) as usize]) * scale
        }
        _ => panic!("no reference for {dtype}"),
    }
}
