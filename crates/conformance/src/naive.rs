//! A second evaluator of expressions, written to be obviously right rather than fast or frugal.
//!
//! It makes every node whole, children first, in memory, one item at a time. It shares no code with the engine or
//! the kernels, but for the codecs of other blocks than q8_0, so that where they agree with it, both are right or both
//! misread the same sentence.
//!
//! An item takes [`DType::item_bytes`] little-endian bytes; sub-byte scalars take one byte each, upper bits zero.

use crate::numbers::{self, Number};
use flate2::read::DeflateDecoder;
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{
    BitOrder, BlockFn, ByteOrder, NodeId, Op, Packing, Part, ReduceFn, ScalarFn, VarintSign,
};
use modelferry_core::inputs::Inputs;
use modelferry_core::model::Model;
use modelferry_kernels::block::BlockCodec;
use std::collections::BTreeMap;
use std::io::Read;
use std::rc::Rc;

/// Items whose `f64` sums are added up before they join the sum of their group, as DESIGN's `Reduce` fixes it.
const SUM_CHUNK: usize = 1 << 16;

/// The items of one node.
///
/// Errors: what the inputs or a plugin report, and streams that do not hold what the node promises.
pub fn evaluate(model: &Model, inputs: &dyn Inputs, node: NodeId) -> Result<Vec<u8>> {
    Ok(Naive::new(model, inputs).items(node)?.bytes.clone())
}

/// The items of the nodes of one model, each made once.
pub struct Naive<'a> {
    model: &'a Model,
    inputs: &'a dyn Inputs,
    made: BTreeMap<NodeId, Rc<Items>>,
}

/// A sequence of items in memory.
pub struct Items {
    dtype: DType,
    bytes: Vec<u8>,
}

impl Items {
    /// The bytes of all items in order.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn width(&self) -> usize {
        self.dtype.item_bytes() as usize
    }

    fn len(&self) -> usize {
        self.bytes.len() / self.width()
    }

    fn item(&self, idx: usize) -> &[u8] {
        &self.bytes[idx * self.width()..][..self.width()]
    }

    /// The items as numbers; for complex types the real and imaginary parts alternate.
    fn numbers(&self) -> Vec<Number> {
        self.codes().into_iter().map(|code| numbers::decode(part_type(self.dtype), code)).collect()
    }

    /// The items as integers of their own width; for complex types the parts alternate.
    fn codes(&self) -> Vec<u64> {
        self.bytes.chunks_exact(part_type(self.dtype).item_bytes() as usize).map(little).collect()
    }

    fn of_codes(dtype: DType, codes: impl IntoIterator<Item = u64>) -> Items {
        let width = part_type(dtype).item_bytes() as usize;
        let bytes = codes.into_iter().flat_map(|code| code.to_le_bytes().into_iter().take(width)).collect();
        Items { dtype, bytes }
    }

    fn of_numbers(dtype: DType, items: impl IntoIterator<Item = Number>) -> Items {
        let encode = |number| numbers::encode(part_type(dtype), number);
        Items::of_codes(dtype, items.into_iter().map(encode))
    }
}

/// The type of a complex number's parts; any other type is its own.
pub(crate) fn part_type(dtype: DType) -> DType {
    match dtype {
        DType::C32 => DType::F16,
        DType::C64 => DType::F32,
        DType::C128 => DType::F64,
        other => other,
    }
}

pub(crate) fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

