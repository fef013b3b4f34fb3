//! CRC-32 as zip has it (IEEE 802.3, reflected, polynomial 0xEDB88320), of runs in any order.
//!
//! The register of a CRC is linear in the message over GF(2). So the digest of a range is the exclusive or of what
//! each run of bytes contributes: its raw CRC started from zero, advanced over the bytes that follow it in the range.
//! Threads hash runs as they write them, and a fold joins the partial sums ([`Crc32Sum`]).

mod algebra;
#[cfg(target_arch = "x86_64")]
mod clmul;

pub use algebra::{Shifter, advance};

use algebra::POLYNOMIAL;

/// The register after `bytes`, from the register `init`; neither is inverted.
///
/// The CRC-32 of zip is `!crc32_raw(!0, bytes)`; see [`crc32`].
pub fn crc32_raw(init: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::cpu::{Dispatch, dispatch};
        match dispatch() {
            // SAFETY: `dispatch` returns a level only if the machine has all of its instructions.
            Dispatch::Avx512 if bytes.len() >= 512 => return unsafe { clmul::crc32_512(init, bytes) },
            // SAFETY: as above.
            Dispatch::Avx2 | Dispatch::Avx512 if bytes.len() >= 64 => {
                return unsafe { clmul::crc32_128(init, bytes) };
            }
            _ => {}
        }
    }
    by_table(init, bytes)
}

/// The CRC-32 of zip, gzip and PNG.
///
/// ```
/// assert_eq!(modelferry_kernels::crc::crc32(b"123456789"), 0xcbf4_3926);
/// ```
pub fn crc32(bytes: &[u8]) -> u32 {
    !crc32_raw(!0, bytes)
}

/// What some of the runs of a range contribute to its CRC-32.
///
/// ```
/// use modelferry_kernels::crc::{Crc32Sum, crc32};
/// let mut sum = Crc32Sum::default();
/// sum.add(b"6789", 0);
/// let mut other = Crc32Sum::default();
/// other.add(b"12345", 4);
/// sum.merge(other);
/// assert_eq!(sum.finish(9), crc32(b"123456789"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc32Sum(u32);

impl Crc32Sum {
    /// Adds a run that is followed by `n_after` bytes in the range.
    pub fn add(&mut self, run: &[u8], n_after: u64) {
        self.add_raw(crc32_raw(0, run), n_after);
    }

    /// Adds a run by its [`crc32_raw`] from zero.
    pub fn add_raw(&mut self, raw: u32, n_after: u64) {
        self.0 ^= advance(raw, n_after);
    }

    /// Joins the sums of two disjoint sets of runs.
    pub fn merge(&mut self, other: Crc32Sum) {
        self.0 ^= other.0;
    }

    /// The sum as a number, to send it elsewhere; [`Crc32Sum::from_bits`] takes it back.
    pub fn to_bits(self) -> u32 {
        self.0
    }

    /// The sum from its number.
    pub fn from_bits(bits: u32) -> Crc32Sum {
        Crc32Sum(bits)
    }

    /// The CRC-32 of a range of `n_bytes`, every byte of which was added once (runs of zeros may be left out).
    pub fn finish(self, n_bytes: u64) -> u32 {
        self.0 ^ advance(!0, n_bytes) ^ !0
    }
}

/// `TABLES[k][b]`: the register after the byte `b` and `k` zero bytes.
static TABLES: [[u32; 256]; 16] = {
    let mut tables = [[0; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            register = (register >> 1) ^ if register & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut k = 1;
    while k < 16 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][(before & 255) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
};

/// Sixteen bytes at a time.
fn by_table(init: u32, bytes: &[u8]) -> u32 {
    let mut register = init;
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let mut mixed = *block;
        for (byte, old) in mixed.iter_mut().zip(register.to_le_bytes()) {
            *byte ^= old;
        }
        register = 0;
        for (index, byte) in mixed.iter().enumerate() {
            register ^= TABLES[15 - index][usize::from(*byte)];
        }
    }
    for byte in rest {
        register = (register >> 8) ^ TABLES[0][usize::from(register as u8 ^ *byte)];
    }
    register
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    /// The definition, bit by bit.
    fn naive(init: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(init, |register, byte| {
            (0..8).fold(register ^ u32::from(*byte), |register, _| {
                if register & 1 == 1 { register >> 1 ^ 0xedb8_8320 } else { register >> 1 }
            })
        })
    }

    #[test]
    fn agrees_with_the_definition() {
        let mut random = Random(0x5eed_0010);
        let bytes = random.bytes(5000);
        at_every_level(|level| {
            for n_bytes in (0..1200).chain([2047, 2048, 2049, 4096, 4999]) {
                for start in [0, 1, 3] {
                    let run = &bytes[start..(start + n_bytes).min(bytes.len())];
                    for init in [0, !0, 0x1234_5678] {
                        assert_eq!(crc32_raw(init, run), naive(init, run), "{n_bytes} bytes at {level:?}");
                    }
                }
            }
        });
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn advancing_is_zeros() {
        for n_bytes in [0usize, 1, 2, 7, 8, 255, 256, 1000, 65537] {
            for register in [0, 1, 0x8000_0000, 0xdead_beef, !0] {
                let expected = naive(register, &vec![0; n_bytes]);
                assert_eq!(advance(register, n_bytes as u64), expected);
                assert_eq!(Shifter::new(n_bytes as u64).apply(register), expected);
            }
        }
        let far = (1u64 << 63) + 12345;
        assert_eq!(advance(0xdead_beef, far), advance(advance(0xdead_beef, 1 << 63), 12345));
        // The register's states form a group of order 2^32 - 1.
        assert_eq!(advance(7, u64::from(u32::MAX)), 7);
    }

    #[test]
    fn runs_in_any_order() {
        let mut random = Random(0x5eed_0011);
        let bytes = random.bytes(10_000);
        let mut cuts: Vec<usize> = (0..40).map(|_| random.next() as usize % bytes.len()).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut runs: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
        runs.sort_by_key(|run| run.start.wrapping_mul(0x9e37_79b9) % 1009);
        let mut sums = [Crc32Sum::default(); 3];
        for (index, run) in runs.into_iter().enumerate() {
            let n_after = (bytes.len() - run.end) as u64;
            sums[index % 3].add(&bytes[run], n_after);
        }
        let mut all = Crc32Sum::from_bits(sums[0].to_bits());
        all.merge(sums[1]);
        all.merge(sums[2]);
        assert_eq!(all.finish(bytes.len() as u64), crc32(&bytes));
    }

    #[test]
    fn rows_of_a_box_by_horner() {
        let mut random = Random(0x5eed_0012);
        let (row_bytes, stride, n_rows) = (96, 1000, 9);
        let file = random.bytes(stride * n_rows);
        let mut only_rows = vec![0; file.len()];
        let shifter = Shifter::new(stride as u64);
        let mut sum = 0;
        for row in 0..n_rows {
            let range = row * stride..row * stride + row_bytes;
            only_rows[range.clone()].copy_from_slice(&file[range.clone()]);
            sum = shifter.apply(sum) ^ crc32_raw(0, &file[range]);
        }
        let mut total = Crc32Sum::default();
        total.add_raw(sum, (stride - row_bytes) as u64);
        assert_eq!(total.finish(file.len() as u64), crc32(&only_rows));
    }
}
