//! `cargo xtask fuzz`: the seeded mutation loops, in a process of their own that may crash.

use crate::flags::Flags;
use crate::run::{self, Stop};
use crate::tally::Tally;

/// Seconds that each target gets in a full run.
const FULL_SECONDS: u32 = 30;

/// `cargo xtask fuzz`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let mut args = flags.names.clone();
    for key in ["--seed", "--cases", "--seconds", "--case", "--input"] {
        args.extend(flags.value(key).map(|value| format!("{key}={value}")));
    }
    if flags.has("--show") {
        args.push("--show".to_owned());
    }
    let mut tally = Tally::default();
    tally.result("fuzz", loops(&args));
    Ok(tally.finish())
}

/// Every target for a while, from another seed than the tests'.
pub(crate) fn full() -> Tally {
    let mut tally = Tally::default();
    tally.result("fuzz", loops(&["--seed=2".to_owned(), format!("--seconds={FULL_SECONDS}")]));
    tally
}

/// The dev profile has the overflow checks and assertions that make mutations worth the time.
fn loops(args: &[String]) -> Result<(), Stop> {
    let mut command = run::cargo(&["run", "--quiet", "--package", "modelferry-fuzz", "--"]);
    run::run(command.args(args))
}
