//! The one evaluator: fills any strided selection of an expression into a buffer.

pub(crate) mod access;
mod blocks;
mod claims;
mod cost;
mod cursor;
mod gather;
mod ops;
mod reads;
mod stage;

use access::{Access, Loop, unravel};
use blocks::Blocks;
use claims::Claims;
pub(crate) use cost::Facts;
use cursor::Cursors;
use gather::{gather, scatter};
use modelferry_core::expr::{Arena, ByteOrder, NodeId, Op, Packing};
use modelferry_core::inputs::Inputs;
use modelferry_core::model::Model;
use modelferry_core::{DType, Error, Result};
use modelferry_kernels::block::{BlockCodec, QuantStats};
use modelferry_kernels::cast::{CastStats, Caster};
use modelferry_kernels::pack::unpack;
use modelferry_kernels::strided::StrideDim;
use modelferry_kernels::swap::swap;
use reads::Reads;
pub(crate) use stage::Spooler;
use stage::Stages;

/// A model and the files its expressions refer to.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The description.
    pub model: &'a Model,
    /// Its files.
    pub inputs: &'a dyn Inputs,
}

/// Evaluates the expressions of one model. Pure and `Sync`: what it gives depends on neither order nor thread, only
/// its caches do.
pub(crate) struct Evaluator<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) facts: Facts,
    pub(crate) claims: Claims,
    stages: Stages,
    cursors: Cursors,
}

/// What filling a tensor has shown of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// What the casts met.
    pub casts: CastStats,
    /// What quantization cost.
    pub quantized: QuantStats,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Seen) {
        self.casts += other.casts;
        self.quantized += other.quantized;
    }
}

/// What one thread carries from fill to fill: spare buffers, a cap on them, and what the values have shown.
pub(crate) struct Cx {
    spare: Vec<Vec<u8>>,
    /// Largest scratch buffer of one step, in bytes.
    pub(crate) cap: usize,
    pub(crate) seen: Seen,
    /// What it has read, where several outputs are made of it.
    pub(crate) reads: Reads,
    /// Casts met so far: some carry tables that are worth keeping.
    casters: Vec<Caster>,
}

impl Cx {
    pub(crate) fn new(cap: usize) -> Cx {
        let cap = cap.max(4096);
        Cx { spare: vec![], cap, seen: Seen::default(), reads: Reads::default(), casters: vec![] }
    }

    /// The same, keeping up to `n_bytes` of what it reads until told to forget them.
    pub(crate) fn keeping(cap: usize, n_bytes: u64) -> Cx {
        Cx { reads: Reads::of(n_bytes), ..Cx::new(cap) }
    }

    /// A buffer of `len` bytes of any content.
    pub(crate) fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        if buffer.len() < len {
            buffer.try_reserve_exact(len - buffer.len()).map_err(|_| {
                Error::limit("out of memory").expected(format_args!("{len} bytes of scratch"))
            })?;
        }
        buffer.resize(len, 0);
        Ok(buffer)
    }

    /// Casts dense items, and notes what became of them.
    pub(crate) fn cast(&mut self, from: DType, to: DType, src: &[u8], dst: &mut [u8]) -> Result<()> {
        let known = self.casters.iter().position(|caster| (caster.from(), caster.to()) == (from, to));
        let idx = match known {
            Some(idx) => idx,
            None => {
                self.casters.push(Caster::new(from, to).ok_or_else(|| {
                    Error::unsupported("there is no cast between these types")
                        .found(format_args!("{from} to {to}"))
                })?);
                self.casters.len() - 1
            }
        };
        self.casters[idx].run(src, dst, &mut self.seen.casts);
        Ok(())
    }

    /// Notes what quantizing dense f32 `before` to `blocks` has cost.
    pub(crate) fn quantized(&mut self, codec: BlockCodec, before: &[u8], blocks: &[u8]) -> Result<()> {
        let mut after = self.take(before.len())?;
        codec.dequantize(blocks, &mut after);
        self.seen.quantized += QuantStats::of(before, &after);
        self.give(after);
        Ok(())
    }

    /// Gives a buffer back for reuse.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= 2 * self.cap {
            self.spare.push(buffer);
        }
    }
}

/// Fills a dense buffer with the items of an access.
type FillDensely<'f> = dyn FnMut(&Access, &mut [u8], &mut Cx) -> Result<()> + 'f;

impl<'a> Evaluator<'a> {
    /// An evaluator for `source`. Errors: an expression nested beyond the limit, a function of blocks that no codec has.
    pub(crate) fn new(source: Source<'a>) -> Result<Evaluator<'a>> {
        Ok(Evaluator {
            source,
            facts: Facts::of(&source.model.nodes)?,
            claims: Claims::new(&source.model.claims),
            stages: Stages::default(),
            cursors: Cursors::default(),
        })
    }

    fn nodes(&self) -> &'a Arena {
        &self.source.model.nodes
    }

    /// Fills `out` with `n` consecutive items of `id` from item `at` on, densely packed.
    pub(crate) fn fill_run(&self, id: NodeId, at: u64, n: usize, out: &mut [u8], cx: &mut Cx) -> Result<()> {
        if n == 0 {
            return Ok(());
        }
        let item = self.nodes()[id].dtype.item_bytes() as usize;
        self.fill(id, &Access::run(at, n, item), out, cx)
    }

