//! The Hugging Face model directory, as far as it concerns weights: [`index`] and [`shards`].

#![forbid(unsafe_code)]

pub mod index;
pub mod shard_name;
pub mod shards;
