//! The Hugging Face model directory, as far as it concerns weights: [`index`], [`set`], [`shards`] and [`output`].

#![forbid(unsafe_code)]

pub mod index;
pub mod output;
pub mod set;
pub mod shard_name;
pub mod shards;
