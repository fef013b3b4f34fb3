//! n:m sparsity.

use crate::lanes::Item;
use modelferry_core::dtype::DType;

/// Zeroes all but the `keep` largest magnitudes of every `group` consecutive items, in place.
///
/// Of equal magnitudes the first stays; NaN counts as the largest. A last incomplete group is pruned like the others,
/// to `keep` items. Returns false, and does nothing, for types other than f64, f32, f16 and bf16.
pub fn prune_nm(dtype: DType, keep: usize, group: usize, data: &mut [u8]) -> bool {
    match dtype {
        DType::F16 | DType::Bf16 => prune::<[u8; 2]>(keep, group, data),
        DType::F32 => prune::<[u8; 4]>(keep, group, data),
        DType::F64 => prune::<[u8; 8]>(keep, group, data),
        _ => return false,
    }
    true
}

fn prune<T: Item>(keep: usize, group: usize, data: &mut [u8]) {
    let sign = 1 << (size_of::<T>() * 8 - 1);
    for items in T::split_mut(data).chunks_mut(group.max(1)) {
        // Magnitudes of floats are ordered like their bits. An item stays if fewer than `keep` beat it; pruned ones
        // are marked first, for a zero would lose its place. Groups are short, so all pairs are compared.
        let magnitude = |item: &T| item.get() & !sign;
        let mut pruned = [0u64; 4];
        if items.len() > 256 {
            prune_long(keep, items, sign);
            continue;
        }
        for (index, item) in items.iter().enumerate() {
            let mine = magnitude(item);
            let better = items[..index].iter().filter(|other| magnitude(other) >= mine).count()
                + items[index + 1..].iter().filter(|other| magnitude(other) > mine).count();
            pruned[index / 64] |= u64::from(better >= keep) << (index % 64);
        }
        for (index, item) in items.iter_mut().enumerate() {
            if pruned[index / 64] >> (index % 64) & 1 == 1 {
                *item = T::of(0);
            }
        }
    }
}

/// Groups longer than any hardware has, by sorting.
fn prune_long<T: Item>(keep: usize, items: &mut [T], sign: u64) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(items[*index].get() & !sign));
    for index in order.into_iter().skip(keep) {
        items[index] = T::of(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prune32(keep: usize, group: usize, values: &[f32]) -> Vec<f32> {
        let mut data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert!(prune_nm(DType::F32, keep, group, &mut data));
        data.as_chunks::<4>().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
    }

    #[test]
    fn two_of_four() {
        let values = [1.0, -3.0, 2.0, 0.5, 4.0, -4.0, 4.0, 4.0, 1.0];
        assert_eq!(prune32(2, 4, &values), [0.0, -3.0, 2.0, 0.0, 4.0, -4.0, 0.0, 0.0, 1.0]);
        assert_eq!(prune32(0, 4, &values), [0.0; 9]);
        assert_eq!(prune32(4, 4, &values), values);
        assert_eq!(prune32(1, 1000, &values)[4], 4.0);
        let long: Vec<f32> = (0..600).map(|k| ((k * 7919) % 101) as f32 - 50.0).collect();
        let kept = prune32(300, 600, &long);
        assert!(kept.iter().zip(&long).all(|(kept, x)| kept == x || *kept == 0.0 && x.abs() <= 26.0));
        assert_eq!(kept.iter().filter(|x| **x != 0.0).count(), 300);
        assert!(!prune_nm(DType::I8, 1, 2, &mut []));
        let mut bf16 = [0x80, 0x3f, 0x00, 0xc0];
        assert!(prune_nm(DType::Bf16, 1, 2, &mut bf16));
        assert_eq!(bf16, [0, 0, 0x00, 0xc0]);
    }
}
