//! Functions of single elements: everything of [`ScalarFn`] but the cast.
//!
//! Floats narrower than f32 are computed in f32 (`-exp(x)` in f64) and rounded once.

mod affine;
mod exp;

pub use affine::Affine;

use crate::cast::{CastStats, Caster};
use crate::lanes::Item;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::expr::ScalarFn;

/// Bytes per step where a function is computed in another type.
const STAGE: usize = 512;

/// A function of one argument, resolved for a type.
///
/// ```
/// use modelferry_core::{dtype::DType, expr::ScalarFn};
/// use modelferry_kernels::map::Mapper;
/// let mut data = 1.5f32.to_le_bytes();
/// Mapper::new(ScalarFn::Add(1.0), DType::F32).expect("f32 adds").run(&mut data);
/// assert_eq!(f32::from_le_bytes(data), 2.5);
/// ```
#[derive(Clone, Debug)]
pub struct Mapper {
    /// Bytes of one item.
    item: usize,
    plan: Plan,
}

#[derive(Clone, Debug)]
enum Plan {
    Nothing,
    /// Flips the bits of a mask that is repeated over all bytes.
    Flip([u8; 16]),
    /// Flips the sign unless that would make NaN of zero or zero of NaN.
    FlipFnuz,
    Int(IntFn),
    Real(RealFn, DType),
    /// To a wider type and back.
    Through(Box<Caster>, Box<Mapper>, Box<Caster>),
}

/// Wrapping arithmetic on integers: `x * mul + add`, in so many bits.
#[derive(Clone, Copy, Debug)]
struct IntFn {
    mul: u64,
    add: u64,
    bits: u32,
}

#[derive(Clone, Copy, Debug)]
enum RealFn {
    Add(f64),
    /// To every other value, the first one included.
    AddReal(f64),
    Mul(f64),
    NegExp,
}

impl Mapper {
    /// Resolves a function of one argument whose result has the type of the argument.
    ///
    /// `None` where there is none: casts and functions of several arguments; block, opaque and bool types; negation
    /// and arithmetic in `f8_e8m0`; constants that are no integers on integers; `-exp(x)` of integers and complex.
    ///
    /// - Negation flips the sign of a float (zero and NaN too, where the type has signs for them) and wraps integers.
    /// - A complex constant is real: it is added to the real part and multiplies both.
    /// - A constant is rounded once to the type of the arithmetic, f32 or f64.
    pub fn new(f: ScalarFn, dtype: DType) -> Option<Mapper> {
        let item = dtype.item_bytes() as usize;
        let plan = match (dtype.class(), f) {
            (Class::Float | Class::Complex, ScalarFn::Neg) => negation(dtype)?,
            (Class::Complex, ScalarFn::Conj) => {
                let mut mask = [0; 16];
                mask.iter_mut().skip(item - 1).step_by(item).for_each(|byte| *byte = 0x80);
                Plan::Flip(mask)
            }
            (Class::Float | Class::Signed | Class::Unsigned, ScalarFn::Conj) => Plan::Nothing,
            (Class::Signed | Class::Unsigned, _) => {
                let (mul, add) = match f {
                    ScalarFn::Neg => (-1, 0),
                    ScalarFn::Add(constant) => (1, whole(constant)?),
                    ScalarFn::Mul(constant) => (whole(constant)?, 0),
                    _ => return None,
                };
                Plan::Int(IntFn { mul: mul as u64, add: add as u64, bits: dtype.bits()? })
            }
            (Class::Float, ScalarFn::Add(constant)) => real(RealFn::Add(constant), dtype)?,
            (Class::Complex, ScalarFn::Add(constant)) => real(RealFn::AddReal(constant), dtype)?,
            (Class::Float | Class::Complex, ScalarFn::Mul(constant)) => real(RealFn::Mul(constant), dtype)?,
            (Class::Float, ScalarFn::NegExp) => real(RealFn::NegExp, dtype)?,
            _ => return None,
        };
        Some(Mapper { item, plan })
    }

    /// Applies the function to the dense items of `data`, in place.
    pub fn run(&self, data: &mut [u8]) {
        debug_assert!(data.len().is_multiple_of(self.item));
        match &self.plan {
            Plan::Nothing => {}
            Plan::Flip(mask) => flip(*mask, data),
            Plan::FlipFnuz => flip_fnuz(data),
            Plan::Int(f) => match self.item {
                1 => int::<[u8; 1]>(*f, data),
                2 => int::<[u8; 2]>(*f, data),
                4 => int::<[u8; 4]>(*f, data),
                _ => int::<[u8; 8]>(*f, data),
            },
            Plan::Real(f, DType::F32) => match *f {
                RealFn::Add(constant) => add32(constant as f32, data),
                RealFn::AddReal(constant) => add_real32(constant as f32, data),
                RealFn::Mul(constant) => mul32(constant as f32, data),
                RealFn::NegExp => {}
            },
            Plan::Real(f, _) => match *f {
                RealFn::Add(constant) => add64(constant, data),
                RealFn::AddReal(constant) => add_real64(constant, data),
                RealFn::Mul(constant) => mul64(constant, data),
                RealFn::NegExp => neg_exp64(data),
            },
            Plan::Through(up, mapper, down) => {
                let n_items = STAGE / mapper.item.max(self.item);
                for data in data.chunks_mut(n_items * self.item) {
                    let mut wide = [0; STAGE];
                    let wide = &mut wide[..data.len() / self.item * mapper.item];
                    up.run(data, wide, &mut CastStats::default());
                    mapper.run(wide);
                    down.run(wide, data, &mut CastStats::default());
                }
            }
        }
    }
}

