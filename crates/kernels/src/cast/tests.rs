//! Every cast against a slow reference that searches the nearest value, on exact arithmetic.

use super::*;
use crate::cpu::tests::{Random, at_every_level};

/// What happens beyond the largest value and to NaN: (overflow code, NaN code with sign 0, NaN code with sign 1).
#[derive(Clone, Copy)]
struct Reference {
    dtype: DType,
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    max: u64,
    over: u64,
    has_infinity: bool,
    nan: [u64; 2],
    negative_zero: bool,
}

const fn row(
    dtype: DType,
    layout: (u32, u32, i32),
    max: u64,
    over: u64,
    has_infinity: bool,
    nan: [u64; 2],
    negative_zero: bool,
) -> Reference {
    let (exponent_bits, mantissa_bits, bias) = layout;
    Reference { dtype, exponent_bits, mantissa_bits, bias, max, over, has_infinity, nan, negative_zero }
}

#[rustfmt::skip]
const FORMATS: [Reference; 12] = [
    row(DType::F16, (5, 10, 15), 0x7bff, 0x7c00, true, [0x7e00, 0xfe00], true),
    row(DType::Bf16, (8, 7, 127), 0x7f7f, 0x7f80, true, [0x7fc0, 0xffc0], true),
    row(DType::F8E5M2, (5, 2, 15), 0x7b, 0x7c, true, [0x7f, 0xff], true),
    row(DType::F8E4M3, (4, 3, 7), 0x7e, 0x7e, false, [0x7f, 0xff], true),
    row(DType::F8E4M3Ieee, (4, 3, 7), 0x77, 0x78, true, [0x7c, 0xfc], true),
    row(DType::F8E3M4, (3, 4, 3), 0x6f, 0x70, true, [0x78, 0xf8], true),
    row(DType::F8E4M3Fnuz, (4, 3, 8), 0x7f, 0x80, false, [0x80, 0x80], false),
    row(DType::F8E5M2Fnuz, (5, 2, 16), 0x7f, 0x80, false, [0x80, 0x80], false),
    row(DType::F8E4M3B11Fnuz, (4, 3, 11), 0x7f, 0x80, false, [0x80, 0x80], false),
    row(DType::F6E2M3, (2, 3, 1), 0x1f, 0x1f, false, [0x20, 0x00], true),
    row(DType::F6E3M2, (3, 2, 3), 0x1f, 0x1f, false, [0x20, 0x00], true),
    row(DType::F4E2M1, (2, 1, 1), 0x07, 0x07, false, [0x08, 0x00], true),
];

impl Reference {
    fn sign_bit(self) -> u32 {
        self.exponent_bits + self.mantissa_bits
    }

    /// The value of a magnitude up to and including the one after the largest.
    fn magnitude(self, code: u64) -> f64 {
        let exponent = (code >> self.mantissa_bits) as i32;
        let fraction = (code & ((1 << self.mantissa_bits) - 1)) as f64 / 2f64.powi(self.mantissa_bits as i32);
        match exponent {
            0 => fraction * 2f64.powi(1 - self.bias),
            _ => (1.0 + fraction) * 2f64.powi(exponent - self.bias),
        }
    }

    /// The value of any item, NaN without a payload.
    fn value(self, item: u64) -> f64 {
        let magnitude = item & ((1 << self.sign_bit()) - 1);
        let sign = if item >> self.sign_bit() & 1 == 1 { -1.0 } else { 1.0 };
        if !self.negative_zero && item == 1 << self.sign_bit() {
            return f64::NAN;
        }
        if magnitude <= self.max {
            return sign * self.magnitude(magnitude);
        }
        if self.has_infinity && magnitude == self.over { sign * f64::INFINITY } else { f64::NAN }
    }

