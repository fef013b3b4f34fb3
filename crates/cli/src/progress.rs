//! A thread beside the run: passes signals on, and shows bytes, rate and time left.

use crate::output;
use crate::signals::Signals;
use crate::text::{bytes, seconds};
use modelferry_convert::json::Failure;
use modelferry_core::Error;
use modelferry_engine::Control;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A bar on a terminal, else lines.
    Auto,
    /// A line every 30 s.
    Plain,
    /// A JSON object a second, one a line.
    Json,
    /// Nothing.
    None,
}

/// How a run is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bar,
    Lines,
    Json,
    Silent,
}

/// How often signals are looked for: a run stops well within a second.
const POLL: Duration = Duration::from_millis(50);

/// Watches a run until it is dropped.
pub(crate) struct Watcher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch.
    pub(crate) fn start(command: &'static str, control: Arc<Control>, mode: Mode, is_json: bool) -> Watcher {
        let style = match mode {
            Mode::Auto if std::io::stderr().is_terminal() => Style::Bar,
            Mode::Auto | Mode::Plain => Style::Lines,
            Mode::Json => Style::Json,
            Mode::None => Style::Silent,
        };
        let signals = Signals::install();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut display = Display::new(style);
            while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                if let Some(signal) = signals.come()
                    && control.is_cancelled().is_none()
                {
                    control.cancel(signal);
                    // Before the engine has begun there is nothing to tidy up, and a large header takes its time.
                    if control.total_bytes() == 0 {
                        display.clear();
                        let error = Error::interrupted(format!("interrupted by signal {signal}"));
                        let code = 128 + signal;
                        output::fail(command, Failure { error: &error, code }, is_json);
                        std::process::exit(code);
                    }
                }
                display.update(control.done_bytes(), control.total_bytes());
            }
            display.clear();
        });
        // Without a thread the run goes on, unwatched.
        Watcher { stop: Some(stop), thread: thread.ok() }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Closing the channel wakes the thread at once.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is on the screen.
struct Display {
    style: Style,
    begun: Option<Instant>,
    last: Option<Instant>,
    is_drawn: bool,
}

impl Display {
    fn new(style: Style) -> Display {
        Display { style, begun: None, last: None, is_drawn: false }
    }

    fn update(&mut self, done: u64, total: u64) {
        if total == 0 || self.style == Style::Silent {
            return;
        }
        let now = Instant::now();
        let begun = *self.begun.get_or_insert(now);
        let pause = match self.style {
            Style::Bar => Duration::from_millis(200),
            Style::Json => Duration::from_secs(1),
            _ => Duration::from_secs(30),
        };
        if now - *self.last.get_or_insert(begun) < pause {
            return;
        }
        self.last = Some(now);
        let elapsed = (now - begun).as_secs_f64();
        match self.style {
            Style::Json => output::stderr(&format!(
                "{{\"progress\": {{\"bytes_done\": {done}, \"bytes_total\": {total}, \"seconds\": {elapsed:.1}}}}}\n"
            )),
            Style::Bar => {
                output::stderr(&format!("\r\x1b[K{} {}", bar(done, total), line(done, total, elapsed)));
                self.is_drawn = true;
            }
            _ => output::message(&line(done, total, elapsed)),
        }
    }

    fn clear(&mut self) {
        if self.is_drawn {
            output::stderr("\r\x1b[K");
            self.is_drawn = false;
        }
    }
}

fn share(done: u64, total: u64) -> f64 {
    (done as f64 / total.max(1) as f64).clamp(0.0, 1.0)
}

fn bar(done: u64, total: u64) -> String {
    const WIDTH: usize = 24;
    let full = (share(done, total) * WIDTH as f64) as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(WIDTH - full))
}

/// `45%, 6.10 GB of 13.5 GB, 1.20 GB/s, 6 s left`.
fn line(done: u64, total: u64, elapsed: f64) -> String {
    let rate = if elapsed > 0.0 { done as f64 / elapsed } else { 0.0 };
    let mut line = format!("{:.0}%, {} of {}", share(done, total) * 100.0, bytes(done), bytes(total));
    if rate >= 1.0 {
        line.push_str(&format!(", {}/s", bytes(rate as u64)));
        line.push_str(&format!(", {} left", seconds(total.saturating_sub(done) as f64 / rate)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line(0, 10_000_000, 0.0), "0%, 0 B of 10.0 MB");
        assert_eq!(line(5_000_000, 10_000_000, 2.0), "50%, 5.00 MB of 10.0 MB, 2.50 MB/s, 2 s left");
        assert_eq!(bar(5, 10), "[############------------]");
        assert_eq!(bar(11, 10), "[########################]");
    }
}