    /// Fills `out` with the items of `access` of the sequence `id`.
    ///
    /// The access lies within the sequence, and its output bytes within `out`; both are the caller's promise, kept
    /// because every access is made from another by checked constructors.
    pub(crate) fn fill(&self, id: NodeId, access: &Access, out: &mut [u8], cx: &mut Cx) -> Result<()> {
        let node = &self.nodes()[id];
        let item = node.dtype.item_bytes() as usize;
        if let Some(staged) = self.stages.get(id) {
            return gather(cx, access, item, out, &mut |_, at, run, _| staged.read(at * item as u64, run));
        }
        match &node.op {
            Op::Region { file, at: base } => gather(cx, access, item, out, &mut |cx, at, run, reading| {
                cx.reads.read(self.source.inputs, *file, base + at, run)?;
                self.claims.saw(id, node.n, at, run, reading);
                Ok(())
            }),
            Op::Inline(blob) => {
                let dims: Vec<StrideDim> = access
                    .loops
                    .iter()
                    .map(|l| StrideDim { count: l.count, src: l.src as isize, dst: l.dst })
                    .collect();
                scatter(1, &dims, blob, access.at as usize, out, access.dst)
            }
            Op::Inflate { .. } | Op::Varints { .. } => {
                gather(cx, access, item, out, &mut |cx, at, run, reading| {
                    self.cursors.read(self, id, at, run, cx)?;
                    self.claims.saw(id, node.n, at, run, reading);
                    Ok(())
                })
            }
            Op::Plugin { source, token, .. } => {
                let source = self.source.model.sources.get(*source as usize).ok_or_else(|| {
                    Error::plugin("an expression names a source that is not there").found(source)
                })?;
                let inputs = self.source.inputs;
                gather(cx, access, item, out, &mut |_, at, run, _| source.read_at(inputs, *token, at, run))
            }
            Op::Decode { of, packing } if node.dtype.is_sub_byte() => {
                self.fill_sub_byte(*of, node.dtype, *packing, access, out, cx)
            }
            Op::Decode { of, packing } => self.fill_decoded(*of, node.dtype, *packing, access, out, cx),
            Op::View { of, offset, dims } => {
                let shape: Vec<u64> = dims.iter().map(|dim| dim.count).collect();
                unravel(&access.clone().normalise(), &shape, &mut |part| {
                    let mut at = *offset;
                    for (start, dim) in part.starts.iter().zip(dims) {
                        at = at.wrapping_add_signed(*start as i64 * dim.stride);
                    }
                    let loops = part
                        .moves
                        .iter()
                        .map(|m| Loop {
                            count: m.count,
                            src: dims.get(m.axis).map_or(0, |dim| m.step as i64 * dim.stride),
                            dst: m.dst,
                        })
                        .collect();
                    self.fill(*of, &Access { at, dst: part.dst, loops }, out, cx)
                })
            }
            Op::Assemble { shape, pieces } => self.fill_assembled(shape, pieces, access, out, cx),
            Op::Gather { of, unit, index } => self.fill_gathered(*of, *unit, index, access, out, cx),
            Op::Map { f, args } => self.fill_mapped(*f, args.ids(), node.dtype, access, out, cx),
            Op::Block { f, of, row, weights } => {
                let blocks = Blocks { f: *f, of: *of, row: *row, weights: *weights };
                self.fill_blocks(blocks, node.dtype, access, out, cx)
            }
            Op::Reduce { f, of, group } => gather(cx, access, item, out, &mut |cx, at, run, _| {
                self.fill_reduced(*f, *of, *group, at, run, item, cx)
            }),
            // Not staged yet: a question asked while reading, or a caller that reads once.
            Op::Stage { of } => self.fill(*of, access, out, cx),
        }
    }

    /// Whole-byte items out of bytes.
    fn fill_decoded(
        &self,
        of: NodeId,
        dtype: DType,
        packing: Packing,
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let item = dtype.item_bytes() as usize;
        let width = dtype.swap_width();
        if packing.bytes == ByteOrder::Little || width == 1 {
            return self.fill(of, &access.widen(item, 1), out, cx);
        }
        self.densely(access, item, out, cx, &mut |dense, out, cx| {
            self.fill(of, &dense.widen(item, 1), out, cx)?;
            swap(width, out);
            Ok(())
        })
    }

    /// Sub-byte items out of a bit stream: whole bytes of each run, unpacked.
    fn fill_sub_byte(
        &self,
        of: NodeId,
        dtype: DType,
        packing: Packing,
        access: &Access,
        out: &mut [u8],
        cx: &mut Cx,
    ) -> Result<()> {
        let bits = dtype.bits().unwrap_or(8);
        gather(cx, access, 1, out, &mut |cx, at, run, _| {
            // Eight items always fill whole bytes.
            let skip = at % 8;
            let first = (at - skip) / 8 * u64::from(bits);
            let n_bytes = ((skip + run.len() as u64) * u64::from(bits)).div_ceil(8) as usize;
            let mut packed = cx.take(n_bytes)?;
            let result = self.fill_run(of, first, n_bytes, &mut packed, cx);
            unpack(bits, packing.bits, &packed, skip, run);
            cx.give(packed);
            result
        })
    }

    /// Lets `fill` make the items densely packed, and puts them where `access` wants them.
    pub(crate) fn densely(
        &self,
        access: &Access,
        item: usize,
        out: &mut [u8],
        cx: &mut Cx,
        fill: &mut FillDensely<'_>,
    ) -> Result<()> {
        let len = access.n() * item;
        if let Some(start) = access.dense(item)
            && let Some(place) = out.get_mut(start..start + len)
        {
            return fill(&Access { dst: 0, ..access.clone() }, place, cx);
        }
        let packed = access.packed(item);
        let mut scratch = cx.take(len)?;
        let dims: Vec<StrideDim> = packed
            .loops
            .iter()
            .zip(&access.loops)
            .map(|(from, to)| StrideDim { count: to.count, src: from.dst, dst: to.dst })
            .collect();
        let result =
            fill(&packed, &mut scratch, cx).and_then(|()| scatter(item, &dims, &scratch, 0, out, access.dst));
        cx.give(scratch);
        result
    }
}