    /// The item of a value and what to count for it.
    fn nearest(self, value: f64) -> (u64, CastStats) {
        let sign = u64::from(value.is_sign_negative());
        let mut stats = CastStats::default();
        if value.is_nan() {
            stats.nan = 1;
            return (self.nan[sign as usize], stats);
        }
        let target = value.abs();
        // The last code whose value is not above the target, by bisection over all codes.
        let (mut low, mut high) = (0, self.max + 1);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.magnitude(middle) <= target { low = middle } else { high = middle }
        }
        // Both neighbours have few bits, so their midpoint is exact.
        let midpoint = (self.magnitude(low) + self.magnitude(low + 1)) / 2.0;
        let up = target > midpoint || (target == midpoint && low % 2 == 1);
        let mut code = low + u64::from(up);
        if code > self.max {
            stats.overflow = u64::from(!(self.has_infinity && target.is_infinite()));
            code = self.over;
        }
        stats.underflow = u64::from(code == 0 && target != 0.0);
        let is_unsigned = !self.negative_zero && (code == 0 || code == self.over && self.over > self.max);
        (if is_unsigned { code } else { code | sign << self.sign_bit() }, stats)
    }
}

/// Casts `items` at every level and compares each with what is expected of it.
fn check(from: DType, to: DType, items: &[u64], expected: impl Fn(u64) -> (u64, CastStats)) {
    let widths = [from, to].map(|dtype| dtype.item_bytes() as usize);
    let src: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()[..widths[0]].to_vec()).collect();
    let mut want = Vec::new();
    let mut want_stats = CastStats::default();
    for item in items {
        let (item, stats) = expected(*item);
        want.extend_from_slice(&item.to_le_bytes()[..widths[1]]);
        want_stats += stats;
    }
    let caster = Caster::new(from, to).unwrap_or_else(|| panic!("{from} to {to}"));
    at_every_level(|level| {
        let mut got = vec![0xaa; want.len()];
        let mut stats = CastStats::default();
        caster.run(&src, &mut got, &mut stats);
        for (index, item) in items.iter().enumerate() {
            let range = index * widths[1]..(index + 1) * widths[1];
            assert!(
                got[range.clone()] == want[range.clone()],
                "{from} {item:#x} to {to} at {level:?}: {:x?}, expected {:x?}",
                &got[range.clone()],
                &want[range]
            );
        }
        assert_eq!(stats, want_stats, "{from} to {to} at {level:?}");
    });
}

/// The NaN of a 16-bit type with the top bits of a payload, given as the f64 it comes from.
fn with_payload(format: Reference, value: f64, item: u64) -> u64 {
    if !value.is_nan() || format.mantissa_bits < 7 {
        return item;
    }
    let payload = value.to_bits() >> (52 - format.mantissa_bits);
    item | payload & ((1 << format.mantissa_bits) - 1)
}

fn all_items(format: Reference) -> Vec<u64> {
    (0..1 << (format.sign_bit() + 1)).collect()
}

/// The value of an item as f64, with the payload of a 16-bit NaN.
fn source_value(format: Reference, item: u64) -> f64 {
    let value = format.value(item);
    if !value.is_nan() {
        return value;
    }
    let sign = match format.negative_zero {
        true => item >> format.sign_bit() & 1,
        // The only NaN there is has the bit that is the sign elsewhere.
        false => 1,
    };
    let payload = match format.mantissa_bits {
        7.. => item & ((1 << format.mantissa_bits) - 1),
        _ => 0,
    };
    f64::from_bits(sign << 63 | 0x7ff8 << 48 | payload << (52 - format.mantissa_bits))
}

#[test]
fn every_small_float_to_every_small_float() {
    for from in FORMATS {
        for to in FORMATS.into_iter().filter(|to| to.dtype != from.dtype) {
            check(from.dtype, to.dtype, &all_items(from), |item| {
                let value = source_value(from, item);
                let (item, stats) = to.nearest(value);
                (with_payload(to, value, item), stats)
            });
        }
    }
}

#[test]
fn every_small_float_to_f32_and_f64() {
    for from in FORMATS {
        check(from.dtype, DType::F64, &all_items(from), |item| {
            let value = source_value(from, item);
            (value.to_bits(), CastStats { nan: u64::from(value.is_nan()), ..CastStats::default() })
        });
        check(from.dtype, DType::F32, &all_items(from), |item| {
            let value = source_value(from, item);
            let bits = match (value.is_nan(), from.dtype) {
                // The bits move; a signaling NaN stays one.
                (true, DType::Bf16) => item << 16,
                (true, _) => {
                    value.to_bits() >> 32 & 0x8000_0000 | 0x7f80_0000 | value.to_bits() >> 29 & 0x7f_ffff
                }
                _ => u64::from((value as f32).to_bits()),
            };
            (bits, CastStats { nan: u64::from(value.is_nan()), ..CastStats::default() })
        });
    }
}

