//! The lazy expression behind each tensor: data, not code.
//!
//! A [`Node`] is a *sequence* of `n` items of one dtype (an item is one element, or one whole block of a
//! block-quantized type: [`DType::item_bytes`]). Sequences have no shape; shape lives in
//! [`Tensor`](crate::model::Tensor), [`Op::View`] and [`Op::Assemble`], so a reshape costs nothing. All orders are
//! row-major. Nodes sit in an [`Arena`] and refer only to earlier nodes, so an expression is a DAG without cycles
//! and nothing recurses over it to print, check or drop it.
//!
//! Constructors are the only way to make a node, and they check it: counts multiply without overflow, index ranges
//! are proved in 128-bit arithmetic, dtypes fit. What the engine evaluates has therefore no bounds left to check
//! against the file's word. They return [`Malformed`](crate::error::ErrorKind::Malformed) errors without a place;
//! readers add file and tensor.

mod append;
mod arena;
mod text;

pub use append::Moved;
pub use arena::{Arena, volume};

use crate::dtype::DType;
use crate::inputs::FileId;
use std::sync::Arc;

/// Index of a [`Node`] in its [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// Position in the arena.
    pub fn idx(self) -> usize {
        self.0 as usize
    }
}

/// Bytes held by the description itself.
pub type Blob = Arc<[u8]>;

/// A sequence of `n` items of one dtype.
#[derive(Clone, Debug)]
pub struct Node {
    /// Number of items.
    pub n: u64,
    /// Type of each item.
    pub dtype: DType,
    /// How the items are made.
    pub op: Op,
}

impl Node {
    /// Bytes the whole sequence takes in memory; constructors prove that this fits.
    pub fn byte_len(&self) -> u64 {
        self.n * self.dtype.item_bytes()
    }
}

/// How the items of a [`Node`] are made. Counts, offsets and strides are in items.
#[derive(Clone, Debug)]
pub enum Op {
    /// `u8` items of a file, from byte `at` on. Random access.
    Region {
        /// The file.
        file: FileId,
        /// First byte.
        at: u64,
    },
    /// `u8` items held in the description.
    Inline(Blob),
    /// The inflated bytes of the compressed `u8` sequence `of`. Sequential.
    Inflate {
        /// Compressed bytes.
        of: NodeId,
        /// How they are compressed.
        codec: Codec,
    },
    /// Integers from a stream of protobuf varints, each truncated to the item's width. Sequential.
    Varints {
        /// The stream's bytes, exactly `n` values.
        of: NodeId,
        /// The tag that stands before every value of an unpacked repeated field; `None` for packed ones.
        tag: Option<u64>,
        /// How a varint stands for a signed number.
        sign: VarintSign,
    },
    /// `u8` items that only a plugin can make.
    Plugin {
        /// Index into [`Model::sources`](crate::model::Model::sources).
        source: u32,
        /// The plugin's own name for the sequence.
        token: u64,
        /// What the source can do fast.
        access: SourceAccess,
    },
    /// Bytes to items: byte order, sub-byte unpacking. Blocks and opaque items pass whole.
    Decode {
        /// The `u8` sequence.
        of: NodeId,
        /// How items lie in it.
        packing: Packing,
    },
    /// A strided selection: item `(i0, i1, …)` in row-major order of `dims` is `of[offset + Σ i·stride]`.
    View {
        /// The source.
        of: NodeId,
        /// Source item of index zero.
        offset: u64,
        /// Outermost first.
        dims: Box<[Dim]>,
    },
    /// An N-dimensional box put together from disjoint smaller ones that cover it.
    Assemble {
        /// Extent of each axis, outermost first.
        shape: Box<[u64]>,
        /// The parts.
        pieces: Box<[Part]>,
    },
    /// Groups of `unit` items chosen by number: item `i` is `of[index[i / unit] * unit + i % unit]`.
    Gather {
        /// The source.
        of: NodeId,
        /// Items that stay together.
        unit: u64,
        /// Chosen groups, in output order.
        index: Arc<[u64]>,
    },
    /// A function of the items at the same position of one to three sequences of equal length.
    Map {
        /// The function.
        f: ScalarFn,
        /// Its arguments, in the order that [`ScalarFn`] documents.
        args: Args,
    },
    /// A function of whole blocks. Blocks never cross rows.
    Block {
        /// The function.
        f: BlockFn,
        /// The source.
        of: NodeId,
        /// Elements in one row of the tensor.
        row: u64,
        /// Importance of each element of a row, `f32`: `row` items for all rows, or as many for each of several
        /// matrices that are stacked.
        weights: Option<NodeId>,
    },
    /// One item from every `group` consecutive items, folded over fixed chunks in index order.
    Reduce {
        /// The function.
        f: ReduceFn,
        /// The source.
        of: NodeId,
        /// Items folded into one.
        group: u64,
    },
    /// `of`, made once per run and held in memory below a limit, else spooled to disk.
    Stage {
        /// The source.
        of: NodeId,
    },
}