impl<'a> Naive<'a> {
    /// An evaluator that has made nothing yet.
    pub fn new(model: &'a Model, inputs: &'a dyn Inputs) -> Naive<'a> {
        Naive { model, inputs, made: BTreeMap::new() }
    }

    /// The items of `root`.
    pub fn items(&mut self, root: NodeId) -> Result<Rc<Items>> {
        // Nodes refer only to earlier ones, so the order of the arena has children before parents.
        let mut wanted = std::collections::BTreeSet::from([root]);
        let mut left = vec![root];
        while let Some(id) = left.pop() {
            let children = self.model.nodes.children(id);
            left.extend(children.filter(|&child| wanted.insert(child)));
        }
        for id in wanted {
            if !self.made.contains_key(&id) {
                let items = self.make(id)?;
                debug_assert_eq!(items.bytes.len() as u64, self.model.nodes[id].byte_len());
                self.made.insert(id, Rc::new(items));
            }
        }
        self.of(root)
    }

    fn of(&self, id: NodeId) -> Result<Rc<Items>> {
        self.made.get(&id).cloned().ok_or_else(|| Error::malformed("a node refers to a later one"))
    }

    fn make(&self, id: NodeId) -> Result<Items> {
        let node = &self.model.nodes[id];
        let dtype = node.dtype;
        let n = node.n as usize;
        let bytes = |bytes| Items { dtype, bytes };
        match &node.op {
            Op::Region { file, at } => self.inputs.read_vec(*file, *at, node.n, u64::MAX).map(bytes),
            Op::Inline(blob) => Ok(bytes(blob.to_vec())),
            Op::Inflate { of, codec: _ } => inflate(&self.of(*of)?.bytes, n).map(bytes),
            Op::Varints { of, tag, sign } => varints(&self.of(*of)?.bytes, n, dtype, *tag, *sign),
            Op::Plugin { source, token, access: _ } => {
                let source = self.model.sources.get(*source as usize);
                let source = source.ok_or_else(|| Error::plugin("no such source"))?;
                let mut made = vec![0; n];
                source.read_at(self.inputs, *token, 0, &mut made)?;
                Ok(bytes(made))
            }
            Op::Decode { of, packing } => Ok(unpack(&self.of(*of)?.bytes, dtype, n, *packing)),
            Op::View { of, offset, dims } => {
                let source = self.of(*of)?;
                let counts: Vec<u64> = dims.iter().map(|dim| dim.count).collect();
                let pick = |idx: &[u64]| {
                    let step = |(dim, &i): (&modelferry_core::expr::Dim, &u64)| dim.stride * i as i64;
                    (*offset as i64 + dims.iter().zip(idx).map(step).sum::<i64>()) as usize
                };
                Ok(bytes(indices(&counts).flat_map(|idx| source.item(pick(&idx)).to_vec()).collect()))
            }
            Op::Assemble { shape, pieces } => {
                let parts: Result<Vec<_>> =
                    pieces.iter().map(|part| Ok((part, self.of(part.node)?))).collect();
                Ok(bytes(assemble(shape, &parts?, dtype.item_bytes() as usize)))
            }
            Op::Gather { of, unit, index } => {
                let source = self.of(*of)?;
                let unit = *unit as usize * source.width();
                Ok(bytes(
                    index.iter().flat_map(|&i| source.bytes[i as usize * unit..][..unit].to_vec()).collect(),
                ))
            }
            Op::Map { f, args } => {
                let args: Result<Vec<_>> = args.ids().iter().map(|&arg| self.of(arg)).collect();
                Ok(map(*f, &args?, dtype))
            }
            Op::Block { f, of, row, weights: Some(weights) } => {
                weighted(*f, &*self.of(*of)?, *row as usize, &*self.of(*weights)?, dtype)
            }
            Op::Block { f, of, .. } => block(*f, &*self.of(*of)?, dtype),
            Op::Reduce { f, of, group } => Ok(reduce(*f, &*self.of(*of)?, *group as usize, dtype)),
            Op::Stage { of } => Ok(bytes(self.of(*of)?.bytes.clone())),
        }
    }
}

/// Every index of a box in row-major order.
fn indices(shape: &[u64]) -> impl Iterator<Item = Vec<u64>> + use<> {
    let shape = shape.to_vec();
    let mut next = (!shape.contains(&0)).then(|| vec![0; shape.len()]);
    std::iter::from_fn(move || {
        let current = next.clone()?;
        next = (0..shape.len()).rev().find(|&axis| current[axis] + 1 < shape[axis]).map(|axis| {
            let mut following = vec![0; shape.len()];
            following[..axis].copy_from_slice(&current[..axis]);
            following[axis] = current[axis] + 1;
            following
        });
        Some(current)
    })
}

fn inflate(deflated: &[u8], n: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = DeflateDecoder::new(deflated).take(n as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::malformed("a deflated stream is broken").source(error))?;
    if bytes.len() != n {
        return Err(Error::malformed("a deflated stream has another length").expected(n).found(bytes.len()));
    }
    Ok(bytes)
}

