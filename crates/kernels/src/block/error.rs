//! What quantization did to values.

use std::ops::AddAssign;

/// Errors of quantized values against their sources.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantStats {
    /// Values quantized.
    pub n: u64,
    /// NaN and infinities among the sources. In what follows they do not count.
    pub non_finite: u64,
    /// Finite sources that became infinite or NaN, because their scale is beyond the type that holds it. In what follows
    /// they do not count.
    pub overflow: u64,
    /// Sum of the squares of the differences.
    pub sum_squares: f64,
    /// Largest difference.
    pub largest: f64,
}

impl QuantStats {
    /// Root of the mean square of the differences; 0 of no values.
    pub fn rms(&self) -> f64 {
        if self.n == 0 { 0.0 } else { (self.sum_squares / self.n as f64).sqrt() }
    }

    /// Of dense f32 `before` quantization and `after` it, 4 bytes each.
    pub fn of(before: &[u8], after: &[u8]) -> QuantStats {
        debug_assert_eq!(before.len(), after.len());
        let (sum_squares, largest, is_finite) = measure(before, after);
        let [non_finite, overflow] = if is_finite { [0; 2] } else { counts(before, after) };
        QuantStats { n: before.len() as u64 / 4, non_finite, overflow, sum_squares, largest: largest.into() }
    }
}

impl AddAssign for QuantStats {
    fn add_assign(&mut self, other: QuantStats) {
        self.n += other.n;
        self.non_finite += other.non_finite;
        self.overflow += other.overflow;
        self.sum_squares += other.sum_squares;
        self.largest = self.largest.max(other.largest);
    }
}

per_cpu! {
    /// Sum of the squares of the differences and the largest one, of those that are finite, and whether all are.
    fn measure(before: &[u8], after: &[u8]) -> (f64, f32, bool) {
        let mut sums = Sums::default();
        let (before, before_rest) = before.as_chunks::<4>().0.as_chunks::<LANES>();
        let (after, after_rest) = after.as_chunks::<4>().0.as_chunks::<LANES>();
        for (before, after) in before.iter().zip(after) {
            sums.add(before, after);
        }
        sums.add(before_rest, after_rest);
        let largest = sums.largest.into_iter().fold(0, u32::max);
        let worst = sums.worst.into_iter().fold(0, u32::max);
        (sums.squares.iter().sum(), f32::from_bits(largest), worst < INFINITY)
    }
}

/// Sums are kept in as many lanes, so that they do not wait for each other; they are added in order.
const LANES: usize = 16;
const INFINITY: u32 = 0x7f80_0000;

#[derive(Default)]
struct Sums {
    squares: [f64; LANES],
    /// Largest difference that is finite, as bits, which are ordered like magnitudes.
    largest: [u32; LANES],
    /// Largest difference, as bits: infinity's or more where one is not finite.
    worst: [u32; LANES],
}

impl Sums {
    /// At most [`LANES`] elements.
    #[inline(always)]
    fn add(&mut self, before: &[[u8; 4]], after: &[[u8; 4]]) {
        for (lane, (before, after)) in before.iter().zip(after).enumerate() {
            let bits = (f32::from_le_bytes(*before) - f32::from_le_bytes(*after)).abs().to_bits();
            let finite = if bits < INFINITY { bits } else { 0 };
            let difference = f64::from(f32::from_bits(finite));
            self.squares[lane] += difference * difference;
            self.largest[lane] = self.largest[lane].max(finite);
            self.worst[lane] = self.worst[lane].max(bits);
        }
    }
}

per_cpu! {
    /// Sources that are not finite, and finite ones that became so.
    fn counts(before: &[u8], after: &[u8]) -> [u64; 2] {
        let mut found = [0u64; 2];
        let is_bad = |item: &[u8; 4]| u64::from(u32::from_le_bytes(*item) & INFINITY == INFINITY);
        for (before, after) in before.as_chunks::<4>().0.iter().zip(after.as_chunks::<4>().0) {
            let is_lost = is_bad(before);
            found[0] += is_lost;
            found[1] += is_bad(after) & (1 - is_lost);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::at_every_level;

    fn bytes(floats: &[f32]) -> Vec<u8> {
        floats.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn by_the_arithmetic() {
        at_every_level(|_| {
            let before: Vec<f32> = (0..37).map(|k| k as f32).collect();
            let after: Vec<f32> = (0..37).map(|k| k as f32 + if k == 36 { -3.0 } else { 0.5 }).collect();
            let stats = QuantStats::of(&bytes(&before), &bytes(&after));
            let none = QuantStats::default();
            let wanted = QuantStats { n: 37, sum_squares: 36.0 * 0.25 + 9.0, largest: 3.0, ..none };
            assert_eq!(stats, wanted);
            let before = bytes(&[f32::NAN, f32::INFINITY, 2.0, 1e30]);
            let stats = QuantStats::of(&before, &bytes(&[f32::NAN, 1.0, 1.0, f32::INFINITY]));
            let wanted = QuantStats { n: 4, non_finite: 2, overflow: 1, sum_squares: 1.0, largest: 1.0 };
            assert_eq!(stats, wanted);
            assert_eq!(QuantStats::of(&[], &[]).rms(), 0.0);
        });
    }
}
