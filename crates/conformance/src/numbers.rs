//! What the bits of every scalar type mean, by definition, one item at a time.
//!
//! Written a second time so that it can contradict `modelferry-kernels`: integers, comparisons and shifts only, no
//! lookup, no vector, no arithmetic in the type that is being converted.

use modelferry_core::dtype::{Class, DType};

/// A number, apart from any type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    /// `±mantissa · 2^exponent`, exactly. Zero has a sign too.
    Finite { negative: bool, mantissa: u64, exponent: i32 },
    /// `±∞`.
    Infinite { negative: bool },
    /// Not a number; `payload` is the fraction of an f64 without its quiet bit.
    Nan { negative: bool, payload: u64 },
}

/// What a floating-point type does where IEEE 754 leaves or lost the say.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// The top exponent is infinity and NaN, and a NaN keeps what payload fits.
    IeeePayload,
    /// The top exponent is infinity and NaN, and this is the NaN that conversions make.
    Ieee { nan: u64 },
    /// No infinity, all ones is NaN, and out-of-range values become the largest.
    AllOnesNan,
    /// No infinity, no negative zero: its code is the only NaN, and takes what is out of range.
    MinusZeroNan,
    /// Neither infinity nor NaN: out-of-range values become the largest, NaN a zero of the other sign (ml_dtypes).
    OnlyNumbers,
}

/// A sign, then `exponent` bits, then `mantissa` bits.
#[derive(Clone, Copy)]
struct Format {
    exponent: u32,
    mantissa: u32,
    bias: i32,
    special: Special,
}

fn format(dtype: DType) -> Option<Format> {
    use Special::{AllOnesNan, Ieee, IeeePayload, MinusZeroNan, OnlyNumbers};
    let (exponent, mantissa, bias, special) = match dtype {
        DType::F64 => (11, 52, 1023, IeeePayload),
        DType::F32 => (8, 23, 127, IeeePayload),
        DType::Bf16 => (8, 7, 127, IeeePayload),
        DType::F16 => (5, 10, 15, IeeePayload),
        DType::F8E5M2 => (5, 2, 15, Ieee { nan: 0x7f }),
        DType::F8E4M3Ieee => (4, 3, 7, Ieee { nan: 0x7c }),
        DType::F8E3M4 => (3, 4, 3, Ieee { nan: 0x78 }),
        DType::F8E4M3 => (4, 3, 7, AllOnesNan),
        DType::F8E4M3Fnuz => (4, 3, 8, MinusZeroNan),
        DType::F8E5M2Fnuz => (5, 2, 16, MinusZeroNan),
        DType::F8E4M3B11Fnuz => (4, 3, 11, MinusZeroNan),
        DType::F6E2M3 => (2, 3, 1, OnlyNumbers),
        DType::F6E3M2 => (3, 2, 3, OnlyNumbers),
        DType::F4E2M1 => (2, 1, 1, OnlyNumbers),
        _ => return None,
    };
    Some(Format { exponent, mantissa, bias, special })
}

impl Format {
    fn sign(self) -> u64 {
        1 << (self.exponent + self.mantissa)
    }

    fn ones(bits: u32) -> u64 {
        (1 << bits) - 1
    }

    fn infinity(self) -> u64 {
        Format::ones(self.exponent) << self.mantissa
    }

    /// The largest finite magnitude.
    fn max(self) -> u64 {
        match self.special {
            Special::IeeePayload | Special::Ieee { .. } => self.infinity() - 1,
            Special::AllOnesNan => self.sign() - 2,
            Special::MinusZeroNan | Special::OnlyNumbers => self.sign() - 1,
        }
    }

