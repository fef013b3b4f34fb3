//! Plugins by strangers: libraries that are checked before they are opened, and then behave as readers and writers.

pub mod foreign;
pub mod library;
pub mod manifest;
pub mod search;
pub mod trust;

pub use foreign::{Foreign, ForeignReader, ForeignWriter};
pub use library::Library;
pub use manifest::Manifest;