fn varints(bytes: &[u8], n: usize, dtype: DType, tag: Option<u64>, sign: VarintSign) -> Result<Items> {
    let mut left = bytes;
    let mut next = || {
        let mut value = 0u64;
        for place in 0..10 {
            let (&byte, rest) = left.split_first().ok_or_else(|| Error::malformed("varints end early"))?;
            left = rest;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::malformed("a varint has more than ten bytes"))
    };
    let mut codes = Vec::with_capacity(n);
    for _ in 0..n {
        if tag.is_some() && next().map(Some)? != tag {
            return Err(Error::malformed("a repeated field is interrupted"));
        }
        let value = next()?;
        let value = match sign {
            VarintSign::Plain => value,
            VarintSign::ZigZag => value >> 1 ^ (value & 1).wrapping_neg(),
        };
        codes.push(value & (u64::MAX >> (64 - dtype.bits().unwrap_or(64))));
    }
    if !left.is_empty() {
        return Err(Error::malformed("varints are left over"));
    }
    Ok(Items::of_codes(dtype, codes))
}

/// Items from the bytes of a file.
fn unpack(bytes: &[u8], dtype: DType, n: usize, packing: Packing) -> Items {
    match dtype.bits() {
        Some(bits) if bits < 8 => {
            let bits = bits as usize;
            let bit = |position: usize| {
                let byte = u64::from(bytes[position / 8]);
                match packing.bits {
                    BitOrder::Low => byte >> (position % 8) & 1,
                    BitOrder::High => byte >> (7 - position % 8) & 1,
                }
            };
            let code = |idx: usize| {
                (0..bits).fold(0, |code, place| match packing.bits {
                    BitOrder::Low => code | bit(idx * bits + place) << place,
                    BitOrder::High => code << 1 | bit(idx * bits + place),
                })
            };
            Items::of_codes(dtype, (0..n).map(code))
        }
        _ => Items { dtype, bytes: reorder(bytes, dtype, packing.bytes) },
    }
}

/// Items as the bytes of a file: the inverse of decoding, as [`Piece::Tensor`](modelferry_core::layout::Piece) packs
/// them.
pub fn pack(items: &[u8], dtype: DType, packing: Packing) -> Vec<u8> {
    match dtype.bits() {
        Some(bits) if bits < 8 => {
            let bits = bits as usize;
            let mut packed = vec![0u8; (items.len() * bits).div_ceil(8)];
            for position in 0..items.len() * bits {
                let place = position % bits;
                let (from, to) = match packing.bits {
                    BitOrder::Low => (place, position % 8),
                    BitOrder::High => (bits - 1 - place, 7 - position % 8),
                };
                packed[position / 8] |= (items[position / bits] >> from & 1) << to;
            }
            packed
        }
        _ => reorder(items, dtype, packing.bytes),
    }
}

fn reorder(bytes: &[u8], dtype: DType, order: ByteOrder) -> Vec<u8> {
    match order {
        ByteOrder::Little => bytes.to_vec(),
        ByteOrder::Big => {
            bytes.chunks_exact(dtype.swap_width()).flat_map(|unit| unit.iter().rev().copied()).collect()
        }
    }
}

fn assemble(shape: &[u64], parts: &[(&Part, Rc<Items>)], width: usize) -> Vec<u8> {
    let n: u64 = shape.iter().product();
    let mut bytes = vec![0; n as usize * width];
    for (part, items) in parts {
        for (from, idx) in indices(&part.extent).enumerate() {
            let to = (0..shape.len()).fold(0, |at, axis| at * shape[axis] + part.lo[axis] + idx[axis]);
            bytes[to as usize * width..][..width].copy_from_slice(items.item(from));
        }
    }
    bytes
}

fn map(f: ScalarFn, args: &[Rc<Items>], dtype: DType) -> Items {
    let x = &*args[0];
    match f {
        ScalarFn::Cast => cast(x, dtype),
        ScalarFn::Neg => {
            Items::of_codes(dtype, x.codes().into_iter().map(|code| negate(part_type(dtype), code)))
        }
        ScalarFn::Conj => {
            let flip =
                |(idx, code): (usize, u64)| if idx % 2 == 1 { negate(part_type(dtype), code) } else { code };
            Items::of_codes(dtype, x.codes().into_iter().enumerate().map(flip))
        }
        ScalarFn::Add(c) => arithmetic(args, dtype, |x| x[0] + c as f32, |x| x[0] + c),
        ScalarFn::Mul(c) => arithmetic(args, dtype, |x| x[0] * c as f32, |x| x[0] * c),
        ScalarFn::NegExp => arithmetic(args, dtype, |x| -(f64::from(x[0]).exp() as f32), |x| -x[0].exp()),
        ScalarFn::SubMul => arithmetic(args, dtype, |x| (x[0] - x[1]) * x[2], |x| (x[0] - x[1]) * x[2]),
        ScalarFn::MulAdd => arithmetic(args, dtype, |x| x[0] * x[1] + x[2], |x| x[0] * x[1] + x[2]),
    }
}

