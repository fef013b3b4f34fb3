//! `cargo xtask test`: everything that needs cargo alone.

use crate::conformance::{self, Found};
use crate::faults;
use crate::flags::Flags;
use crate::run::{self, Stop};
use crate::tally::Tally;
use modelferry_conformance::faults::Depth;

/// `cargo xtask test`.
pub(crate) fn main(_: Flags) -> Result<u8, Stop> {
    let (found, tally) = run()?;
    conformance::print_matrix(&found.outcome);
    Ok(tally.finish())
}

/// The tests of all crates (the short mutation loops among them), the fault loops, then conformance, which replays
/// the corpus of bad files too, and the proof that it can fail.
pub(crate) fn run() -> Result<(Found, Tally), Stop> {
    let mut tally = Tally::default();
    {
        let _step = run::step("cargo test");
        tally.add(cargo_test()?);
    }
    {
        let _step = run::step("faults");
        tally.add(faults::run(Depth::Short));
    }
    let _step = run::step("conformance");
    let (found, counts) = conformance::run()?;
    tally.add(counts);
    Ok((found, tally))
}

const PART: &str = "cargo test";

fn cargo_test() -> Result<Tally, Stop> {
    let mut tally = Tally::default();
    let mut report = Report::default();
    let mut command = run::cargo(&["test", "--workspace", "--no-fail-fast"]);
    let status = run::merged_lines(&mut command, |line| {
        if !line.is_empty() && !line.ends_with(" ... ok") && !line.starts_with("running ") {
            println!("{line}");
        }
        report.line(line, &mut tally);
    })?;
    if !status.success() && !tally.has_failures() {
        tally.fail(PART, format!("{status}; a crate that does not compile, or a program that died"));
    }
    tally.must_have_run(PART);
    Ok(tally)
}

/// Follows what `cargo test` prints.
#[derive(Default)]
struct Report {
    /// The program whose tests run.
    suite: String,
}

impl Report {
    fn line(&mut self, line: &str, tally: &mut Tally) {
        let line = line.trim_start();
        if let Some(rest) = line.strip_prefix("Running ").or_else(|| line.strip_prefix("Doc-tests ")) {
            self.suite = rest.to_owned();
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"))
        {
            tally.fail(PART, format!("{name} of {}", self.suite));
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            let count = |word: &str| -> u64 {
                let found = rest.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
                found.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
            };
            tally.pass(PART, count("passed"));
            if count("ignored") + count("filtered out") > 0 {
                tally.fail(PART, format!("tests were left out of {}", self.suite));
            }
            // Unit tests may live elsewhere; a file of tests that has none is a mistake.
            if self.suite.starts_with("tests/") && count("passed") + count("failed") == 0 {
                tally.fail(PART, format!("nothing ran in {}", self.suite));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        let mut report = Report::default();
        lines.iter().for_each(|line| report.line(line, &mut tally));
        tally
    }

    const END: &str = "0 measured; 0 filtered out; finished in 0.01s";

    #[test]
    fn results_are_counted() {
        let tally = follow(&[
            "     Running unittests src/lib.rs (target/debug/deps/a-0)",
            "test a ... ok",
            &format!("test result: ok. 12 passed; 0 failed; 0 ignored; {END}"),
            "   Doc-tests a",
            &format!("test result: ok. 0 passed; 0 failed; 0 ignored; {END}"),
        ]);
        assert!(tally.is_green());
        assert_eq!(tally.finish(), 0);
    }

    #[test]
    fn failed_ignored_and_empty_are_red() {
        assert!(
            !follow(&["test a ... FAILED", "test result: FAILED. 3 passed; 1 failed; 0 ignored"]).is_green()
        );
        assert!(!follow(&[&format!("test result: ok. 3 passed; 0 failed; 1 ignored; {END}")]).is_green());
        let empty = format!("test result: ok. 0 passed; 0 failed; 0 ignored; {END}");
        assert!(!follow(&["Running tests/a.rs (x)", &empty]).is_green());
    }
}
