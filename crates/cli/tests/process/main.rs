//! What only the real program can show: signals, limits of the system, several runs at once, odd names, odd files.
//!
//! Nothing here measures time. Where something must happen during a run, the test waits until the run has staged its
//! output, stops it, does it, and lets it go on; a run that was over by then is tried again with a larger input.
//! What the machine does not allow is skipped, with a line on standard error that begins with `skipped: `.

// Helpers of tests are tests too, which clippy cannot see.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(target_os = "linux")]

mod bad;
mod environment;
mod folders;
mod inputs;
mod kills;
mod names;
mod outputs;
mod plugins;
mod races;
mod streams;
mod support;
