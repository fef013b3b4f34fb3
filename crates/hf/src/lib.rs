//! The Hugging Face model directory, as far as it concerns weights: [`index`], [`shards`] and [`output`].

#![forbid(unsafe_code)]

pub mod index;
pub mod output;
pub mod shard_name;
pub mod shards;