fn cast(x: &Items, dtype: DType) -> Items {
    let (from, to) = (part_type(x.dtype), part_type(dtype));
    Items::of_codes(dtype, x.codes().into_iter().map(|code| numbers::cast(from, to, code)))
}

/// Flips the sign bit of a float that has one, and takes the two's complement of an integer.
fn negate(dtype: DType, code: u64) -> u64 {
    let n_bits = dtype.bits().unwrap_or(64);
    match dtype {
        DType::F8E4M3Fnuz | DType::F8E5M2Fnuz | DType::F8E4M3B11Fnuz if code & 0x7f == 0 => code,
        DType::F8E8M0 => code,
        _ if dtype.is_float() => code ^ 1 << (n_bits - 1),
        _ => code.wrapping_neg() & (u64::MAX >> (64 - n_bits)),
    }
}

/// Computes in the type of the result.
fn arithmetic(
    args: &[Rc<Items>],
    dtype: DType,
    in_f32: impl Fn(&[f32]) -> f32,
    in_f64: impl Fn(&[f64]) -> f64,
) -> Items {
    let codes: Vec<Vec<u64>> = args.iter().map(|arg| arg.codes()).collect();
    let at = |idx: usize| codes.iter().map(move |codes| codes[idx]);
    let compute = |idx| match dtype {
        DType::F32 => {
            let args: Vec<f32> = at(idx).map(|code| f32::from_bits(code as u32)).collect();
            u64::from(in_f32(&args).to_bits())
        }
        _ => {
            let args: Vec<f64> = at(idx).map(f64::from_bits).collect();
            in_f64(&args).to_bits()
        }
    };
    Items::of_codes(dtype, (0..args[0].len()).map(compute))
}

fn block(f: BlockFn, x: &Items, dtype: DType) -> Result<Items> {
    match (f, x.dtype, dtype) {
        (BlockFn::Quantize, _, DType::Q8_0) => {
            let values: Vec<f32> = x.codes().into_iter().map(|code| f32::from_bits(code as u32)).collect();
            Ok(Items { dtype, bytes: values.chunks_exact(32).flat_map(quantize_q8_0).collect() })
        }
        (BlockFn::Dequantize, DType::Q8_0, _) => {
            let dequantize = |block: &[u8]| {
                let scale = numbers::decode(DType::F16, little(&block[..2]));
                let scale = numbers::to_f64(scale) as f32;
                block[2..].iter().map(|&q| f32::from(q as i8) * scale).collect::<Vec<f32>>()
            };
            let values = x.bytes.chunks_exact(34).flat_map(dequantize);
            Ok(Items::of_codes(dtype, values.map(|value| u64::from(value.to_bits()))))
        }
        (BlockFn::PruneNm { keep, of }, ..) => Ok(prune(x, usize::from(keep), usize::from(of.max(1)))),
        (BlockFn::Quantize, ..) => {
            let codec = codec(dtype, BlockCodec::can_quantize)?;
            let mut bytes = vec![0; x.len() / dtype.item_elements() as usize * dtype.item_bytes() as usize];
            codec.quantize(&x.bytes, &mut bytes);
            Ok(Items { dtype, bytes })
        }
        (BlockFn::Dequantize, from, _) => Ok(Items { dtype, bytes: dequantized(from, &x.bytes)? }),
    }
}

/// The values of blocks, as f32.
///
/// Codecs are judged element by element where they are, and by the program that owns them; q8_0 alone has an oracle
/// here too. What is judged with the others is what happens around them.
pub fn dequantized(dtype: DType, blocks: &[u8]) -> Result<Vec<u8>> {
    let codec = codec(dtype, |_| true)?;
    let mut floats = vec![0; blocks.len() / dtype.item_bytes() as usize * dtype.item_elements() as usize * 4];
    codec.dequantize(blocks, &mut floats);
    Ok(floats)
}

