//! Ctrl-C and SIGTERM: the first asks the run to stop, the second ends the process at once. A file that grows beyond
//! `ulimit -f` is an error, not the end.

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Lets a write beyond `ulimit -f` fail with EFBIG, so that what was begun is tidied up: left alone, the signal that
/// comes with it ends the process.
pub(crate) fn survive_file_size_limit() {
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// The signal that has come, if one has.
#[derive(Clone, Default)]
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Takes over both signals. Where the system refuses, they end the process as they always do.
    pub(crate) fn install() -> Signals {
        let signals = Signals::default();
        let has_come = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the first signal finds the flag unset when the shutdown looks at it.
            let _ = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&has_come));
            let _ = flag::register(signal, Arc::clone(&has_come));
            let _ = flag::register_usize(signal, Arc::clone(&signals.0), signal as usize);
        }
        signals
    }

    /// The signal that has come.
    pub(crate) fn come(&self) -> Option<i32> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }
}
