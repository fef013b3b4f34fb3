//! Plugins by strangers: libraries that are checked before they are opened, and then behave as readers and writers.

mod calls;
pub mod foreign;

pub use foreign::{Foreign, ForeignReader, ForeignWriter};