/// Patterns of every kind: random bits, random values in the range of the format, its ties and their neighbours.
fn hard_values(format: Reference, random: &mut Random, n: usize) -> Vec<f64> {
    let mut values = Vec::with_capacity(n + 16);
    values.extend([0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN_POSITIVE, 5e-324]);
    values.extend([0x7ff0_0000_0000_0001, 0xfff8_1234_5678_9abc, 0x7ff9_2345_6789_abcd].map(f64::from_bits));
    while values.len() < n {
        let bits = random.next();
        let code = bits % (format.max + 1);
        let tie = (format.magnitude(code) + format.magnitude(code + 1)) / 2.0;
        let signed = if bits >> 63 == 1 { -tie } else { tie };
        values.push(f64::from_bits(random.next()));
        values.push(signed);
        values.push(f64::from_bits(signed.to_bits() + 1));
        values.push(f64::from_bits(signed.to_bits() - 1));
        values.push(f64::from(signed as f32));
        values.push(f64::from(f32::from_bits((signed as f32).to_bits() + 1)));
        values.push(f64::from(f32::from_bits((signed as f32).to_bits() - 1)));
        values.push(signed * (1.0 + (random.next() % 1000) as f64 / 1000.0));
    }
    values
}

#[test]
fn f64_and_f32_to_every_small_float() {
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    for to in FORMATS {
        let values = hard_values(to, &mut random, 60_000);
        let items: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        let expected = |value: f64| {
            let (item, stats) = to.nearest(value);
            (with_payload(to, value, item), stats)
        };
        check(DType::F64, to.dtype, &items, |item| expected(f64::from_bits(item)));
        // Random f32 bits, subnormal ones among them, besides the same values.
        let mut items: Vec<u64> = values.iter().map(|value| u64::from((*value as f32).to_bits())).collect();
        items.extend((0..30_000).map(|_| random.next() >> 32));
        items.extend((0..1000).map(|_| random.next() >> 41));
        check(DType::F32, to.dtype, &items, |item| {
            let bits = item as u32;
            let wide = f64::from_bits(crate::lanes::f32_to_f64(bits));
            expected(wide)
        });
    }
}

#[test]
fn f64_to_f32_and_back() {
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut random = Random(seed);
    let mut items: Vec<u64> = (0..200_000).map(|_| random.next()).collect();
    for _ in 0..200_000 {
        // Values in the range of f32, its subnormals and both ends; half of them ties.
        let bits = (random.next() % 0x7f80_0000) as u32;
        let [low, high] = [bits, bits + 1].map(|bits| f64::from(f32::from_bits(bits)));
        let tie = if high.is_finite() { (low + high) / 2.0 } else { f64::from(f32::MAX) + 2f64.powi(103) };
        let nudge = (random.next() & 3) / 2;
        items.extend([tie.to_bits() ^ nudge, (-tie).to_bits() ^ nudge]);
    }
    items.extend([0x7ff0_0000_0000_0001, 0xfff8_0000_0000_0001, 0x7ff9_2345_6789_abcd, 0, 1 << 63]);
    check(DType::F64, DType::F32, &items, |item| {
        let value = f64::from_bits(item);
        let narrow = value as f32;
        let nan = item >> 32 & 0x8000_0000 | 0x7fc0_0000 | item >> 29 & 0x7f_ffff;
        let stats = CastStats {
            overflow: u64::from(value.is_finite() && narrow.is_infinite()),
            underflow: u64::from(value != 0.0 && narrow == 0.0),
            nan: u64::from(value.is_nan()),
        };
        (if value.is_nan() { nan } else { u64::from(narrow.to_bits()) }, stats)
    });
}

