//! Which items of a sequence are wanted, and where they go.

use modelferry_core::Result;

/// One loop of an [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loop {
    /// Iterations.
    pub(crate) count: usize,
    /// Source items from one iteration to the next.
    pub(crate) src: i64,
    /// Output bytes from one iteration to the next.
    pub(crate) dst: isize,
}

/// A nest of loops over the items of a sequence: an N-dimensional box of whatever shape the caller sees in it.
///
/// The item at index `(i0, i1, …)` is `at + Σ i·src` of the sequence and goes to byte `dst + Σ i·dst` of the output.
/// Loops may stand in any order. Their number is small (a tensor's rank), their extent is not.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) at: u64,
    pub(crate) dst: usize,
    pub(crate) loops: Vec<Loop>,
}

impl Access {
    /// `n` consecutive items of `item_bytes` bytes, densely packed from output byte 0.
    pub(crate) fn run(at: u64, n: usize, item_bytes: usize) -> Access {
        Access { at, dst: 0, loops: vec![Loop { count: n, src: 1, dst: item_bytes as isize }] }
    }

    /// Number of items.
    pub(crate) fn n(&self) -> usize {
        self.loops.iter().map(|l| l.count).product()
    }

    /// The same pairs of source item and output byte with non-negative source steps, sorted from the widest source
    /// step to the narrowest, neighbours joined where both sides step evenly.
    pub(crate) fn normalise(mut self) -> Access {
        for l in &mut self.loops {
            if l.src < 0 {
                let last = l.count as i64 - 1;
                // The last item lies inside the sequence and the output: both sums stay in range.
                self.at = self.at.wrapping_add_signed(last * l.src);
                self.dst = self.dst.wrapping_add_signed(last as isize * l.dst);
                *l = Loop { count: l.count, src: -l.src, dst: -l.dst };
            }
        }
        self.loops.retain(|l| l.count != 1);
        self.loops.sort_by_key(|l| std::cmp::Reverse((l.src, l.dst)));
        let mut joined: Vec<Loop> = Vec::with_capacity(self.loops.len());
        for l in self.loops {
            match joined.last_mut() {
                Some(outer)
                    if outer.src == l.src.saturating_mul(l.count as i64)
                        && outer.dst == l.dst.saturating_mul(l.count as isize) =>
                {
                    *outer = Loop { count: outer.count * l.count, src: l.src, dst: l.dst };
                }
                _ => joined.push(l),
            }
        }
        Access { at: self.at, dst: self.dst, loops: joined }
    }

    /// The same items seen as `width` consecutive smaller ones of `bytes` bytes each.
    pub(crate) fn widen(&self, width: usize, bytes: usize) -> Access {
        let mut loops: Vec<Loop> =
            self.loops.iter().map(|l| Loop { src: l.src * width as i64, ..*l }).collect();
        loops.push(Loop { count: width, src: 1, dst: bytes as isize });
        Access { at: self.at * width as u64, dst: self.dst, loops }
    }

    /// If the output bytes are one dense run of `item` byte items, where it begins.
    pub(crate) fn dense(&self, item: usize) -> Option<usize> {
        let mut steps: Vec<(isize, usize)> =
            self.loops.iter().filter(|l| l.count != 1).map(|l| (l.dst, l.count)).collect();
        steps.sort();
        let mut next = item as isize;
        for (step, count) in steps {
            if step != next {
                return None;
            }
            next *= count as isize;
        }
        Some(self.dst)
    }

    /// The same items packed densely from byte 0 in loop order, `item` bytes each.
    pub(crate) fn packed(&self, item: usize) -> Access {
        let mut loops = self.loops.clone();
        let mut step = item as isize;
        for l in loops.iter_mut().rev() {
            l.dst = step;
            step *= l.count as isize;
        }
        Access { at: self.at, dst: 0, loops }
    }

