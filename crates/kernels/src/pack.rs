//! Items of 1 to 7 bits, several to a byte in files and one to a byte in memory.

use modelferry_core::expr::BitOrder;

/// Unpacks as many items as `dst` holds, starting with item `first` of the stream whose first byte is `src[0]`.
///
/// Items come out as unsigned low bits. Bits beyond the end of `src` read as zero; that and a `bits` outside of 1 to
/// 7 are the caller's mistake (the latter leaves `dst` as it is).
pub fn unpack(bits: u32, order: BitOrder, src: &[u8], first: u64, dst: &mut [u8]) {
    debug_assert!((1..8).contains(&bits));
    if !(1..8).contains(&bits) {
        return;
    }
    let at = u128::from(first) * u128::from(bits);
    let src = usize::try_from(at / 8).ok().and_then(|byte| src.get(byte..)).unwrap_or_default();
    let skip = (at % 8) as u32;
    debug_assert!(src.len() as u128 * 8 >= u128::from(skip) + dst.len() as u128 * u128::from(bits));
    match (bits, skip) {
        (4, 0) => return unpack_dense::<4, 2>(order, src, dst),
        (2, 0) => return unpack_dense::<2, 4>(order, src, dst),
        (1, 0) => return unpack_dense::<1, 8>(order, src, dst),
        _ => {}
    }
    let mask = (1u32 << bits) - 1;
    let mut bytes = src.iter();
    let mut next = || u32::from(bytes.next().copied().unwrap_or(0));
    // `held` bits of the stream that were read and not given out.
    let (mut window, mut held) = (next(), 8 - skip);
    match order {
        BitOrder::Low => {
            window >>= skip;
            for item in dst {
                if held < bits {
                    window |= next() << held;
                    held += 8;
                }
                *item = (window & mask) as u8;
                window >>= bits;
                held -= bits;
            }
        }
        BitOrder::High => {
            for item in dst {
                if held < bits {
                    window = window << 8 | next();
                    held += 8;
                }
                held -= bits;
                *item = (window >> held & mask) as u8;
            }
        }
    }
}

/// Packs the items of `src` (upper bits ignored) into a stream that starts at `dst[0]`; the bits after the last item
/// are zero, up to the end of its byte.
///
/// Returns how many bytes were written, `src.len() * bits` over 8 rounded up; items that find no room are dropped,
/// which is the caller's mistake.
pub fn pack(bits: u32, order: BitOrder, src: &[u8], dst: &mut [u8]) -> usize {
    debug_assert!((1..8).contains(&bits));
    if !(1..8).contains(&bits) {
        return 0;
    }
    let n_bytes = (src.len() as u128 * u128::from(bits)).div_ceil(8);
    debug_assert!(dst.len() as u128 >= n_bytes);
    let n_bytes = usize::try_from(n_bytes).unwrap_or(usize::MAX).min(dst.len());
    let dst = &mut dst[..n_bytes];
    match bits {
        4 => pack_dense::<4, 2>(order, src, dst),
        2 => pack_dense::<2, 4>(order, src, dst),
        1 => pack_dense::<1, 8>(order, src, dst),
        _ => pack_any(bits, order, src, dst),
    }
    n_bytes
}

fn pack_any(bits: u32, order: BitOrder, src: &[u8], dst: &mut [u8]) {
    let mask = (1u32 << bits) - 1;
    let mut out = dst.iter_mut();
    let (mut window, mut held) = (0u32, 0);
    for item in src {
        let item = u32::from(*item) & mask;
        match order {
            BitOrder::Low => window |= item << held,
            BitOrder::High => window = window << bits | item,
        }
        held += bits;
        if held >= 8 {
            held -= 8;
            let byte = match order {
                BitOrder::Low => window,
                BitOrder::High => window >> held,
            };
            if let Some(out) = out.next() {
                *out = byte as u8;
            }
            window = match order {
                BitOrder::Low => window >> 8,
                BitOrder::High => window & ((1 << held) - 1),
            };
        }
    }
    if let Some(out) = out.next().filter(|_| held > 0) {
        *out = match order {
            BitOrder::Low => window,
            BitOrder::High => window << (8 - held),
        } as u8;
    }
}

/// Widths that divide a byte, from a whole byte on.
fn unpack_dense<const BITS: u32, const PER_BYTE: usize>(order: BitOrder, src: &[u8], dst: &mut [u8]) {
    let whole = dst.len() / PER_BYTE;
    let whole = whole.min(src.len());
    let (src, last) = src.split_at(whole);
    let (dst, rest) = dst.split_at_mut(whole * PER_BYTE);
    match PER_BYTE {
        2 => unpack2(order, src, dst),
        4 => unpack4(order, src, dst),
        _ => unpack8(order, src, dst),
    }
    let last = last.first().copied().unwrap_or(0);
    for (index, item) in rest.iter_mut().enumerate() {
        *item = if index < PER_BYTE {
            last >> shift(order, BITS, PER_BYTE, index) & ((1 << BITS) - 1)
        } else {
            0
        };
    }
}

