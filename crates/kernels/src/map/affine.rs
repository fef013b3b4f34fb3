//! Dequantization element by element: `(q - z) * s` and `q * s + z`.

use crate::cast::{CastStats, Caster};
use crate::lanes::Item;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::expr::ScalarFn;

/// Items per step: three operands as f64 stay in the first-level cache.
const STAGE: usize = 256;

/// `(q - z) * s` or `q * s + z`, resolved for the types of its arguments; the result has the type of `s`.
///
/// The arithmetic is f64 if `s` is, else f32, each operation rounded once and never fused; a narrower result is
/// rounded once more. `q - z` of integers up to 32 bits is exact before it is rounded to f32 (as ONNX has it); of
/// 64-bit integers both are rounded to f64 first.
#[derive(Clone, Debug)]
pub struct Affine {
    f: ScalarFn,
    q: Caster,
    z: Caster,
    s: Caster,
    /// From the type of the arithmetic to the result's.
    out: Caster,
    /// Bytes of one item of q, z, s.
    items: [usize; 3],
}

impl Affine {
    /// Resolves [`ScalarFn::SubMul`] or [`ScalarFn::MulAdd`] for the types of `q`, `z` and `s`.
    ///
    /// `None` for other functions, where `s` is no float, or where `q` or `z` is no real scalar.
    pub fn new(f: ScalarFn, q: DType, z: DType, s: DType) -> Option<Affine> {
        if !s.is_float() {
            return None;
        }
        let lane = if s == DType::F64 { DType::F64 } else { DType::F32 };
        let is_exact_in_f32 =
            |dtype: DType| dtype.bits().is_some_and(|bits| bits <= 16) || dtype == DType::F32;
        let operands = match f {
            ScalarFn::SubMul if is_exact_in_f32(q) && is_exact_in_f32(z) => lane,
            ScalarFn::SubMul => DType::F64,
            ScalarFn::MulAdd => lane,
            _ => return None,
        };
        if [q, z].iter().any(|dtype| dtype.class() == Class::Complex) {
            return None;
        }
        Some(Affine {
            f,
            q: Caster::new(q, operands)?,
            z: Caster::new(z, operands)?,
            s: Caster::new(s, lane)?,
            out: Caster::new(lane, s)?,
            items: [q, z, s].map(|dtype| dtype.item_bytes() as usize),
        })
    }

    /// Computes as many items as `dst` holds from as many of `q`, `z` and `s`.
    pub fn run(&self, q: &[u8], z: &[u8], s: &[u8], dst: &mut [u8]) {
        debug_assert_eq!(s.len(), dst.len());
        debug_assert_eq!(q.len() / self.items[0], s.len() / self.items[2]);
        debug_assert_eq!(z.len() / self.items[1], s.len() / self.items[2]);
        let pieces = q
            .chunks(STAGE * self.items[0])
            .zip(z.chunks(STAGE * self.items[1]))
            .zip(s.chunks(STAGE * self.items[2]))
            .zip(dst.chunks_mut(STAGE * self.items[2]));
        let [mut q_wide, mut z_wide, mut s_wide] = [[0; STAGE * 8]; 3];
        for (((q, z), s), dst) in pieces {
            let q = widen(&self.q, q, self.items[0], &mut q_wide);
            let z = widen(&self.z, z, self.items[1], &mut z_wide);
            let s = widen(&self.s, s, self.items[2], &mut s_wide);
            match (self.f, self.q.to(), self.s.to()) {
                (ScalarFn::SubMul, DType::F32, _) => sub_mul32(q, z, s),
                (ScalarFn::SubMul, _, DType::F32) => sub_mul_mixed(q, z, s),
                (ScalarFn::SubMul, ..) => sub_mul64(q, z, s),
                (_, DType::F32, _) => mul_add32(q, z, s),
                _ => mul_add64(q, z, s),
            }
            self.out.run(s, dst, &mut CastStats::default());
        }
    }
}

fn widen<'a>(caster: &Caster, src: &[u8], item: usize, wide: &'a mut [u8; STAGE * 8]) -> &'a mut [u8] {
    let wide = &mut wide[..src.len() / item * caster.to().item_bytes() as usize];
    caster.run(src, wide, &mut CastStats::default());
    wide
}

macro_rules! kernels {
    ($($name:ident |$q:ident: $operand:ident, $z:ident, $s:ident: $lane:ident| $value:expr;)*) => {$(
        per_cpu! {
            fn $name(q: &[u8], z: &[u8], s: &mut [u8]) {
                const OPERAND: usize = size_of::<$operand>();
                const LANE: usize = size_of::<$lane>();
                let operands = <[u8; OPERAND]>::split(q).iter().zip(<[u8; OPERAND]>::split(z));
                for ((q, z), s) in operands.zip(<[u8; LANE]>::split_mut(s)) {
                    let ($q, $z) = ($operand::from_le_bytes(*q), $operand::from_le_bytes(*z));
                    let $s = $lane::from_le_bytes(*s);
                    *s = ($value).to_le_bytes();
                }
            }
        }
    )*};
}

