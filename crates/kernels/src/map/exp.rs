//! An exponential that is the same on every machine: `f64::exp` is the platform's libm.

/// e^x within 2 units in the last place (far closer than half of one after rounding to f32).
///
/// x = k ln 2 + r with |r| <= ln 2 / 2, then the series of e^r, whose terms beyond the 13th power are below 2^-57.
#[inline(always)]
pub(super) fn exp(x: f64) -> f64 {
    // ln 2 in two parts; the first has 21 trailing zero bits, so that its product with k is exact (fdlibm, e_exp.c).
    const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    // 1.5 * 2^52: a sum with it is rounded to an integer, which lies in its low bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    // Beyond these the result is infinite or zero whatever the bits; NaN passes both.
    let inside = if x > 800.0 { 800.0 } else { x };
    let inside = if inside < -800.0 { -800.0 } else { inside };
    let shifted = inside * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (inside - k * LN2_HIGH) - k * LN2_LOW;
    let mut sum = SERIES[0];
    for term in &SERIES[1..] {
        sum = sum * r + term;
    }
    // 2^k in two factors, for results below the normal range and k above it.
    let k = (shifted.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64);
    let half = k >> 1;
    sum * power(half) * power(k - half)
}

/// 2^k for |k| < 1000, anything for NaN's k.
#[inline(always)]
fn power(k: i64) -> f64 {
    f64::from_bits((k.wrapping_add(1023) as u64) << 52)
}

/// 1 / n!, from n = 13 down to 0.
const SERIES: [f64; 14] = {
    let mut series = [1.0; 14];
    let (mut n, mut factorial) = (0, 1.0);
    while n < 14 {
        series[13 - n] = 1.0 / factorial;
        n += 1;
        factorial *= n as f64;
    }
    series
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_platform() {
        for k in -74_600..71_000 {
            let x = f64::from(k) / 100.0;
            let (got, want) = (exp(x), x.exp());
            assert!(got.to_bits().abs_diff(want.to_bits()) <= 2, "{x}: {got:e}, expected {want:e}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f64::INFINITY), f64::INFINITY);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(1e300), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan());
    }
}