/// All rows of each matrix at once, under the weights of one row.
fn weighted(f: BlockFn, x: &Items, row: usize, weights: &Items, dtype: DType) -> Result<Items> {
    if f != BlockFn::Quantize {
        return block(f, x, dtype);
    }
    let codec = codec(dtype, BlockCodec::can_quantize_weighted)?;
    let mut bytes = vec![0; x.len() / dtype.item_elements() as usize * dtype.item_bytes() as usize];
    if !bytes.is_empty() {
        let n_matrices = weights.len() / row;
        let (floats, blocks) = (x.bytes.len() / n_matrices, bytes.len() / n_matrices);
        let matrices = x.bytes.chunks(floats).zip(bytes.chunks_mut(blocks));
        for ((floats, blocks), weights) in matrices.zip(weights.bytes.chunks(row * 4)) {
            codec.quantize_weighted(floats, row, weights, blocks);
        }
    }
    Ok(Items { dtype, bytes })
}

fn codec(dtype: DType, can: impl Fn(&BlockCodec) -> bool) -> Result<BlockCodec> {
    let codec = BlockCodec::new(dtype).filter(can);
    codec.ok_or_else(|| Error::unsupported("no codec for this block type").found(dtype))
}

/// `quantize_row_q8_0_ref` of ggml-quants.c as x86-64 runs it: a scale as f16, then 32 bytes, halves rounded away from
/// zero. What C leaves open is what the machine does: a number too large for an `int` becomes one whose low byte is 0.
fn quantize_q8_0(values: &[f32]) -> Vec<u8> {
    // The macro MAX, which takes the new value unless the old one is greater: a NaN is forgotten at the next value.
    let max = |old: f32, new: f32| if old > new { old } else { new };
    let scale = values.iter().fold(0.0, |largest, value| max(largest, value.abs())) / 127.0;
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let stored = match scale.is_nan() {
        true => 0x7e00,
        false => numbers::encode(DType::F16, numbers::from_f64(f64::from(scale))) as u16,
    };
    let quantized = values.iter().map(|value| {
        let rounded = (value * inverse).round();
        if rounded.abs() < 2f32.powi(31) { rounded as i32 as u8 } else { 0 }
    });
    stored.to_le_bytes().into_iter().chain(quantized).collect()
}

/// Zeroes all but the `keep` largest magnitudes of each group; among equals the first stay. NaN is larger than any
/// number, and NaNs order by their bits.
fn prune(x: &Items, keep: usize, group: usize) -> Items {
    let codes = x.codes();
    let magnitudes: Vec<(i128, u64)> = codes.iter().map(|&code| magnitude_order(x.dtype, code)).collect();
    let stays = |idx: usize| {
        let first = idx / group * group;
        let ahead = (first..first + group).filter(|&other| {
            magnitudes[other] > magnitudes[idx] || magnitudes[other] == magnitudes[idx] && other < idx
        });
        ahead.count() < keep
    };
    Items::of_codes(x.dtype, codes.iter().enumerate().map(|(idx, &code)| if stays(idx) { code } else { 0 }))
}

/// -0 is less than 0. A NaN makes the largest and smallest value the plain NaN; by rank it comes before infinity.
fn reduce(f: ReduceFn, x: &Items, group: usize, dtype: DType) -> Items {
    let numbers = x.numbers();
    let groups = numbers.chunks_exact(group);
    let nan = Number::Nan { negative: false, payload: 0 };
    let extreme = |group: &[Number], largest: Option<Number>| {
        let has_nan = group.iter().any(|number| matches!(number, Number::Nan { .. }));
        if has_nan { nan } else { largest.unwrap_or(nan) }
    };
    let key = |number: &Number| order(*number);
    match f {
        ReduceFn::Sum => {
            Items::of_numbers(dtype, groups.map(|group| numbers::from_f64(sum(group, |value| value))))
        }
        ReduceFn::MeanAbs => {
            let mean = |group: &[Number]| numbers::from_f64(sum(group, f64::abs) / group.len() as f64);
            Items::of_numbers(dtype, groups.map(mean))
        }
        ReduceFn::Min => Items::of_numbers(
            dtype,
            groups.map(|group| extreme(group, group.iter().copied().min_by_key(key))),
        ),
        ReduceFn::Max => Items::of_numbers(
            dtype,
            groups.map(|group| extreme(group, group.iter().copied().max_by_key(key))),
        ),
        ReduceFn::AbsMax => {
            let largest = |group: &[Number]| group.iter().copied().map(absolute).max_by_key(key);
            Items::of_numbers(dtype, groups.map(|group| extreme(group, largest(group))))
        }
        ReduceFn::KthAbs { k } => {
            let kth = |group: &[u64]| {
                let mut sorted = group.to_vec();
                sorted.sort_by_key(|&code| std::cmp::Reverse(magnitude_order(dtype, code)));
                magnitude(dtype, sorted[k as usize])
            };
            Items::of_codes(dtype, x.codes().chunks_exact(group).map(kth))
        }
    }
}

