//! Byte order.

use crate::lanes::Item;

/// Reverses the bytes of each unit of `width` bytes in place.
///
/// Any width works, 2, 4, 8 and 16 at memory speed; 0 and 1 change nothing, and neither does a last incomplete unit.
pub fn swap(width: usize, bytes: &mut [u8]) {
    debug_assert!(width == 0 || bytes.len().is_multiple_of(width));
    match width {
        0 | 1 => {}
        2 => swap2(bytes),
        4 => swap4(bytes),
        8 => swap8(bytes),
        16 => swap16(bytes),
        _ => bytes.chunks_exact_mut(width).for_each(<[u8]>::reverse),
    }
}

macro_rules! swaps {
    ($($name:ident $width:literal)*) => {$(
        per_cpu! {
            fn $name(bytes: &mut [u8]) {
                for unit in <[u8; $width]>::split_mut(bytes) {
                    unit.reverse();
                }
            }
        }
    )*};
}

swaps! { swap2 2 swap4 4 swap8 8 }

per_cpu! {
    fn swap16(bytes: &mut [u8]) {
        for unit in bytes.as_chunks_mut::<16>().0 {
            *unit = u128::from_le_bytes(*unit).to_be_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    #[test]
    fn reverses_units() {
        let bytes = Random(0x5eed_0020).bytes(240 * 7);
        at_every_level(|_| {
            for width in [1, 2, 3, 4, 8, 10, 16] {
                let mut swapped = bytes.clone();
                swap(width, &mut swapped);
                let unit = |k: usize| k / width * width + (width - 1 - k % width);
                assert!((0..bytes.len()).all(|k| swapped[k] == bytes[unit(k)]), "{width}");
                swap(width, &mut swapped);
                assert_eq!(swapped, bytes);
            }
        });
    }
}
