//! The bytes of output ranges, made in memory.

use super::job::Job;
use crate::eval::Cx;
use crate::tiling::Tile;
use modelferry_core::expr::{ByteOrder, NodeId, Op, Packing};
use modelferry_core::inputs::FileId;
use modelferry_core::layout::Piece;
use modelferry_core::{DType, Result};
use modelferry_kernels::pack::pack;
use modelferry_kernels::swap::swap;

/// Bytes of items and scratch that a computed run takes at once, so that each step finds the last one's result in
/// the processor's cache.
const CACHED_BYTES: u64 = 256 << 10;

impl Job<'_> {
    /// Fills `out` with the bytes of consecutive pieces of a file, from byte `skip` of piece `piece` on.
    pub(super) fn fill_linear(
        &self,
        file: usize,
        mut piece: usize,
        mut skip: u64,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let pieces = &self.layout().files[file].pieces;
        let mut filled = 0;
        // Neighbours that are neighbours in their source too are fetched by one read.
        let mut pending: Option<(FileId, u64, usize)> = None;
        while filled < out.len() {
            let Some(current) = pieces.get(piece) else { break };
            let len = ((current.byte_len() - skip) as usize).min(out.len() - filled);
            let place = filled..filled + len;
            let plain = match current {
                Piece::Tensor { idx, bytes, packing } if *packing == Packing::default() => {
                    self.verbatim(*idx).map(|(from, at)| (from, at + bytes.start + skip))
                }
                Piece::Asset { idx, bytes } => match self.asset(*idx) {
                    Op::Region { file, at } => Some((*file, at + bytes.start + skip)),
                    _ => None,
                },
                _ => None,
            };
            match (plain, pending) {
                _ if len == 0 => {}
                (Some((from, at)), Some((file, begin, first)))
                    if from == file && at == begin + (filled - first) as u64 => {}
                (plain, before) => {
                    if let Some((from, at, first)) = before {
                        self.read(from, at, &mut out[first..filled], cx)?;
                    }
                    pending = plain.map(|(from, at)| (from, at, filled));
                    match current {
                        _ if plain.is_some() => {}
                        Piece::Bytes(blob) => {
                            out[place].copy_from_slice(&blob[skip as usize..skip as usize + len]);
                        }
                        Piece::Zero(_) => out[place].fill(0),
                        Piece::Asset { idx, bytes } => {
                            if let Op::Inline(blob) = self.asset(*idx) {
                                let from = (bytes.start + skip) as usize;
                                out[place].copy_from_slice(&blob[from..from + len]);
                            }
                        }
                        Piece::Tensor { idx, bytes, packing } => {
                            self.fill_packed(*idx, bytes.start + skip, *packing, &mut out[place], cx)
                                .map_err(|error| error.tensor(&self.model().tensors[*idx].name))?;
                            self.note(*idx, cx);
                        }
                    }
                }
            }
            filled += len;
            piece += 1;
            skip = 0;
        }
        if let Some((from, at, first)) = pending {
            self.read(from, at, &mut out[first..filled], cx)?;
        }
        Ok(())
    }

    /// How an asset's bytes are made: a region or inline bytes, which [`Model::push_asset`] sees to.
    fn asset(&self, idx: usize) -> &Op {
        &self.model().nodes[self.model().assets[idx].data].op
    }

    fn read(&self, from: FileId, at: u64, out: &mut [u8], cx: &mut Cx) -> Result<()> {
        cx.reads.read(self.evaluator.source.inputs, from, at, out)
    }

    /// Fills `out` with packed bytes of a tensor from byte `at` on. Ends may split an item: it is made whole, and the
    /// wanted part of it taken.
    fn fill_packed(&self, idx: usize, at: u64, packing: Packing, out: &mut [u8], cx: &mut Cx) -> Result<()> {
        let tensor = &self.model().tensors[idx];
        let unit = Unit::of(tensor.dtype);
        let n_items = self.model().nodes[tensor.data].n;
        let fact = self.evaluator.facts[tensor.data];
        let item_bytes = tensor.dtype.item_bytes() + u64::from(fact.scratch);
        let step = (CACHED_BYTES / (unit.items * item_bytes).max(1)).max(1);
        // A transposed tensor is better fetched at once than in cached pieces, and a row of blocks is made at once.
        let step = if fact.linear { step.max(fact.grain) } else { u64::MAX / unit.bytes };
        let end = at + out.len() as u64;
        let mut next = at;
        while next < end {
            let first_unit = next / unit.bytes;
            let mut last_unit = fact.whole(first_unit.saturating_add(step)).max(first_unit + 1);
            // An item whose start is not wanted is made by whoever wants that too, and its values are noted there.
            let seen = (first_unit * unit.bytes < next).then_some(cx.seen);
            let grain = fact.grain.max(1);
            if seen.is_some() {
                last_unit = last_unit.min((first_unit / grain + 1) * grain);
            }
            let last_unit = end.div_ceil(unit.bytes).min(last_unit);
            let items = first_unit * unit.items..(last_unit * unit.items).min(n_items);
            let begin = first_unit * unit.bytes;
            let packed_len = unit.packed_len(items.end - items.start);
            let stop = end.min(begin + packed_len);
            let place = &mut out[(next - at) as usize..(stop - at) as usize];
            let whole = begin == next && stop == begin + packed_len;
            if whole && unit.bits >= 8 {
                self.fill_items(tensor.data, items.start, tensor.dtype, packing, place, cx)?;
            } else {
                let mut made = cx.take(packed_len as usize)?;
                if unit.bits >= 8 {
                    self.fill_items(tensor.data, items.start, tensor.dtype, packing, &mut made, cx)?;
                } else {
                    let mut loose = cx.take((items.end - items.start) as usize)?;
                    self.evaluator.fill_run(tensor.data, items.start, loose.len(), &mut loose, cx)?;
                    pack(unit.bits, packing.bits, &loose, &mut made);
                    cx.give(loose);
                }
                let from = (next - begin) as usize;
                place.copy_from_slice(&made[from..from + place.len()]);
                cx.give(made);
            }
            if let Some(seen) = seen.filter(|_| first_unit.is_multiple_of(grain)) {
                cx.seen = seen;
            }
            next = stop;
        }
        Ok(())
    }

    fn fill_items(
        &self,
        id: NodeId,
        at: u64,
        dtype: DType,
        packing: Packing,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let n = out.len() / dtype.item_bytes().max(1) as usize;
        self.evaluator.fill_run(id, at, n, out, cx)?;
        reorder(dtype, packing, out);
        Ok(())
    }

    /// Fills `out` with the items of a box of a tensor.
    pub(super) fn fill_box(
        &self,
        idx: usize,
        tile: &Tile,
        packing: Packing,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let tensor = &self.model().tensors[idx];
        self.evaluator.fill(tensor.data, &tile.access(), out, cx)?;
        reorder(tensor.dtype, packing, out);
        Ok(())
    }
}

fn reorder(dtype: DType, packing: Packing, out: &mut [u8]) {
    if packing.bytes == ByteOrder::Big && dtype.swap_width() > 1 {
        swap(dtype.swap_width(), out);
    }
}

/// The smallest run of items that fills whole bytes.
struct Unit {
    items: u64,
    bytes: u64,
    /// Bits of a packed item; 8 stands for everything that takes whole bytes.
    bits: u32,
}

impl Unit {
    fn of(dtype: DType) -> Unit {
        match dtype.bits() {
            Some(bits) if bits < 8 => {
                let items = if bits == 6 { 4 } else { u64::from(8 / bits) };
                Unit { items, bytes: items * u64::from(bits) / 8, bits }
            }
            _ => Unit { items: 1, bytes: dtype.item_bytes().max(1), bits: 8 },
        }
    }

    /// Packed bytes of `n` items that begin at a unit.
    fn packed_len(&self, n: u64) -> u64 {
        (n / self.items) * self.bytes + (n % self.items * u64::from(self.bits)).div_ceil(8)
    }
}
