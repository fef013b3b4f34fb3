//! N-dimensional copies between strided layouts.
//!
//! A copy is planned once: dimensions are put in the order of the destination and joined where both sides allow, then
//! one of four loops runs. Runs that are contiguous on both sides are copied as such; two dimensions that are each
//! contiguous on one side are a transpose, done in tiles (`transpose.rs`); other small items go through ndarray's
//! strided views; everything else moves item by item.

mod transpose;

use ndarray::{ArrayView, ArrayViewMut, Axis, IxDyn, ShapeBuilder};
use std::fmt;

/// One dimension of a strided copy. Strides are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrideDim {
    /// Items along this dimension.
    pub count: usize,
    /// Distance in the source; zero repeats, negative walks back.
    pub src: isize,
    /// Distance in the destination; not zero where `count` is more than one.
    pub dst: isize,
}

/// A strided copy would leave one of its slices, or write one place for two items of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

impl fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("strided copy leaves its buffer")
    }
}

impl std::error::Error for OutOfBounds {}

/// Copies items of `item_bytes` from `src` to `dst`: for every index, the item at `src_base` plus the index times the
/// source strides goes to `dst_base` plus the index times the destination strides.
///
/// Nothing is written if any item of either side lies outside of its slice: that is proved first, in checked
/// arithmetic. Destinations of different items should be disjoint; if dimensions of the destination overlap each
/// other, which item stays is not specified.
pub fn copy_strided(
    item_bytes: usize,
    dims: &[StrideDim],
    src: &[u8],
    src_base: usize,
    dst: &mut [u8],
    dst_base: usize,
) -> Result<(), OutOfBounds> {
    if item_bytes == 0 || dims.iter().any(|dim| dim.count == 0) {
        return Ok(());
    }
    let src_span = span(src_base, item_bytes, dims.iter().map(|dim| (dim.count, dim.src)))?;
    let dst_span = span(dst_base, item_bytes, dims.iter().map(|dim| (dim.count, dim.dst)))?;
    if src_span.1 > src.len() || dst_span.1 > dst.len() {
        return Err(OutOfBounds);
    }
    if dims.iter().any(|dim| dim.count > 1 && dim.dst == 0) {
        return Err(OutOfBounds);
    }
    let plan = Plan::new(item_bytes, dims, src_base, dst_span.0);
    plan.run(src, src_span.0, dst);
    Ok(())
}

/// The first byte of the lowest item and the end of the highest.
fn span(
    base: usize,
    item_bytes: usize,
    dims: impl Iterator<Item = (usize, isize)>,
) -> Result<(usize, usize), OutOfBounds> {
    let (mut low, mut high) = (base as i128, base as i128 + item_bytes as i128);
    for (count, stride) in dims {
        // At most 2^64 * 2^63, and dimensions are few, so i128 holds it; checked all the same.
        let reach = (count as i128 - 1) * stride as i128;
        low = low.checked_add(reach.min(0)).ok_or(OutOfBounds)?;
        high = high.checked_add(reach.max(0)).ok_or(OutOfBounds)?;
    }
    match (usize::try_from(low), usize::try_from(high)) {
        (Ok(low), Ok(high)) => Ok((low, high)),
        _ => Err(OutOfBounds),
    }
}

/// A copy whose bounds are proved, in its simplest form.
struct Plan {
    /// Bytes that are contiguous on both sides.
    run_bytes: usize,
    /// Outermost first, by falling destination stride, all of which are positive; counts above one.
    dims: Vec<StrideDim>,
    src_base: usize,
    dst_base: usize,
}

