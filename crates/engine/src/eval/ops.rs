//! Nodes that put together, choose or compute.

use super::access::{Access, Loop, Move, unravel};
use super::{Cx, Evaluator};
use modelferry_core::expr::{NodeId, Part, ReduceFn, ScalarFn};
use modelferry_core::{DType, Error, Result};
use modelferry_kernels::map::{Affine, Mapper};
use modelferry_kernels::reduce::{Folder, KthAbs};

/// Items that a fold takes at once. Partial results of whole chunks are added in index order, so a sum does not
/// depend on threads, tiles or budget.
pub(crate) const FOLD_CHUNK: u64 = 1 << 16;

impl Evaluator<'_> {
    pub(super) fn fill_assembled(
        &self,
        shape: &[u64],
        pieces: &[Part],
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        unravel(&access.clone().normalise(), shape, &mut |part| {
            let moves: Vec<Along> = part
                .moves
                .iter()
                .map(|m| Along { axis: m.axis, l: Loop { count: m.count, src: m.step as i64, dst: m.dst } })
                .collect();
            self.fill_from_parts(pieces, part.starts, part.dst, &moves, out, cx)
        })
    }

    /// Cuts a box of an assembled tensor, told by coordinates, into the boxes of the parts it meets.
    fn fill_from_parts(
        &self,
        pieces: &[Part],
        starts: &[u64],
        dst: usize,
        moves: &[Along],
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        // Two loops along one axis meet a part in no single interval: run through the wider one.
        let double = (0..moves.len()).filter(|&a| moves[a].l.src != 0).find(|&a| {
            (0..moves.len()).any(|b| b != a && moves[b].axis == moves[a].axis && moves[b].l.src != 0)
        });
        if let Some(first) = double {
            let axis = moves[first].axis;
            let wide = (0..moves.len())
                .filter(|&idx| moves[idx].axis == axis)
                .max_by_key(|&idx| moves[idx].l.src)
                .unwrap_or(first);
            let mut rest = moves.to_vec();
            let wide = rest.remove(wide);
            return (0..wide.l.count).try_for_each(|i| {
                let mut starts = starts.to_vec();
                starts[axis] += i as u64 * wide.l.src as u64;
                let dst = dst.wrapping_add_signed(i as isize * wide.l.dst);
                self.fill_from_parts(pieces, &starts, dst, &rest, out, cx)
            });
        }
        for part in pieces.iter().filter(|part| !part.extent.contains(&0)) {
            let mut at = 0u64;
            let mut to = dst;
            let mut loops = Vec::with_capacity(moves.len());
            let meets = (0..starts.len()).all(|axis| {
                let (lo, hi) = (part.lo[axis], part.lo[axis] + part.extent[axis]);
                let suffix: u64 = part.extent[axis + 1..].iter().product();
                let along = moves.iter().find(|m| m.axis == axis && m.l.src != 0);
                let (mut start, mut count, step) = match along {
                    Some(m) => (starts[axis], m.l.count as u64, m.l.src as u64),
                    None => (starts[axis], 1, 1),
                };
                let skip = lo.saturating_sub(start).div_ceil(step);
                start += skip * step;
                if skip >= count || start >= hi {
                    return false;
                }
                count = (count - skip).min((hi - start).div_ceil(step));
                at += (start - lo) * suffix;
                if let Some(m) = along {
                    to = to.wrapping_add_signed(skip as isize * m.l.dst);
                    loops.push(Loop { count: count as usize, src: (step * suffix) as i64, dst: m.l.dst });
                }
                true
            });
            if meets {
                loops.extend(moves.iter().filter(|m| m.l.src == 0).map(|m| m.l));
                self.fill(part.node, &Access { at, dst: to, loops }, out, cx)?;
            }
        }
        Ok(())
    }

    pub(super) fn fill_gathered(
        &self,
        of: NodeId,
        unit: u64,
        index: &[u64],
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        unravel(&access.clone().normalise(), &[index.len() as u64, unit], &mut |part| {
            let (across, within): (Vec<Move>, Vec<Move>) =
                part.moves.iter().copied().partition(|m| m.axis == 0 && m.step != 0);
            let loops: Vec<Loop> =
                within.iter().map(|m| Loop { count: m.count, src: m.step as i64, dst: m.dst }).collect();
            let mut groups = vec![(part.starts[0], part.dst)];
            for m in across {
                groups = groups
                    .iter()
                    .flat_map(|&(group, dst)| {
                        (0..m.count).map(move |i| {
                            (group + i as u64 * m.step, dst.wrapping_add_signed(i as isize * m.dst))
                        })
                    })
                    .collect();
            }
            groups.iter().try_for_each(|&(group, dst)| {
                let at = index[group as usize] * unit + part.starts[1];
                self.fill(of, &Access { at, dst, loops: loops.clone() }, out, cx)
            })
        })
    }

    pub(super) fn fill_mapped(
        &self,
        f: ScalarFn,
        args: &[NodeId],
        dtype: DType,
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let item = dtype.item_bytes() as usize;
        self.densely(access, item, out, cx, &mut |dense, out, cx| {
            let mut operands = Vec::with_capacity(args.len());
            for &arg in args {
                let arg_item = self.nodes()[arg].dtype.item_bytes() as usize;
                let mut operand = cx.take(dense.n() * arg_item)?;
                self.fill(arg, &dense.resized(item, arg_item), &mut operand, cx)?;
                operands.push(operand);
            }
            match f {
                ScalarFn::Cast => cx.cast(self.nodes()[args[0]].dtype, dtype, &operands[0], out)?,
                ScalarFn::SubMul | ScalarFn::MulAdd => {
                    let of = |idx: usize| self.nodes()[args[idx]].dtype;
                    // `SubMul` has its scale last, `MulAdd` its zero point.
                    let (z, s) = if f == ScalarFn::SubMul { (1, 2) } else { (2, 1) };
                    let affine = Affine::new(f, of(0), of(z), of(s)).ok_or_else(|| no_kernel(f, dtype))?;
                    affine.run(&operands[0], &operands[z], &operands[s], out);
                }
                _ => {
                    let mapper = Mapper::new(f, dtype).ok_or_else(|| no_kernel(f, dtype))?;
                    out.copy_from_slice(&operands[0]);
                    mapper.run(out);
                }
            }
            operands.into_iter().for_each(|operand| cx.give(operand));
            Ok(())
        })
    }

    /// Folds groups `at..` of `group` items, one item of `out` each.
    #[allow(clippy::too_many_arguments, reason = "the node's own fields, spread out")]
    pub(super) fn fill_reduced(
        &self,
        f: ReduceFn,
        of: NodeId,
        group: u64,
        at: u64,
        out: &mut [u8],
        item: usize,
        cx: &mut Cx,
    ) -> Result<()> {
        let dtype = self.nodes()[of].dtype;
        let width = dtype.item_bytes() as usize;
        let n_groups = out.len() / item;
        // Small groups are fetched many at a time.
        let batch = (FOLD_CHUNK / group).max(1) as usize;
        let chunk = FOLD_CHUNK.min(group.saturating_mul(batch as u64)) as usize;
        let mut items = cx.take(chunk * width)?;
        for first in (0..n_groups).step_by(batch) {
            let n = batch.min(n_groups - first);
            let from = (at + first as u64) * group;
            if group <= FOLD_CHUNK {
                let len = n * group as usize;
                self.fill_run(of, from, len, &mut items[..len * width], cx)?;
            }
            for idx in 0..n {
                let place = &mut out[(first + idx) * item..][..item];
                if group <= FOLD_CHUNK {
                    let items = &items[idx * group as usize * width..][..group as usize * width];
                    fold(f, dtype, place, &mut |feed| {
                        feed(items);
                        Ok(())
                    })?;
                } else {
                    fold(f, dtype, place, &mut |feed| {
                        for begin in (0..group).step_by(FOLD_CHUNK as usize) {
                            let len = FOLD_CHUNK.min(group - begin) as usize;
                            self.fill_run(of, from + begin, len, &mut items[..len * width], cx)?;
                            feed(&items[..len * width]);
                        }
                        Ok(())
                    })?;
                }
            }
        }
        cx.give(items);
        Ok(())
    }
}