    fn decode(self, bits: u64) -> Number {
        let negative = bits & self.sign() != 0;
        let magnitude = bits & (self.sign() - 1);
        let fraction = magnitude & Format::ones(self.mantissa);
        let lone_nan = Number::Nan { negative, payload: 0 };
        match self.special {
            // The sign is the bit that is set: ml_dtypes widens this NaN to a negative one (torch to a signaling one).
            Special::MinusZeroNan if bits == self.sign() => return lone_nan,
            Special::AllOnesNan if magnitude > self.max() => return lone_nan,
            Special::Ieee { .. } | Special::IeeePayload if magnitude == self.infinity() => {
                return Number::Infinite { negative };
            }
            Special::Ieee { .. } if magnitude > self.infinity() => return lone_nan,
            Special::IeeePayload if magnitude > self.infinity() => {
                let payload = (fraction << (52 - self.mantissa)) & Format::ones(51);
                return Number::Nan { negative, payload };
            }
            _ => {}
        }
        let exponent = magnitude >> self.mantissa;
        let last_place = exponent.max(1) as i32 - self.bias - self.mantissa as i32;
        let implied_one = u64::from(exponent > 0) << self.mantissa;
        Number::Finite { negative, mantissa: implied_one | fraction, exponent: last_place }
    }

    fn encode(self, number: Number) -> u64 {
        let (negative, magnitude) = match number {
            Number::Finite { negative, mantissa, exponent } => (negative, self.round(mantissa, exponent)),
            Number::Infinite { negative } => (negative, self.max() + 1),
            Number::Nan { negative, payload } => {
                let sign = if negative { self.sign() } else { 0 };
                return match self.special {
                    Special::IeeePayload => {
                        let quiet = 1 << (self.mantissa - 1);
                        sign | self.infinity() | quiet | payload >> (52 - self.mantissa)
                    }
                    Special::Ieee { nan } => sign | nan,
                    Special::AllOnesNan => sign | (self.sign() - 1),
                    Special::MinusZeroNan => self.sign(),
                    Special::OnlyNumbers => self.sign() ^ sign,
                };
            }
        };
        let sign = if negative { self.sign() } else { 0 };
        let too_large = magnitude > self.max();
        match self.special {
            Special::IeeePayload | Special::Ieee { .. } if too_large => sign | self.infinity(),
            Special::AllOnesNan | Special::OnlyNumbers if too_large => sign | self.max(),
            Special::MinusZeroNan if too_large => self.sign(),
            Special::MinusZeroNan if magnitude == 0 => 0,
            _ => sign | magnitude,
        }
    }

    /// The magnitude nearest to `mantissa · 2^exponent`, ties to even, as if exponents went on forever: `max() + 1`
    /// or more when it is too large.
    fn round(self, mantissa: u64, exponent: i32) -> u64 {
        if mantissa == 0 {
            return 0;
        }
        let leading_place = exponent + mantissa.ilog2() as i32;
        let smallest_place = 1 - self.bias - self.mantissa as i32;
        let last_place = (leading_place - self.mantissa as i32).max(smallest_place);
        let drop = last_place - exponent;
        let units = if drop <= 0 {
            mantissa << -drop
        } else if drop > 64 {
            // Less than half of the last place.
            0
        } else {
            let wide = u128::from(mantissa);
            let (whole, rest, half) = (wide >> drop, wide & ((1 << drop) - 1), 1u128 << (drop - 1));
            (whole + u128::from(rest > half || rest == half && whole % 2 == 1)) as u64
        };
        // Consecutive magnitudes have consecutive codes, so a carry into the next binade needs no care.
        let binade = (last_place - smallest_place) as u128;
        let code = (binade << self.mantissa) + u128::from(units);
        u64::try_from(code).unwrap_or(u64::MAX).min(self.max() + 1)
    }
}

/// The low `bits` of `bits_of`, as a signed number.
fn sign_extend(bits_of: u64, bits: u32) -> i64 {
    let up = 64 - bits;
    ((bits_of << up) as i64) >> up
}

/// The number that an item of a real scalar type stands for; truth values are 0 and 1.
pub(crate) fn decode(dtype: DType, bits: u64) -> Number {
    let exact = |negative, magnitude| Number::Finite { negative, mantissa: magnitude, exponent: 0 };
    let n_bits = dtype.bits().unwrap_or(64);
    match dtype.class() {
        Class::Bool => exact(false, u64::from(bits != 0)),
        Class::Unsigned => exact(false, bits & (u64::MAX >> (64 - n_bits))),
        Class::Signed => {
            let value = sign_extend(bits, n_bits);
            exact(value < 0, value.unsigned_abs())
        }
        _ => match format(dtype) {
            Some(format) => format.decode(bits),
            // f8_e8m0: a biased exponent and nothing else.
            None if bits == 0xff => Number::Nan { negative: false, payload: 0 },
            None => Number::Finite { negative: false, mantissa: 1, exponent: bits as i32 - 127 },
        },
    }
}

