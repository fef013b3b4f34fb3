//! What a run is allowed, and what it tells while it runs.

use modelferry_core::limits::Limits;
use modelferry_core::{Error, Result};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

const PAGE: u64 = 4096;

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Worker threads, at least 1.
    pub threads: usize,
    /// Bytes of buffers, all threads together.
    pub memory: u64,
    /// Upper bounds for numbers from files.
    pub limits: Limits,
    /// Whether the output must be on the disk before the run ends.
    pub sync: bool,
}

impl Default for Settings {
    /// All cores, 32 MiB, no fsync.
    fn default() -> Settings {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Settings { threads, memory: 32 << 20, limits: Limits::default(), sync: false }
    }
}

impl Settings {
    /// Bytes one thread may hold, in three parts: what it fills, the scratch of the expression, one strided fetch.
    pub(crate) fn tile_bytes(&self) -> u64 {
        (self.memory / self.threads.max(1) as u64 / 3).clamp(1 << 14, 4 << 20) / PAGE * PAGE
    }

    /// The same for a run of so many parts: several leave room for a fourth part, the bytes that a thread keeps.
    pub(crate) fn for_parts(&self, n_parts: usize) -> Settings {
        let memory = if n_parts > 1 { self.memory / 4 * 3 } else { self.memory };
        Settings { memory, ..self.clone() }
    }

    /// Bytes of its sources that one thread keeps while it makes several outputs of them. Less than a few stretches of
    /// a stream would be read again and again.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.tile_bytes().max(1 << 18)
    }

    /// Bytes of one linear write. Larger ones are no faster where the page cache reuses what was freed just now, and
    /// collapse where it must take fresh memory (1 MiB ones run at 3 × `cp` then, 4 MiB ones always); smaller ones cost
    /// calls. A multiple of the page size.
    pub(crate) fn linear_bytes(&self) -> u64 {
        self.tile_bytes().min(256 << 10)
    }
}

/// Progress and cancellation of a run, shared between its threads and whoever watches.
#[derive(Debug, Default)]
pub struct Control {
    signal: AtomicI32,
    done: AtomicU64,
    total: AtomicU64,
}

impl Control {
    /// A run not yet begun.
    pub fn new() -> Control {
        Control::default()
    }

    /// Asks the run to stop, as if by this signal. Threads stop between tiles.
    pub fn cancel(&self, signal: i32) {
        self.signal.store(signal, Ordering::Relaxed);
    }

    /// The signal that asked the run to stop, if one did.
    pub fn is_cancelled(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Bytes done so far.
    pub fn done_bytes(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes there are to do.
    pub fn total_bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Starts counting from zero towards `total` bytes.
    pub fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Fails if the run is to stop.
    pub fn check(&self) -> Result<()> {
        match self.is_cancelled() {
            None => Ok(()),
            Some(signal) => Err(Error::interrupted(format!("interrupted by signal {signal}"))),
        }
    }
}
