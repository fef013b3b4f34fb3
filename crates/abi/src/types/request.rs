//! What a writer is asked for, and what a plugin asks.

use super::*;

/// The value of a declared option.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfOption {
    /// Its name.
    pub name: MfText,
    /// Its value, as the user would type it; options without value and default are not passed.
    pub value: MfText,
}

/// What a writer is asked for besides the model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfRequest {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// Name of the output file, without folder; for a folder, the folder's own name.
    pub file_name: MfText,
    /// Format of the weights in a folder; empty for a file.
    pub weights: MfText,
    /// [`MfOption`].
    pub options: MfSlice,
    /// One of `MF_SHARDS_…`.
    pub shards: u32,
    /// Zero.
    pub reserved: u32,
    /// With `MF_SHARDS_MAX`, the most bytes of tensors in a file.
    pub shard_bytes: u64,
}

/// A question about payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfQuery {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// One of `MF_QUERY_…`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The sequence, by its position in the nodes that come with the question.
    pub node: u64,
    /// With `MF_QUERY_EQUAL`, the other one.
    pub other: u64,
    /// With `MF_QUERY_SMALL`, the first item.
    pub at: u64,
    /// With `MF_QUERY_SMALL`, the number of items.
    pub len: u64,
}

/// The answer to an [`MfQuery`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfAnswer {
    /// Bytes of this struct. Set by who asks.
    pub struct_size: u64,
    /// To `MF_QUERY_EQUAL` and `MF_QUERY_ALL_ZERO` 0 or 1, to `MF_QUERY_NNZ` the count, to `MF_QUERY_SMALL` the number
    /// of bytes, which are in `out` if they are not more than there is room for.
    pub count: u64,
    /// To `MF_QUERY_ABS_MAX`.
    pub number: f64,
}
