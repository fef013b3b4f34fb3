//! Compares two tensors, wherever their bytes are.

use crate::control::{Control, Settings};
use crate::eval::{Cx, Evaluator, Source};
use crate::tiling::Tiling;
use modelferry_core::model::TensorIdx;
use modelferry_core::{DType, Error, ErrorKind, Result};
use modelferry_kernels::block::QuantStats;
use modelferry_kernels::cast::{CastStats, Caster};
use modelferry_kernels::crc::Crc32Sum;

/// What counts as equal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Tolerance {
    /// The same bits.
    #[default]
    Exact,
    /// `|a - b| <= atol + rtol * |b|`, NaN equal to NaN.
    Close {
        /// Absolute.
        atol: f64,
        /// Relative to the second value.
        rtol: f64,
    },
}

/// How two tensors of one shape differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TensorDiff {
    /// Number of elements compared; items for block types.
    pub n: u64,
    /// How many are not equal.
    pub n_different: u64,
    /// Row-major index of the first of them.
    pub first: Option<u64>,
    /// Largest absolute difference of two finite numbers; 0 for types that are not numbers.
    pub max_abs: f64,
    /// Largest difference relative to the second value.
    pub max_rel: f64,
    /// How often one is NaN and the other is not.
    pub n_nan: u64,
}

/// Two models whose tensors are compared. Made once, because it looks at every expression.
pub struct Comparison<'a> {
    a: Evaluator<'a>,
    b: Evaluator<'a>,
    settings: &'a Settings,
    control: &'a Control,
}