impl Plan {
    fn new(item_bytes: usize, dims: &[StrideDim], src_base: usize, dst_base: usize) -> Plan {
        let mut src_base = src_base;
        let mut dims: Vec<StrideDim> = dims.iter().copied().filter(|dim| dim.count > 1).collect();
        for dim in &mut dims {
            if dim.dst < 0 {
                // Walk the other way on both sides; `dst_base` is the lowest item already.
                src_base = src_base.wrapping_add_signed(dim.src.wrapping_mul(dim.count as isize - 1));
                dim.src = dim.src.wrapping_neg();
                dim.dst = dim.dst.wrapping_neg();
            }
        }
        dims.sort_by_key(|dim| std::cmp::Reverse(dim.dst));
        let mut run_bytes = item_bytes;
        let mut joined: Vec<StrideDim> = Vec::with_capacity(dims.len());
        for inner in dims.into_iter().rev() {
            if joined.is_empty() && inner.src == run_bytes as isize && inner.dst == run_bytes as isize {
                // Within the slice, as the span was proved, so it cannot overflow.
                run_bytes *= inner.count;
                continue;
            }
            match joined.last_mut() {
                Some(last)
                    if last.src.checked_mul(last.count as isize) == Some(inner.src)
                        && last.dst.checked_mul(last.count as isize) == Some(inner.dst) =>
                {
                    last.count *= inner.count;
                }
                _ => joined.push(inner),
            }
        }
        joined.reverse();
        Plan { run_bytes, dims: joined, src_base, dst_base }
    }

    fn run(&self, src: &[u8], src_low: usize, dst: &mut [u8]) {
        match self.run_bytes {
            1 => self.run_small::<1>(src, src_low, dst),
            2 => self.run_small::<2>(src, src_low, dst),
            4 => self.run_small::<4>(src, src_low, dst),
            8 => self.run_small::<8>(src, src_low, dst),
            16 => self.run_small::<16>(src, src_low, dst),
            _ => self.run_long(src, dst),
        }
    }

    fn run_small<const N: usize>(&self, src: &[u8], src_low: usize, dst: &mut [u8]) {
        let item = N as isize;
        let inner = self.dims.len().wrapping_sub(1);
        let is_dst_dense = self.dims.last().is_some_and(|dim| dim.dst == item);
        let src_dense = self.dims.iter().position(|dim| dim.src == item);
        match src_dense {
            Some(across) if is_dst_dense && across != inner => {
                let (across_dim, along_dim) = (self.dims[across], self.dims[inner]);
                let mut outer = self.dims[..inner].to_vec();
                outer.remove(across);
                for_each(&outer, self.src_base, self.dst_base, |src_at, dst_at| {
                    // SAFETY: `copy_strided` proved that every item of the copy lies inside of the two slices, and
                    // these two dimensions at this outer index are some of them.
                    unsafe {
                        transpose::transpose::<N>(
                            src.as_ptr().add(src_at),
                            dst.as_mut_ptr().add(dst_at),
                            across_dim.count,
                            across_dim.dst as usize,
                            along_dim.count,
                            along_dim.src,
                        );
                    }
                });
            }
            _ => {
                if self.assign::<N>(src, src_low, dst).is_none() {
                    self.run_long(src, dst);
                }
            }
        }
    }

    /// By ndarray's loops; `None` where strides are no multiples of the item or the destination overlaps itself.
    fn assign<const N: usize>(&self, src: &[u8], src_low: usize, dst: &mut [u8]) -> Option<()> {
        let is_whole = |dim: &StrideDim| dim.src % N as isize == 0 && dim.dst % N as isize == 0;
        if !self.dims.iter().all(is_whole) {
            return None;
        }
        let shape = || IxDyn(&self.dims.iter().map(|dim| dim.count).collect::<Vec<_>>());
        let src_strides: Vec<usize> = self.dims.iter().map(|dim| dim.src.unsigned_abs() / N).collect();
        let dst_strides: Vec<usize> = self.dims.iter().map(|dim| dim.dst.unsigned_abs() / N).collect();
        let from = src.get(src_low..)?.as_chunks::<N>().0;
        let to = dst.get_mut(self.dst_base..)?.as_chunks_mut::<N>().0;
        let mut from = ArrayView::from_shape(shape().strides(IxDyn(&src_strides)), from).ok()?;
        let mut to = ArrayViewMut::from_shape(shape().strides(IxDyn(&dst_strides)), to).ok()?;
        for (axis, dim) in self.dims.iter().enumerate() {
            if dim.src < 0 {
                from.invert_axis(Axis(axis));
            }
        }
        to.assign(&from);
        Some(())
    }