#[test]
fn to_e8m0_as_torch_does() {
    let cases: [(f32, u8, CastStats); 15] = [
        (0.0, 0, CastStats { underflow: 1, ..CastStats::default() }),
        (-0.0, 0, CastStats { underflow: 1, ..CastStats::default() }),
        (1.0, 127, CastStats::default()),
        (-1.0, 127, CastStats { overflow: 1, ..CastStats::default() }),
        (1.5, 128, CastStats::default()),
        (1.4999999, 127, CastStats::default()),
        (5.877_472e-39, 0, CastStats::default()), // 2^-127
        (2.9e-39, 0, CastStats { underflow: 1, ..CastStats::default() }),
        (1.01 * 5.877_472e-39, 1, CastStats::default()),
        (1.175_494_4e-38, 1, CastStats::default()),  // 2^-126
        (1.701_411_8e38, 254, CastStats::default()), // 2^127
        (2.6e38, 255, CastStats { overflow: 1, ..CastStats::default() }),
        (f32::INFINITY, 255, CastStats { overflow: 1, ..CastStats::default() }),
        (f32::NAN, 255, CastStats { nan: 1, ..CastStats::default() }),
        (6.0, 130, CastStats::default()),
    ];
    for (value, item, stats) in cases {
        check(DType::F32, DType::F8E8M0, &[u64::from(value.to_bits())], |_| (u64::from(item), stats));
        check(DType::F64, DType::F8E8M0, &[f64::from(value).to_bits()], |_| (u64::from(item), stats));
    }
    check(DType::F8E8M0, DType::F64, &(0..256).collect::<Vec<_>>(), |item| match item {
        255 => (0x7ff8 << 48, CastStats { nan: 1, ..CastStats::default() }),
        _ => (2f64.powi(item as i32 - 127).to_bits(), CastStats::default()),
    });
}

const INTS: [DType; 12] = [
    DType::I2,
    DType::I4,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U2,
    DType::U4,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
];

fn range(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits().unwrap();
    match dtype.class() {
        Class::Signed => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        _ => (0, (1 << bits) - 1),
    }
}

