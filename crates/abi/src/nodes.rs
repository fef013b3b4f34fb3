//! Expressions on their way across: the operations that a reader may use, as numbers.

use crate::codes::*;
use crate::raw::{self, zeroed};
use crate::types::*;
use modelferry_core::expr::{
    Arena, BitOrder, Blob, BlockFn, ByteOrder, Codec, Dim, NodeId, Op, Packing, Part, ScalarFn, SourceAccess,
    VarintSign,
};
use modelferry_core::inputs::FileId;
use modelferry_core::model::Model;
use modelferry_core::{DType, Error, Result};

/// Bytes that nodes and the document name by position.
#[derive(Debug, Default)]
pub(crate) struct Blobs(Vec<Blob>);

impl Blobs {
    pub(crate) fn add(&mut self, blob: Blob) -> u64 {
        self.0.push(blob);
        self.len() - 1
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn texts(&self) -> Vec<MfText> {
        self.0.iter().map(MfText::of).collect()
    }
}

/// Nodes as they cross, and what they point at.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) nodes: Vec<MfNode>,
    /// The numbers of all nodes, one node's after the other's.
    lists: Vec<u64>,
    /// For each node of the arena its place among `nodes`; `MF_NONE` for one that does not cross.
    places: Vec<u64>,
}

impl Encoded {
    /// Where a node of the arena has gone.
    pub(crate) fn place(&self, id: NodeId) -> u64 {
        self.places.get(id.idx()).copied().unwrap_or(MF_NONE)
    }
}

/// The nodes of an arena that `roots` are made of.
pub(crate) fn encode(
    arena: &Arena,
    roots: impl Iterator<Item = NodeId>,
    blobs: &mut Blobs,
) -> Result<Encoded> {
    let mut is_wanted = vec![false; arena.len()];
    roots.for_each(|id| is_wanted[id.idx()] = true);
    // Children come before parents: one pass from the end finds all that is needed.
    for (id, _) in arena.iter().rev() {
        if is_wanted[id.idx()] {
            arena.children(id).for_each(|child| is_wanted[child.idx()] = true);
        }
    }
    let n_wanted = is_wanted.iter().filter(|is_wanted| **is_wanted).count();
    let mut found = Encoded {
        nodes: Vec::with_capacity(n_wanted),
        places: vec![MF_NONE; arena.len()],
        ..Encoded::default()
    };
    // A node's first number and how many it has: the list moves while it grows.
    let mut spans = Vec::with_capacity(n_wanted);
    for (id, node) in arena.iter().filter(|(id, _)| is_wanted[id.idx()]) {
        let start = found.lists.len();
        let (dtype, block_elements, block_bytes) = of_dtype(node.dtype);
        let mut raw = MfNode { dtype, block_elements, block_bytes, n: node.n, of: MF_NONE, ..zeroed() };
        encode_op(&node.op, &mut raw, &mut found, blobs)?;
        spans.push(start..found.lists.len());
        found.places[id.idx()] = found.nodes.len() as u64;
        found.nodes.push(raw);
    }
    for (raw, span) in found.nodes.iter_mut().zip(spans) {
        raw.list_len = span.len() as u64;
        raw.list = found.lists[span].as_ptr();
    }
    Ok(found)
}

fn encode_op(op: &Op, raw: &mut MfNode, found: &mut Encoded, blobs: &mut Blobs) -> Result<()> {
    match op {
        Op::Region { file, at } => (raw.op, raw.p, raw.q) = (MF_OP_REGION, file.0.into(), *at),
        Op::Inline(blob) => (raw.op, raw.p) = (MF_OP_INLINE, blobs.add(blob.clone())),
        Op::Inflate { of, codec: Codec::Deflate } => (raw.op, raw.of) = (MF_OP_INFLATE, found.place(*of)),
        Op::Varints { of, tag, sign } => {
            (raw.op, raw.of, raw.p) = (MF_OP_VARINTS, found.place(*of), tag.unwrap_or(MF_NONE));
            raw.flags = if *sign == VarintSign::ZigZag { MF_FLAG_ZIGZAG } else { 0 };
        }
        Op::Plugin { source, token, access } => {
            (raw.op, raw.p, raw.q) = (MF_OP_MADE, *token, (*source).into());
            if let SourceAccess::Random { grain } = access {
                found.lists.push(*grain);
            }
        }
        Op::Decode { of, packing } => {
            (raw.op, raw.of, raw.flags) = (MF_OP_DECODE, found.place(*of), of_packing(*packing));
        }
        Op::View { of, offset, dims } => {
            (raw.op, raw.of, raw.p) = (MF_OP_VIEW, found.place(*of), *offset);
            found.lists.extend(dims.iter().flat_map(|dim| [dim.count, dim.stride.cast_unsigned()]));
        }
        Op::Assemble { shape, pieces } => {
            (raw.op, raw.p) = (MF_OP_ASSEMBLE, shape.len() as u64);
            found.lists.extend(shape);
            for part in pieces {
                found.lists.push(found.place(part.node));
                found.lists.extend(part.lo.iter().chain(&part.extent));
            }
        }
        Op::Gather { of, unit, index } => {
            (raw.op, raw.of, raw.p) = (MF_OP_GATHER, found.place(*of), *unit);
            found.lists.extend(&**index);
        }
        Op::Map { f, args } => {
            raw.op = MF_OP_MAP;
            (raw.p, raw.q) = of_function(*f);
            found.lists.extend(args.ids().iter().map(|id| found.places[id.idx()]));
        }
        Op::Block { f: BlockFn::Dequantize, of, row, weights: None } => {
            (raw.op, raw.of, raw.p) = (MF_OP_DEQUANTIZE, found.place(*of), *row);
        }
        other => {
            // What transforms make never has to cross.
            return Err(Error::unsupported("an expression that no reader of a plugin may make")
                .found(format!("{other:?}").chars().take(40).collect::<String>()));
        }
    }
    Ok(())
}

