//! `cargo xtask fixtures`: testdata made anew by its scripts.

use crate::conformance;
use crate::flags::Flags;
use crate::peers::Python;
use crate::run::{self, Stop};
use crate::tally::Tally;

/// `cargo xtask fixtures`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let mut tally = Tally::default();
    if flags.has("--bless") {
        tally.add(conformance::bless()?);
    } else {
        let mut make = Python::prepare()?.command("testdata/make.py");
        if flags.has("--check") {
            make.arg("--check");
        }
        tally.result("fixtures", run::run(&mut make));
        if !flags.has("--check") {
            println!(
                "now `cargo xtask fixtures --bless`, if testdata/bad has changed, and read the difference"
            );
        }
    }
    Ok(tally.finish())
}
