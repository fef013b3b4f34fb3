//! Every codec against references that follow the C code one element at a time.

mod decoders;
mod encoders;

use super::*;
use crate::cpu::tests::{Random, at_every_level};

/// The block types that can be decoded.
fn codecs() -> impl Iterator<Item = BlockCodec> {
    DType::all().filter_map(BlockCodec::new)
}

fn to_bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Rows of 256 floats, each of another kind.
fn rows(random: &mut Random, n_rows: usize) -> Vec<f32> {
    let mut floats: Vec<f32> = Vec::with_capacity(n_rows * 256);
    for row in 0..n_rows {
        let scale = 2f32.powi((random.next() % 290) as i32 - 149);
        let constant = f32::from_bits(random.next() as u32);
        for idx in 0..256 {
            let bits = random.next();
            let unit = (bits as i32) as f32 / 2f32.powi(31);
            floats.push(match row % 20 {
                0..3 => unit * scale,
                3 => f32::from_bits(unit.to_bits() & 0xffff_0000),
                4 => f32::from_bits(unit.to_bits() & 0xffff_0000) * scale,
                // Codes of few bits exactly, and ties between them.
                5 => ((bits % 65) as f32 - 32.0) / 4.0,
                6 => ((bits % 509) as f32 - 254.0) / 4.0,
                7 => {
                    if idx % 16 == 7 {
                        12.0
                    } else {
                        ((bits % 49) as f32 - 24.0) / 2.0
                    }
                }
                8 => {
                    if idx % 32 == 3 {
                        127.0
                    } else {
                        ((bits % 508) as f32 - 254.0) / 2.0
                    }
                }
                // Extremes of both signs, the first of which counts.
                9 => {
                    if bits.is_multiple_of(2) {
                        scale
                    } else {
                        -scale
                    }
                }
                10 => {
                    if bits.is_multiple_of(3) {
                        1e30
                    } else {
                        -1e30
                    }
                }
                11 => {
                    if bits.is_multiple_of(5) {
                        unit
                    } else {
                        -unit.abs()
                    }
                }
                12 => {
                    if bits.is_multiple_of(4) {
                        unit.abs()
                    } else {
                        [0.0, -0.0][bits as usize / 4 % 2]
                    }
                }
                13 => [0.0, -0.0][bits as usize % 2],
                14 => f32::from_bits(bits as u32 & 0x807f_ffff),
                15 => f32::from_bits(bits as u32 & 0x8000_0007),
                // Just below a power of two.
                16 => f32::from_bits(scale.to_bits().max(100) - (bits % 100) as u32),
                17 => {
                    if constant.is_nan() {
                        1.0
                    } else {
                        constant
                    }
                }
                18 => f32::from_bits(bits as u32),
                _ => match bits % 40 {
                    0 => f32::INFINITY,
                    1 => f32::NEG_INFINITY,
                    2 => f32::NAN,
                    3 => -f32::NAN,
                    4 => 3e38,
                    5 => -1e-41,
                    6 => 1e10,
                    _ => unit,
                },
            });
        }
    }
    let special =
        [0.0, -0.0, f32::from_bits(1), f32::MAX, f32::MIN, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0];
    for every in special {
        floats.extend([every; 256]);
        for place in [0, 5, 31, 127, 255] {
            floats
                .extend((0..256).map(|idx| if idx % 128 == place % 128 { every } else { idx as f32 - 99.5 }));
        }
    }
    floats
}

/// Those that search have tests of their own.
#[test]
fn encoders_do_as_ggml_does() {
    let seed = 0x5eed_0070;
    println!("seed {seed:#x}");
    let floats = rows(&mut Random(seed), 601);
    let src = to_bytes(&floats);
    for codec in codecs().filter(|codec| codec.can_quantize() && searched::quantizer(codec.dtype()).is_none())
    {
        let (n, bytes) = (codec.dtype().item_elements() as usize, codec.dtype().item_bytes() as usize);
        let want: Vec<u8> =
            floats.chunks(n).flat_map(|floats| encoders::reference(codec.dtype(), floats)).collect();
        at_every_level(|level| {
            let mut got = vec![0xaa; want.len()];
            codec.quantize(&src, &mut got);
            for (idx, (got, want)) in got.chunks(bytes).zip(want.chunks(bytes)).enumerate() {
                let floats = &floats[idx * n..][..n];
                assert_eq!(got, want, "{} block {idx} of {floats:?} at {level:?}", codec.dtype());
            }
        });
    }
}

/// Any bits are a block; some here have scales that are not numbers.
#[test]
fn decoders_do_as_ggml_does() {
    let seed = 0x5eed_0071;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    for codec in codecs() {
        let (n, bytes) = (codec.dtype().item_elements() as usize, codec.dtype().item_bytes() as usize);
        let src = random.bytes(bytes * 333);
        let want: Vec<f32> = src
            .chunks(bytes)
            .flat_map(|block| (0..n).map(|idx| decoders::reference(codec.dtype(), block, idx)))
            .collect();
        at_every_level(|level| {
            let mut got = vec![0xaa; want.len() * 4];
            codec.dequantize(&src, &mut got);
            for (idx, (got, want)) in got.as_chunks::<4>().0.iter().zip(&want).enumerate() {
                let got = f32::from_le_bytes(*got);
                assert!(
                    got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                    "{} block {} element {}: {got:?} for {want:?} at {level:?}",
                    codec.dtype(),
                    idx / n,
                    idx % n
                );
            }
        });
    }
}

