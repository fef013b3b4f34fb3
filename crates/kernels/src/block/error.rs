//! What quantization did to values.

use std::ops::AddAssign;

/// Errors of quantized values against their sources.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantStats {
    /// Values quantized.
    pub n: u64,
    /// NaN and infinities among the sources. They count below as what is left of them: nothing.
    pub non_finite: u64,
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
        let (non_finite, sum_squares, largest) = measure(before, after);
        QuantStats { n: before.len() as u64 / 4, non_finite, sum_squares, largest: largest.into() }
    }
}

impl AddAssign for QuantStats {
    fn add_assign(&mut self, other: QuantStats) {
        self.n += other.n;
        self.non_finite += other.non_finite;
        self.sum_squares += other.sum_squares;
        self.largest = self.largest.max(other.largest);
    }
}

/// Sums are kept in as many lanes, so that they do not wait for each other; they are added in order.
const LANES: usize = 16;

per_cpu! {
    fn measure(before: &[u8], after: &[u8]) -> (u64, f64, f32) {
        // A lane of a buffer in memory cannot count past this.
        let mut bad = [0u32; LANES];
        let mut sums = [0f64; LANES];
        let mut largest = [0f32; LANES];
        let chunks = before.chunks(LANES * 4).zip(after.chunks(LANES * 4));
        for (before, after) in chunks {
            let items = before.as_chunks::<4>().0.iter().zip(after.as_chunks::<4>().0);
            for (lane, (before, after)) in items.enumerate() {
                let (before, after) = (f32::from_le_bytes(*before), f32::from_le_bytes(*after));
                let difference = (before - after).abs();
                let is_bad = !difference.is_finite();
                let difference = if is_bad { 0.0 } else { difference };
                bad[lane] += u32::from(is_bad);
                sums[lane] += f64::from(difference) * f64::from(difference);
                largest[lane] = largest[lane].max(difference);
            }
        }
        (bad.iter().map(|n| u64::from(*n)).sum(), sums.iter().sum(), largest.iter().copied().fold(0.0, f32::max))
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
            assert_eq!(
                stats,
                QuantStats { n: 37, non_finite: 0, sum_squares: 36.0 * 0.25 + 9.0, largest: 3.0 }
            );
            let stats = QuantStats::of(&bytes(&[f32::NAN, f32::INFINITY, 2.0]), &bytes(&[0.0, 1.0, 1.0]));
            assert_eq!(stats, QuantStats { n: 3, non_finite: 2, sum_squares: 1.0, largest: 1.0 });
            assert_eq!(QuantStats::of(&[], &[]).rms(), 0.0);
        });
    }
}
