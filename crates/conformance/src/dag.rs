//! Random models whose tensors are random expressions over random files.
//!
//! Everything follows from a seed, so a failure is repeated by naming it.

use crate::naive::{little, pack, part_type};
use crate::numbers;
use crate::random::Random;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use modelferry_core::dtype::{Class, DType};
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{
    BitOrder, BlockFn, ByteOrder, Codec, Dim, NodeId, Op, Packing, Part, ReduceFn, ScalarFn, SourceAccess,
    VarintSign, volume,
};
use modelferry_core::inputs::{FileId, Inputs, MemInputs};
use modelferry_core::model::{Model, PayloadSource};
use modelferry_kernels::block::BlockCodec;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;

/// Nodes above others, at most.
const MAX_DEPTH: u32 = 8;

/// Types that are pruned.
const PRUNABLE: [DType; 4] = [DType::F16, DType::Bf16, DType::F32, DType::F64];

/// Items of the longest node: of one model in twenty each.
#[rustfmt::skip]
const MAX_ITEMS: &[u64] = &[
    40, 300, 300, 300, 2_000, 2_000, 2_000, 2_000, 2_000, 2_000,
    5_000, 5_000, 5_000, 5_000, 5_000, 5_000, 20_000, 20_000, 20_000, 100_000,
];

/// Bytes above which a sequence is not put behind a source that is read in order: reading such a source at random, as
/// nodes above it do, starts over every time.
const MAX_SEQUENTIAL: usize = 20_000;

/// Groups of which a rank is taken, at most: each costs a pass over a table of counts.
const MAX_RANKED: u64 = 200;

/// A random model and the files it is made of.
pub struct Dag {
    /// What it was made from.
    pub seed: u64,
    /// The model. It has no tensors; its nodes are what matters.
    pub model: Model,
    /// Its files.
    pub inputs: MemInputs,
    /// The nodes worth evaluating, deepest last.
    pub roots: Vec<NodeId>,
    /// Nodes whose NaNs may have any payload: arithmetic made them, and machines differ there.
    pub any_nan: BTreeSet<NodeId>,
    /// Nodes whose last place may differ: the exponential has no one definition.
    pub approximate: BTreeSet<NodeId>,
}

/// Bytes that stand for what only a plugin can make: sequence `token` is the blob of that number.
struct Blobs(Vec<Vec<u8>>);

impl PayloadSource for Blobs {
    fn read_at(&self, _: &dyn Inputs, token: u64, offset: u64, out: &mut [u8]) -> Result<()> {
        let blob = usize::try_from(token).ok().and_then(|token| self.0.get(token));
        let start = offset as usize;
        let range = blob.and_then(|blob| blob.get(start..start.checked_add(out.len())?));
        out.copy_from_slice(range.ok_or_else(|| Error::plugin("a read beyond the sequence").offset(offset))?);
        Ok(())
    }
}

impl Dag {
    /// The model of a seed.
    pub fn random(seed: u64) -> Dag {
        let mut random = Random::new(seed);
        // A few are large, so that tiles, chunks of sums and buffers have borders to get wrong.
        let max_items = *random.pick(MAX_ITEMS);
        let mut maker = Maker {
            random,
            max_items,
            model: Model::default(),
            files: vec![vec![]; 3],
            blobs: vec![],
            grown: vec![],
            last: vec![],
            depths: vec![],
            any_nan: BTreeSet::new(),
            approximate: BTreeSet::new(),
        };
        let n_leaves = maker.random.between(2, 4);
        let n_others = maker.random.between(4, 24);
        for _ in 0..n_leaves {
            maker.attempt(Maker::leaf);
        }
        let total: u64 = STEPS.iter().map(|step| step.0).sum();
        for _ in 0..n_others {
            let mut at = maker.random.below(total);
            let step = STEPS.iter().find(|step| {
                let found = at < step.0;
                at = at.saturating_sub(step.0);
                found
            });
            maker.attempt(step.map_or(Maker::leaf, |step| step.1));
        }
        maker.finish(seed)
    }