    /// A dense access at byte 0 for items of another size, each item at the place it has among the others here.
    /// `self` must be [dense](Access::dense) for `item`.
    pub(crate) fn resized(&self, item: usize, other: usize) -> Access {
        let loops =
            self.loops.iter().map(|l| Loop { dst: l.dst / item as isize * other as isize, ..*l }).collect();
        Access { at: self.at, dst: 0, loops }
    }
}

/// One axis that a loop of an [`Access`] moves along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) axis: usize,
    pub(crate) count: usize,
    /// Steps along the axis per iteration; 0 stays.
    pub(crate) step: u64,
    pub(crate) dst: isize,
}

/// A part of an [`Access`] told in the coordinates of a shape: no loop carries from one axis into the next.
#[derive(Debug)]
pub(crate) struct Unravelled<'a> {
    pub(crate) dst: usize,
    pub(crate) starts: &'a [u64],
    pub(crate) moves: &'a [Move],
}

/// Tells a [normalised](Access::normalise) access in the coordinates of the row-major `shape` it runs over, in as
/// many parts as its loops carry from axis to axis.
pub(crate) fn unravel(
    access: &Access,
    shape: &[u64],
    emit: &mut dyn FnMut(&Unravelled<'_>) -> Result<()>,
) -> Result<()> {
    let mut state = State { shape, starts: vec![0; shape.len()], moves: vec![], emit };
    state.descend(shape.len(), access.at, access.dst, &access.loops)
}

struct State<'a, 'e> {
    shape: &'a [u64],
    starts: Vec<u64>,
    moves: Vec<Move>,
    emit: &'e mut dyn FnMut(&Unravelled<'_>) -> Result<()>,
}