fn negation(dtype: DType) -> Option<Plan> {
    let width = match dtype.class() {
        Class::Complex => dtype.item_bytes() as usize / 2,
        _ => dtype.item_bytes() as usize,
    };
    Some(match dtype {
        DType::F8E8M0 => return None,
        DType::F8E4M3Fnuz | DType::F8E5M2Fnuz | DType::F8E4M3B11Fnuz => Plan::FlipFnuz,
        _ => {
            let mut mask = [0; 16];
            let sign = 1 << ((dtype.bits()? - 1) % 8);
            mask.iter_mut().skip(width - 1).step_by(width).for_each(|byte| *byte = sign);
            Plan::Flip(mask)
        }
    })
}

/// The constant as an integer, if it is one.
fn whole(constant: f64) -> Option<i64> {
    let cut = constant as i64;
    (cut as f64 == constant && cut != i64::MAX).then_some(cut)
}

/// The function in the type itself, or in a wider one.
fn real(f: RealFn, dtype: DType) -> Option<Plan> {
    let (native, wide) = match (dtype, f) {
        (DType::F8E8M0, _) => return None,
        (DType::F64 | DType::C128, _) => return Some(Plan::Real(f, DType::F64)),
        (DType::F32 | DType::C64, RealFn::Add(_) | RealFn::AddReal(_) | RealFn::Mul(_)) => {
            return Some(Plan::Real(f, DType::F32));
        }
        (_, RealFn::NegExp) => (DType::F64, DType::F64),
        (DType::C32, _) => (DType::F32, DType::C64),
        _ => (DType::F32, DType::F32),
    };
    let mapper = Mapper { item: wide.item_bytes() as usize, plan: Plan::Real(f, native) };
    let [up, down] = [Caster::new(dtype, wide)?, Caster::new(wide, dtype)?].map(Box::new);
    Some(Plan::Through(up, Box::new(mapper), down))
}

