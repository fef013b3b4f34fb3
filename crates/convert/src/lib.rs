//! The pipeline as a library: pick a reader, read, edit, pick a writer, lay out, execute, report.
//!
//! Nothing here prints or reads the command line. [`convert`], [`inspect`](inspect::inspect),
//! [`diff`](diff::diff), [`verify`](verify::verify) and [`edit`](edit::edit) take a [`Context`] (what is there: plugins, disk, settings, cancellation) and a job (what is
//! wanted), and give values that the command line renders and that tests look at.

#![forbid(unsafe_code)]

pub mod codes;
pub mod diff;
pub mod edit;
pub mod fold;
pub mod folder;
pub mod inspect;
pub mod job;
pub mod json;
pub mod metadata;
pub mod open;
pub mod originals;
pub mod pick;
pub mod report;
pub mod values;
pub mod verify;

mod capabilities;
mod config;
mod host;
mod importance;
mod links;
mod made;
mod naming;
mod pipeline;
mod policy;
mod readback;
mod sniff;
mod watched;
mod weights;

pub use host::Asked;
pub use importance::importance;
pub use job::{ConfigFrom, Context, Job, PluginOptions, Policy};
pub use modelferry_hf::config::MAX_BYTES as MAX_CONFIG_BYTES;
pub use open::{Opened, open};
pub use pipeline::convert;
pub use report::Report;