impl State<'_, '_> {
    /// Resolves axes `0..axes` of a linear index; the axes behind them are done.
    fn descend(&mut self, axes: usize, at: u64, dst: usize, loops: &[Loop]) -> Result<()> {
        let Some(axis) = axes.checked_sub(1) else {
            // A repeating loop (step 0) moves nowhere but still fills its output.
            let kept = self.moves.len();
            self.moves.extend(loops.iter().map(|l| Move { axis: 0, count: l.count, step: 0, dst: l.dst }));
            let result = (self.emit)(&Unravelled { dst, starts: &self.starts, moves: &self.moves });
            self.moves.truncate(kept);
            return result;
        };
        let extent = self.shape[axis];
        let (row, col) = (at / extent, at % extent);
        let is_inner = |l: &&Loop| !(l.src as u64).is_multiple_of(extent);
        let reach: u64 = loops.iter().filter(is_inner).map(|l| (l.count as u64 - 1) * l.src as u64).sum();
        if col + reach < extent {
            let kept = self.moves.len();
            let inner = loops.iter().filter(is_inner);
            self.moves.extend(inner.map(|l| Move { axis, count: l.count, step: l.src as u64, dst: l.dst }));
            self.starts[axis] = col;
            let outer: Vec<Loop> = loops
                .iter()
                .filter(|l| !is_inner(l))
                .map(|l| Loop { src: l.src / extent as i64, ..*l })
                .collect();
            let result = self.descend(axis, row, dst, &outer);
            self.moves.truncate(kept);
            return result;
        }
        // Something carries. With several loops on this axis the widest is run through one by one; a single one is
        // cut where it crosses a row.
        let widest = (0..loops.len())
            .filter(|&idx| is_inner(&&loops[idx]))
            .max_by_key(|&idx| loops[idx].src)
            .unwrap_or_default();
        let wide = loops[widest];
        let mut rest: Vec<Loop> = loops.to_vec();
        rest.remove(widest);
        let n_inner = loops.iter().filter(is_inner).count();
        if n_inner > 1 {
            for step in 0..wide.count {
                let dst = dst.wrapping_add_signed(step as isize * wide.dst);
                self.descend(axes, at + step as u64 * wide.src as u64, dst, &rest)?;
            }
            return Ok(());
        }
        let src = wide.src as u64;
        let (mut at, mut dst, mut left) = (at, dst, wide.count);
        let per_row = (extent.is_multiple_of(src)).then(|| (extent / src) as usize);
        while left > 0 {
            let room = (extent - at % extent).div_ceil(src) as usize;
            let whole = per_row.filter(|&per_row| room == per_row && left >= 2 * per_row);
            let (take, with) = match whole {
                Some(per_row) => {
                    let rows = left / per_row;
                    let outer = Loop { count: rows, src: extent as i64, dst: wide.dst * per_row as isize };
                    (rows * per_row, vec![outer, Loop { count: per_row, ..wide }])
                }
                None => (room.min(left), vec![Loop { count: room.min(left), ..wide }]),
            };
            let mut loops = rest.clone();
            loops.extend(with.into_iter().filter(|l| l.count != 1));
            self.descend(axes, at, dst, &loops)?;
            at += take as u64 * src;
            dst = dst.wrapping_add_signed(take as isize * wide.dst);
            left -= take;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every (source item, output byte) pair of an access, in no particular order.
    fn pairs(access: &Access) -> Vec<(u64, usize)> {
        let mut out = vec![(access.at, access.dst)];
        for l in &access.loops {
            out = out
                .iter()
                .flat_map(|&(at, dst)| {
                    (0..l.count).map(move |i| {
                        (
                            at.wrapping_add_signed(i as i64 * l.src),
                            dst.wrapping_add_signed(i as isize * l.dst),
                        )
                    })
                })
                .collect();
        }
        out.sort();
        out
    }

    fn check(access: Access, shape: &[u64]) {
        let expected = pairs(&access);
        let access = access.normalise();
        assert_eq!(pairs(&access), expected, "normalise");
        let mut found = vec![];
        unravel(&access, shape, &mut |part| {
            let mut list = vec![(part.starts.to_vec(), part.dst)];
            for m in part.moves {
                list = list
                    .iter()
                    .flat_map(|(coords, dst)| {
                        (0..m.count).map(move |i| {
                            let mut coords = coords.clone();
                            coords[m.axis] += i as u64 * m.step;
                            (coords, dst.wrapping_add_signed(i as isize * m.dst))
                        })
                    })
                    .collect();
            }
            for (coords, dst) in list {
                assert!(coords.iter().zip(shape).all(|(c, e)| c < e), "{coords:?} in {shape:?}");
                let linear = coords.iter().zip(shape).fold(0, |linear, (c, e)| linear * e + c);
                found.push((linear, dst));
            }
            Ok(())
        })
        .unwrap();
        found.sort();
        assert_eq!(found, expected, "{access:?} over {shape:?}");
    }

    #[test]
    fn unravelling_keeps_every_pair() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = |n: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % n
        };
        for _ in 0..3000 {
            let shape: Vec<u64> = (0..1 + random(4)).map(|_| 1 + random(6)).collect();
            let total: u64 = shape.iter().product();
            let mut loops = vec![];
            let (mut low, mut high, mut dst) = (0i64, 0i64, 2isize);
            for _ in 0..random(4) {
                let count = 1 + random(5) as i64;
                let src = random(2 * total + 1) as i64 - total as i64;
                let reach = (count - 1) * src;
                if high + reach.max(0) - (low + reach.min(0)) < total as i64 {
                    (low, high) = (low + reach.min(0), high + reach.max(0));
                    loops.push(Loop { count: count as usize, src, dst });
                    dst *= count as isize;
                }
            }
            let at = (random((total as i64 - (high - low)) as u64) as i64 - low) as u64;
            check(Access { at, dst: 7, loops }, &shape);
        }
    }

    #[test]
    fn a_run_over_rows_is_one_part() {
        let access = Access::run(0, 24, 4).normalise();
        let mut n_parts = 0;
        unravel(&access, &[3, 8], &mut |_| {
            n_parts += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(n_parts, 1);
    }
}