/// The flags of a packing.
pub(crate) fn of_packing(packing: Packing) -> u32 {
    let big = if packing.bytes == ByteOrder::Big { MF_FLAG_BIG_ENDIAN } else { 0 };
    let high = if packing.bits == BitOrder::High { MF_FLAG_HIGH_BITS_FIRST } else { 0 };
    big | high
}

/// The packing of flags; an error for flags that this version does not know.
pub(crate) fn to_packing(flags: u32) -> Result<Packing> {
    if flags & !(MF_FLAG_BIG_ENDIAN | MF_FLAG_HIGH_BITS_FIRST) != 0 {
        return Err(Error::plugin("unknown flags").found(flags));
    }
    let bytes = if flags & MF_FLAG_BIG_ENDIAN != 0 { ByteOrder::Big } else { ByteOrder::Little };
    let bits = if flags & MF_FLAG_HIGH_BITS_FIRST != 0 { BitOrder::High } else { BitOrder::Low };
    Ok(Packing { bytes, bits })
}

fn of_function(f: ScalarFn) -> (u64, u64) {
    match f {
        ScalarFn::Cast => (MF_MAP_CAST, 0),
        ScalarFn::Neg => (MF_MAP_NEG, 0),
        ScalarFn::Conj => (MF_MAP_CONJ, 0),
        ScalarFn::Add(c) => (MF_MAP_ADD, c.to_bits()),
        ScalarFn::Mul(c) => (MF_MAP_MUL, c.to_bits()),
        ScalarFn::NegExp => (MF_MAP_NEG_EXP, 0),
        ScalarFn::SubMul => (MF_MAP_SUB_MUL, 0),
        ScalarFn::MulAdd => (MF_MAP_MUL_ADD, 0),
    }
}

fn to_function(number: u64, constant: u64) -> Option<ScalarFn> {
    Some(match number {
        MF_MAP_CAST => ScalarFn::Cast,
        MF_MAP_NEG => ScalarFn::Neg,
        MF_MAP_CONJ => ScalarFn::Conj,
        MF_MAP_ADD => ScalarFn::Add(f64::from_bits(constant)),
        MF_MAP_MUL => ScalarFn::Mul(f64::from_bits(constant)),
        MF_MAP_NEG_EXP => ScalarFn::NegExp,
        MF_MAP_SUB_MUL => ScalarFn::SubMul,
        MF_MAP_MUL_ADD => ScalarFn::MulAdd,
        _ => return None,
    })
}

/// An element type as it came.
pub(crate) fn dtype(number: u32, elements: u16, bytes: u16) -> Result<DType> {
    to_dtype(number, elements, bytes)
        .ok_or_else(|| Error::unsupported("an element type that is not known here").found(number))
}

/// What nodes are made into, and what they speak of.
pub(crate) struct Decoder<'a> {
    pub(crate) model: &'a mut Model,
    /// Length of a file; `None` for one that is not there.
    pub(crate) file_len: &'a dyn Fn(FileId) -> Option<u64>,
    pub(crate) blobs: &'a [Blob],
    /// Gives the position that a source of the other side has here.
    pub(crate) source: &'a mut dyn FnMut(u64) -> Result<u32>,
}

