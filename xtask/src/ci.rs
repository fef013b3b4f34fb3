//! `cargo xtask ci`: exactly what CI runs; `--full`: everything there is, which also writes the evidence.

use crate::bench;
use crate::conformance;
use crate::evidence::{self, Evidence};
use crate::flags::Flags;
use crate::peers;
use crate::run::{self, Stop};
use crate::tally::Tally;
use crate::{faults, fuzz, libraries, licences, new_plugin, test, tidy};
use modelferry_conformance::faults::Depth;

/// `cargo xtask ci`. Every step runs, whatever the others said, so that one run shows everything that is wrong.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    let is_full = flags.has("--full");
    let mut tally = Tally::default();
    {
        let _step = run::step("format");
        tally.result("format", run::run(&mut run::cargo(&["fmt", "--all", "--check"])));
    }
    {
        let _step = run::step("lints");
        let args = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
        tally.result("lints", run::run(&mut run::cargo(&args)));
    }
    step("tidy", &mut tally, || Ok(((), tidy::check()?)));
    step("licences", &mut tally, || Ok(((), licences::check()?)));
    let found = step("test", &mut tally, test::run);
    if let Some(found) = &found {
        conformance::print_matrix(&found.outcome);
    }
    step("plugins as libraries", &mut tally, libraries::run);
    step("new plugins", &mut tally, || Ok(((), new_plugin::check()?)));
    let judged = step("peers", &mut tally, || peers::run(&[], false));
    if is_full {
        step("more random expressions", &mut tally, || Ok(((), conformance::more_seeds()?)));
        step("more faults", &mut tally, || Ok(((), faults::run(Depth::Full))));
        step("more mutations", &mut tally, || Ok(((), fuzz::full())));
        let judged_fully = step("peers, every case", &mut tally, || peers::run(&[], true));
        let measured = step("bench", &mut tally, || bench::run(&bench::Wanted::default()));
        if let (true, Some(found), Some(judged)) = (tally.is_green(), &found, &judged) {
            let mut evidence = Evidence::load().unwrap_or_default();
            evidence.set("conformance", evidence::of_conformance(found));
            evidence.set("peers", evidence::of_peers(judged));
            evidence.set("peers_full", judged_fully.as_ref().map(evidence::of_peers).unwrap_or_default());
            evidence.set("bench", measured.unwrap_or_default());
            evidence.save()?;
            println!("EVIDENCE.json and the tables of README.md are written; commit them");
        } else {
            println!("EVIDENCE.json is left as it is: evidence is of runs that passed");
        }
    } else {
        step("bench, small and for its memory", &mut tally, || bench::run(&bench::Wanted::quick()));
    }
    if let (Some(found), Some(judged)) = (&found, &judged) {
        step("evidence", &mut tally, || Ok(((), evidence::compare(found, judged))));
    } else {
        tally.fail("evidence", "nothing to compare: conformance or peers did not run");
    }
    Ok(tally.finish())
}

/// Runs one step and adds its counts; a step that could not run has failed.
fn step<T>(name: &str, tally: &mut Tally, work: impl FnOnce() -> Result<(T, Tally), Stop>) -> Option<T> {
    let _step = run::step(name);
    match work() {
        Ok((value, found)) => {
            tally.add(found);
            Some(value)
        }
        Err(stop) => {
            tally.fail(name, stop.to_string());
            None
        }
    }
}
