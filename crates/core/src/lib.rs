//! The intermediate representation of modelferry, and the traits around it.
//!
//! Readers describe, writers lay out, one engine moves the bytes. This crate is the description: no I/O, no
//! arithmetic on payload, no file format, no dependency. Unusual decisions, all here for the same reason (peak memory
//! must not depend on payload):
//!
//! - A [`Model`](model::Model) holds no tensor bytes. Each tensor points at a lazy [expression](expr) over file
//!   regions, which is plain data: printable, comparable, checked when it is made.
//! - A [`Layout`](layout::Layout) says where every output byte comes from before any is written.
//! - What is lost is a value ([`Loss`](loss::Loss)); whose fault an error is, is a value too
//!   ([`ErrorKind`](error::ErrorKind)).
//! - Numbers from files meet [`Limits`](limits::Limits) before memory is reserved.

#![forbid(unsafe_code)]

pub mod codes;
pub mod dtype;
pub mod epilogue;
pub mod error;
pub mod expr;
pub mod graph;
pub mod inputs;
pub mod layout;
pub mod limits;
pub mod loss;
pub mod model;
mod one_line;
pub mod options;
pub mod plugin;
pub mod registry;
pub mod tree;
mod value;

pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
