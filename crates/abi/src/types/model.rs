//! A model, described.

use super::*;
use std::ffi::c_void;

/// Where bytes are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfData {
    /// One of `MF_DATA_…`.
    pub kind: u32,
    /// With `MF_DATA_FILE`, the file; with `MF_DATA_UNSEEN`, a file that they come from, or `MF_NO_FILE`.
    pub file: u32,
    /// With `MF_DATA_FILE`, the first byte; with `MF_DATA_NODE`, the position in `nodes`; with `MF_DATA_MADE`, what
    /// `read_at` is given as `token`.
    pub at: u64,
}

/// A named array.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfTensor {
    /// Unique name.
    pub name: MfText,
    /// One of `MF_DTYPE_…`.
    pub dtype: u32,
    /// With `MF_DTYPE_OPAQUE`, elements in a block.
    pub block_elements: u16,
    /// With `MF_DTYPE_OPAQUE`, bytes of a block.
    pub block_bytes: u16,
    /// Extents in elements, row-major.
    pub shape: *const u64,
    /// Number of extents; 0 for a scalar.
    pub rank: u64,
    /// Bytes of the elements densely packed. Told to writers; a reader may leave it 0.
    pub byte_len: u64,
    /// The bytes: little-endian and row-major, unless a node says otherwise.
    pub data: MfData,
}

/// How a sequence of items is made of others: `MF_OP_…` says which field means what.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfNode {
    /// One of `MF_OP_…`.
    pub op: u32,
    /// Type of the items, one of `MF_DTYPE_…`.
    pub dtype: u32,
    /// With `MF_DTYPE_OPAQUE`, elements in a block.
    pub block_elements: u16,
    /// With `MF_DTYPE_OPAQUE`, bytes of a block.
    pub block_bytes: u16,
    /// Choices of the operation: `MF_FLAG_…`.
    pub flags: u32,
    /// Number of items.
    pub n: u64,
    /// The sequence that it is made of, by its position: an earlier one.
    pub of: u64,
    /// First number of the operation.
    pub p: u64,
    /// Second number of the operation.
    pub q: u64,
    /// Further numbers of the operation.
    pub list: *const u64,
    /// How many there are.
    pub list_len: u64,
}

/// A file that belongs to a model and holds no weights.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfAsset {
    /// Path relative to the model's folder, `/` between folders.
    pub name: MfText,
    /// Length in bytes.
    pub len: u64,
    /// Its bytes: a part of a file, or a node that is one or is held in a blob.
    pub data: MfData,
}

/// A CRC-32 that a source states about bytes of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfClaim {
    /// A sequence of bytes, by its position in `nodes`.
    pub node: u64,
    /// The CRC-32 (IEEE 802.3).
    pub crc32: u32,
    /// 1 if the description itself rests on these bytes.
    pub is_header: u32,
}

/// A model, described: what a reader makes and a writer takes. A writer is given no nodes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfModel {
    /// Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    pub struct_size: u64,
    /// Its maker's own.
    pub owner: *mut c_void,
    /// Frees what the model points at. Called once, when nothing of it is needed any more; may be null.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
    /// Fills `out` with bytes that only the maker can make: `len` of them from `offset` on of the sequence `token` of
    /// `source` (0 unless a node says otherwise), out of the files that the model was read from, which `call` gives.
    /// Called from several threads, and twice for the same range.
    pub read_at: Option<
        unsafe extern "C" fn(
            owner: *mut c_void,
            call: *const MfCall,
            source: u64,
            token: u64,
            offset: u64,
            out: *mut u8,
            len: u64,
        ) -> i32,
    >,
    /// [`MfTensor`], in file order.
    pub tensors: MfSlice,
    /// [`MfNode`], each made of earlier ones.
    pub nodes: MfSlice,
    /// [`MfText`], of bytes: what nodes and the document name by position.
    pub blobs: MfSlice,
    /// [`MfAsset`].
    pub assets: MfSlice,
    /// [`MfClaim`].
    pub claims: MfSlice,
    /// The rest as JSON: ties, metadata, config, nested values, a graph. Empty if there is none.
    /// docs/plugin-abi.md has its schema.
    pub document: MfText,
}
