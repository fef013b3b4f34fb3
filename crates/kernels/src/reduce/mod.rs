//! Folds of many items into one, counts, and comparisons.
//!
//! # Rules
//!
//! - `AbsMax`, `Min`, `Max` and `KthAbs` give an item of the source's type, `Sum` and `MeanAbs` an f64.
//! - NaN: one NaN in the source makes `Min`, `Max`, `AbsMax` the quiet NaN of the type with an empty payload (for a
//!   type without NaN the question does not arise). For `KthAbs` a NaN is larger than infinity.
//! - -0 is smaller than +0. Magnitudes have no sign; that of an integer's lowest value is its highest value.
//! - `Sum` adds in index order in f64, one rounding per item (64-bit integers are rounded first). Parts that were
//!   summed apart and merged give another rounding than one long sum: fold fixed chunks and merge them in index
//!   order, then the result depends on neither threads nor machine.
//! - Of no items at all: `Sum` is 0, `MeanAbs` NaN, the others zero.

mod count;
mod extent;
mod kth;

pub use count::{all_zero, count_nonfinite, count_nonzero, equal};
pub use kth::KthAbs;

use crate::cast::{CastStats, Caster};
use crate::lanes::words64;
use extent::Extent;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::expr::ReduceFn;

/// Items per step where items are converted first.
const STAGE: usize = 512;

/// One fold under way.
///
/// ```
/// use modelferry_core::{dtype::DType, expr::ReduceFn};
/// use modelferry_kernels::reduce::Folder;
/// let mut folder = Folder::new(ReduceFn::AbsMax, DType::F32).expect("f32 folds");
/// folder.feed(&[1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
/// let mut out = [0; 4];
/// folder.finish(&mut out);
/// assert_eq!(f32::from_le_bytes(out), 2.0);
/// ```
#[derive(Clone, Debug)]
pub struct Folder {
    f: ReduceFn,
    dtype: DType,
    n_items: u64,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// In `lane`, which is the source's type or, for types of one byte, f64.
    Extent {
        lane: DType,
        extent: Option<Extent>,
    },
    Sum {
        to_f64: Caster,
        sum: f64,
    },
}

impl Folder {
    /// A fold of no items yet; `None` for types that are no real scalars (bool is none), and for
    /// [`ReduceFn::KthAbs`], which needs several passes: see [`KthAbs`].
    pub fn new(f: ReduceFn, dtype: DType) -> Option<Folder> {
        if !is_real(dtype) {
            return None;
        }
        let state = match f {
            ReduceFn::AbsMax | ReduceFn::Min | ReduceFn::Max => {
                let lane = if dtype.item_bytes() == 1 { DType::F64 } else { dtype };
                State::Extent { lane, extent: None }
            }
            ReduceFn::Sum | ReduceFn::MeanAbs => {
                State::Sum { to_f64: Caster::new(dtype, DType::F64)?, sum: 0.0 }
            }
            ReduceFn::KthAbs { .. } => return None,
        };
        Some(Folder { f, dtype, n_items: 0, state })
    }

    /// The type of the result.
    pub fn result_dtype(&self) -> DType {
        match self.state {
            State::Extent { .. } => self.dtype,
            State::Sum { .. } => DType::F64,
        }
    }

    /// Folds in the next dense items.
    pub fn feed(&mut self, src: &[u8]) {
        let item = self.dtype.item_bytes() as usize;
        debug_assert!(src.len().is_multiple_of(item));
        self.n_items += (src.len() / item) as u64;
        match &mut self.state {
            State::Extent { lane, extent } if item == 1 => {
                // Which values occur is enough. The counters behind that have 32 bits.
                for src in src.chunks(1 << 30) {
                    let values = occurring(self.dtype, *lane, src);
                    *extent = Extent::join(*extent, Extent::of(*lane, &values));
                }
            }
            State::Extent { lane, extent } => *extent = Extent::join(*extent, Extent::of(*lane, src)),
            State::Sum { to_f64, sum } => {
                let mut wide = [0; STAGE * 8];
                for src in src.chunks(STAGE * item) {
                    let wide = &mut wide[..src.len() / item * 8];
                    to_f64.run(src, wide, &mut CastStats::default());
                    let values = words64(wide).iter().map(|value| f64::from_le_bytes(*value));
                    *sum = match self.f {
                        ReduceFn::MeanAbs => values.fold(*sum, |sum, value| sum + value.abs()),
                        _ => values.fold(*sum, |sum, value| sum + value),
                    };
                }
            }
        }
    }

    /// Folds in what `other`, of the same function and type, has folded: the items after those of `self`.
    pub fn merge(&mut self, other: &Folder) {
        debug_assert!(self.f == other.f && self.dtype == other.dtype);
        self.n_items += other.n_items;
        match (&mut self.state, &other.state) {
            (State::Extent { extent, .. }, State::Extent { extent: other, .. }) => {
                *extent = Extent::join(*extent, *other);
            }
            (State::Sum { sum, .. }, State::Sum { sum: other, .. }) => *sum += other,
            _ => {}
        }
    }

    /// Writes the result, one item of [`Folder::result_dtype`], to the start of `dst`.
    pub fn finish(&self, dst: &mut [u8]) {
        let bits = match &self.state {
            State::Extent { lane, extent } => {
                let bits = extent.map_or(0, |extent| extent.item(self.f, *lane));
                if *lane == self.dtype { bits } else { from_f64(bits, self.dtype) }
            }
            State::Sum { sum, .. } => match self.f {
                ReduceFn::MeanAbs => (*sum / self.n_items as f64).to_bits(),
                _ => sum.to_bits(),
            },
        };
        let width = self.result_dtype().item_bytes() as usize;
        debug_assert!(dst.len() >= width);
        dst.iter_mut().zip(&bits.to_le_bytes()[..width]).for_each(|(to, from)| *to = *from);
    }
}

fn is_real(dtype: DType) -> bool {
    matches!(dtype.class(), Class::Float | Class::Signed | Class::Unsigned)
}

/// One f64 as an item of `dtype`; out of range is the end of the range for integers.
fn from_f64(bits: u64, dtype: DType) -> u64 {
    let mut item = [0; 8];
    if let Some(caster) = Caster::new(DType::F64, dtype) {
        let width = dtype.item_bytes() as usize;
        caster.run(&bits.to_le_bytes(), &mut item[..width], &mut CastStats::default());
    }
    u64::from_le_bytes(item)
}

/// Each value that occurs among items of one byte, in `lane`.
fn occurring(dtype: DType, lane: DType, src: &[u8]) -> Vec<u8> {
    // A few items are sooner converted than counted; twice is no harm.
    let present = if src.len() <= 256 {
        src.to_vec()
    } else {
        let counts = crate::cast::histogram(src);
        (0..=255).filter(|byte| counts[usize::from(*byte)] > 0).collect()
    };
    let mut values = vec![0; present.len() * lane.item_bytes() as usize];
    if let Some(caster) = Caster::new(dtype, lane) {
        caster.run(&present, &mut values, &mut CastStats::default());
    }
    values
}

#[cfg(test)]
mod tests;
