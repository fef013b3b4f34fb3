//! Every system call of every kind of conversion, failed in turn.

use crate::run;
use crate::tally::Tally;
use modelferry_conformance::faults::{self, Depth};

const PART: &str = "faults";

/// Runs the fault loops and says what was failed how often.
pub(crate) fn run(depth: Depth) -> Tally {
    let registry = modelferry_cli::builtin::registry();
    let outcome = faults::run(&registry, &run::root().join("testdata"), depth);
    let every =
        if outcome.stride > 1 { format!("every {}th call", outcome.stride) } else { "every call".to_owned() };
    println!(
        "{:7}  runs with a fault, of {} conversions and edits, {every}",
        outcome.runs,
        outcome.scenes.len()
    );
    let mut tally = Tally::default();
    tally.pass(PART, outcome.runs.saturating_sub(outcome.failures.len() as u64));
    outcome.failures.iter().for_each(|failure| tally.fail(PART, failure));
    tally.must_have_run(PART);
    tally
}