kernels! {
    sub_mul32 |q: f32, z, s: f32| (q - z) * s;
    sub_mul64 |q: f64, z, s: f64| (q - z) * s;
    // The difference of two f32, taken in f64 and rounded to f32, is their difference in f32: 53 >= 2 * 24 + 2.
    sub_mul_mixed |q: f64, z, s: f32| ((q - z) as f32) * s;
    mul_add32 |q: f32, z, s: f32| q * s + z;
    mul_add64 |q: f64, z, s: f64| q * s + z;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    fn run(f: ScalarFn, types: [DType; 3], q: &[u8], z: &[u8], s: &[u8]) -> Vec<u8> {
        let mut results = Vec::new();
        at_every_level(|_| {
            let mut out = vec![0xaa; s.len()];
            Affine::new(f, types[0], types[1], types[2]).unwrap().run(q, z, s, &mut out);
            results.push(out);
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        results.remove(0)
    }

    #[test]
    fn every_lane() {
        let mut random = Random(0x5eed_0060);
        let n = 1000;
        let (q, z) = (random.bytes(n), random.bytes(n));
        let s: Vec<f32> = (0..n).map(|_| (random.next() % 1000) as f32 / 777.0 - 0.3).collect();
        let s_bytes: Vec<u8> = s.iter().flat_map(|s| s.to_le_bytes()).collect();
        let got = run(ScalarFn::SubMul, [DType::U8, DType::I8, DType::F32], &q, &z, &s_bytes);
        for k in 0..n {
            let want = (f32::from(q[k]) - f32::from(z[k] as i8)) * s[k];
            assert_eq!(got[k * 4..k * 4 + 4], want.to_le_bytes());
        }
        let got = run(ScalarFn::MulAdd, [DType::U8, DType::F32, DType::F32], &q, &s_bytes, &s_bytes);
        for k in 0..n {
            assert_eq!(got[k * 4..k * 4 + 4], (f32::from(q[k]) * s[k] + s[k]).to_le_bytes());
        }

        let wide: Vec<i32> = (0..n).map(|_| random.next() as i32).collect();
        let wide_bytes: Vec<u8> = wide.iter().flat_map(|q| q.to_le_bytes()).collect();
        let other: Vec<u8> = wide.iter().rev().flat_map(|q| q.to_le_bytes()).collect();
        let got = run(ScalarFn::SubMul, [DType::I32, DType::I32, DType::F32], &wide_bytes, &other, &s_bytes);
        for k in 0..n {
            let difference = i64::from(wide[k]) - i64::from(wide[n - 1 - k]);
            assert_eq!(got[k * 4..k * 4 + 4], (difference as f32 * s[k]).to_le_bytes());
        }

        let s64: Vec<u8> = s.iter().flat_map(|s| f64::from(*s).to_le_bytes()).collect();
        let got = run(ScalarFn::MulAdd, [DType::I32, DType::F64, DType::F64], &wide_bytes, &s64, &s64);
        for k in 0..n {
            let s = f64::from(s[k]);
            assert_eq!(got[k * 8..k * 8 + 8], (f64::from(wide[k]) * s + s).to_le_bytes());
        }
        let got = run(ScalarFn::SubMul, [DType::I32, DType::F64, DType::F64], &wide_bytes, &s64, &s64);
        for k in 0..n {
            let s = f64::from(s[k]);
            assert_eq!(got[k * 8..k * 8 + 8], ((f64::from(wide[k]) - s) * s).to_le_bytes());
        }
    }

    #[test]
    fn narrow_scales() {
        // (7 - 8) * f16 0.5 and 4 * 0.5 + 1.0
        let half = 0x3800u16.to_le_bytes();
        assert_eq!(
            run(ScalarFn::SubMul, [DType::U4, DType::U4, DType::F16], &[7], &[8], &half),
            [0x00, 0xb8]
        );
        let one = 0x3c00u16.to_le_bytes();
        assert_eq!(
            run(ScalarFn::MulAdd, [DType::U4, DType::F16, DType::F16], &[4], &one, &half),
            [0x00, 0x42]
        );
        assert!(Affine::new(ScalarFn::SubMul, DType::U4, DType::U4, DType::I8).is_none());
        assert!(Affine::new(ScalarFn::Neg, DType::U4, DType::U4, DType::F32).is_none());
        assert!(Affine::new(ScalarFn::MulAdd, DType::C64, DType::U4, DType::F32).is_none());
    }
}
