//! What a file may ask of us.

use crate::error::{Error, Result};

/// Upper bounds handed to every reader, so that no number in a file decides how much memory or time is spent.
///
/// A size read from a file is checked against the file's length *and* the limit here, in 64-bit checked arithmetic,
/// before anything is reserved. Reaching one is an error of kind [`Limit`](crate::error::ErrorKind::Limit).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one header, directory or index document. safetensors' own cap is 100,000,000; ours is wider because
    /// files above that cap exist (safetensors issue 668) and only their readers refuse them.
    pub header_bytes: u64,
    /// Tensors in one model.
    pub tensors: u64,
    /// Files one model is made of.
    pub files: u64,
    /// Dimensions of one tensor.
    pub rank: usize,
    /// Bytes of one tensor name.
    pub name_bytes: usize,
    /// Nesting of documents (JSON, pickles).
    pub depth: usize,
    /// Objects of one document of nested values ([`Tree`](crate::tree::Tree)): pickles, msgpack.
    pub objects: u64,
    /// Instructions of one pickle: a few bytes of it, deflated, can ask for billions.
    pub opcodes: u64,
    /// Nodes of one model's expression arena.
    pub nodes: u64,
    /// Bytes of payload held inside the description itself ([`Op::Inline`](crate::expr::Op::Inline)).
    pub inline_bytes: u64,
    /// Bytes of the tensors of one model that are views which repeat elements of small storages (stride 0), together.
    pub repeated_bytes: u64,
    /// Ratio of inflated to deflated bytes above which an entry is refused as a bomb. Deflate cannot exceed 1032.
    pub inflate_ratio: u64,
    /// Bytes the engine may read for each byte it writes, before a plan is refused as a computation bomb.
    pub read_amplification: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_bytes: 1 << 30,
            tensors: 16 << 20,
            files: 1 << 17,
            rank: 64,
            name_bytes: 1 << 16,
            depth: 128,
            objects: 64 << 20,
            opcodes: 256 << 20,
            nodes: 64 << 20,
            inline_bytes: 256 << 20,
            repeated_bytes: 64 << 30,
            inflate_ratio: 1032,
            read_amplification: 1 << 16,
        }
    }
}

impl Limits {
    /// Fails with a [`Limit`](crate::error::ErrorKind::Limit) error naming `what` unless `found <= limit`.
    pub fn check(what: &'static str, found: u64, limit: u64) -> Result<()> {
        if found <= limit {
            return Ok(());
        }
        Err(Error::limit(what).expected(format_args!("at most {limit}")).found(found))
    }
}
