//! Seconds, and the largest resident size, of a process.

use crate::run::{self, Stop};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Measurements of ours beside theirs, in the order they were made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs(Vec<(f64, f64)>);

/// The middle of some numbers, and their ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Pairs {
    pub(crate) fn push(&mut self, ours: f64, theirs: f64) {
        self.0.push((ours, theirs));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Of ours by theirs, pair by pair.
    pub(crate) fn ratio(&self) -> Spread {
        self.spread(|(ours, theirs)| ours / theirs)
    }

    /// Of ours without theirs, pair by pair.
    pub(crate) fn difference(&self) -> Spread {
        self.spread(|(ours, theirs)| ours - theirs)
    }

    pub(crate) fn ours(&self) -> Spread {
        self.spread(|(ours, _)| ours)
    }

    pub(crate) fn theirs(&self) -> Spread {
        self.spread(|(_, theirs)| theirs)
    }

    fn spread(&self, of: impl Fn((f64, f64)) -> f64) -> Spread {
        let mut values: Vec<f64> = self.0.iter().map(|pair| of(*pair)).collect();
        values.sort_by(f64::total_cmp);
        let at = |idx: usize| values.get(idx).copied().unwrap_or(f64::NAN);
        let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
        Spread { median: (at(low) + at(high)) / 2.0, min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

/// Makes the machine the same for each run, whoever's it is: nothing is left to write back, `input` is in the page
/// cache, and as much memory as an output of `n_bytes` takes is at hand, by writing `scratch` and removing it.
///
/// A virtual machine may empty its page cache of what was not used for a minute, and gives freed memory back to its
/// host within seconds; getting it again was measured to take ten times as long as the copy, and the first of each
/// pair paid for it.
pub(crate) fn settle(input: &Path, scratch: &Path, n_bytes: u64) -> Result<(), Stop> {
    let status = Command::new("sync").status();
    status.map_err(|error| Stop::new(format!("`sync` did not start: {error}")))?;
    let mut buffer = vec![0; 1 << 18];
    let mut file = File::open(input).map_err(run::at(input))?;
    while file.read(&mut buffer).map_err(run::at(input))? > 0 {}
    let mut file = File::create(scratch).map_err(run::at(scratch))?;
    let mut left = n_bytes;
    while left > 0 {
        let len = left.min(buffer.len() as u64);
        file.write_all(&buffer[..len as usize]).map_err(run::at(scratch))?;
        left -= len;
    }
    fs::remove_file(scratch).map_err(run::at(scratch))
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

fn failed(command: &Command, said: &[u8]) -> Stop {
    Stop::new(format!("`{}` failed: {}", run::shown(command), String::from_utf8_lossy(said).trim()))
}

/// Seconds from start to exit, and what it printed.
pub(crate) fn timed(command: &mut Command) -> Result<(f64, String), Stop> {
    let begun = Instant::now();
    let output = quiet(command).output();
    let seconds = begun.elapsed().as_secs_f64();
    let output = output.map_err(|error| failed(command, error.to_string().as_bytes()))?;
    if !output.status.success() {
        return Err(failed(command, &output.stderr));
    }
    Ok((seconds, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// How often a process is looked at. Its largest size can only be missed if it grows in its last moments.
const LOOK: Duration = Duration::from_millis(2);

/// `VmHWM` of a run, in bytes, as seen last before its end.
///
/// The resource usage that a parent gets of its children was rejected: it starts at the parent's own size.
pub(crate) fn peak_memory(command: &mut Command) -> Result<u64, Stop> {
    let stop = |command: &Command, error: std::io::Error| failed(command, error.to_string().as_bytes());
    let mut child = quiet(command).stdout(Stdio::null()).spawn().map_err(|error| stop(command, error))?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        if let Some(found) = fs::read_to_string(&status_file).ok().and_then(|text| high_water(&text)) {
            peak = peak.max(found);
        }
        if let Some(status) = child.try_wait().map_err(|error| stop(command, error))? {
            break status;
        }
        thread::sleep(LOOK);
    };
    if !status.success() {
        let mut said = vec![];
        if let Some(mut out) = child.stderr.take() {
            out.read_to_end(&mut said).map_err(|error| stop(command, error))?;
        }
        return Err(failed(command, &said));
    }
    if peak == 0 {
        return Err(Stop::new("the process ended before its memory was seen"));
    }
    Ok(peak)
}

/// `VmHWM` of a status file of /proc, in bytes.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|n| n * 1024)
}

/// What peak memory may depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Formula {
    pub(crate) n_tensors: u64,
    /// Bytes of the largest header.
    pub(crate) header: u64,
}

impl Formula {
    /// Whatever happens.
    pub(crate) const BASE: u64 = 64_000_000;
    /// `--memory`, which is left at its default.
    pub(crate) const BUFFERS: u64 = 32_000_000;

    /// 64 MB + `--memory` + 1 KiB a tensor + 3 x the largest header.
    pub(crate) fn bytes(&self) -> u64 {
        Formula::BASE + Formula::BUFFERS + 1024 * self.n_tensors + 3 * self.header
    }
}

/// Bytes of a file that describe its payload: the directory of a zip, of any other file what is no payload.
pub(crate) fn header_bytes(path: &Path, n_payload: u64) -> Result<u64, Stop> {
    let mut file = File::open(path).map_err(run::at(path))?;
    let mut start = [0; 2];
    file.read_exact(&mut start).map_err(run::at(path))?;
    if start == *b"PK" {
        return directory_bytes(&mut file).map_err(run::at(path));
    }
    let len = file.metadata().map_err(run::at(path))?.len();
    len.checked_sub(n_payload)
        .ok_or_else(|| Stop::new(format!("{}: shorter than its payload", path.display())))
}

/// Bytes of the central directory of a zip without a comment, zip64 or not.
fn directory_bytes(file: &mut File) -> std::io::Result<u64> {
    const END: u64 = 22;
    const LOCATOR: u64 = 20;
    const END_64: u64 = 56;
    let len = file.seek(SeekFrom::End(0))?;
    let mut tail = vec![0; len.min(END + LOCATOR + END_64) as usize];
    file.seek(SeekFrom::Start(len - tail.len() as u64))?;
    file.read_exact(&mut tail)?;
    let number = |at: usize, n: usize| {
        tail[at..at + n].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    if tail.starts_with(b"PK\x06\x06") {
        return Ok(number(40, 8));
    }
    Ok(number(tail.len() - END as usize + 12, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        let mut pairs = Pairs::default();
        for (ours, theirs) in [(3.0, 1.0), (1.0, 1.0), (4.0, 2.0)] {
            pairs.push(ours, theirs);
        }
        assert_eq!(pairs.ratio(), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(pairs.difference(), Spread { median: 2.0, min: 0.0, max: 2.0 });
        pairs.push(4.0, 1.0);
        assert_eq!(pairs.ratio(), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert!(Pairs::default().ratio().median.is_nan());
    }

    #[test]
    fn a_process_is_measured() {
        let peak = peak_memory(Command::new("sleep").arg("0.05")).unwrap();
        assert!((100_000..50_000_000).contains(&peak), "{peak}");
        assert!(peak_memory(Command::new("sh").args(["-c", "sleep 0.02; exit 3"])).is_err());
        let (seconds, said) = timed(Command::new("echo").arg("a")).unwrap();
        assert!(seconds > 0.0 && said == "a\n");
        assert!(timed(&mut Command::new("false")).is_err());
        assert_eq!(high_water("VmPeak:\t 9 kB\nVmHWM:\t      12 kB\n"), Some(12 * 1024));
    }
}
