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
        let [non_finite, overflow] = counts(before, after);
        let (sum_squares, largest) = measure(before, after);
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

/// Sums are kept in as many lanes, so that they do not wait for each other; they are added in order.
const LANES: usize = 16;

per_cpu! {
    fn measure(before: &[u8], after: &[u8]) -> (f64, f32) {
        let mut sums = [0f64; LANES];
        let mut largest = [0f32; LANES];
        let chunks = before.chunks(LANES * 4).zip(after.chunks(LANES * 4));
        for (before, after) in chunks {
            let items = before.as_chunks::<4>().0.iter().zip(after.as_chunks::<4>().0);
            for (lane, (before, after)) in items.enumerate() {
                let (before, after) = (f32::from_le_bytes(*before), f32::from_le_bytes(*after));
                let difference = (before - after).abs();
                let difference = if difference.is_finite() { difference } else { 0.0 };
                sums[lane] += f64::from(difference) * f64::from(difference);
                largest[lane] = largest[lane].max(difference);
            }
        }
        (sums.iter().sum(), largest.iter().copied().fold(0.0, f32::max))
    }
}

per_cpu! {
    /// Sources that are not finite, and finite ones that became so.
    fn counts(before: &[u8], after: &[u8]) -> [u64; 2] {
        const EXPONENT: u32 = 0x7f80_0000;
        let mut found = [0u64; 2];
        let is_bad = |item: &[u8; 4]| u64::from(u32::from_le_bytes(*item) & EXPONENT == EXPONENT);
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