/// Compression of [`Op::Inflate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Raw deflate (RFC 1951), as in zip members.
    Deflate,
}

/// How [`Op::Varints`] stores signed numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarintSign {
    /// Two's complement in 64 bits (`int32`, `int64`, `uint64`).
    Plain,
    /// Zig-zag (`sint32`, `sint64`).
    ZigZag,
}

/// What an [`Op::Plugin`] source can do fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAccess {
    /// Any position, cheapest in aligned multiples of `grain` bytes.
    Random {
        /// Preferred multiple, in bytes.
        grain: u64,
    },
    /// Only in order from the start.
    Sequential,
}

/// Order of the bytes of a multi-byte item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrder {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

/// Which bits of a byte the first sub-byte element takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BitOrder {
    /// The low bits: a little-endian bit stream.
    #[default]
    Low,
    /// The high bits.
    High,
}

/// How items lie in bytes. The default is what most formats do: little-endian, low bits first, no padding between
/// rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// Order of bytes in multi-byte items.
    pub bytes: ByteOrder,
    /// Order of sub-byte items within a byte.
    pub bits: BitOrder,
}

impl Packing {
    /// Big-endian items.
    pub const BIG: Packing = Packing { bytes: ByteOrder::Big, bits: BitOrder::Low };
}

/// One axis of an [`Op::View`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim {
    /// Extent in items.
    pub count: u64,
    /// Distance in source items between neighbours; 0 repeats, negative flips.
    pub stride: i64,
}

/// One piece of an [`Op::Assemble`].
#[derive(Clone, Debug)]
pub struct Part {
    /// First index on each axis.
    pub lo: Box<[u64]>,
    /// Extent on each axis.
    pub extent: Box<[u64]>,
    /// The items, `Π extent` of them.
    pub node: NodeId,
}

/// One to three arguments.
#[derive(Clone, Copy, Debug)]
pub struct Args {
    ids: [NodeId; 3],
    len: u8,
}

impl Args {
    /// The arguments in order.
    pub fn ids(&self) -> &[NodeId] {
        &self.ids[..usize::from(self.len)]
    }
}

/// An elementwise function. Arithmetic is done in the result's type, without fused multiply-add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarFn {
    /// To the node's dtype: one rounding to nearest even; out-of-range values go where torch sends them for that type.
    Cast,
    /// `-x`.
    Neg,
    /// The complex conjugate.
    Conj,
    /// `x + c`.
    Add(f64),
    /// `x * c`.
    Mul(f64),
    /// `-exp(x)`.
    NegExp,
    /// `(q - z) * s` with arguments `q, z, s`.
    SubMul,
    /// `q * s + z` with arguments `q, s, z`.
    MulAdd,
}

impl ScalarFn {
    /// Number of arguments.
    pub fn arity(self) -> usize {
        match self {
            ScalarFn::SubMul | ScalarFn::MulAdd => 3,
            _ => 1,
        }
    }
}

/// A function of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFn {
    /// `f32` elements to the node's block dtype.
    Quantize,
    /// Blocks to `f32` elements.
    Dequantize,
    /// Zeroes all but the `keep` largest magnitudes of every `of` consecutive f16, bf16, f32 or f64.
    PruneNm {
        /// How many stay.
        keep: u8,
        /// Group size.
        of: u8,
    },
}

/// A fold of a group of items into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceFn {
    /// Largest magnitude, in the source's dtype.
    AbsMax,
    /// Smallest value, in the source's dtype.
    Min,
    /// Largest value, in the source's dtype.
    Max,
    /// Sum in `f64`.
    Sum,
    /// Mean magnitude in `f64`.
    MeanAbs,
    /// The magnitude that is `k`-th largest, counted from 0, in the source's dtype.
    KthAbs {
        /// Rank.
        k: u64,
    },
}

#[cfg(test)]
mod tests;