/// A scale that is NaN gives its sign and payload to every element, on every machine; where signs are turned last, they
/// are turned.
#[test]
fn nan_scales_are_carried() {
    for (dtype, at) in
        [(DType::Q4_0, 0), (DType::Q4_1, 0), (DType::Q6K, 208), (DType::Iq1S, 0), (DType::Tq2_0, 64)]
    {
        let codec = BlockCodec::new(dtype).unwrap();
        let mut block = Random(7).bytes(dtype.item_bytes() as usize);
        block[at..at + 2].copy_from_slice(&[0x03, 0xfc]);
        let mut floats = vec![0; dtype.item_elements() as usize * 4];
        at_every_level(|level| {
            codec.dequantize(&block, &mut floats);
            for float in floats.as_chunks::<4>().0 {
                assert_eq!(u32::from_le_bytes(*float), 0xffc0_6000, "{dtype} at {level:?}");
            }
        });
    }
}

#[test]
fn signs_are_turned_last() {
    use super::decode::{Arithmetic, LikeX86, Plain};
    let nan = f32::from_bits(0xffc0_6000);
    assert_eq!(LikeX86::mul_then_sign(nan, 8).to_bits(), 0xffc0_6000);
    assert_eq!(LikeX86::mul_then_sign(nan, -8).to_bits(), 0x7fc0_6000);
    for (scale, level) in [(0.0, -8), (-0.0, 8), (-1.5, -62), (f32::INFINITY, -1)] {
        let (rare, plain) = (LikeX86::mul_then_sign(scale, level), Plain::mul_then_sign(scale, level));
        assert_eq!(rare.to_bits(), plain.to_bits());
    }
    assert_eq!(decode::with_signs(0x2b19_0808_0808_087f, 0b1000_0001), [-127, 8, 8, 8, 8, 8, 25, -43]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn nan_are_the_machines() {
    use super::decode::{Arithmetic, LikeX86, Plain};
    use std::hint::black_box;
    let values =
        [0.0, -0.0, 1.5, -2.0, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001), -f32::NAN];
    for (a, b) in values.iter().flat_map(|a| values.map(|b| (black_box(*a), black_box(b)))) {
        // Which of two NaN comes out is the compiler's choice of operands.
        if !(a.is_nan() && b.is_nan()) {
            let bits = |x: f32| x.to_bits();
            assert_eq!(bits(LikeX86::mul(a, b)), bits(Plain::mul(a, b)), "{a} * {b}");
            assert_eq!(bits(LikeX86::add(a, b)), bits(Plain::add(a, b)), "{a} + {b}");
            assert_eq!(bits(LikeX86::sub(a, b)), bits(Plain::sub(a, b)), "{a} - {b}");
        }
    }
}

/// CRC-32 of the tables in ggml-common.h, little-endian.
#[test]
fn codebooks_are_those_of_ggml() {
    let eights =
        |groups: &[u64]| -> Vec<u8> { groups.iter().flat_map(|group| group.to_le_bytes()).collect() };
    let fours = |groups: &[u32]| -> Vec<u8> { groups.iter().flat_map(|group| group.to_le_bytes()).collect() };
    let ternary = eights(&grids::IQ1S).iter().map(|code| code.wrapping_sub(1)).collect::<Vec<u8>>();
    assert_eq!(crate::crc::crc32(&eights(&grids::IQ2XXS)), 0x9924_ff02);
    assert_eq!(crate::crc::crc32(&eights(&grids::IQ2XS)), 0xfa1e_1bfd);
    assert_eq!(crate::crc::crc32(&eights(&grids::IQ2S)), 0x25ae_5bf1);
    assert_eq!(crate::crc::crc32(&fours(&grids::IQ3XXS)), 0x07ba_9ed0);
    assert_eq!(crate::crc::crc32(&fours(&grids::IQ3S)), 0xf576_e4f3);
    assert_eq!(crate::crc::crc32(&ternary), 0xb85e_6ccf);
    assert_eq!(crate::crc::crc32(&grids::SIGNS), 0xffab_7940);
}

#[test]
fn every_block_type_of_ggml_with_a_decoder_is_there() {
    let missing: Vec<String> = DType::all()
        .filter(|dtype| dtype.class() == modelferry_core::dtype::Class::Block)
        .filter(|dtype| BlockCodec::new(*dtype).is_none())
        .map(|dtype| dtype.to_string())
        .collect();
    assert_eq!(missing, ["q8_1"]);
    assert!(BlockCodec::new(DType::F32).is_none());
}
