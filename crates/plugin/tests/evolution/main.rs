//! Structs as shorter and longer versions of the boundary would have them: what both sides know is used, and nothing
//! beyond is looked at. Every struct here lies alone in memory of just its length, so that the address sanitizer sees
//! who reads past it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

#[path = "../support/mod.rs"]
mod support;

mod elements;
mod given;
mod meek;
mod tight;
mod told;

use modelferry_abi::raw::zeroed;
use modelferry_abi::types::MfLimits;
use support::*;
use tight::Tight;

#[test]
fn the_sanitizer_sees_nobody_read_past() {
    for test in [
        "given::a_plugin_is_given_shorter_and_longer_structs",
        "given::a_writer_is_given_shorter_and_longer_structs",
        "given::a_writer_is_told_of_the_run_in_shorter_and_longer_structs",
        "told::the_program_is_given_shorter_and_longer_tables",
        "told::the_program_is_told_in_shorter_and_longer_structs",
        "told::the_program_is_asked_in_shorter_and_longer_structs",
        "elements::elements_may_be_shorter_and_longer",
        "elements::elements_of_reports_may_be_shorter_and_longer",
    ] {
        sanitized(test);
    }
}

#[test]
fn reading_past_a_struct() {
    if is_sanitized() {
        let lies = Tight::sized(&zeroed::<MfLimits>(), 16);
        // SAFETY: none: this is what must be seen.
        let limits = unsafe {
            lies.as_ptr::<u64>().write(size_of::<MfLimits>() as u64);
            modelferry_abi::raw::sized(lies.as_ptr::<MfLimits>())
        };
        assert!(limits.is_ok());
    }
}

#[test]
fn the_sanitizer_would_see_it() {
    let (passed, said) = run_sanitized("reading_past_a_struct");
    assert!(!passed && said.contains("heap-buffer-overflow"), "{said}");
}
