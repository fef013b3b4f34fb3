//! The boundary between modelferry and plugins: a C ABI that a plugin compiled today and the program of next year share.
//!
//! Payload never crosses it. A reader returns a description, a writer receives one and returns a layout: tensors, nodes
//! and pieces as arrays of structs ([`types`]), header bytes as blobs, the rest as JSON ([`document`]). Bytes that
//! nobody but a plugin can make come through a positioned call into a buffer of the program's.
//!
//! An author in Rust implements [`Reader`](modelferry_core::plugin::Reader) or
//! [`Writer`](modelferry_core::plugin::Writer) and calls [`export_plugin!`](crate::export_plugin); the same crate can be
//! linked in. An author in C includes the header that is generated from [`types`] and [`codes`].

pub mod author;
pub mod calls;
pub mod codes;
mod described;
mod document;
pub mod epilogue;
pub mod info;
pub mod layout;
pub mod model;
mod names;
mod nodes;
pub mod raw;
pub mod report;
pub mod types;
pub mod view;

/// Core's traits and types: all that a plugin links.
pub use modelferry_core as core;
