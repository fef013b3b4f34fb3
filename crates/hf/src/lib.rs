//! The Hugging Face model directory: its [`config`], which of its files are [`weights`], their [`index`], the [`set`] that
//! it joins, [`shards`] and their [`output`].

#![forbid(unsafe_code)]

pub mod config;
pub mod index;
mod json;
pub mod output;
pub mod set;
pub mod shard_name;
pub mod shards;
pub mod tree_json;
pub mod weights;
