//! Every quantizer against a scalar transliteration of ggml's C, at every level of instructions.

mod reference;
mod searches;

use super::{quantizer, weighted_quantizer};
use crate::cpu::tests::{Random, at_every_level};
use modelferry_core::dtype::DType;
use reference::Reference;

/// The elements of a row: more than one super-block, and not a divisor of what is searched at once.
const ROW: usize = 768;

const TYPES: [DType; 11] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::Iq4Nl,
    DType::Iq4Xs,
];

fn uniform(random: &mut Random) -> f32 {
    (random.next() as i32) as f32 / 2f32.powi(31)
}

/// Roughly as weights are distributed.
fn normal(random: &mut Random) -> f32 {
    (0..8).map(|_| uniform(random)).sum()
}

/// Whole rows of all kinds.
fn rows(random: &mut Random) -> Vec<f32> {
    let mut floats = Vec::new();
    for row in 0..44 {
        let scale = 2f32.powi((random.next() % 24) as i32 - 16);
        for at in 0..ROW {
            floats.push(match row {
                0..8 => normal(random) * scale,
                8..12 => uniform(random) * scale,
                // Rounded to bf16, and to few values, so that there are ties.
                12 | 13 => f32::from_bits((normal(random) * scale).to_bits() & 0xffff_0000),
                14 | 15 => (normal(random) * 4.0).round() * scale,
                16 => 0.0,
                17 => {
                    if at / 32 % 3 == 0 {
                        normal(random)
                    } else {
                        0.0
                    }
                }
                18 => -0.0,
                19 => scale,
                20 => -scale,
                21 => {
                    if at / 16 % 2 == 0 {
                        scale
                    } else {
                        -scale
                    }
                }
                // One outlier in a group, a super-block of large groups and small ones.
                22 => {
                    if at % 97 == 0 {
                        100.0
                    } else {
                        normal(random) * 1e-3
                    }
                }
                23 => normal(random) * 10f32.powi(-((at / 32 % 8) as i32)),
                24 => normal(random) * 1e-15,
                25 => normal(random) * 1e-16,
                26 => f32::from_bits(random.next() as u32 & 0x807f_ffff),
                27 => f32::from_bits(random.next() as u32 & 0x8000_000f),
                28 => {
                    if random.next() & 1 == 0 {
                        1e30
                    } else {
                        -1e30
                    }
                }
                29 => normal(random) * 1e30,
                30 => {
                    if at % 50 == 0 {
                        1e30
                    } else {
                        normal(random)
                    }
                }
                31 => normal(random).abs() + 3.0,
                32 => -normal(random).abs() - 0.5,
                // Any finite value at all.
                33 => f32::from_bits(random.next() as u32 & 0xbfff_ffff),
                34 => normal(random) * 1e19,
                // What a weight of zero may leave out of all range.
                35 if at % 5 == 0 => normal(random) * 1e10,
                35 => normal(random),
                // Nothing but what has no weight.
                36 if random.next().is_multiple_of(32) => normal(random),
                36 => 0.0,
                37 if random.next().is_multiple_of(32) => -normal(random).abs(),
                37 => 0.0,
                38..42 => f32::from_bits(random.next() as u32 & 0xbfff_ffff),
                _ => (at % 256) as f32 - 77.0,
            });
        }
    }
    floats
}

/// One row of weights: as they come from activations, with zeros, very small or very large ones.
fn importance(random: &mut Random, kind: usize) -> Vec<f32> {
    (0..ROW)
        .map(|at| match kind {
            0 => normal(random).powi(2),
            1 if at % 5 == 0 => 0.0,
            1 => uniform(random).abs() * 1e4,
            2 if at / 32 % 2 == 0 => 0.0,
            2 => uniform(random).abs() * 1e-6,
            _ => 1.0,
        })
        .collect()
}

fn to_bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn assert_same(got: &[u8], want: &[u8], dtype: DType, floats: &[f32], case: &str) {
    let (bytes, elements) = (dtype.item_bytes() as usize, dtype.item_elements() as usize);
    for (k, (got, want)) in got.chunks(bytes).zip(want.chunks(bytes)).enumerate() {
        assert_eq!(got, want, "{dtype}, block {k} of {:?}, {case}", &floats[k * elements..][..elements]);
    }
}

#[test]
fn like_ggml() {
    let seed = 0x5eed_0501;
    println!("seed {seed:#x}");
    let floats = rows(&mut Random(seed));
    let src = to_bytes(&floats);
    for dtype in TYPES {
        let Some(quantize) = quantizer(dtype) else { continue };
        let want = Reference::new(dtype).quantize(&floats);
        at_every_level(|level| {
            let mut got = vec![0xaa; want.len()];
            quantize(&src, &mut got);
            assert_same(&got, &want, dtype, &floats, &format!("{level:?}"));
        });
    }
}

#[test]
fn like_ggml_with_weights() {
    let seed = 0x5eed_0502;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let floats = rows(&mut random);
    let src = to_bytes(&floats);
    for kind in 0..4 {
        let weights = importance(&mut random, kind);
        let weight_bytes = to_bytes(&weights);
        for dtype in TYPES {
            let quantize = weighted_quantizer(dtype).unwrap();
            let want = Reference::new(dtype).quantize_weighted(&floats, &weights);
            at_every_level(|level| {
                let mut got = vec![0xaa; want.len()];
                quantize(&src, ROW, &weight_bytes, &mut got);
                assert_same(&got, &want, dtype, &floats, &format!("weights {kind}, {level:?}"));
            });
        }
    }
}

