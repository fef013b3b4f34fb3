//! Functions of blocks.

use super::access::Access;
use super::gather::gather;
use super::{Cx, Evaluator};
use modelferry_core::expr::{BlockFn, NodeId};
use modelferry_core::{DType, Error, Result};
use modelferry_kernels::block::{BlockCodec, prune_nm};

/// The codec that `f` needs between these types; none for what is no codec's work.
///
/// Errors: [`Unsupported`](modelferry_core::ErrorKind::Unsupported) where there is none.
pub(super) fn codec(f: BlockFn, from: DType, to: DType, is_weighted: bool) -> Result<Option<BlockCodec>> {
    let block = match f {
        BlockFn::Quantize => to,
        BlockFn::Dequantize => from,
        BlockFn::PruneNm { .. } => return Ok(None),
    };
    let missing = |what| Err(Error::unsupported(what).found(block));
    match (f, BlockCodec::new(block)) {
        (BlockFn::Quantize, Some(codec)) if is_weighted && !codec.can_quantize_weighted() => {
            missing("importance weights mean nothing to this block type")
        }
        (BlockFn::Quantize, Some(codec)) if !is_weighted && !codec.can_quantize() => {
            missing("values cannot be quantized to this block type")
        }
        (_, Some(codec)) => Ok(Some(codec)),
        (_, None) => missing("no codec for this block type"),
    }
}

/// A function of blocks and what it is applied to: the fields of its node.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub(super) f: BlockFn,
    pub(super) of: NodeId,
    pub(super) row: u64,
    pub(super) weights: Option<NodeId>,
}

impl Evaluator<'_> {
    pub(super) fn fill_blocks(
        &self,
        blocks: Blocks,
        dtype: DType,
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let Blocks { f, of, weights, .. } = blocks;
        let from = self.nodes()[of].dtype;
        match (f, codec(f, from, dtype, weights.is_some())?, weights) {
            (BlockFn::Quantize, Some(codec), None) => {
                let (item, grain) = (dtype.item_bytes() as usize, dtype.item_elements() as usize);
                self.densely(access, item, out, cx, &mut |dense, out, cx| {
                    let mut floats = cx.take(dense.n() * grain * 4)?;
                    let result =
                        self.fill(of, &dense.resized(item, grain * 4).widen(grain, 4), &mut floats, cx);
                    codec.quantize(&floats, out);
                    let noted = cx.quantized(codec, &floats, out);
                    cx.give(floats);
                    result.and(noted)
                })
            }
            (BlockFn::Quantize, Some(codec), Some(weights)) => {
                self.fill_weighted(codec, of, blocks.row, weights, access, out, cx)
            }
            (BlockFn::Dequantize, Some(codec), _) => {
                let (block, grain) = (from.item_bytes() as usize, from.item_elements());
                gather(cx, access, 4, out, &mut |cx, at, run, _| {
                    let n = (run.len() / 4) as u64;
                    let first = at / grain;
                    let n_blocks = ((at + n).div_ceil(grain) - first) as usize;
                    let mut blocks = cx.take(n_blocks * block)?;
                    self.fill_run(of, first, n_blocks, &mut blocks, cx)?;
                    if at.is_multiple_of(grain) && n.is_multiple_of(grain) {
                        codec.dequantize(&blocks, run);
                    } else {
                        let mut floats = cx.take(n_blocks * grain as usize * 4)?;
                        codec.dequantize(&blocks, &mut floats);
                        let skip = (at % grain) as usize * 4;
                        run.copy_from_slice(&floats[skip..skip + run.len()]);
                        cx.give(floats);
                    }
                    cx.give(blocks);
                    Ok(())
                })
            }
            (BlockFn::PruneNm { keep, of: group }, ..) => {
                let item = dtype.item_bytes() as usize;
                let group = u64::from(group);
                gather(cx, access, item, out, &mut |cx, at, run, _| {
                    let n = (run.len() / item) as u64;
                    let first = at / group * group;
                    let n_whole = ((at + n).div_ceil(group) * group - first) as usize;
                    let mut whole = cx.take(n_whole * item)?;
                    let result = self.fill_run(of, first, n_whole, &mut whole, cx);
                    prune_nm(dtype, usize::from(keep), group as usize, &mut whole);
                    let skip = (at - first) as usize * item;
                    run.copy_from_slice(&whole[skip..skip + run.len()]);
                    cx.give(whole);
                    result
                })
            }
            (f, None, _) => {
                Err(Error::plugin("a function of blocks has no codec; this is a bug in modelferry")
                    .found(format_args!("{f:?}")))
            }
        }
    }

    /// Quantizes under weights, row by row: an encoder may look at a whole row before it makes its first block.
    #[allow(clippy::too_many_arguments, reason = "the node's own fields, spread out")]
    fn fill_weighted(
        &self,
        codec: BlockCodec,
        of: NodeId,
        row: u64,
        weights: NodeId,
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let item = codec.dtype().item_bytes() as usize;
        let per_row = row / codec.dtype().item_elements();
        if row == 0 {
            return Ok(());
        }
        let n_matrices = self.nodes()[weights].n / row;
        let per_matrix = self.nodes()[of].n / row / n_matrices;
        let row = row as usize;
        gather(cx, access, item, out, &mut |cx, at, run, _| {
            let mut factors = cx.take(row * 4)?;
            let mut floats = cx.take(row * 4)?;
            let mut blocks = cx.take(per_row as usize * item)?;
            let mut loaded = None;
            let mut left = &mut *run;
            let mut next = at;
            while !left.is_empty() {
                let line = next / per_row;
                let matrix = line / per_matrix;
                if loaded != Some(matrix) {
                    self.fill_run(weights, matrix * row as u64, row, &mut factors, cx)?;
                    loaded = Some(matrix);
                }
                self.fill_run(of, line * row as u64, row, &mut floats, cx)?;
                codec.quantize_weighted(&floats, row, &factors, &mut blocks);
                let skip = (next % per_row) as usize * item;
                let (place, rest) = left.split_at_mut((blocks.len() - skip).min(left.len()));
                place.copy_from_slice(&blocks[skip..skip + place.len()]);
                // A row that several runs share is noted by the one that has its start.
                if skip == 0 {
                    cx.quantized(codec, &floats, &blocks)?;
                }
                next += (place.len() / item) as u64;
                left = rest;
            }
            [factors, floats, blocks].into_iter().for_each(|buffer| cx.give(buffer));
            Ok(())
        })
    }
}
