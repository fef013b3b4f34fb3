//! Fetching the items of an access from something that can only give consecutive ones.

use super::Cx;
use super::access::{Access, Loop};
use modelferry_core::{Error, Result};
use modelferry_kernels::strided::{StrideDim, copy_strided};

/// Reads consecutive items: fills the bytes with the items from the given one on.
pub(crate) type ReadRun<'r> = dyn FnMut(&mut Cx, u64, &mut [u8], Reading) -> Result<()> + 'r;

/// Whether a run holds wanted items only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Every item of the run is wanted, and wanted once.
    Exact,
    /// Some lie between wanted ones or are wanted twice.
    Padded,
}

/// Runs shorter than this are cheaper to over-read than to fetch apart.
const SMALL_RUN_BYTES: usize = 4096;
/// How many bytes may be read for one that is wanted, in longer runs.
const MAX_OVERREAD: usize = 4;

/// Fills `out` with the items of `access`, `item` bytes each, through runs read in the source's order.
///
/// Neighbouring loops whose items lie close together become one run; the loops outside them repeat it. Runs that do
/// not land in the output as they are go through one scratch buffer and one strided copy.
pub(crate) fn gather(
    cx: &mut Cx,
    access: &Access,
    item: usize,
    out: &mut [u8],
    read: &mut ReadRun<'_>,
) -> Result<()> {
    let access = access.clone().normalise();
    if access.n() == 0 {
        return Ok(());
    }
    gather_normal(cx, access, item, out, read)
}

fn gather_normal(
    cx: &mut Cx,
    access: Access,
    item: usize,
    out: &mut [u8],
    read: &mut ReadRun<'_>,
) -> Result<()> {
    let (moving, still): (Vec<Loop>, Vec<Loop>) = access.loops.iter().partition(|l| l.src > 0);
    let mut from = moving.len();
    let mut span = 1usize;
    let mut wanted = 1usize;
    while let Some(outer) = from.checked_sub(1).map(|idx| moving[idx]) {
        let next_span = span.saturating_add((outer.count - 1).saturating_mul(outer.src as usize));
        let next_wanted = wanted * outer.count;
        let close = next_span <= next_wanted.saturating_mul(MAX_OVERREAD)
            || next_span.saturating_mul(item) <= SMALL_RUN_BYTES;
        // What lands as it is takes no buffer, however long.
        let in_place = span == 1 && still.is_empty() && outer.src == 1 && outer.dst == item as isize;
        if !close || !in_place && next_span.saturating_mul(item) > cx.cap {
            break;
        }
        (span, wanted, from) = (next_span, next_wanted, from - 1);
    }
    let (repeats, run) = moving.split_at(from);
    let exact = if span == wanted && still.is_empty() { Reading::Exact } else { Reading::Padded };
    let lands = still.is_empty() && matches!(run, [] | [Loop { src: 1, .. }]);
    if lands && run.first().is_none_or(|l| l.dst == item as isize) {
        return each(repeats, access.at, access.dst, &mut |at, dst| {
            let place = out.get_mut(dst..dst + span * item).ok_or_else(outside)?;
            read(cx, at, place, exact)
        });
    }
    // A run that alone is too long for the scratch buffer is cut; so is a nest of them, at its widest loop.
    let n_runs: usize = repeats.iter().map(|l| l.count).product();
    if let [widest, rest @ ..] = &*access.loops
        && widest.src > 0
        && n_runs.saturating_mul(span).saturating_mul(item) > cx.cap
    {
        let per_step = n_runs.saturating_mul(span).saturating_mul(item) / widest.count;
        let step = (cx.cap / per_step.max(1)).max(1);
        if step < widest.count {
            return (0..widest.count).step_by(step).try_for_each(|first| {
                let mut loops = vec![Loop { count: step.min(widest.count - first), ..*widest }];
                loops.extend_from_slice(rest);
                let at = access.at + first as u64 * widest.src as u64;
                let dst = access.dst.wrapping_add_signed(first as isize * widest.dst);
                gather_normal(cx, Access { at, dst, loops }.normalise(), item, out, read)
            });
        }
    }
    let mut scratch = cx.take(n_runs * span * item)?;
    let mut filled = 0;
    let fetched = each(repeats, access.at, 0, &mut |at, _| {
        let place = &mut scratch[filled..filled + span * item];
        filled += span * item;
        read(cx, at, place, exact)
    });
    let mut dims = Vec::with_capacity(access.loops.len());
    let mut step = (span * item) as isize;
    for l in repeats.iter().rev() {
        dims.push(StrideDim { count: l.count, src: step, dst: l.dst });
        step *= l.count as isize;
    }
    dims.extend(run.iter().map(|l| StrideDim {
        count: l.count,
        src: l.src as isize * item as isize,
        dst: l.dst,
    }));
    dims.extend(still.iter().map(|l| StrideDim { count: l.count, src: 0, dst: l.dst }));
    let copied = fetched.and_then(|()| scatter(item, &dims, &scratch, 0, out, access.dst));
    cx.give(scratch);
    copied
}

/// A strided copy whose bounds were proved by whoever made the access.
pub(crate) fn scatter(
    item: usize,
    dims: &[StrideDim],
    src: &[u8],
    src_base: usize,
    out: &mut [u8],
    dst_base: usize,
) -> Result<()> {
    copy_strided(item, dims, src, src_base, out, dst_base).map_err(|_| outside())
}

fn outside() -> Error {
    Error::plugin("an access lies outside its buffer; this is a bug in modelferry")
}

/// Calls `visit` with source item and output byte of every iteration, source ascending.
fn each(loops: &[Loop], at: u64, dst: usize, visit: &mut dyn FnMut(u64, usize) -> Result<()>) -> Result<()> {
    match loops {
        [] => visit(at, dst),
        [first, rest @ ..] => (0..first.count).try_for_each(|i| {
            let at = at + i as u64 * first.src as u64;
            each(rest, at, dst.wrapping_add_signed(i as isize * first.dst), visit)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_lands_is_read_at_once_whatever_the_cap() {
        let mut cx = Cx::new(4096);
        let mut reads = vec![];
        let mut out = vec![0; 3 << 14];
        let access = Access::run(5, 3 << 12, 4);
        gather(&mut cx, &access, 4, &mut out, &mut |_, at, run, reading| {
            reads.push((at, run.len(), reading));
            Ok(())
        })
        .unwrap();
        assert_eq!(reads, [(5, 3 << 14, Reading::Exact)]);
        // Rows that do not lie behind each other are read apart.
        let loops = vec![Loop { count: 2, src: 1 << 20, dst: 1 << 14 }, Loop { count: 4096, src: 1, dst: 4 }];
        let mut reads = vec![];
        gather(&mut cx, &Access { at: 1, dst: 0, loops }, 4, &mut out, &mut |_, at, run, _| {
            reads.push((at, run.len()));
            Ok(())
        })
        .unwrap();
        assert_eq!(reads, [(1, 1 << 14), (1 + (1 << 20), 1 << 14)]);
    }
}