/// The item of a real scalar type that a number becomes, with one rounding.
pub(crate) fn encode(dtype: DType, number: Number) -> u64 {
    match dtype.class() {
        Class::Bool => match number {
            Number::Finite { mantissa, .. } => u64::from(mantissa != 0),
            _ => 1,
        },
        Class::Signed | Class::Unsigned => encode_integer(dtype, number),
        _ => match format(dtype) {
            Some(format) => format.encode(number),
            None => encode_power(number),
        },
    }
}

/// An item of `from` as an item of `to`, both real scalars.
pub(crate) fn cast(from: DType, to: DType, bits: u64) -> u64 {
    match (from, to) {
        _ if from == to => bits,
        // The one widening that keeps a signaling NaN: the item becomes the upper half.
        (DType::Bf16, DType::F32) => bits << 16,
        _ => encode(to, decode(from, bits)),
    }
}

/// Whether a number lies in the range of a float type, after rounding; NaN lies in every range.
pub(crate) fn fits(to: DType, number: Number) -> bool {
    match (format(to), number) {
        (_, Number::Nan { .. }) => true,
        (Some(format), Number::Finite { mantissa, exponent, .. }) => {
            format.round(mantissa, exponent) <= format.max()
        }
        (Some(format), Number::Infinite { .. }) => {
            matches!(format.special, Special::IeeePayload | Special::Ieee { .. })
        }
        (None, Number::Finite { negative, mantissa, .. }) => {
            encode_power(number) != 0xff && !(negative && mantissa != 0)
        }
        (None, Number::Infinite { .. }) => false,
    }
}

/// A number as f64: exact for every type of at most 53 significant bits, else rounded once.
pub(crate) fn to_f64(number: Number) -> f64 {
    f64::from_bits(encode(DType::F64, number))
}

/// An f64 as a number, exactly.
pub(crate) fn from_f64(value: f64) -> Number {
    decode(DType::F64, value.to_bits())
}

/// Toward zero, and to the nearer end of the range from outside of it; NaN becomes 0.
fn encode_integer(dtype: DType, number: Number) -> u64 {
    let n_bits = dtype.bits().unwrap_or(64);
    let mask = u64::MAX >> (64 - n_bits);
    let (min, max) = match dtype.class() {
        Class::Signed => (-(1i128 << (n_bits - 1)), (1i128 << (n_bits - 1)) - 1),
        _ => (0, (1i128 << n_bits) - 1),
    };
    let value = match number {
        Number::Nan { .. } => 0,
        Number::Infinite { negative } => {
            if negative {
                min
            } else {
                max
            }
        }
        Number::Finite { negative, mantissa, exponent } => {
            let magnitude = match exponent {
                ..=-64 => 0,
                -63..=0 => i128::from(mantissa >> -exponent),
                1..=63 => i128::from(mantissa) << exponent,
                64.. => {
                    if mantissa == 0 {
                        0
                    } else {
                        i128::MAX
                    }
                }
            };
            if negative { -magnitude } else { magnitude }
        }
    };
    value.clamp(min, max) as u64 & mask
}