fn pack_dense<const BITS: u32, const PER_BYTE: usize>(order: BitOrder, src: &[u8], dst: &mut [u8]) {
    let (groups, rest) = src.as_chunks::<PER_BYTE>();
    match PER_BYTE {
        2 => pack2(order, groups.as_flattened(), dst),
        4 => pack4(order, groups.as_flattened(), dst),
        _ => pack8(order, groups.as_flattened(), dst),
    }
    if let Some(last) = dst.get_mut(groups.len()).filter(|_| !rest.is_empty()) {
        *last = gather(order, BITS, PER_BYTE, rest);
    }
}

#[inline(always)]
fn shift(order: BitOrder, bits: u32, per_byte: usize, index: usize) -> u32 {
    match order {
        BitOrder::Low => bits * index as u32,
        BitOrder::High => bits * (per_byte - 1 - index) as u32,
    }
}

#[inline(always)]
fn gather(order: BitOrder, bits: u32, per_byte: usize, items: &[u8]) -> u8 {
    items.iter().enumerate().fold(0, |byte, (index, item)| {
        byte | (item & ((1 << bits) - 1)) << shift(order, bits, per_byte, index)
    })
}

macro_rules! dense {
    ($($unpack:ident $pack:ident $bits:literal $per_byte:literal)*) => {$(
        per_cpu! {
            fn $unpack(order: BitOrder, src: &[u8], dst: &mut [u8]) {
                for (byte, group) in src.iter().zip(dst.as_chunks_mut::<$per_byte>().0) {
                    for (index, item) in group.iter_mut().enumerate() {
                        *item = byte >> shift(order, $bits, $per_byte, index) & ((1 << $bits) - 1);
                    }
                }
            }
        }
        per_cpu! {
            fn $pack(order: BitOrder, src: &[u8], dst: &mut [u8]) {
                for (byte, group) in dst.iter_mut().zip(src.as_chunks::<$per_byte>().0) {
                    *byte = gather(order, $bits, $per_byte, group);
                }
            }
        }
    )*};
}

dense! { unpack2 pack2 4 2 unpack4 pack4 2 4 unpack8 pack8 1 8 }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    /// The bits of a stream in order, each item's from its first bit in that order.
    fn naive_item(bits: u32, order: BitOrder, src: &[u8], index: usize) -> u8 {
        (0..bits as usize).fold(0, |item, bit| {
            let at = index * bits as usize + bit;
            match order {
                BitOrder::Low => item | (src[at / 8] >> (at % 8) & 1) << bit,
                BitOrder::High => item << 1 | src[at / 8] >> (7 - at % 8) & 1,
            }
        })
    }

    #[test]
    fn both_ways_from_anywhere() {
        let mut random = Random(0x5eed_0030);
        let stream = random.bytes(300);
        at_every_level(|_| {
            for bits in 1..8 {
                for order in [BitOrder::Low, BitOrder::High] {
                    let n_items = stream.len() * 8 / bits as usize;
                    for first in [0, 1, 2, 3, 7, 8, 64] {
                        for n in [0, 1, 2, 5, 33, n_items - first] {
                            let mut items = vec![0xaa; n];
                            unpack(bits, order, &stream, first as u64, &mut items);
                            let expected: Vec<u8> =
                                (first..first + n).map(|k| naive_item(bits, order, &stream, k)).collect();
                            assert_eq!(items, expected, "{bits} {order:?} from {first}");
                            let mut packed = vec![0xaa; (n * bits as usize).div_ceil(8)];
                            // Upper bits are ignored.
                            items.iter_mut().for_each(|item| *item |= (0xff << bits) as u8);
                            assert_eq!(pack(bits, order, &items, &mut packed), packed.len());
                            let mut again = vec![0; n];
                            unpack(bits, order, &packed, 0, &mut again);
                            assert_eq!(again, expected);
                            let tail = packed.len() * 8 - n * bits as usize;
                            let last = packed.last().copied().unwrap_or(0);
                            assert_eq!(
                                0,
                                match order {
                                    BitOrder::Low => (u32::from(last) << tail) >> 8,
                                    BitOrder::High => u32::from(last) & ((1 << tail) - 1),
                                },
                                "{bits} {order:?} padding of {n}"
                            );
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn float6_is_four_in_three_bytes() {
        let mut packed = [0; 3];
        pack(6, BitOrder::Low, &[0x3f, 0, 0x3f, 1], &mut packed);
        assert_eq!(packed, [0x3f, 0xf0, 0x07]);
    }
}
