//! The only place that writes to standard output and standard error.

use modelferry_convert::json::{self, Failure};
use modelferry_core::{Error, Result};
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether anything has been written to standard output.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// Whether anything has been written to standard output: then no other object may follow.
pub(crate) fn has_begun() -> bool {
    HAS_BEGUN.load(Ordering::Relaxed)
}

/// Writes to standard output, buffered. A pipe that was closed (`modelferry inspect x | head`) ends it quietly.
pub(crate) fn stdout(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    HAS_BEGUN.store(true, Ordering::Relaxed);
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let result = write(&mut out).and_then(|()| out.flush());
    // What is still in the buffer after a failure must not be tried again when it is dropped.
    let _ = out.into_parts();
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Error::io("writing to standard output", error)),
        Ok(()) => Ok(()),
    }
}

/// Writes to standard error. There is nobody to tell if that fails.
pub(crate) fn stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// One line on standard error, as every message of ours begins.
pub(crate) fn message(text: &str) {
    stderr(&format!("modelferry: {text}\n"));
}

/// Reports the error that ended a command, as a line and where asked for as JSON, and returns its exit code.
pub(crate) fn fail(command: &str, failure: Failure<'_>, is_json: bool) -> i32 {
    message(&failure.error.to_string());
    if is_json && !has_begun() {
        // The code of the first failure is the one that matters.
        let _ = stdout(|out| json::write_failure(command, failure, out));
    }
    failure.code
}