impl Decoder<'_> {
    /// The nodes of an array, in its order.
    ///
    /// # Safety
    ///
    /// The array, and the lists of its nodes, are what they say.
    pub(crate) unsafe fn nodes(&mut self, nodes: MfSlice) -> Result<Vec<NodeId>> {
        // SAFETY: promised by the caller.
        let nodes = unsafe { raw::items::<MfNode>(nodes) }?;
        let mut ids = Vec::with_capacity(nodes.len());
        self.model.nodes.reserve(nodes.len());
        for (idx, node) in nodes.enumerate() {
            // SAFETY: promised by the caller.
            let list = unsafe { raw::numbers(node.list, node.list_len) }?;
            let id = self.node(&node, &list, &ids);
            ids.push(id.map_err(|error| error.file(format_args!("node {idx}")))?);
        }
        Ok(ids)
    }

    fn node(&mut self, node: &MfNode, list: &[u64], ids: &[NodeId]) -> Result<NodeId> {
        let earlier = |idx: u64| {
            usize::try_from(idx)
                .ok()
                .and_then(|idx| ids.get(idx).copied())
                .ok_or_else(|| Error::plugin("a node is made of one that is not before it").found(idx))
        };
        let items = dtype(node.dtype, node.block_elements, node.block_bytes);
        let id = match node.op {
            MF_OP_REGION => {
                let file = u32::try_from(node.p).unwrap_or(MF_NO_FILE);
                self.region(file, node.q, node.n)?
            }
            MF_OP_INLINE => {
                let blob = usize::try_from(node.p).ok().and_then(|idx| self.blobs.get(idx));
                self.model
                    .nodes
                    .inline(blob.cloned().ok_or_else(|| Error::plugin("a blob that is not there"))?)?
            }
            MF_OP_INFLATE => self.model.nodes.inflate(earlier(node.of)?, Codec::Deflate, node.n)?,
            MF_OP_VARINTS => {
                let sign =
                    if node.flags & MF_FLAG_ZIGZAG != 0 { VarintSign::ZigZag } else { VarintSign::Plain };
                let tag = Some(node.p).filter(|tag| *tag != MF_NONE);
                self.model.nodes.varints(earlier(node.of)?, node.n, items?, tag, sign)?
            }
            MF_OP_MADE => {
                let access = match *list {
                    [grain] => SourceAccess::Random { grain: grain.max(1) },
                    _ => SourceAccess::Sequential,
                };
                let source = (self.source)(node.q)?;
                self.model.nodes.plugin(source, node.p, access, node.n)?
            }
            MF_OP_DECODE => {
                self.model.nodes.decode(earlier(node.of)?, items?, node.n, to_packing(node.flags)?)?
            }
            MF_OP_VIEW => {
                let (pairs, rest) = list.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(Error::plugin("an axis without a stride"));
                }
                let dim = |&[count, stride]: &[u64; 2]| Dim { count, stride: stride.cast_signed() };
                let dims: Vec<Dim> = pairs.iter().map(dim).collect();
                self.model.nodes.view(earlier(node.of)?, node.p, &dims)?
            }
            MF_OP_ASSEMBLE => {
                let (shape, pieces) = parts(node.p, list, &earlier)?;
                self.model.nodes.assemble(&shape, pieces)?
            }
            MF_OP_GATHER => self.model.nodes.gather(earlier(node.of)?, node.p, list)?,
            MF_OP_MAP => {
                let f = to_function(node.p, node.q)
                    .ok_or_else(|| Error::unsupported("a function that is not known here").found(node.p))?;
                let args = list.iter().map(|&arg| earlier(arg)).collect::<Result<Vec<_>>>()?;
                if args.is_empty() {
                    return Err(Error::plugin("a function without arguments"));
                }
                self.model.nodes.map(f, &args, items?)?
            }
            MF_OP_DEQUANTIZE => {
                self.model.nodes.block(BlockFn::Dequantize, earlier(node.of)?, DType::F32, node.p, None)?
            }
            other => return Err(Error::unsupported("an operation that is not known here").found(other)),
        };
        if self.model.nodes[id].n != node.n {
            return Err(Error::plugin("a node holds another number of items than it says")
                .expected(self.model.nodes[id].n)
                .found(node.n));
        }
        Ok(id)
    }

    /// Bytes of a file, which are there.
    pub(crate) fn region(&mut self, file: u32, at: u64, len: u64) -> Result<NodeId> {
        let file = FileId(file);
        let file_len = (self.file_len)(file)
            .ok_or_else(|| Error::plugin("bytes of a file that was not opened").found(file.0))?;
        if at.checked_add(len).is_none_or(|end| end > file_len) {
            return Err(Error::plugin("bytes beyond the end of a file")
                .offset(at)
                .expected(format_args!("at most {file_len}"))
                .found(format_args!("{len} bytes from {at} on")));
        }
        self.model.nodes.region(file, at, len)
    }
}

/// Shape and parts of a box.
fn parts(rank: u64, list: &[u64], earlier: &dyn Fn(u64) -> Result<NodeId>) -> Result<(Vec<u64>, Vec<Part>)> {
    let broken = || Error::plugin("the parts of a box are not whole");
    let rank = usize::try_from(rank).map_err(|_| broken())?;
    let (shape, rest) = list.split_at_checked(rank).ok_or_else(broken)?;
    // A node, a first index and an extent: their number cannot overflow, for the shape fits into the list.
    let each = 2 * rank + 1;
    if rest.len() % each != 0 {
        return Err(broken());
    }
    let part = |numbers: &[u64]| {
        let (lo, extent) = numbers[1..].split_at(rank);
        Ok(Part { lo: lo.into(), extent: extent.into(), node: earlier(numbers[0])? })
    };
    Ok((shape.to_vec(), rest.chunks(each).map(part).collect::<Result<_>>()?))
}