per_cpu! {
    fn flip(mask: [u8; 16], data: &mut [u8]) {
        let (blocks, rest) = data.as_chunks_mut::<16>();
        let wide_mask = u128::from_le_bytes(mask);
        for block in blocks {
            *block = (u128::from_le_bytes(*block) ^ wide_mask).to_le_bytes();
        }
        for (byte, mask) in rest.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

per_cpu! {
    fn flip_fnuz(data: &mut [u8]) {
        for byte in data {
            *byte ^= if *byte & 0x7f == 0 { 0 } else { 0x80 };
        }
    }
}

per_cpu! {
    fn int<T: Item>(f: IntFn, data: &mut [u8]) {
        let mask = u64::MAX >> (64 - f.bits);
        for item in T::split_mut(data) {
            *item = T::of(item.get().wrapping_mul(f.mul).wrapping_add(f.add) & mask);
        }
    }
}

macro_rules! reals {
    ($($float:ident $width:literal $add:ident $add_real:ident $mul:ident;)*) => {$(
        per_cpu! {
            fn $add(constant: $float, data: &mut [u8]) {
                for item in <[u8; $width]>::split_mut(data) {
                    *item = ($float::from_le_bytes(*item) + constant).to_le_bytes();
                }
            }
        }
        per_cpu! {
            fn $add_real(constant: $float, data: &mut [u8]) {
                for item in <[u8; $width]>::split_mut(data).iter_mut().step_by(2) {
                    *item = ($float::from_le_bytes(*item) + constant).to_le_bytes();
                }
            }
        }
        per_cpu! {
            fn $mul(constant: $float, data: &mut [u8]) {
                for item in <[u8; $width]>::split_mut(data) {
                    *item = ($float::from_le_bytes(*item) * constant).to_le_bytes();
                }
            }
        }
    )*};
}

reals! {
    f32 4 add32 add_real32 mul32;
    f64 8 add64 add_real64 mul64;
}

per_cpu! {
    fn neg_exp64(data: &mut [u8]) {
        for item in <[u8; 8]>::split_mut(data) {
            *item = (-exp::exp(f64::from_le_bytes(*item))).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    fn map(f: ScalarFn, dtype: DType, items: &[u64]) -> Vec<u64> {
        let width = dtype.item_bytes() as usize;
        let src: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()[..width].to_vec()).collect();
        let mut results = Vec::new();
        at_every_level(|_| {
            let mut data = src.clone();
            Mapper::new(f, dtype).unwrap().run(&mut data);
            results.push(data);
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        let item = |bytes: &[u8]| bytes.iter().rev().fold(0, |item, byte| item << 8 | u64::from(*byte));
        results[0].chunks(width).map(item).collect()
    }

    #[test]
    fn negation_of_every_kind() {
        let mut random = Random(0x5eed_0050);
        for dtype in DType::all().filter(|dtype| Mapper::new(ScalarFn::Neg, *dtype).is_some()) {
            if dtype.class() == Class::Complex {
                continue;
            }
            let bits = dtype.bits().unwrap();
            let mask = u64::MAX >> (64 - bits);
            let items: Vec<u64> =
                (0..1000).map(|_| random.next() & mask).chain([0, 1 << (bits - 1), mask]).collect();
            let expected = |item: u64| match dtype {
                DType::F8E4M3Fnuz | DType::F8E5M2Fnuz | DType::F8E4M3B11Fnuz if item & 0x7f == 0 => item,
                _ if dtype.is_float() => item ^ 1 << (bits - 1),
                _ => item.wrapping_neg() & mask,
            };
            let want: Vec<u64> = items.iter().map(|item| expected(*item)).collect();
            assert_eq!(map(ScalarFn::Neg, dtype, &items), want, "{dtype}");
        }
        assert!(Mapper::new(ScalarFn::Neg, DType::F8E8M0).is_none());
        assert!(Mapper::new(ScalarFn::Neg, DType::Bool).is_none());
        assert!(Mapper::new(ScalarFn::Neg, DType::Q8_0).is_none());
        assert!(Mapper::new(ScalarFn::NegExp, DType::I32).is_none());
        assert!(Mapper::new(ScalarFn::Add(0.5), DType::I32).is_none());
    }

    #[test]
    fn complex() {
        let part =
            |real: f32, imaginary: f32| u64::from(real.to_bits()) | u64::from(imaginary.to_bits()) << 32;
        let items = [part(1.0, 2.0), part(-0.0, -3.5), part(5.0, 0.0)];
        let conj = [part(1.0, -2.0), part(-0.0, 3.5), part(5.0, -0.0)];
        assert_eq!(map(ScalarFn::Conj, DType::C64, &items), conj);
        let neg = [part(-1.0, -2.0), part(0.0, 3.5), part(-5.0, -0.0)];
        assert_eq!(map(ScalarFn::Neg, DType::C64, &items), neg);
        let plus = [part(2.0, 2.0), part(1.0, -3.5), part(6.0, 0.0)];
        assert_eq!(map(ScalarFn::Add(1.0), DType::C64, &items), plus);
        let twice = [part(2.0, 4.0), part(-0.0, -7.0), part(10.0, 0.0)];
        assert_eq!(map(ScalarFn::Mul(2.0), DType::C64, &items), twice);
        assert_eq!(map(ScalarFn::Add(1.0), DType::C32, &[0x4000_3c00]), [0x4000_4000]);
        assert_eq!(map(ScalarFn::Conj, DType::C32, &[0x4000_3c00]), [0xc000_3c00]);
    }

    #[test]
    fn constants() {
        let mut random = Random(0x5eed_0051);
        let items: Vec<u64> = (0..5000).map(|_| random.next() >> 32 & 0xbfff_ffff).collect();
        let want: Vec<u64> =
            items.iter().map(|item| u64::from((f32::from_bits(*item as u32) + 0.1f32).to_bits())).collect();
        assert_eq!(map(ScalarFn::Add(0.1), DType::F32, &items), want);
        // bf16 1.0 + 1.0, and f16 65504 * 2.
        assert_eq!(map(ScalarFn::Add(1.0), DType::Bf16, &[0x3f80]), [0x4000]);
        assert_eq!(map(ScalarFn::Mul(2.0), DType::F16, &[0x7bff, 0x3c00]), [0x7c00, 0x4000]);
        assert_eq!(map(ScalarFn::Add(-8.0), DType::I8, &[0, 127, 0x80]), [0xf8, 119, 0x78]);
        assert_eq!(map(ScalarFn::Mul(3.0), DType::U4, &[7]), [5]);
    }

    #[test]
    fn exponentials() {
        let items: Vec<u64> = (-8000..8000).map(|k| u64::from((k as f32 / 77.0).to_bits())).collect();
        for (item, got) in items.iter().zip(map(ScalarFn::NegExp, DType::F32, &items)) {
            let want = (-(f64::from(f32::from_bits(*item as u32)).exp())) as f32;
            assert!(got.abs_diff(u64::from(want.to_bits())) <= 1);
        }
        let bf16 = map(ScalarFn::NegExp, DType::Bf16, &[0, 0x3f80, 0xff80, 0x7f80]);
        assert_eq!(bf16, [0xbf80, 0xc02e, 0x8000, 0xff80]);
    }
}
