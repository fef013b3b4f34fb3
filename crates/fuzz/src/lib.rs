//! Random and mutated files for every reader, and what must hold whatever they contain.
//!
//! A [`Target`] is a plain function over bytes. The same functions run in two ways: as seeded loops on the stable
//! toolchain ([`run()`], and the program of this crate, which survives what the loop does not), and under cargo-fuzz,
//! whose targets in `fuzz/` are one line each.
//!
//! What must hold ([`check`]): no panic; an error of the input's kind that names its file in one printable line; a
//! model that validates, is the same when it is read again, evaluates without a panic, and can be laid out by every
//! writer that claims to hold it. [`run()`] adds what needs a clock and a counting allocator: a second and
//! 64 MB + 3 × the input, at most.
//!
//! A fault is kept as a file below `testdata/fuzz/TARGET/`, which every run replays first.

#![forbid(unsafe_code)]

pub mod check;
pub mod corpus;
mod draw;
mod inputs;
mod mutate;
mod pickle;
mod random;
pub mod run;
pub mod targets;
mod tokens;
mod zip;

pub use run::{Budget, Failure, Options, Outcome, Probe, TargetOutcome, run};
pub use targets::{Reached, TARGETS, Target};

/// Runs one target on one input, as cargo-fuzz wants it: a fault is a panic.
///
/// # Panics
///
/// Where the input makes something untrue that must hold, and where `target` is no target's name.
pub fn must_hold(target: &str, data: &[u8]) {
    let known = TARGETS.iter().find(|known| known.name == target);
    let result = known.map_or_else(|| Err("there is no such target".to_owned()), |known| (known.check)(data));
    if let Err(fault) = result {
        // The one way to tell libFuzzer.
        #[allow(clippy::panic)]
        {
            panic!("{target}: {fault}");
        }
    }
}