    /// Where two runs of items differ, if they do and may not.
    pub fn difference(&self, node: NodeId, found: &[u8], expected: &[u8]) -> Option<String> {
        let dtype = self.model.nodes[node].dtype;
        if found.len() != expected.len() {
            return Some(format!("{} bytes instead of {}", found.len(), expected.len()));
        }
        let part = part_type(dtype);
        let width = part.item_bytes() as usize;
        let forgiving = self.any_nan.contains(&node) && part.is_float();
        let same = |found: &[u8], expected: &[u8]| {
            found == expected
                || forgiving && {
                    let (a, b) =
                        (numbers::decode(part, little(found)), numbers::decode(part, little(expected)));
                    let (a, b) = (numbers::to_f64(a), numbers::to_f64(b));
                    let near = self.approximate.contains(&node) && (a - b).abs() <= b.abs() * 1e-6;
                    a.is_nan() && b.is_nan() || near
                }
        };
        let mut pairs = found.chunks(width).zip(expected.chunks(width));
        let at = pairs.position(|(found, expected)| !same(found, expected))?;
        let show = |bytes: &[u8]| {
            let bytes = &bytes[at * width..][..width];
            bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        let of = found.len() / width;
        Some(format!("value {at} of {of} is 0x{} instead of 0x{}", show(found), show(expected)))
    }
}

type Step = fn(&mut Maker) -> Result<NodeId>;

/// How often each kind of node is tried.
const STEPS: &[(u64, Step)] = &[
    (3, Maker::leaf),
    (1, Maker::stream),
    (2, Maker::varints),
    (4, Maker::decode),
    (10, Maker::view),
    (2, Maker::windows),
    (5, Maker::assemble),
    (3, Maker::gather),
    (8, Maker::cast),
    (2, Maker::sign),
    (2, Maker::scaled),
    (2, Maker::dequantized),
    (1, Maker::exponential),
    (2, Maker::block),
    (2, Maker::prune),
    (4, Maker::reduce),
    (3, Maker::stage),
];

struct Maker {
    random: Random,
    max_items: u64,
    model: Model,
    files: Vec<Vec<u8>>,
    blobs: Vec<Vec<u8>>,
    /// Nodes that others may be put on.
    grown: Vec<NodeId>,
    /// Nodes that are evaluated but not built upon.
    last: Vec<NodeId>,
    /// How many nodes lie above one another, for every node of the arena.
    depths: Vec<u32>,
    any_nan: BTreeSet<NodeId>,
    approximate: BTreeSet<NodeId>,
}

impl Maker {
    /// Tries one step; what the arena refuses is forgotten.
    fn attempt(&mut self, step: Step) {
        let made = step(self);
        for (id, _) in self.model.nodes.iter().skip(self.depths.len()) {
            let children = self.model.nodes.children(id);
            let deepest = children.map(|child| self.depths[child.idx()]).max();
            self.depths.push(deepest.unwrap_or(0) + 1);
            let computes = match self.model.nodes[id].op {
                Op::Map { f, .. } => !matches!(f, ScalarFn::Cast | ScalarFn::Neg | ScalarFn::Conj),
                Op::Reduce { .. } | Op::Block { f: BlockFn::Dequantize, .. } => true,
                _ => false,
            };
            if computes || self.model.nodes.children(id).any(|child| self.any_nan.contains(&child)) {
                self.any_nan.insert(id);
            }
        }
        if let Ok(id) = made
            && self.model.nodes[id].n <= self.max_items
            && !self.approximate.contains(&id)
            && !self.last.contains(&id)
        {
            self.grown.push(id);
        }
    }

    fn finish(mut self, seed: u64) -> Dag {
        self.model.sources.push(Arc::new(Blobs(self.blobs)));
        let mut inputs = MemInputs::default();
        for (idx, file) in self.files.into_iter().enumerate() {
            inputs = inputs.with(&format!("file{idx}"), file);
        }
        let mut roots: Vec<NodeId> =
            self.grown.iter().chain(&self.approximate).chain(&self.last).copied().collect();
        roots.sort();
        roots.dedup();
        Dag { seed, model: self.model, inputs, roots, any_nan: self.any_nan, approximate: self.approximate }
    }

    /// A node that is there, recent ones more often, and not too deep.
    fn any(&mut self, fits: impl Fn(DType, u64) -> bool) -> Result<NodeId> {
        let nodes = &self.model.nodes;
        let able = |id: &NodeId| {
            // A node of this very step has no depth yet.
            let depth = self.depths.get(id.idx()).copied().unwrap_or(0);
            depth < MAX_DEPTH && fits(nodes[*id].dtype, nodes[*id].n)
        };
        let found: Vec<NodeId> = self.grown.iter().copied().filter(able).collect();
        if found.is_empty() {
            return Err(Error::usage("nothing fits"));
        }
        let (a, b) = (self.random.below(found.len() as u64), self.random.below(found.len() as u64));
        Ok(found[a.max(b) as usize])
    }