#[test]
fn floats_to_integers() {
    let mut random = Random(0x5eed_0003);
    for to in INTS {
        let (low, high) = range(to);
        let mut values: Vec<f64> = (0..2000).map(|_| f64::from_bits(random.next())).collect();
        values.extend((0..2000).map(|_| (random.next() as i64 >> (random.next() % 64)) as f64 / 8.0));
        for end in [low as f64, high as f64, 0.0] {
            values.extend([-1.0, -0.5, 0.0, 0.5, 0.999, 1.0].map(|step| end + step));
        }
        values.extend([f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
        let expected = |value: f64| {
            let cut = if value.is_nan() { 0 } else { value.trunc() as i128 };
            let clipped = cut.clamp(low, high);
            let stats = CastStats {
                overflow: u64::from(clipped != cut),
                underflow: u64::from(value != 0.0 && value.abs() < 1.0),
                nan: u64::from(value.is_nan()),
            };
            let mask = (1u128 << to.bits().unwrap()) - 1;
            ((clipped as u128 & mask) as u64, stats)
        };
        let items: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        check(DType::F64, to, &items, |item| expected(f64::from_bits(item)));
        let items: Vec<u64> = values.iter().map(|value| u64::from((*value as f32).to_bits())).collect();
        check(DType::F32, to, &items, |item| expected(f64::from(f32::from_bits(item as u32))));
        check(DType::F16, to, &(0..65536).collect::<Vec<_>>(), |item| expected(FORMATS[0].value(item)));
        check(DType::F8E5M2, to, &(0..256).collect::<Vec<_>>(), |item| expected(FORMATS[2].value(item)));
    }
    check(DType::F32, DType::Bool, &[0, 1 << 31, 1, 0x3f80_0000, 0x7fc0_0000], |item| {
        let value = f32::from_bits(item as u32);
        (u64::from(value != 0.0), CastStats { nan: u64::from(value.is_nan()), ..CastStats::default() })
    });
}

/// Integers as items and as numbers: all of the short ones, both ends and random ones of the long.
fn integers(dtype: DType, random: &mut Random) -> Vec<(u64, i128)> {
    let bits = dtype.bits().unwrap();
    let mask = (1u128 << bits) - 1;
    let (low, high) = range(dtype);
    let numbers: Vec<i128> = match bits {
        ..=16 => (low..=high).collect(),
        _ => (0..20_000)
            .map(|_| i128::from(random.next() as i64 >> (random.next() % 63)))
            .chain([low, low + 1, -1, 0, 1, high - 1, high, (1 << 24) + 1, (1 << 31) - 1])
            // Just above and below ties of f32 and f16: a second rounding would show.
            .chain((25..60).flat_map(|n| [0, 1, -1].map(|step| (1i128 << n) + (1 << (n - 24)) + step)))
            .chain([65519, 65520, 65521, (65520 << 20) + 1, (65520 << 20) - 1])
            .map(|number| number.clamp(low, high))
            .collect(),
    };
    numbers.into_iter().map(|number| ((number as u128 & mask) as u64, number)).collect()
}

#[test]
fn integers_to_everything() {
    let mut random = Random(0x5eed_0004);
    for from in INTS {
        let pairs = integers(from, &mut random);
        let items: Vec<u64> = pairs.iter().map(|pair| pair.0).collect();
        let number = |item: u64| match from.class() {
            Class::Signed => {
                i128::from((item << (64 - from.bits().unwrap())) as i64 >> (64 - from.bits().unwrap()))
            }
            _ => i128::from(item),
        };
        check(from, DType::F64, &items, |item| ((number(item) as f64).to_bits(), CastStats::default()));
        check(from, DType::F32, &items, |item| {
            (u64::from((number(item) as f32).to_bits()), CastStats::default())
        });
        for to in FORMATS {
            check(from, to.dtype, &items, |item| {
                // The number, cut to 53 bits with a sticky last one: on the same side of every tie.
                let number = number(item);
                let excess = (128 - number.unsigned_abs().leading_zeros()).saturating_sub(53);
                let sticky = i128::from(number.unsigned_abs() & ((1 << excess) - 1) != 0) << excess;
                let magnitude = (number.unsigned_abs() >> excess << excess) as i128 | sticky;
                to.nearest(magnitude as f64 * if number < 0 { -1.0 } else { 1.0 })
            });
        }
        for to in INTS.into_iter().filter(|to| *to != from) {
            let (low, high) = range(to);
            let mask = (1u128 << to.bits().unwrap()) - 1;
            check(from, to, &items, |item| {
                let clipped = number(item).clamp(low, high);
                let overflow = u64::from(clipped != number(item));
                ((clipped as u128 & mask) as u64, CastStats { overflow, ..CastStats::default() })
            });
        }
        check(from, DType::Bool, &items, |item| (u64::from(item != 0), CastStats::default()));
    }
    check(DType::Bool, DType::F32, &[0, 1], |item| (item * 0x3f80_0000, CastStats::default()));
}

#[test]
fn complex_and_identity_and_refusals() {
    let src = [1.5f32, -2.25, 1e9, 0.0].map(f32::to_le_bytes).concat();
    let mut half = [0; 8];
    let mut stats = CastStats::default();
    let caster = Caster::new(DType::C64, DType::C32).unwrap();
    caster.run(&src, &mut half, &mut stats);
    assert_eq!(half, [0x00, 0x3e, 0x80, 0xc0, 0x00, 0x7c, 0x00, 0x00]);
    assert_eq!(stats.overflow, 1);
    let mut wide = [0; 32];
    Caster::new(DType::C32, DType::C128).unwrap().run(&half, &mut wide, &mut stats);
    assert_eq!(wide, [1.5, -2.25, f64::INFINITY, 0.0].map(f64::to_le_bytes).concat()[..]);

    let nan = 0x7f80_0001u32.to_le_bytes();
    let mut same = [0; 4];
    Caster::new(DType::F32, DType::F32).unwrap().run(&nan, &mut same, &mut stats);
    assert_eq!(same, nan);

    for (from, to) in [(DType::C64, DType::F32), (DType::F32, DType::Q8_0), (DType::Q8_0, DType::F32)] {
        assert!(Caster::new(from, to).is_none());
    }
    let scalars: Vec<DType> =
        DType::all().filter(|d| !matches!(d.class(), Class::Complex | Class::Block)).collect();
    for from in &scalars {
        for to in &scalars {
            assert!(Caster::new(*from, *to).is_some(), "{from} to {to}");
        }
    }
}
