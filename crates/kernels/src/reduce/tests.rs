//! Folds against the obvious loops.

use super::*;
use crate::cpu::tests::{Random, at_every_level};

fn dense(dtype: DType, items: &[u64]) -> Vec<u8> {
    items.iter().flat_map(|item| item.to_le_bytes()[..dtype.item_bytes() as usize].to_vec()).collect()
}

/// Folds at every level, whole and in two merged parts.
fn fold(f: ReduceFn, dtype: DType, items: &[u64]) -> u64 {
    let src = dense(dtype, items);
    let mut results = Vec::new();
    at_every_level(|_| {
        let mut folder = Folder::new(f, dtype).unwrap();
        folder.feed(&src);
        let mut out = [0; 8];
        folder.finish(&mut out);
        results.push(u64::from_le_bytes(out));
        if matches!(folder.state, State::Extent { .. }) {
            let at = items.len() / 3 * dtype.item_bytes() as usize;
            let [mut first, mut second] = [&src[..at], &src[at..]].map(|part| {
                let mut folder = Folder::new(f, dtype).unwrap();
                folder.feed(part);
                folder
            });
            first.merge(&second);
            first.finish(&mut out);
            results.push(u64::from_le_bytes(out));
            second.merge(&first);
        }
    });
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:x?}");
    results[0]
}

/// The rank among the items, and among so many copies of them that they are counted instead of kept.
fn kth(dtype: DType, k: u64, items: &[u64]) -> u64 {
    let n_copies = 20_000_usize.div_ceil(items.len());
    let kept = rank(dtype, k, items);
    assert_eq!(kept, rank(dtype, k * n_copies as u64, &items.repeat(n_copies)), "{dtype}, rank {k}");
    kept
}

fn rank(dtype: DType, k: u64, items: &[u64]) -> u64 {
    let src = dense(dtype, items);
    let mut kth = KthAbs::new(dtype, k).unwrap();
    loop {
        let mut other = kth.clone();
        let at = items.len() / 3 * dtype.item_bytes() as usize;
        kth.feed(&src[..at]);
        other.feed(&src[at..]);
        kth.merge(&other);
        if kth.next_pass() {
            break;
        }
    }
    let mut out = [0; 8];
    kth.finish(&mut out);
    u64::from_le_bytes(out)
}

/// An item's value, exactly, where f64 holds it.
fn value(dtype: DType, item: u64) -> f64 {
    let mut out = [0; 8];
    Caster::new(dtype, DType::F64).unwrap().run(&dense(dtype, &[item]), &mut out, &mut CastStats::default());
    f64::from_le_bytes(out)
}

const TYPES: [DType; 16] = [
    DType::F64,
    DType::F32,
    DType::F16,
    DType::Bf16,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F4E2M1,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::I4,
    DType::U64,
    DType::U32,
    DType::U8,
    DType::U4,
];

#[test]
fn extremes_and_ranks() {
    let mut random = Random(0x5eed_0080);
    for dtype in TYPES {
        let bits = dtype.bits().unwrap();
        let mask = u64::MAX >> (64 - bits);
        let mut items: Vec<u64> = Vec::new();
        while items.len() < 1001 {
            // 53 bits at most, so that f64 holds integers too.
            let item = random.next() & mask;
            let item = match dtype {
                DType::I64 => (item as i64 >> 11) as u64,
                DType::U64 => item >> 11,
                _ => item,
            };
            if !value(dtype, item).is_nan() {
                items.push(item);
            }
        }
        let values: Vec<f64> = items.iter().map(|item| value(dtype, *item)).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let mut magnitudes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
        magnitudes.sort_by(|a, b| b.total_cmp(a));
        let same = |item: u64, want: f64| {
            let got = value(dtype, item);
            assert!(
                got.to_bits() == want.to_bits()
                    || dtype == DType::I4 && want == 8.0 && got == 7.0
                    || dtype == DType::I8 && want == 128.0 && got == 127.0,
                "{dtype}: {got}, expected {want}"
            );
        };
        same(fold(ReduceFn::Min, dtype, &items), sorted[0]);
        same(fold(ReduceFn::Max, dtype, &items), sorted[1000]);
        same(fold(ReduceFn::AbsMax, dtype, &items), magnitudes[0]);
        for k in [0, 1, 10, 500, 1000] {
            same(kth(dtype, k as u64, &items), magnitudes[k]);
        }
        same(kth(dtype, 5000, &items), magnitudes[1000]);
        let sum: f64 = values.iter().fold(0.0, |sum, value| sum + value);
        let got = fold(ReduceFn::Sum, dtype, &items);
        assert!(got == sum.to_bits() || sum.is_nan() && f64::from_bits(got).is_nan());
        let mean = values.iter().fold(0.0, |sum, value| sum + value.abs()) / 1001.0;
        assert_eq!(fold(ReduceFn::MeanAbs, dtype, &items), mean.to_bits());
        let src = dense(dtype, &items);
        let nonzero = values.iter().filter(|value| **value != 0.0).count();
        assert_eq!(count_nonzero(dtype, &src), nonzero as u64, "{dtype}");
        let nonfinite = values.iter().filter(|value| !value.is_finite()).count();
        assert_eq!(count_nonfinite(dtype, &src), nonfinite as u64, "{dtype}");
    }
}