/// A try may have no range, where all that is not zero has no weight: then it has no scale either. That happens to few
/// groups, so many are tried.
#[test]
fn groups_of_few_values() {
    let mut random = Random(0x5eed_0506);
    let sparse = |random: &mut Random| if random.next().is_multiple_of(32) { normal(random) } else { 0.0 };
    let floats: Vec<f32> = (0..1500 * ROW).map(|_| sparse(&mut random)).collect();
    let weights: Vec<f32> =
        (0..ROW).map(|at| if at % 3 == 0 { 0.0 } else { uniform(&mut random).abs() * 1e4 }).collect();
    let (src, weight_bytes) = (to_bytes(&floats), to_bytes(&weights));
    for dtype in [DType::Q4_1, DType::Q4K, DType::Q2K] {
        let want = Reference::new(dtype).quantize_weighted(&floats, &weights);
        let mut got = vec![0; want.len()];
        weighted_quantizer(dtype).unwrap()(&src, ROW, &weight_bytes, &mut got);
        assert_same(&got, &want, dtype, &floats, "few values");
    }
}

/// What was left of a batch must not show in the next, and the end of the input may be anywhere.
#[test]
fn every_length() {
    let mut random = Random(0x5eed_0503);
    let floats: Vec<f32> = (0..20 * ROW).map(|_| normal(&mut random)).collect();
    let weights = importance(&mut random, 0);
    let (src, weight_bytes) = (to_bytes(&floats), to_bytes(&weights));
    at_every_level(|_| {
        for dtype in TYPES {
            let bytes = |elements: usize| dtype.packed_len(elements as u64).unwrap() as usize;
            if let Some(quantize) = quantizer(dtype) {
                let mut all = vec![0; bytes(floats.len())];
                quantize(&src, &mut all);
                for blocks in 0..=20 {
                    let elements = blocks * dtype.item_elements() as usize;
                    let mut some = vec![0; bytes(elements)];
                    quantize(&src[..4 * elements], &mut some);
                    assert_eq!(some, all[..some.len()]);
                }
            }
            let quantize = weighted_quantizer(dtype).unwrap();
            let mut all = vec![0; bytes(floats.len())];
            quantize(&src, ROW, &weight_bytes, &mut all);
            for rows in 0..=20 {
                let mut some = vec![0; bytes(rows * ROW)];
                quantize(&src[..4 * rows * ROW], ROW, &weight_bytes, &mut some);
                assert_eq!(some, all[..some.len()]);
            }
        }
    });
}

/// They are refused before, but must do no harm: no panic, no end of time, and the other blocks as ever.
#[test]
fn nan_and_infinity() {
    let mut random = Random(0x5eed_0504);
    let mut floats: Vec<f32> = (0..3 * ROW).map(|_| normal(&mut random)).collect();
    let clean = to_bytes(&floats);
    let weights = to_bytes(&importance(&mut random, 0));
    for (at, x) in floats[..512].iter_mut().enumerate() {
        match at % 41 {
            0 => *x = f32::NAN,
            7 => *x = f32::INFINITY,
            9 if at > 300 => *x = f32::NEG_INFINITY,
            _ => {}
        }
    }
    let src = to_bytes(&floats);
    at_every_level(|_| {
        for dtype in TYPES {
            let len = dtype.packed_len(floats.len() as u64).unwrap() as usize;
            let (mut got, mut want) = (vec![0; len], vec![0; len]);
            let run = |src: &[u8], dst: &mut [u8]| match quantizer(dtype) {
                Some(quantize) => quantize(src, dst),
                None => weighted_quantizer(dtype).unwrap()(src, ROW, &weights, dst),
            };
            run(&src, &mut got);
            run(&clean, &mut want);
            assert_eq!(got[len / 3..], want[len / 3..], "{dtype}");
            weighted_quantizer(dtype).unwrap()(&src, ROW, &weights, &mut got);
            weighted_quantizer(dtype).unwrap()(&clean, ROW, &weights, &mut want);
            assert_eq!(got[len / 3..], want[len / 3..], "{dtype}");
        }
    });
}

/// Values change hands where ggml's comparison of two rounded differences turns, which is right midway.
#[test]
fn values_change_hands_midway() {
    let check = |x: f32| {
        assert_eq!(usize::from(super::iq4::code(x)), searches::best_index(x), "{x}");
    };
    for pair in searches::VALUES.windows(2) {
        let midway = (f32::from(pair[0]) + f32::from(pair[1])) / 2.0;
        for edge in [midway, f32::from(pair[0]), f32::from(pair[1])] {
            for step in -1000i32..=1000 {
                check(f32::from_bits(edge.to_bits().wrapping_add_signed(step)));
            }
        }
    }
    for special in
        [0.0, -0.0, 1e-40, -1e-40, 1e38, -1e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN]
    {
        check(special);
    }
    let mut random = Random(0x5eed_0505);
    for _ in 0..100_000 {
        check(uniform(&mut random) * 130.0);
        check(f32::from_bits(random.next() as u32));
    }
}
