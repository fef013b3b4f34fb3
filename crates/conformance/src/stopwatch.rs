//! How long a check takes, on a machine that does other things too.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Time that passes on the clock while this machine works on something else is the check's own only beyond this
/// many times its work: a check that waits for what never comes is found too.
const PATIENCE: u32 = 50;

/// Counts the processor time of its thread.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    begun: Duration,
    wall: Instant,
}

impl Stopwatch {
    /// Starts to count. To be asked by the same thread.
    pub fn start() -> Stopwatch {
        Stopwatch { begun: thread_time(), wall: Instant::now() }
    }

    /// Processor time that this thread has used since, or a fiftieth of the time that has passed, if that is more.
    pub fn took(&self) -> Duration {
        thread_time().saturating_sub(self.begun).max(self.wall.elapsed() / PATIENCE)
    }
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_is_no_work_and_work_is() {
        let watch = Stopwatch::start();
        std::thread::sleep(Duration::from_millis(30));
        assert!(watch.took() < Duration::from_millis(20));
        let watch = Stopwatch::start();
        let mut n = 0u64;
        while watch.wall.elapsed() < Duration::from_secs(30) && watch.took() < Duration::from_millis(5) {
            n = std::hint::black_box(n + 1);
        }
        assert!(watch.took() >= Duration::from_millis(5));
    }
}