impl<'a> Comparison<'a> {
    /// A comparison of tensors of `a` with tensors of `b`.
    pub fn new(
        a: Source<'a>,
        b: Source<'a>,
        settings: &'a Settings,
        control: &'a Control,
    ) -> Result<Comparison<'a>> {
        Ok(Comparison { a: Evaluator::new(a)?, b: Evaluator::new(b)?, settings, control })
    }

    /// Starts the control's count of bytes towards those of these pairs of tensors.
    pub fn begin(&self, pairs: impl Iterator<Item = (TensorIdx, TensorIdx)>) {
        let len = |evaluator: &Evaluator<'_>, idx: TensorIdx| {
            let model = evaluator.source.model;
            model.nodes[model.tensors[idx].data].byte_len()
        };
        self.control.begin(
            pairs.map(|(a, b)| len(&self.a, a).saturating_add(len(&self.b, b))).fold(0, u64::saturating_add),
        );
    }

    /// Checks what either source states about its own bytes, reading those that no comparison has read.
    ///
    /// Errors: [`Malformed`](ErrorKind::Malformed) naming both checksums.
    pub fn check_claims(&self) -> Result<()> {
        let mut cx = Cx::new(self.settings.tile_bytes() as usize);
        self.a.check_claims(&|_| true, &mut cx)?;
        self.b.check_claims(&|_| true, &mut cx)
    }

    /// Checksums of the items of tensor `idx_a` of the first and of tensor `idx_b` of the second model, to look for
    /// tensors that have changed places. Equal ones are only likely to be equal.
    pub fn checksums(&self, idx_a: TensorIdx, idx_b: TensorIdx) -> Result<(u32, u32)> {
        Ok((self.checksum(&self.a, idx_a)?, self.checksum(&self.b, idx_b)?))
    }

    fn checksum(&self, of: &Evaluator<'_>, idx: TensorIdx) -> Result<u32> {
        let tensor = &of.source.model.tensors[idx];
        let node = &of.source.model.nodes[tensor.data];
        let item = node.dtype.item_bytes() as usize;
        let budget = self.settings.tile_bytes();
        let tiling = Tiling::of(of, tensor.data, budget);
        let (mut cx, mut bytes, mut sum) = (Cx::new(budget as usize), vec![], Crc32Sum::default());
        for tile in 0..tiling.len() {
            self.control.check()?;
            let tile = tiling.tile(tile);
            bytes.resize(tile.n() * item, 0);
            of.fill(tensor.data, &tile.access(), &mut bytes, &mut cx)
                .map_err(|error| error.tensor(&tensor.name))?;
            for (at, from, n) in tile.runs() {
                let n_after = (node.n - at - n as u64) * item as u64;
                sum.add(&bytes[from * item..][..n * item], n_after);
            }
        }
        Ok(sum.finish(node.byte_len()))
    }

    /// Compares tensor `idx_a` of the first with tensor `idx_b` of the second model. Shapes must agree;
    /// with [`Tolerance::Exact`] dtypes must too.
    ///
    /// Errors: [`Difference`](ErrorKind::Difference) for another shape or dtype,
    /// [`Unsupported`](ErrorKind::Unsupported) for types that have no numbers to be close.
    pub fn tensors(&self, idx_a: TensorIdx, idx_b: TensorIdx, tolerance: Tolerance) -> Result<TensorDiff> {
        self.walk(idx_a, idx_b, Some(tolerance), false).map(|(diff, _)| diff)
    }

    /// What the numbers of one are as f32 against those of the other, whatever their types: what a conversion that
    /// quantizes one to the other says of it. With a tolerance they are compared too.
    ///
    /// Errors: as for [`tensors`](Comparison::tensors).
    pub fn measured(
        &self,
        idx_a: TensorIdx,
        idx_b: TensorIdx,
        tolerance: Option<Tolerance>,
    ) -> Result<(TensorDiff, QuantStats)> {
        self.walk(idx_a, idx_b, tolerance, true)
    }

    fn walk(
        &self,
        idx_a: TensorIdx,
        idx_b: TensorIdx,
        tolerance: Option<Tolerance>,
        measures: bool,
    ) -> Result<(TensorDiff, QuantStats)> {
        let (a, b) = (&self.a.source.model.tensors[idx_a], &self.b.source.model.tensors[idx_b]);
        let named = |error: Error| error.tensor(&a.name);
        if a.shape != b.shape {
            let error = Error::new(ErrorKind::Difference, "shapes differ");
            return Err(named(
                error.expected(format_args!("{:?}", a.shape)).found(format_args!("{:?}", b.shape)),
            ));
        }
        if a.dtype != b.dtype
            && (tolerance == Some(Tolerance::Exact) || a.dtype.item_elements() != b.dtype.item_elements())
        {
            return Err(named(
                Error::new(ErrorKind::Difference, "types differ").expected(a.dtype).found(b.dtype),
            ));
        }
        // The side that is read out of order rules the order of both.
        let budget = self.settings.tile_bytes() / 2;
        let tiling_b = Tiling::of(&self.b, b.data, budget);
        let tiling = if tiling_b.is_boxed() { tiling_b } else { Tiling::of(&self.a, a.data, budget) };
        let n_tiles = tiling.len();
        let sequential = self.a.facts[a.data].sequential || self.b.facts[b.data].sequential;
        let n_threads =
            if sequential { 1 } else { self.settings.threads.clamp(1, n_tiles.clamp(1, 64) as usize) };
        let parts: Vec<Result<(TensorDiff, QuantStats)>> = std::thread::scope(|scope| {
            let part = |first: usize| {
                let mut cx = Cx::new(budget as usize);
                let (mut left, mut right) = (vec![], vec![]);
                let mut diff = TensorDiff::default();
                let mut stats = QuantStats::default();
                for tile in (first as u64..n_tiles).step_by(n_threads) {
                    self.control.check()?;
                    let tile = tiling.tile(tile);
                    let access = tile.access();
                    let (item_a, item_b) = (a.dtype.item_bytes() as usize, b.dtype.item_bytes() as usize);
                    left.resize(tile.n() * item_a, 0);
                    right.resize(tile.n() * item_b, 0);
                    let (for_a, for_b) = if tiling.item() == item_a {
                        (access.clone(), access.resized(item_a, item_b))
                    } else {
                        (access.resized(item_b, item_a), access.clone())
                    };
                    self.a.fill(a.data, &for_a, &mut left, &mut cx)?;
                    self.b.fill(b.data, &for_b, &mut right, &mut cx)?;
                    self.control.advance((left.len() + right.len()) as u64);
                    if measures {
                        stats += errors((a.dtype, &left), (b.dtype, &right), &mut cx)?;
                    }
                    let Some(tolerance) = tolerance else { continue };
                    if a.dtype == b.dtype && left == right {
                        diff.n += tile.n() as u64;
                        continue;
                    }
                    for (at, from, n) in tile.runs() {
                        let left = &left[from * item_a..][..n * item_a];
                        let right = &right[from * item_b..][..n * item_b];
                        compare_run(a.dtype, left, b.dtype, right, at, tolerance, &mut diff)?;
                    }
                }
                Ok((diff, stats))
            };
            let helpers: Vec<_> = (1..n_threads).map(|first| scope.spawn(move || part(first))).collect();
            let own = part(0);
            std::iter::once(own)
                .chain(helpers.into_iter().map(|helper| {
                    helper.join().unwrap_or_else(|_| Err(Error::plugin("a worker thread panicked")))
                }))
                .collect()
        });
        let mut whole = (TensorDiff::default(), QuantStats::default());
        for part in parts {
            let (diff, stats) = part.map_err(named)?;
            whole.0.join(&diff);
            whole.1 += stats;
        }
        Ok(whole)
    }
}