    /// A node that satisfies `fits`, made now if there is none.
    fn any_or_leaf(&mut self, fits: impl Fn(DType, u64) -> bool, dtype: DType) -> Result<NodeId> {
        match self.any(fits) {
            Ok(id) => Ok(id),
            Err(_) => {
                let n = self.count();
                self.leaf_of(dtype, n)
            }
        }
    }

    fn count(&mut self) -> u64 {
        match self.random.below(12) {
            0 => self.random.below(3),
            1 | 2 => self.random.between(1, 40),
            _ => self.random.between(1, self.max_items),
        }
    }

    fn dtype(&mut self) -> DType {
        let all: Vec<DType> = DType::all().collect();
        match self.random.below(4) {
            0 => {
                *self.random.pick(&[DType::F32, DType::F16, DType::Bf16, DType::F64, DType::U8, DType::Q8_0])
            }
            1 if self.random.one_in(8) => {
                let elements = self.random.between(1, 300) as u16;
                DType::Opaque { elements, bytes: self.random.between(1, 40) as u16 }
            }
            _ => *self.random.pick(&all),
        }
    }

    fn scalar(&mut self, fits: impl Fn(DType) -> bool) -> DType {
        let scalars: Vec<DType> = DType::all().filter(|dtype| is_scalar(*dtype) && fits(*dtype)).collect();
        *self.random.pick(&scalars)
    }

    /// A shape of volume `n` with up to `max_rank` axes.
    fn shape(&mut self, n: u64, max_rank: u64) -> Vec<u64> {
        let rank = self.random.below(max_rank + 1).max(u64::from(n != 1));
        let mut shape = vec![1; rank as usize];
        let mut left = n;
        for prime in [2, 3, 5, 7, 11, 13, 17, 19, 23] {
            while left > 0 && left.is_multiple_of(prime) {
                *self.one_of_mut(&mut shape) *= prime;
                left /= prime;
            }
        }
        if rank > 0 {
            *self.one_of_mut(&mut shape) *= left;
        }
        shape
    }