/// Adds in `f64` and in order, within chunks and then over chunks.
fn sum(group: &[Number], f: impl Fn(f64) -> f64) -> f64 {
    let add = |chunk: &[Number]| chunk.iter().fold(0.0, |sum, &number| sum + f(numbers::to_f64(number)));
    group.chunks(SUM_CHUNK).fold(0.0, |sum, chunk| sum + add(chunk))
}

/// The item without its sign; the lowest integer becomes the highest.
fn magnitude(dtype: DType, code: u64) -> u64 {
    match numbers::decode(dtype, code) {
        // A payload is not touched where there are payloads.
        Number::Nan { .. } if dtype.item_bytes() > 1 => code & !(1 << (8 * dtype.item_bytes() - 1)),
        number => numbers::encode(dtype, absolute(number)),
    }
}

/// Orders items by magnitude, NaNs after infinity and by their bits.
fn magnitude_order(dtype: DType, code: u64) -> (i128, u64) {
    (order(absolute(numbers::decode(dtype, code))), magnitude(dtype, code))
}

/// A number as something that orders as numbers do: -0 before 0, NaN after all.
fn order(number: Number) -> i128 {
    let (negative, magnitude) = match number {
        Number::Nan { .. } => return i128::MAX,
        Number::Infinite { negative } => (negative, 1 << 96),
        Number::Finite { negative, mantissa: 0, .. } => (negative, 0),
        Number::Finite { negative, mantissa, exponent } => {
            let leading_place = exponent + mantissa.ilog2() as i32;
            let significand = mantissa << mantissa.leading_zeros();
            // No type reaches below 2^-1074.
            (negative, i128::from(leading_place + 2000) << 64 | i128::from(significand))
        }
    };
    if negative { -2 * magnitude - 1 } else { 2 * magnitude }
}

