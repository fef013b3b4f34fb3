//! The register as a polynomial over GF(2) modulo the CRC's own.
//!
//! Bit 31 is the coefficient of x^0 and bit 0 that of x^31. One zero bit of message multiplies by x.

pub(super) const POLYNOMIAL: u32 = 0xedb8_8320;

/// The product of two polynomials, reduced.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut a, mut bit) = (0, a, 32);
    while bit > 0 {
        bit -= 1;
        // b's coefficient of x^(31 - bit) times a * x^(31 - bit).
        if b >> bit & 1 == 1 {
            product ^= a;
        }
        a = (a >> 1) ^ if a & 1 == 1 { POLYNOMIAL } else { 0 };
    }
    product
}

/// `POWERS[k]` = x^(8 * 2^k): what 2^k zero bytes multiply by.
static POWERS: [u32; 64] = {
    let mut powers = [0; 64];
    powers[0] = 1 << (31 - 8);
    let mut k = 1;
    while k < 64 {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// x^n, reduced.
#[cfg(target_arch = "x86_64")]
pub(super) const fn x_to_the(n: u32) -> u32 {
    let (mut power, mut left) = (1u32 << 31, n);
    while left > 0 {
        power = multiply(power, 1 << 30);
        left -= 1;
    }
    power
}

/// The register after `n_bytes` more bytes of zero; at most 64 multiplications.
pub fn advance(register: u32, n_bytes: u64) -> u32 {
    if register == 0 {
        return 0;
    }
    let (mut register, mut left) = (register, n_bytes);
    while left != 0 {
        register = multiply(register, POWERS[left.trailing_zeros() as usize]);
        left &= left - 1;
    }
    register
}

/// [`advance`] by one distance, many times: four table look-ups each.
///
/// The sum of a box's rows is a Horner scheme: `sum = shifter.apply(sum) ^ crc32_raw(0, row)`, where the shifter is
/// for the distance between the starts of two rows that are equally long.
#[derive(Clone, Debug)]
pub struct Shifter(Box<[[u32; 256]; 4]>);

impl Shifter {
    /// Tables for advancing by `n_bytes`: 4 KiB.
    pub fn new(n_bytes: u64) -> Shifter {
        let mut tables = Box::new([[0; 256]; 4]);
        for (index, table) in tables.iter_mut().enumerate() {
            for bit in 0..8 {
                let image = advance(1 << (8 * index + bit), n_bytes);
                // All sums of the images of lower bits are there already.
                for low in 0..1 << bit {
                    table[low | 1 << bit] = table[low] ^ image;
                }
            }
        }
        Shifter(tables)
    }

    /// The register after as many zero bytes.
    #[inline]
    pub fn apply(&self, register: u32) -> u32 {
        let bytes = register.to_le_bytes();
        self.0.iter().zip(bytes).fold(0, |sum, (table, byte)| sum ^ table[usize::from(byte)])
    }
}