    /// Run by run, in the order of the destination.
    fn run_long(&self, src: &[u8], dst: &mut [u8]) {
        for_each(&self.dims, self.src_base, self.dst_base, |src_at, dst_at| {
            debug_assert!(src_at + self.run_bytes <= src.len() && dst_at + self.run_bytes <= dst.len());
            // SAFETY: `copy_strided` proved that every item of the copy lies inside of the two slices, and these runs
            // are made of such items; a shared and an exclusive borrow do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    src.as_ptr().add(src_at),
                    dst.as_mut_ptr().add(dst_at),
                    self.run_bytes,
                );
            }
        });
    }
}

/// Calls `visit` with both offsets of every index of `dims`, the last dimension fastest.
fn for_each(dims: &[StrideDim], src_base: usize, dst_base: usize, mut visit: impl FnMut(usize, usize)) {
    let Some((inner, outer)) = dims.split_last() else {
        return visit(src_base, dst_base);
    };
    let mut index = vec![0; outer.len()];
    let (mut src_row, mut dst_row) = (src_base, dst_base);
    loop {
        let (mut src_at, mut dst_at) = (src_row, dst_row);
        for _ in 0..inner.count {
            visit(src_at, dst_at);
            src_at = src_at.wrapping_add_signed(inner.src);
            dst_at = dst_at.wrapping_add_signed(inner.dst);
        }
        // Count up the outer dimensions; offsets wrap only in steps that are undone before they are used.
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let dim = outer[axis];
            index[axis] += 1;
            src_row = src_row.wrapping_add_signed(dim.src);
            dst_row = dst_row.wrapping_add_signed(dim.dst);
            if index[axis] < dim.count {
                break;
            }
            index[axis] = 0;
            src_row = src_row.wrapping_sub((dim.src as usize).wrapping_mul(dim.count));
            dst_row = dst_row.wrapping_sub((dim.dst as usize).wrapping_mul(dim.count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tests::{Random, at_every_level};

    /// Item by item, by the definition; offsets in i128 so that nothing wraps.
    fn naive(item: usize, dims: &[StrideDim], src: &[u8], src_at: i128, dst: &mut [u8], dst_at: i128) {
        match dims.split_first() {
            None => {
                let (src_at, dst_at) = (src_at as usize, dst_at as usize);
                dst[dst_at..dst_at + item].copy_from_slice(&src[src_at..src_at + item]);
            }
            Some((dim, rest)) => {
                for k in 0..dim.count as i128 {
                    let (src_at, dst_at) = (src_at + k * dim.src as i128, dst_at + k * dim.dst as i128);
                    naive(item, rest, src, src_at, dst, dst_at);
                }
            }
        }
    }

    /// Places `counts` densely in the destination in a random order with gaps, and anyhow in the source.
    fn random_case(
        random: &mut Random,
        item: usize,
        counts: &[usize],
    ) -> (Vec<StrideDim>, Vec<u8>, usize, usize, usize) {
        let mut below = |n: usize| random.next() as usize % n;
        let mut dims: Vec<StrideDim> =
            counts.iter().map(|count| StrideDim { count: *count, src: 0, dst: 0 }).collect();
        let (mut src_stride, mut dst_stride) = (item, item);
        let mut src_order: Vec<usize> = (0..dims.len()).collect();
        let mut dst_order = src_order.clone();
        for k in (1..dims.len()).rev() {
            src_order.swap(k, below(k + 1));
            dst_order.swap(k, below(k + 1));
        }
        for k in src_order {
            let gap = [0, 0, item, 3][below(4)];
            src_stride += gap;
            dims[k].src = match below(8) {
                0 => 0,
                1 | 2 => -(src_stride as isize),
                _ => src_stride as isize,
            };
            src_stride *= dims[k].count;
        }
        for k in dst_order {
            dst_stride += [0, 0, item, 3][below(4)];
            dims[k].dst = if below(6) == 0 { -(dst_stride as isize) } else { dst_stride as isize };
            dst_stride *= dims[k].count;
        }
        let reach = |strides: &dyn Fn(&StrideDim) -> isize| {
            let ends = dims.iter().map(|dim| (dim.count as isize - 1) * strides(dim));
            let low: isize = ends.clone().map(|end| end.min(0)).sum();
            let high: isize = ends.map(|end| end.max(0)).sum();
            (low.unsigned_abs(), high as usize + low.unsigned_abs() + item)
        };
        let (src_base, src_len) = reach(&|dim| dim.src);
        let (dst_base, dst_len) = reach(&|dim| dim.dst);
        let src = random.bytes(src_len);
        (dims, src, src_base, dst_len, dst_base)
    }

    #[test]
    fn random_layouts() {
        let seed = 0x5eed_0040;
        println!("seed {seed:#x}");
        at_every_level(|level| {
            let mut random = Random(seed);
            for case in 0..3000 {
                let item = [1, 2, 4, 8, 16, 3, 34, 12][random.next() as usize % 8];
                let counts: Vec<usize> = match random.next() % 4 {
                    0 => vec![1 + random.next() as usize % 70, 1 + random.next() as usize % 70],
                    n => (0..n + 1).map(|_| 1 + random.next() as usize % 7).collect(),
                };
                let (dims, src, src_base, dst_len, dst_base) = random_case(&mut random, item, &counts);
                let mut got = vec![0xaa; dst_len];
                let mut want = got.clone();
                naive(item, &dims, &src, src_base as i128, &mut want, dst_base as i128);
                assert_eq!(copy_strided(item, &dims, &src, src_base, &mut got, dst_base), Ok(()));
                assert!(got == want, "case {case} of {seed:#x} at {level:?}: {item} {dims:?}");
                // One byte less on either side is refused, and nothing is written.
                let mut short = vec![0xaa; dst_len - 1];
                assert_eq!(copy_strided(item, &dims, &src, src_base, &mut short, dst_base), Err(OutOfBounds));
                assert!(short.iter().all(|byte| *byte == 0xaa));
                let src = &src[..src.len() - 1];
                assert_eq!(copy_strided(item, &dims, src, src_base, &mut got, dst_base), Err(OutOfBounds));
            }
        });
    }

    #[test]
    fn hostile_arguments() {
        let mut dst = [0; 8];
        let mut copy = |item, dims: &[StrideDim], src_base, dst_base| {
            copy_strided(item, dims, &[1; 8], src_base, &mut dst, dst_base)
        };
        let huge = |count, src, dst| [StrideDim { count, src, dst }; 4];
        assert_eq!(copy(1, &huge(usize::MAX, isize::MAX, isize::MAX), 0, 0), Err(OutOfBounds));
        assert_eq!(copy(1, &huge(usize::MAX, isize::MIN, isize::MIN), 0, 0), Err(OutOfBounds));
        assert_eq!(copy(1, &huge(2, 0, 0), 0, 0), Err(OutOfBounds));
        assert_eq!(copy(usize::MAX, &[], 0, 0), Err(OutOfBounds));
        assert_eq!(copy(1, &[], usize::MAX, 0), Err(OutOfBounds));
        assert_eq!(copy(1, &huge(0, isize::MAX, isize::MAX), 9, 9), Ok(()));
        assert_eq!(copy(0, &[], 0, 0), Ok(()));
        assert_eq!(copy(8, &[], 0, 0), Ok(()));
        assert_eq!(copy(9, &[], 0, 0), Err(OutOfBounds));
    }
}