fn absolute(number: Number) -> Number {
    match number {
        Number::Finite { mantissa, exponent, .. } => Number::Finite { negative: false, mantissa, exponent },
        Number::Infinite { .. } => Number::Infinite { negative: false },
        Number::Nan { payload, .. } => Number::Nan { negative: false, payload },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelferry_core::expr::{Arena, Dim};
    use modelferry_core::inputs::MemInputs;

    fn items(build: impl FnOnce(&mut Arena) -> Result<NodeId>) -> Vec<u8> {
        let mut model = Model::default();
        let node = build(&mut model.nodes).unwrap();
        evaluate(&model, &MemInputs::default(), node).unwrap()
    }

    fn floats(arena: &mut Arena, values: &[f32]) -> Result<NodeId> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let of = arena.inline(bytes)?;
        arena.decode(of, DType::F32, values.len() as u64, Packing::default())
    }

    #[test]
    fn sub_byte_items_lie_as_their_packing_says() {
        let low_first = |arena: &mut Arena, bits| {
            let of = arena.inline(vec![0b1110_0100, 0b0000_0001, 0b1000_0000])?;
            arena.decode(of, DType::F6E2M3, 4, Packing { bits, ..Packing::default() })
        };
        assert_eq!(
            items(|arena| low_first(arena, BitOrder::Low)),
            [0b10_0100, 0b00_0111, 0b00_0000, 0b10_0000]
        );
        assert_eq!(
            items(|arena| low_first(arena, BitOrder::High)),
            [0b11_1001, 0b00_0000, 0b00_0110, 0b00_0000]
        );
        for bits in [BitOrder::Low, BitOrder::High] {
            let packing = Packing { bits, ..Packing::default() };
            let packed = pack(&[1, 2, 3], DType::U4, packing);
            assert_eq!(unpack(&packed, DType::U4, 3, packing).bytes, [1, 2, 3]);
        }
        assert_eq!(pack(&[1, 2, 3, 4, 5, 6, 7, 8], DType::C64, Packing::BIG), [4, 3, 2, 1, 8, 7, 6, 5]);
    }

    #[test]
    fn views_boxes_and_groups() {
        let letters = |arena: &mut Arena| arena.inline(*b"abcdef");
        let text = |build: &dyn Fn(&mut Arena, NodeId) -> Result<NodeId>| {
            let bytes = items(|arena| {
                let of = letters(arena)?;
                build(arena, of)
            });
            String::from_utf8(bytes).unwrap()
        };
        let dims = |dims: &[(u64, i64)]| -> Vec<Dim> {
            dims.iter().map(|&(count, stride)| Dim { count, stride }).collect()
        };
        assert_eq!(text(&|arena, of| arena.view(of, 0, &dims(&[(3, 1), (2, 3)]))), "adbecf");
        assert_eq!(text(&|arena, of| arena.view(of, 5, &dims(&[(3, -2), (2, 0)]))), "ffddbb");
        assert_eq!(text(&|arena, of| arena.gather(of, 2, vec![2, 0, 2])), "efabef");
        let halves = |arena: &mut Arena, of| {
            let (left, right) = (arena.slice(of, 0, 2)?, arena.slice(of, 2, 4)?);
            let part = |at, width, node| Part { lo: [0, at].into(), extent: [2, width].into(), node };
            arena.assemble(&[2, 3], vec![part(2, 1, left), part(0, 2, right)])
        };
        assert_eq!(text(&halves), "cdaefb");
    }

    #[test]
    fn numbers_from_streams() {
        let varints = |bytes: &'static [u8], n, dtype, tag, sign| {
            items(|arena| {
                let of = arena.inline(bytes)?;
                arena.varints(of, n, dtype, tag, sign)
            })
        };
        assert_eq!(varints(&[0x96, 1, 3], 2, DType::U16, None, VarintSign::Plain), [150, 0, 3, 0]);
        assert_eq!(varints(&[8, 3, 8, 4], 2, DType::I8, Some(8), VarintSign::ZigZag), [0xfe, 2]);
    }

    #[test]
    fn q8_0_as_ggml_has_it() {
        let mut values = [0f32; 32];
        values[..5].copy_from_slice(&[127.0, -127.0, 0.5, -0.5, 1.4]);
        let block = items(|arena| {
            let of = floats(arena, &values)?;
            arena.block(BlockFn::Quantize, of, DType::Q8_0, 32, None)
        });
        assert_eq!(block[..7], [0x00, 0x3c, 127, 0x81, 1, 0xff, 1]);
    }

    #[test]
    fn reductions_and_pruning() {
        let values = [1.0, -4.0, f32::NAN, 2.0, -0.0, 0.0];
        let reduce = |f, group| {
            let bytes = items(|arena| {
                let of = floats(arena, &values)?;
                arena.reduce(f, of, group)
            });
            bytes.chunks(4).map(|item| f32::from_bits(little(item) as u32)).collect::<Vec<_>>()
        };
        assert_eq!(reduce(ReduceFn::AbsMax, 2)[0], 4.0);
        assert!(reduce(ReduceFn::Min, 2)[1].is_nan());
        assert!(reduce(ReduceFn::Max, 2)[2].is_sign_positive());
        assert_eq!(reduce(ReduceFn::KthAbs { k: 1 }, 6), [4.0]);
        let sum = items(|arena| {
            let of = floats(arena, &[0.5, 1.0, -4.0])?;
            arena.reduce(ReduceFn::MeanAbs, of, 3)
        });
        assert_eq!(sum, (5.5f64 / 3.0).to_le_bytes());
        let pruned = items(|arena| {
            let of = floats(arena, &[1.0, -1.0, 0.5, 1.0])?;
            arena.block(BlockFn::PruneNm { keep: 2, of: 4 }, of, DType::F32, 4, None)
        });
        assert_eq!(pruned, [1.0f32, -1.0, 0.0, 0.0].map(f32::to_le_bytes).concat());
    }
}
