//! Mutations of files: by bytes, by the tokens of their text, by the fields of their records.

use crate::pickle;
use crate::random::Random;
use crate::tokens;
use crate::zip;

/// Inputs do not grow beyond this.
pub(crate) const MAX_BYTES: usize = 1 << 16;

const NUMBERS: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff8,
    0xffff_ffff_ffff_ffff,
];

/// A number that programs get wrong.
pub(crate) fn interesting(random: &mut Random) -> u64 {
    *random.pick(NUMBERS)
}

/// Changes a file in one to eight ways that its format suggests. `others` are files to take parts of.
pub(crate) fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let n = [1, 1, 1, 2, 2, 3, 5, 8][random.below(8)];
    for _ in 0..n {
        match random.below(5) {
            0 | 1 => any(bytes, others, random),
            _ => known(bytes, others, random),
        }
        bytes.truncate(MAX_BYTES);
    }
}

/// Changes what the file's structure shows.
fn known(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    if bytes.starts_with(b"PK") {
        return zip::mutate(bytes, random);
    }
    if pickle::is_likely(bytes) {
        return pickle::mutate(bytes, random);
    }
    // A header's text lies behind its length, which must stay right to get past it.
    let prefix = if bytes.starts_with(b"\x93NUMPY") {
        match bytes.get(6) {
            Some(1) => Some((8, 2)),
            _ => Some((8, 4)),
        }
    } else if bytes.get(8) == Some(&b'{') {
        Some((0, 8))
    } else {
        None
    };
    match prefix {
        Some((at, width)) if bytes.len() > at + width => {
            let stated =
                bytes[at..at + width].iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
            let from = at + width;
            let end = usize::try_from(stated).ok().and_then(|len| from.checked_add(len));
            let end = end.unwrap_or(bytes.len()).min(bytes.len());
            let mut text = bytes[from..end].to_vec();
            tokens::mutate(&mut text, random);
            let len = (text.len() as u64).to_le_bytes();
            bytes.splice(from..end, text);
            if !random.one_in(8) {
                bytes[at..from].copy_from_slice(&len[..width]);
            }
        }
        _ if bytes.iter().take(16).any(|byte| b"{['".contains(byte)) => tokens::mutate(bytes, random),
        _ => any(bytes, others, random),
    }
}

/// Changes bytes whatever they are.
pub(crate) fn any(bytes: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let len = bytes.len();
    if len == 0 {
        let n = random.below(64);
        bytes.extend(random.bytes(n));
        return;
    }
    let at = random.below(len);
    match random.below(11) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = random.bits() as u8,
        3 | 4 => {
            let width = *random.pick(&[1, 2, 4, 8]);
            set(bytes, at, width, interesting(random));
        }
        5 => {
            // A little more or less.
            let width = *random.pick(&[1, 2, 4, 8]);
            let end = (at + width).min(len);
            let value = bytes[at..end].iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
            let step = random.below(17) as u64;
            set(bytes, at, width, value.wrapping_add(step).wrapping_sub(8));
        }
        6 => bytes.truncate(at),
        7 => {
            bytes.drain(random.range(len));
        }
        8 => {
            let part = bytes[random.range(len)].to_vec();
            bytes.splice(at..at, part);
        }
        9 => {
            let n = random.below(32);
            let part = random.bytes(n);
            bytes.splice(at..at, part);
        }
        _ => {
            if let Some(other) = (!others.is_empty()).then(|| random.pick(others)) {
                let part = other[random.range(other.len())].to_vec();
                let end = if random.one_in(2) { at } else { (at + part.len()).min(len) };
                bytes.splice(at..end, part);
            }
        }
    }
}

/// Writes `width` little-endian bytes at `at`, as far as there are any.
pub(crate) fn set(bytes: &mut [u8], at: usize, width: usize, value: u64) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(value.to_le_bytes()).take(width) {
        *byte = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutation_returns_and_the_same_case_gives_the_same_bytes() {
        let samples: [&[u8]; 5] = [
            b"",
            b"PK\x03\x04\0\0\0\0\0\0PK\x01\x02\0\0\0\0\0\0\0\0PK\x05\x06",
            b"\x93NUMPY\x01\0\x10\0{'descr': '<f4'}",
            b"\x02\0\0\0\0\0\0\0{}",
            b"{\"weight_map\":{}}",
        ];
        let others = samples.map(<[u8]>::to_vec);
        for case in 0..5000 {
            let made = || {
                let mut random = Random::of_case(7, "mutate", case);
                let mut bytes = random.pick(&samples).to_vec();
                mutate(&mut bytes, &others, &mut random);
                bytes
            };
            assert_eq!(made(), made(), "case {case}");
        }
    }
}