/// Hands the chunks of a group over in order.
type EachChunk<'c> = dyn FnMut(&mut dyn FnMut(&[u8])) -> Result<()> + 'c;

/// Folds one group, whose chunks `each_chunk` hands over in order, as often as the function needs to see them.
fn fold(f: ReduceFn, dtype: DType, out: &mut [u8], each_chunk: &mut EachChunk<'_>) -> Result<()> {
    let no_fold = || Error::unsupported(format!("{f:?} is not defined for this type")).found(dtype);
    if let ReduceFn::KthAbs { k } = f {
        let mut select = KthAbs::new(dtype, k).ok_or_else(no_fold)?;
        loop {
            each_chunk(&mut |chunk| select.feed(chunk))?;
            if select.next_pass() {
                break;
            }
        }
        select.finish(out);
        return Ok(());
    }
    let empty = Folder::new(f, dtype).ok_or_else(no_fold)?;
    let mut whole: Option<Folder> = None;
    each_chunk(&mut |chunk| {
        let mut part = empty.clone();
        part.feed(chunk);
        match &mut whole {
            Some(whole) => whole.merge(&part),
            None => whole = Some(part),
        }
    })?;
    whole.unwrap_or(empty).finish(out);
    Ok(())
}

fn no_kernel(f: ScalarFn, dtype: DType) -> Error {
    Error::unsupported(format!("{f:?} is not defined for this type")).found(dtype)
}

/// A loop along an axis of an assembled tensor.
#[derive(Clone, Copy)]
struct Along {
    axis: usize,
    l: Loop,
}