/// f8_e8m0, as torch's Float8_e8m0fnu.h has it: the sign is dropped; the nearest power of two, halves up; zero and
/// everything up to 2^-127 is 2^-127, everything above it and below 2^-126 is 2^-126; too large is NaN.
fn encode_power(number: Number) -> u64 {
    let Number::Finite { mantissa, exponent, .. } = number else { return 0xff };
    if mantissa == 0 {
        return 0;
    }
    let leading_place = exponent + mantissa.ilog2() as i32;
    let is_power = mantissa.is_power_of_two();
    if leading_place < -127 || leading_place == -127 && is_power {
        return 0;
    }
    if leading_place == -127 {
        return 1;
    }
    let upper_half = mantissa.ilog2() > 0 && mantissa >> (mantissa.ilog2() - 1) & 1 == 1;
    (leading_place + 127 + i32::from(upper_half)).min(0xff) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats() -> impl Iterator<Item = DType> {
        DType::all().filter(|dtype| dtype.is_float())
    }

    #[test]
    fn every_code_comes_back() {
        for dtype in floats().filter(|dtype| dtype.item_bytes() <= 2) {
            for code in 0..1u64 << dtype.bits().unwrap() {
                let number = decode(dtype, code);
                if !matches!(number, Number::Nan { .. }) {
                    assert_eq!(encode(dtype, number), code, "{dtype} {code:#x}");
                }
            }
        }
    }

    #[test]
    fn rounding_takes_the_nearer_neighbour() {
        for dtype in floats().filter(|dtype| dtype.item_bytes() <= 2 && *dtype != DType::F8E8M0) {
            let value = |code| to_f64(decode(dtype, code));
            let max = format(dtype).unwrap().max();
            for code in 0..max {
                let (low, high) = (value(code), value(code + 1));
                let middle = low + (high - low) / 2.0;
                let even = code + code % 2;
                let encode = |value| encode(dtype, from_f64(value));
                assert_eq!(encode(middle), even, "{dtype} {code:#x}");
                assert_eq!(encode(middle.next_down()), code, "{dtype} {code:#x}");
                assert_eq!(encode(middle.next_up()), code + 1, "{dtype} {code:#x}");
            }
        }
    }

    #[test]
    fn the_compilers_own_conversions_agree() {
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Random bits, with the exponent often brought near the range of f32.
            let bits = if state & 1 == 0 { state } else { state & !(0x7f << 56) | 0x3f << 56 };
            let value = f64::from_bits(bits);
            if value.is_nan() {
                continue;
            }
            assert_eq!(encode(DType::F32, from_f64(value)), u64::from((value as f32).to_bits()), "{value:e}");
            assert_eq!(encode(DType::I32, from_f64(value)), u64::from(value as i32 as u32), "{value:e}");
            assert_eq!(encode(DType::U8, from_f64(value)), u64::from(value as u8), "{value:e}");
            assert_eq!(encode(DType::I64, from_f64(value)), value as i64 as u64, "{value:e}");
            assert_eq!(
                encode(DType::F32, decode(DType::I64, state)),
                u64::from((state as i64 as f32).to_bits())
            );
            assert_eq!(encode(DType::F64, decode(DType::U64, state)), (state as f64).to_bits());
        }
    }

    /// What torch 2.15 and ml_dtypes 0.6 make of f32 values; recorded from both.
    #[test]
    fn the_owners_of_the_types_agree() {
        let check = |dtype, value: f32, code| {
            assert_eq!(encode(dtype, from_f64(f64::from(value))), code, "{dtype} of {value}");
        };
        let inf = f32::INFINITY;
        check(DType::F16, 65519.0, 0x7bff);
        check(DType::F16, 65520.0, 0x7c00);
        check(DType::F16, -1e-30, 0x8000);
        check(DType::Bf16, 3.39e38, 0x7f7f);
        check(DType::F8E4M3, 464.1, 0x7e);
        check(DType::F8E4M3, -inf, 0xfe);
        check(DType::F8E4M3, -f32::NAN, 0xff);
        check(DType::F8E5M2, 61439.0, 0x7b);
        check(DType::F8E5M2, 61440.0, 0x7c);
        check(DType::F8E4M3Fnuz, 247.9, 0x7f);
        check(DType::F8E4M3Fnuz, 248.0, 0x80);
        check(DType::F8E4M3Fnuz, -1e-30, 0);
        check(DType::F8E4M3Fnuz, -3.0, 0xcc);
        check(DType::F8E5M2Fnuz, 57344.0, 0x7f);
        check(DType::F8E5M2Fnuz, -3.0, 0xc6);
        check(DType::F8E4M3B11Fnuz, 30.9, 0x7f);
        check(DType::F8E4M3B11Fnuz, -inf, 0x80);
        check(DType::F8E3M4, 15.655, 0x6f);
        check(DType::F8E3M4, -31.0, 0xf0);
        check(DType::F8E4M3Ieee, 247.9, 0x77);
        check(DType::F8E4M3Ieee, 248.0, 0x78);
        check(DType::F6E2M3, -inf, 0x3f);
        check(DType::F6E2M3, f32::NAN, 0x20);
        check(DType::F6E3M2, -f32::NAN, 0x00);
        check(DType::F4E2M1, 500.0, 0x7);
        let tiny = 2f32.powi(-127);
        let powers =
            [(0.0, 0), (1.5, 128), (2.9, 128), (3.0, 129), (1.4999, 127), (tiny, 0), (tiny * 1.1, 1)];
        powers.into_iter().for_each(|(value, code)| check(DType::F8E8M0, value, code));
        let more = [(tiny * 3.0, 2), (-4.0, 129), (2f32.powi(127) * 1.5, 255), (2f32.powi(127) * 1.49, 254)];
        more.into_iter().for_each(|(value, code)| check(DType::F8E8M0, value, code));
        check(DType::F8E8M0, inf, 255);
    }

    /// Items of every kind: all of them for types of two bytes and less, else any bits and numbers of any size.
    fn samples(dtype: DType) -> Vec<u64> {
        let n_bits = dtype.bits().unwrap();
        if n_bits <= 16 {
            return (0..1 << n_bits).collect();
        }
        let mut random = crate::random::Random::new(u64::from(n_bits));
        let mask = u64::MAX >> (64 - n_bits);
        let mut samples: Vec<u64> = (0..20_000).map(|_| random.bits() & mask).collect();
        samples.extend((0..20_000).map(|_| {
            let shift = random.below(64);
            let (sign, size) = (random.bits() & 1 << (n_bits - 1), random.bits() >> shift);
            (size | sign) & mask
        }));
        // Exponents where narrower types begin and end.
        for exponent in -160..140 {
            let value = 2f64.powi(exponent) * (1.0 + (random.below(64) as f64) / 32.0 / 2.0);
            samples.extend(
                [value, -value, value.next_up(), value.next_down()]
                    .map(|value| encode(dtype, from_f64(value))),
            );
        }
        samples
    }

    #[test]
    fn the_kernels_agree_on_every_cast() {
        use modelferry_kernels::cast::{CastStats, Caster};
        let scalars: Vec<DType> = DType::all()
            .filter(|dtype| !matches!(dtype.class(), Class::Complex | Class::Block | Class::Opaque))
            .collect();
        let mut faults = vec![];
        for &from in &scalars {
            let samples = if from == DType::Bool { vec![0, 1] } else { samples(from) };
            let width = from.item_bytes() as usize;
            let src: Vec<u8> =
                samples.iter().flat_map(|code| code.to_le_bytes().into_iter().take(width)).collect();
            for &to in &scalars {
                let width = to.item_bytes() as usize;
                let mut out = vec![0; samples.len() * width];
                let mut stats = CastStats::default();
                Caster::new(from, to).unwrap().run(&src, &mut out, &mut stats);
                let expected = samples.iter().map(|&code| cast(from, to, code));
                let differs = |(found, expected): (&[u8], u64)| found != &expected.to_le_bytes()[..width];
                let wrong: Vec<usize> = out
                    .chunks(width)
                    .zip(expected)
                    .enumerate()
                    .filter(|(_, pair)| differs(*pair))
                    .map(|(idx, _)| idx)
                    .collect();
                if let Some(&at) = wrong.first() {
                    faults.push(format!(
                        "{from} to {to}: {} of {}, first {:#x} gives {:02x?} instead of {:#x}",
                        wrong.len(),
                        samples.len(),
                        samples[at],
                        &out[at * width..][..width],
                        cast(from, to, samples[at])
                    ));
                }
                if to.is_float() && from != to {
                    let overflow =
                        samples.iter().filter(|&&code| !fits(to, decode(from, code))).count() as u64;
                    if stats.overflow != overflow {
                        faults.push(format!(
                            "{from} to {to}: {} overflows instead of {overflow}",
                            stats.overflow
                        ));
                    }
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
