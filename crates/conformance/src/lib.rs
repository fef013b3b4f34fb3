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
//! The whole test of a plugin is this, with fixtures in `testdata/models` and `testdata/bad`:
//!
//! ```no_run
//! use modelferry_conformance::{SuiteOptions, run};
//! use modelferry_core::registry::Registry;
//! let mut registry = Registry::default();
//! // registry.add_reader(MyReader);
//! // registry.add_writer(MyWriter);
//! let outcome = run(&registry, "testdata".as_ref(), &SuiteOptions::default());
//! assert!(outcome.failures.is_empty(), "{:#?}", outcome.failures);
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
pub use suite::{Mutated, Mutations, Outcome, Pair, SuiteOptions, Verdict, mutate, run, twins};