#[test]
fn rules_at_the_edges() {
    let [zero, minus_zero, one] = [0, 0x8000_0000, 0x3f80_0000];
    assert_eq!(fold(ReduceFn::Min, DType::F32, &[zero, minus_zero, zero]), minus_zero);
    assert_eq!(fold(ReduceFn::Max, DType::F32, &[minus_zero, zero, minus_zero]), zero);
    assert_eq!(fold(ReduceFn::Max, DType::F32, &[minus_zero; 3]), minus_zero);
    assert_eq!(fold(ReduceFn::AbsMax, DType::F32, &[minus_zero; 3]), zero);
    for f in [ReduceFn::Min, ReduceFn::Max, ReduceFn::AbsMax] {
        assert_eq!(fold(f, DType::F32, &[one, 0xffc1_2345, zero]), 0x7fc0_0000);
        assert_eq!(fold(f, DType::Bf16, &[0x3f80, 0x7f81, 0]), 0x7fc0);
        assert_eq!(fold(f, DType::F8E4M3, &[0x7f, 1, 2]), 0x7f);
        assert_eq!(fold(f, DType::F32, &[]), 0);
    }
    assert_eq!(fold(ReduceFn::AbsMax, DType::I16, &[0x8000, 5]), 0x7fff);
    assert_eq!(fold(ReduceFn::Min, DType::I64, &[1 << 63, 5]), 1 << 63);
    assert_eq!(fold(ReduceFn::Max, DType::U64, &[u64::MAX, 5]), u64::MAX);
    assert_eq!(kth(DType::I64, 0, &[1 << 63, 5]), i64::MAX as u64);
    assert_eq!(kth(DType::F32, 0, &[0x7f80_0000, 0xffc0_0000, one]), 0x7fc0_0000);
    assert_eq!(f64::from_bits(fold(ReduceFn::Sum, DType::F32, &[])), 0.0);
    assert!(f64::from_bits(fold(ReduceFn::MeanAbs, DType::F32, &[])).is_nan());
    for dtype in [DType::Bool, DType::C64, DType::Q8_0] {
        assert!(Folder::new(ReduceFn::Sum, dtype).is_none() && KthAbs::new(dtype, 0).is_none());
    }
    assert!(Folder::new(ReduceFn::KthAbs { k: 0 }, DType::F32).is_none());
}

#[test]
fn counts_of_other_kinds() {
    let complex = [1.0f32, f32::NAN, -0.0, f32::INFINITY].map(f32::to_le_bytes).concat();
    assert_eq!(count_nonfinite(DType::C64, &complex), 2);
    assert_eq!(count_nonzero(DType::C64, &complex), 3);
    assert_eq!(count_nonfinite(DType::I32, &complex), 0);
    assert_eq!(count_nonzero(DType::Bool, &[0, 1, 1]), 2);
    let mut blocks = [0; 34 * 3];
    blocks[40] = 1;
    assert_eq!(count_nonzero(DType::Q8_0, &blocks), 1);
    assert!(all_zero(&[0; 10_000]) && all_zero(&[]) && !all_zero(&blocks));
    assert!(equal(&blocks, &blocks.clone()) && !equal(&blocks, &[0; 34 * 3]));
}