    fn one_of_mut<'a, T>(&mut self, list: &'a mut [T]) -> &'a mut T {
        let idx = self.random.below(list.len() as u64) as usize;
        &mut list[idx]
    }

    fn divisor(&mut self, n: u64) -> u64 {
        self.shape(n, 3).into_iter().next().unwrap_or(1).max(1)
    }

    /// Items of many kinds: any bits, numbers of one size, zeros, ends of the range, long runs.
    fn values(&mut self, dtype: DType, n: u64) -> Vec<u8> {
        let part = part_type(dtype);
        if !is_scalar(dtype) {
            let mut bytes = self.random.bytes((n * dtype.item_bytes()) as usize);
            if dtype == DType::Q8_0 && !self.random.one_in(4) {
                // Scales between 2^-8 and 2, as models have them.
                bytes.chunks_exact_mut(34).for_each(|block| block[1] = 0x1c | block[1] & 0x83);
            }
            return bytes;
        }
        let n_parts = n * dtype.item_bytes() / part.item_bytes();
        let mask = u64::MAX >> (64 - part.bits().unwrap_or(64));
        let kind = self.random.below(6);
        let size = 2f64.powi(self.random.between(0, 40) as i32 - 30);
        let mut last = 0;
        let mut value = |random: &mut Random| {
            let special =
                [0.0, -0.0, f64::INFINITY, -f64::INFINITY, f64::NAN, -f64::NAN, f64::MAX, 5e-324, 1.0];
            last = match kind {
                _ if part == DType::Bool => random.below(2),
                0 => random.bits() & mask,
                1 | 2 => numbers::encode(part, numbers::from_f64(random.signed_unit() * size)),
                3 => numbers::encode(part, numbers::from_f64(*random.pick(&special))),
                4 if random.one_in(5) => random.bits() & mask,
                4 => last,
                _ => numbers::encode(part, numbers::from_f64((random.signed_unit() * 9.0).round())),
            };
            last
        };
        let width = part.item_bytes() as usize;
        (0..n_parts).flat_map(|_| value(&mut self.random).to_le_bytes().into_iter().take(width)).collect()
    }

    /// Puts bytes somewhere: into a file, into the description, behind a compressor or a plugin.
    fn store(&mut self, bytes: Vec<u8>) -> Result<NodeId> {
        let n = bytes.len() as u64;
        match self.random.below(8) {
            _ if bytes.len() > MAX_SEQUENTIAL => self.in_file(&bytes),
            0 if n < 2000 => self.model.nodes.inline(bytes),
            1 => {
                let id = self.deflated(&bytes)?;
                self.perhaps_staged(id)
            }
            2 => {
                let access = match self.random.below(2) {
                    0 => SourceAccess::Sequential,
                    _ => SourceAccess::Random { grain: *self.random.pick(&[1, 3, 64, 4096]) },
                };
                self.blobs.push(bytes);
                let id = self.model.nodes.plugin(0, self.blobs.len() as u64 - 1, access, n)?;
                self.perhaps_staged(id)
            }
            _ => self.in_file(&bytes),
        }
    }

    fn deflated(&mut self, bytes: &[u8]) -> Result<NodeId> {
        let level = Compression::new(*self.random.pick(&[0, 1, 6]));
        let mut encoder = DeflateEncoder::new(vec![], level);
        let deflated = encoder.write_all(bytes).and_then(|()| encoder.finish());
        let of = self.in_file(&deflated.map_err(|error| Error::io("deflate", error))?)?;
        self.model.nodes.inflate(of, Codec::Deflate, bytes.len() as u64)
    }

    /// A long deflated sequence that is read in order.
    fn stream(&mut self) -> Result<NodeId> {
        let (dtype, packing) = (self.scalar(|dtype| dtype.class() != Class::Complex), self.packing());
        let n = self.random.between(1, self.max_items);
        let values = self.values(dtype, n);
        let of = self.deflated(&pack(&values, dtype, packing))?;
        let decoded = self.model.nodes.decode(of, dtype, n, packing)?;
        let to = self.scalar(|to| to.class() != Class::Complex);
        let id = self.model.nodes.cast(decoded, to)?;
        self.last.push(id);
        Ok(id)
    }

    fn perhaps_staged(&mut self, id: NodeId) -> Result<NodeId> {
        if self.random.one_in(2) { self.model.nodes.stage(id) } else { Ok(id) }
    }

    fn in_file(&mut self, bytes: &[u8]) -> Result<NodeId> {
        let idx = self.random.below(self.files.len() as u64);
        let n_between = *self.random.pick(&[0, 0, 1, 3, 8, 61, 4099]);
        let between = self.random.bytes(n_between);
        let file = &mut self.files[idx as usize];
        file.extend(between);
        let at = file.len() as u64;
        file.extend(bytes);
        self.model.nodes.region(FileId(idx as u32), at, bytes.len() as u64)
    }

    fn packing(&mut self) -> Packing {
        Packing {
            bytes: *self.random.pick(&[ByteOrder::Little, ByteOrder::Big]),
            bits: *self.random.pick(&[BitOrder::Low, BitOrder::High]),
        }
    }

    fn leaf(&mut self) -> Result<NodeId> {
        let (dtype, n) = (self.dtype(), self.count());
        self.leaf_of(dtype, n)
    }

    fn leaf_of(&mut self, dtype: DType, n: u64) -> Result<NodeId> {
        let packing = self.packing();
        // Blocks are larger than scalars; keep files small.
        let n = if dtype.item_bytes() > 16 { n.min(self.max_items / 8) } else { n };
        let values = self.values(dtype, n);
        let id = self.store(pack(&values, dtype, packing))?;
        self.model.nodes.decode(id, dtype, n, packing)
    }

    fn varints(&mut self) -> Result<NodeId> {
        let (n, tag) =
            (self.count().min(MAX_SEQUENTIAL as u64 / 10), *self.random.pick(&[None, Some(8), Some(2000)]));
        let dtype = self.scalar(|dtype| matches!(dtype.class(), Class::Signed | Class::Unsigned));
        let mut bytes = vec![];
        let mut put = |mut value: u64| {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        for _ in 0..n {
            tag.into_iter().for_each(&mut put);
            let shift = self.random.below(64);
            put(self.random.bits() >> shift);
        }
        let of = self.store(bytes)?;
        let sign = *self.random.pick(&[VarintSign::Plain, VarintSign::ZigZag]);
        let id = self.model.nodes.varints(of, n, dtype, tag, sign)?;
        self.perhaps_staged(id)
    }

    /// Reads bytes that are there as something else, from any position.
    fn decode(&mut self) -> Result<NodeId> {
        let of = self.any_or_leaf(|dtype, n| dtype == DType::U8 && n > 1, DType::U8)?;
        let (dtype, packing) = (self.dtype(), self.packing());
        let available = self.model.nodes[of].n;
        let from = self.random.below(available.clamp(1, 20));
        let n = match dtype.bits() {
            Some(bits) if bits < 8 => (available - from) * 8 / u64::from(bits),
            _ => (available - from) / dtype.item_bytes(),
        };
        let need = dtype.packed_len(n * dtype.item_elements()).unwrap_or(0);
        let bytes = self.model.nodes.slice(of, from, need)?;
        self.model.nodes.decode(bytes, dtype, n, packing)
    }

    /// Slices, steps, flips, permutes and repeats the axes of some shape.
    fn view(&mut self) -> Result<NodeId> {
        let of = self.any(|_, n| n > 0)?;
        let shape = self.shape(self.model.nodes[of].n, 4);
        let mut offset = 0u64;
        let mut stride = 1i64;
        let mut dims = vec![];
        for &extent in shape.iter().rev() {
            let (first, step, count) = match self.random.below(7) {
                0 => {
                    let first = self.random.below(extent);
                    (first, 1, self.random.between(1, extent - first))
                }
                1 => (extent - 1, -1, extent),
                2 => {
                    let step = self.random.between(1, 3);
                    (0, step as i64, extent.div_ceil(step))
                }
                3 if extent > 2 => (extent - 2, -2, extent / 2),
                _ => (0, 1, extent),
            };
            offset += first * stride as u64;
            dims.insert(0, Dim { count, stride: stride * step });
            stride *= extent as i64;
        }
        if self.random.one_in(4) {
            let at = self.random.below(dims.len() as u64 + 1) as usize;
            dims.insert(at, Dim { count: self.random.below(5), stride: 0 });
        }
        if self.random.one_in(2) {
            self.random.shuffle(&mut dims);
        }
        self.model.nodes.view(of, offset, &dims)
    }

    /// Overlapping stretches, as of a sliding window.
    fn windows(&mut self) -> Result<NodeId> {
        let of = self.any(|_, n| n > 4)?;
        let n = self.model.nodes[of].n;
        let width = self.random.between(1, n.min(60));
        let step = self.random.between(1, width);
        let count = ((n - width) / step + 1).min(self.max_items / width).max(1);
        self.model.nodes.view(of, 0, &[Dim { count, stride: step as i64 }, Dim { count: width, stride: 1 }])
    }

    /// `n` items of `dtype` out of what is there, repeated or cut, else new ones.
    fn fitting(&mut self, dtype: DType, n: u64) -> Result<NodeId> {
        let Ok(of) = self.any(|other, n| other == dtype && n > 0) else { return self.leaf_of(dtype, n) };
        let available = self.model.nodes[of].n;
        if n <= available {
            let from = self.random.between(0, available - n);
            return self.model.nodes.slice(of, from, n);
        }
        let outer = self.divisor(n);
        let (inner, at) = (n / outer, self.random.below(available));
        match self.random.below(3) {
            // A scale per row, a scale per column.
            0 if outer <= available => self.model.nodes.view(
                of,
                0,
                &[Dim { count: outer, stride: 1 }, Dim { count: inner, stride: 0 }],
            ),
            1 if inner <= available => self.model.nodes.view(
                of,
                0,
                &[Dim { count: outer, stride: 0 }, Dim { count: inner, stride: 1 }],
            ),
            _ => self.model.nodes.view(of, at, &[Dim { count: n, stride: 0 }]),
        }
    }

    fn assemble(&mut self) -> Result<NodeId> {
        let (dtype, n) = (self.dtype(), self.count());
        let n = if dtype.item_bytes() > 16 { n.min(self.max_items / 8) } else { n };
        let shape = self.shape(n, 4);
        let mut boxes = vec![(vec![0; shape.len()], shape.clone())];
        for _ in 0..self.random.below(12) {
            let (lo, extent) = boxes.swap_remove(self.random.below(boxes.len() as u64) as usize);
            let axis = self.random.below(shape.len().max(1) as u64) as usize;
            let mut rest = (lo.clone(), extent.clone());
            let mut part = (lo, extent);
            if shape.is_empty() {
                boxes.push(part);
                break;
            }
            let cut = self.random.between(0, part.1[axis]);
            part.1[axis] = cut;
            rest.0[axis] += cut;
            rest.1[axis] -= cut;
            boxes.extend([part, rest]);
        }
        self.random.shuffle(&mut boxes);
        let mut pieces = vec![];
        for (lo, extent) in boxes {
            let node = self.fitting(dtype, volume(&extent).unwrap_or(0))?;
            pieces.push(Part { lo: lo.into(), extent: extent.into(), node });
        }
        self.model.nodes.assemble(&shape, pieces)
    }

    fn gather(&mut self) -> Result<NodeId> {
        let of = self.any(|_, n| n > 0)?;
        let n = self.model.nodes[of].n;
        let unit = self.divisor(n);
        let n_chosen = self.random.below((self.max_items / unit).clamp(2, 500));
        let sorted = self.random.one_in(3);
        let mut index: Vec<u64> = (0..n_chosen).map(|_| self.random.below(n / unit)).collect();
        if sorted {
            index.sort();
        }
        self.model.nodes.gather(of, unit, index)
    }

    fn cast(&mut self) -> Result<NodeId> {
        let of = self.any_or_leaf(|dtype, _| is_scalar(dtype), DType::F32)?;
        let from = self.model.nodes[of].dtype;
        let to = self.scalar(|to| (to.class() == Class::Complex) == (from.class() == Class::Complex));
        self.model.nodes.cast(of, to)
    }

    /// Negates or conjugates.
    fn sign(&mut self) -> Result<NodeId> {
        let of = self.any(|dtype, _| is_scalar(dtype) && !matches!(dtype, DType::Bool | DType::F8E8M0))?;
        let dtype = self.model.nodes[of].dtype;
        let conjugate = dtype.class() == Class::Complex && self.random.one_in(2);
        let f = if conjugate { ScalarFn::Conj } else { ScalarFn::Neg };
        self.model.nodes.map(f, &[of], dtype)
    }

    /// Some node in the type that arithmetic is done in.
    fn computable(&mut self, dtype: DType) -> Result<NodeId> {
        let of = self.any_or_leaf(|other, _| is_scalar(other) && other.class() != Class::Complex, dtype)?;
        self.model.nodes.cast(of, dtype)
    }

    fn scaled(&mut self) -> Result<NodeId> {
        let dtype = *self.random.pick(&[DType::F32, DType::F64]);
        let of = self.computable(dtype)?;
        let c = *self.random.pick(&[1.0, -0.5, 0.1, 3e7, 1e-42, f64::MAX, 0.0]);
        let f = if self.random.one_in(2) { ScalarFn::Add(c) } else { ScalarFn::Mul(c) };
        self.model.nodes.map(f, &[of], dtype)
    }

    /// Codes with scales and zero points.
    fn dequantized(&mut self) -> Result<NodeId> {
        let dtype = *self.random.pick(&[DType::F32, DType::F64]);
        let codes = self.computable(dtype)?;
        let n = self.model.nodes[codes].n;
        let (second, third) = (self.fitting(dtype, n)?, self.fitting(dtype, n)?);
        let f = *self.random.pick(&[ScalarFn::SubMul, ScalarFn::MulAdd]);
        self.model.nodes.map(f, &[codes, second, third], dtype)
    }

    fn exponential(&mut self) -> Result<NodeId> {
        let dtype = *self.random.pick(&[DType::F32, DType::F64]);
        let of = self.computable(dtype)?;
        let id = self.model.nodes.map(ScalarFn::NegExp, &[of], dtype)?;
        self.approximate.insert(id);
        Ok(id)
    }

    fn block(&mut self) -> Result<NodeId> {
        let codec = self.codec(|_| true);
        if self.random.one_in(2) {
            let of = self.any_or_leaf(|dtype, _| BlockCodec::new(dtype).is_some(), codec.dtype())?;
            let (n, dtype) = (self.model.nodes[of].n, self.model.nodes[of].dtype);
            let row = n * dtype.item_elements();
            return self.model.nodes.block(BlockFn::Dequantize, of, DType::F32, row, None);
        }
        let is_weighted = codec.can_quantize_weighted() && self.random.one_in(2);
        let codec = if is_weighted { codec } else { self.codec(BlockCodec::can_quantize) };
        let grain = codec.dtype().item_elements();
        let of = self.computable(DType::F32)?;
        let n_blocks = self.model.nodes[of].n / grain;
        let whole = self.model.nodes.slice(of, 0, n_blocks * grain)?;
        let row = self.divisor(n_blocks) * grain;
        // One row of weights for all, or one for each of several matrices.
        let n_rows = n_blocks.saturating_mul(grain).checked_div(row).unwrap_or(0);
        let n_matrices = if self.random.one_in(3) { self.divisor(n_rows) } else { 1 };
        let weights = is_weighted.then(|| self.fitting(DType::F32, row * n_matrices)).transpose()?;
        self.model.nodes.block(BlockFn::Quantize, whole, codec.dtype(), row, weights)
    }

    /// Some codec, mostly that of q8_0, which the oracle has without help.
    fn codec(&mut self, can: impl Fn(&BlockCodec) -> bool) -> BlockCodec {
        let all: Vec<BlockCodec> = DType::all().filter_map(BlockCodec::new).filter(can).collect();
        let own = all.iter().find(|codec| codec.dtype() == DType::Q8_0);
        match own {
            Some(own) if self.random.one_in(2) => *own,
            _ => *self.random.pick(&all),
        }
    }

    fn prune(&mut self) -> Result<NodeId> {
        let mut of = self.any_or_leaf(|dtype, _| PRUNABLE.contains(&dtype), DType::F16)?;
        if self.any_nan.contains(&of) {
            // NaNs order by their bits, and these have any.
            let (dtype, n) = (*self.random.pick(&PRUNABLE), self.count());
            of = self.leaf_of(dtype, n)?;
        }
        let (n, dtype) = (self.model.nodes[of].n, self.model.nodes[of].dtype);
        let &(keep, group) = self.random.pick(&[(2, 4), (4, 8), (1, 4), (0, 2), (3, 3), (1, 16)]);
        let whole = self.model.nodes.slice(of, 0, n - n % u64::from(group))?;
        let row = self.divisor(n / u64::from(group)) * u64::from(group);
        self.model.nodes.block(BlockFn::PruneNm { keep, of: group }, whole, dtype, row, None)
    }

    fn reduce(&mut self) -> Result<NodeId> {
        let of = self.any(|dtype, n| n > 0 && is_scalar(dtype))?;
        let n = self.model.nodes[of].n;
        let group = if self.random.one_in(3) { n } else { self.divisor(n) };
        let kth = ReduceFn::KthAbs { k: self.random.below(group) };
        let mut all = vec![ReduceFn::AbsMax, ReduceFn::Min, ReduceFn::Max, ReduceFn::Sum, ReduceFn::MeanAbs];
        if n / group <= MAX_RANKED {
            all.push(kth);
        }
        let f = *self.random.pick(&all);
        self.model.nodes.reduce(f, of, group)
    }

    fn stage(&mut self) -> Result<NodeId> {
        let of = self.any(|_, _| true)?;
        self.model.nodes.stage(of)
    }
}