/// What dense numbers of one type are against those of another, both as f32.
fn errors((of_a, a): (DType, &[u8]), (of_b, b): (DType, &[u8]), cx: &mut Cx) -> Result<QuantStats> {
    let mut as_floats = |dtype: DType, items: &[u8]| -> Result<Option<Vec<u8>>> {
        if dtype == DType::F32 {
            return Ok(None);
        }
        let mut floats = cx.take(items.len() / dtype.item_bytes().max(1) as usize * 4)?;
        cx.cast(dtype, DType::F32, items, &mut floats)?;
        Ok(Some(floats))
    };
    let (cast_a, cast_b) = (as_floats(of_a, a)?, as_floats(of_b, b)?);
    let stats = QuantStats::of(cast_a.as_deref().unwrap_or(a), cast_b.as_deref().unwrap_or(b));
    [cast_a, cast_b].into_iter().flatten().for_each(|floats| cx.give(floats));
    Ok(stats)
}

impl TensorDiff {
    fn join(&mut self, other: &TensorDiff) {
        self.n += other.n;
        self.n_different += other.n_different;
        self.n_nan += other.n_nan;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.max_rel = self.max_rel.max(other.max_rel);
        self.first = [self.first, other.first].into_iter().flatten().min();
    }
}

/// Compares runs of items that stand at index `at` of their tensors.
fn compare_run(
    dtype_a: DType,
    a: &[u8],
    dtype_b: DType,
    b: &[u8],
    at: u64,
    tolerance: Tolerance,
    diff: &mut TensorDiff,
) -> Result<()> {
    let (item_a, item_b) = (dtype_a.item_bytes() as usize, dtype_b.item_bytes() as usize);
    // Complex values are compared by their parts.
    let numbers = |dtype: DType| match dtype {
        DType::C32 => Some((DType::F16, 2)),
        DType::C64 => Some((DType::F32, 2)),
        DType::C128 => Some((DType::F64, 2)),
        other => Caster::new(other, DType::F64).map(|_| (other, 1)),
    };
    let (Some((part_a, n_parts)), Some((part_b, _))) = (numbers(dtype_a), numbers(dtype_b)) else {
        if tolerance != Tolerance::Exact {
            return Err(Error::unsupported("values of these types are only the same or not")
                .found(format_args!("{dtype_a} and {dtype_b}")));
        }
        for (idx, (x, y)) in a.chunks_exact(item_a).zip(b.chunks_exact(item_b)).enumerate() {
            diff.note(x != y, at + idx as u64);
        }
        return Ok(());
    };
    let (Some(cast_a), Some(cast_b)) = (Caster::new(part_a, DType::F64), Caster::new(part_b, DType::F64))
    else {
        return Ok(());
    };
    let mut ignored = CastStats::default();
    let (mut wide_a, mut wide_b) = ([0u8; 16], [0u8; 16]);
    for (idx, (x, y)) in a.chunks_exact(item_a).zip(b.chunks_exact(item_b)).enumerate() {
        if dtype_a == dtype_b && x == y {
            diff.n += 1;
            continue;
        }
        cast_a.run(x, &mut wide_a[..8 * n_parts], &mut ignored);
        cast_b.run(y, &mut wide_b[..8 * n_parts], &mut ignored);
        let mut different = tolerance == Tolerance::Exact;
        for part in 0..n_parts {
            let x = f64::from_le_bytes(std::array::from_fn(|byte| wide_a[8 * part + byte]));
            let y = f64::from_le_bytes(std::array::from_fn(|byte| wide_b[8 * part + byte]));
            diff.n_nan += u64::from(x.is_nan() != y.is_nan());
            let gap = (x - y).abs();
            if gap.is_finite() {
                diff.max_abs = diff.max_abs.max(gap);
                if y != 0.0 {
                    diff.max_rel = diff.max_rel.max(gap / y.abs());
                }
            }
            if let Tolerance::Close { atol, rtol } = tolerance {
                let close = x == y || x.is_nan() && y.is_nan() || gap <= atol + rtol * y.abs();
                different |= !close;
            }
        }
        diff.note(different, at + idx as u64);
    }
    Ok(())
}

impl TensorDiff {
    fn note(&mut self, different: bool, idx: u64) {
        self.n += 1;
        if different {
            self.n_different += 1;
            self.first = Some(self.first.map_or(idx, |first| first.min(idx)));
        }
    }
}
