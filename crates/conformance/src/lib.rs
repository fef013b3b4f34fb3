//! What every reader, writer and evaluator of modelferry must do, as checks that anyone can run.
//!
//! [`suite::run`] takes a registry and a folder of fixtures and reports what it found: it is the whole of
//! `cargo xtask conformance`, and what the author of a plugin outside of this workspace runs on a registry of their
//! own. Two oracles stand behind it, which share no code with what they judge: [`naive`] evaluates expressions one
//! item at a time, [`layouts`] executes layouts in memory.
//!
//! [`mutate`] spoils conversions on purpose and sees that the suite notices: a suite that cannot fail proves nothing.
//! [`faults::run`] fails every call to the system of every conversion, one at a time.
//!
//! The whole test of a plugin is this, with fixtures in `testdata/models` and `testdata/bad`; of a plugin that is only
//! begun it says which steps are left:
//!
//! ```no_run
//! use modelferry_conformance::{Left, reader_is_done};
//! use modelferry_core::registry::Registry;
//! fn the_reader_is_done() -> Result<(), Left> {
//!     let mut registry = Registry::default();
//!     // my_reader::register(&mut registry);
//!     // And a format to convert to: safetensors_reader::register, safetensors_writer::register.
//!     reader_is_done(&registry, "mine", "testdata".as_ref())
//! }
//! ```

#![forbid(unsafe_code)]

pub mod dag;
pub mod dag_check;
pub mod faults;
pub mod layouts;
pub mod models;
pub mod naive;
mod nested;
mod numbers;
mod random;
mod stopwatch;
pub mod suite;

pub use stopwatch::Stopwatch;
pub use suite::{
    Judged, Left, Mutated, Mutations, Outcome, PLACEHOLDER, Pair, SuiteOptions, Verdict, mutate,
    reader_is_done, run, twins, writer_is_done,
};