fn is_scalar(dtype: DType) -> bool {
    !matches!(dtype.class(), Class::Block | Class::Opaque)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive::Naive;
    use std::collections::BTreeMap;

    #[test]
    fn random_models_use_everything() {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut n_items = 0;
        for seed in 0..300 {
            let dag = Dag::random(seed);
            let mut naive = Naive::new(&dag.model, &dag.inputs);
            for &root in &dag.roots {
                let items = naive.items(root).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let node = &dag.model.nodes[root];
                assert_eq!(items.bytes().len() as u64, node.byte_len(), "seed {seed} {root:?}");
                n_items += node.n;
                let op = format!("{:?}", node.op);
                let mut words = op.split(|c: char| !c.is_alphanumeric());
                *seen.entry(words.next().unwrap_or_default().to_owned()).or_default() += 1;
                if let Op::Map { f, .. } = &node.op {
                    *seen
                        .entry(format!("{f:?}").split('(').next().unwrap_or_default().to_owned())
                        .or_default() += 1;
                }
                *seen.entry(node.dtype.to_string()).or_default() += 1;
            }
        }
        println!("{n_items} items; {seen:?}");
        for dtype in DType::all() {
            assert!(seen.contains_key(&dtype.to_string()), "no {dtype}");
        }
        let ops = "Region Inline Inflate Varints Plugin Decode View Assemble Gather Map Block Reduce Stage \
                   Cast Neg Conj Add Mul NegExp SubMul MulAdd";
        for op in ops.split_whitespace() {
            assert!(seen.contains_key(op), "no {op}");
        }
    }
}
