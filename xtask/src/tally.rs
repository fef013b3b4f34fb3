//! Counting what passed and what failed.

use std::collections::BTreeMap;

/// Failures that the summary repeats; all of them are printed when they happen.
const MAX_REPEATED: usize = 50;

/// Counts, and the text of each failure.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failures: Vec<String>,
    /// Checks that cannot be made here, each with its reason.
    left_out: Vec<String>,
    /// Checks of each part, for parts that must not be empty.
    parts: BTreeMap<String, u64>,
}

impl Tally {
    /// `n` checks of `part` passed.
    pub(crate) fn pass(&mut self, part: &str, n: u64) {
        self.passed += n;
        *self.parts.entry(part.to_owned()).or_default() += n;
    }

    /// One check of `part` failed.
    pub(crate) fn fail(&mut self, part: &str, text: impl AsRef<str>) {
        let text = format!("{part}: {}", text.as_ref());
        println!("FAILED {text}");
        self.failures.push(text);
        *self.parts.entry(part.to_owned()).or_default() += 1;
    }

    /// One check of `part` cannot be made here, for a reason that everybody may read.
    pub(crate) fn leave_out(&mut self, part: &str, text: impl AsRef<str>) {
        let text = format!("{part}: {}", text.as_ref());
        println!("left out {text}");
        self.left_out.push(text);
    }

    /// One check of `part`.
    pub(crate) fn check(&mut self, part: &str, is_right: bool, wrong: impl FnOnce() -> String) {
        if is_right { self.pass(part, 1) } else { self.fail(part, wrong()) }
    }

    /// One check of `part` that passed, or failed with an error.
    pub(crate) fn result<E: ToString>(&mut self, part: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.pass(part, 1),
            Err(error) => self.fail(part, error.to_string()),
        }
    }

    /// Fails if `part` did not run a single check: a suite that ran nothing proves nothing.
    pub(crate) fn must_have_run(&mut self, part: &str) {
        if self.parts.get(part).is_none_or(|n| *n == 0) {
            self.fail(part, "nothing ran");
        }
    }

    /// Adds what another run counted.
    pub(crate) fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.left_out.extend(other.left_out);
        for (part, n) in other.parts {
            *self.parts.entry(part).or_default() += n;
        }
    }

    /// Whether something failed.
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// Whether everything passed, and there was something.
    pub(crate) fn is_green(&self) -> bool {
        self.failures.is_empty() && self.passed > 0
    }

    /// Prints every failure and all that was left out again and, as the last line, the counts; gives the exit code.
    pub(crate) fn finish(mut self) -> u8 {
        if self.passed == 0 && self.failures.is_empty() {
            self.fail("all", "nothing ran");
        }
        if !self.failures.is_empty() {
            println!("\nfailures:");
            for failure in self.failures.iter().take(MAX_REPEATED) {
                println!("  {failure}");
            }
            if self.failures.len() > MAX_REPEATED {
                println!("  and {} more, named above", self.failures.len() - MAX_REPEATED);
            }
        }
        if !self.left_out.is_empty() {
            println!("\nleft out:");
            self.left_out.iter().for_each(|text| println!("  {text}"));
        }
        let left_out = match self.left_out.len() {
            0 => String::new(),
            n => format!(", {n} left out"),
        };
        println!("\n{} passed, {} failed{left_out}", self.passed, self.failures.len());
        u8::from(!self.is_green())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_not_success() {
        assert_eq!(Tally::default().finish(), 1);
        let mut tally = Tally::default();
        tally.pass("a", 3);
        tally.must_have_run("a");
        assert!(tally.is_green());
        tally.pass("b", 0);
        tally.must_have_run("b");
        tally.must_have_run("c");
        assert_eq!(tally.failures, ["b: nothing ran", "c: nothing ran"]);
        assert_eq!(tally.finish(), 1);
    }

    #[test]
    fn what_is_left_out_neither_fails_nor_passes() {
        let mut other = Tally::default();
        other.leave_out("a", "no program");
        let mut tally = Tally::default();
        tally.add(other);
        assert!(!tally.is_green() && !tally.has_failures());
        tally.pass("b", 1);
        assert_eq!((tally.left_out.len(), tally.finish()), (1, 0));
    }
}
