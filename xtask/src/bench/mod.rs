//! `cargo xtask bench`: how long and how much memory, beside `cp` and the Python peers, in one run.
//!
//! What is said is a ratio: the median over interleaved pairs, with its range, because two runs of one program on a
//! shared machine can differ by half. Speed is never a test: a missed bar is shown, not failed. Peak memory hardly
//! varies, so that is one.

mod files;
mod inputs;
mod measure;
mod rows;
pub(crate) mod table;

use crate::evidence::Evidence;
use crate::flags::Flags;
use crate::peers::Python;
use crate::run::{self, Stop};
use crate::tally::Tally;
use inputs::{Input, Inputs, Size};
use measure::{Pairs, peak_memory, timed};
use rows::{Bar, Clock, Kind, Reference, Row, Work, Writes};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `cargo xtask bench`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    if flags.has("--list") {
        rows::ROWS
            .iter()
            .for_each(|row| println!("{:<20} {} ({})", row.name, row.what, table::bar_text(&row.kind)));
        return Ok(0);
    }
    let mut wanted = if flags.has("--quick") { Wanted::quick() } else { Wanted::default() };
    if let Some(unknown) = flags.names.iter().find(|name| rows::ROWS.iter().all(|row| row.name != **name)) {
        return Err(Stop::usage(format!("no row {unknown:?}; `cargo xtask bench --list` shows them")));
    }
    wanted.names = flags.names.clone();
    if let Some(n) = flags.value("--pairs") {
        let wrong = || Stop::usage(format!("--pairs={n}: a number from 1"));
        wanted.n_pairs = n.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    }
    let (found, tally) = run(&wanted)?;
    if let Some(path) = flags.value("--json") {
        fs::write(path, format!("{found:#}\n")).map_err(run::at(Path::new(path)))?;
    }
    if flags.has("--record") {
        if wanted.is_quick {
            return Err(Stop::usage("--record takes rows at full size".to_owned()));
        }
        if tally.is_green() {
            let mut evidence = Evidence::load()?;
            let found = match wanted.names.is_empty() {
                true => found,
                false => amended(evidence.get("bench"), &found)?,
            };
            evidence.set("bench", found);
            evidence.save()?;
        }
    }
    Ok(tally.finish())
}

/// What was recorded, with the rows of `found` in the place of those of their names.
///
/// Errors: it was measured on another machine, or by another number of pairs; a row is in neither.
fn amended(recorded: Option<&Value>, found: &Value) -> Result<Value, Stop> {
    let recorded = recorded.ok_or_else(|| Stop::new("nothing is recorded yet: --record takes every row"))?;
    for key in ["machine", "pairs"] {
        if recorded[key] != found[key] {
            let why = format!("recorded with {key} {}, and now it is {}", recorded[key], found[key]);
            return Err(Stop::new(format!("{why}: --record takes every row")));
        }
    }
    let named = |bench: &Value, name: &str| {
        let rows = bench["rows"].as_array().into_iter().flatten();
        rows.into_iter().find(|row| row["name"] == name).cloned()
    };
    let mut rows = vec![];
    for row in rows::ROWS {
        let measured = named(found, row.name).or_else(|| named(recorded, row.name));
        rows.push(measured.ok_or_else(|| Stop::new(format!("{} was never measured", row.name)))?);
    }
    Ok(json!({"machine": found["machine"], "pairs": found["pairs"], "quick": false, "rows": rows}))
}

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Rows; all if none is named.
    names: Vec<String>,
    n_pairs: usize,
    is_quick: bool,
}

impl Default for Wanted {
    /// Every row, as DESIGN asks.
    fn default() -> Wanted {
        Wanted { names: vec![], n_pairs: 7, is_quick: false }
    }
}

impl Wanted {
    /// Whether everything still runs, and its memory; nothing about speed.
    pub(crate) fn quick() -> Wanted {
        Wanted { n_pairs: 1, is_quick: true, ..Wanted::default() }
    }
}

/// Measures, prints the table, gives it as data too.
pub(crate) fn run(wanted: &Wanted) -> Result<(Value, Tally), Stop> {
    let chosen = |row: &&Row| wanted.names.is_empty() || wanted.names.iter().any(|name| name == row.name);
    let rows: Vec<&Row> = rows::ROWS.iter().filter(chosen).collect();
    let folder = run::target().join("bench");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(run::at(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(run::at(&folder))?;
    let size = if wanted.is_quick { Size::Small } else { Size::Real };
    let mut bench = Bench {
        binary: run::build_modelferry()?,
        // Only rows that need it pay for the environment.
        python: if rows.iter().any(|row| row.needs_python()) { Some(Python::prepare()?) } else { None },
        inputs: Inputs::new(folder.join("in"), size)?,
        output: folder.join("out"),
        wanted: wanted.clone(),
        n_runs: 0,
    };
    fs::create_dir_all(&bench.output).map_err(run::at(&bench.output))?;
    let mut tally = Tally::default();
    let mut measured = vec![];
    for (idx, row) in rows.iter().enumerate() {
        match bench.row(row) {
            Ok(found) => {
                println!("{}", table::line(&found));
                let is_fine = found["verdict"] != "miss" || !matches!(row.kind, Kind::Memory { .. });
                tally.check("bench", is_fine, || format!("{}: {}", row.name, table::line(&found)));
                measured.push(found);
            }
            Err(stop) => tally.fail("bench", format!("{}: {stop}", row.name)),
        }
        // Inputs are large: each goes as soon as no later row needs it.
        bench.inputs.keep_only(rows[idx + 1..].iter().map(|row| row.input()))?;
    }
    fs::remove_dir_all(&folder).map_err(run::at(&folder))?;
    tally.must_have_run("bench");
    let pairs = wanted.n_pairs;
    let found = json!({"machine": machine(&run::target()), "pairs": pairs, "quick": wanted.is_quick, "rows": measured});
    println!("\n{}", table::markdown(&found));
    Ok((found, tally))
}

/// Processor, cores, memory, kernel and file system, in a line.
fn machine(folder: &Path) -> String {
    let field = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let memory: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kind = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder).output();
    let kind =
        kind.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let processor = field("/proc/cpuinfo", "model name");
    format!(
        "{processor}, {cores} cores, {} GiB, Linux {}, {kind}, page cache warm",
        memory >> 20,
        kernel.trim()
    )
}

struct Bench {
    binary: PathBuf,
    python: Option<Python>,
    inputs: Inputs,
    output: PathBuf,
    wanted: Wanted,
    /// Outputs made so far: each run has a new name.
    n_runs: u64,
}

impl Bench {
    fn row(&mut self, row: &Row) -> Result<Value, Stop> {
        let input = self.inputs.make(row.input())?;
        println!("{}: {}, {} of input", row.name, row.what, table::bytes(input.n_bytes));
        let mut found = match &row.kind {
            Kind::Ratio { work, reference, bar } => {
                let pairs = self.pairs(work, reference, &input)?;
                let reference_name = reference.name();
                table::of_ratio(&pairs, *bar, reference_name, !self.wanted.is_quick)
            }
            Kind::Seconds { work, bar } => {
                let pairs = self.seconds(work, &input)?;
                table::of_seconds(&pairs, *bar, !self.wanted.is_quick)
            }
            Kind::Memory { work } => {
                let (peak, formula) = self.memory(work, &input)?;
                table::of_memory(peak, &formula)
            }
        };
        found["name"] = row.name.into();
        found["what"] = row.what.into();
        found["bar"] = table::bar_text(&row.kind).into();
        Ok(found)
    }

    /// Interleaved runs of ours and theirs; one pair before that does not count.
    fn pairs(&mut self, work: &Work, reference: &Reference, input: &Input) -> Result<Pairs, Stop> {
        let mut pairs = Pairs::default();
        let n_warm = usize::from(!self.wanted.is_quick);
        for idx in 0..self.wanted.n_pairs + n_warm {
            let ours = self.ours(work, input)?;
            let theirs = self.theirs(reference, input)?;
            if idx >= n_warm {
                pairs.push(ours, theirs);
            }
        }
        Ok(pairs)
    }

    /// Runs of ours alone. They are short, so there are more of them.
    fn seconds(&mut self, work: &Work, input: &Input) -> Result<Pairs, Stop> {
        let mut pairs = Pairs::default();
        let n = if self.wanted.is_quick { 1 } else { self.wanted.n_pairs * 3 };
        for _ in 0..n {
            pairs.push(self.ours(work, input)?, 1.0);
        }
        Ok(pairs)
    }

    fn new_output(&mut self, extension: &str) -> PathBuf {
        self.n_runs += 1;
        self.output.join(format!("{}.{extension}", self.n_runs))
    }

    fn command(&self, work: &Work, input: &Input, output: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["convert", "--quiet"]).args(work.options).arg(&input.path).arg(output);
        command
    }

    fn settle(&self, input: &Input, n_bytes: u64) -> Result<(), Stop> {
        measure::settle(&input.path, &self.output.join("scratch"), n_bytes)
    }

    fn ours(&mut self, work: &Work, input: &Input) -> Result<f64, Stop> {
        let output = self.new_output(work.to);
        self.settle(input, work.payload(input.n_payload).1)?;
        let seconds = timed(&mut self.command(work, input, &output))?.0;
        self.clean(work, input, &output)?;
        Ok(seconds)
    }

    fn theirs(&mut self, reference: &Reference, input: &Input) -> Result<f64, Stop> {
        let output = self.new_output(reference.extension());
        self.settle(input, input.n_payload)?;
        let seconds = match reference {
            Reference::Cp => timed(Command::new("cp").arg(&input.path).arg(&output))?.0,
            // What coreutils' cp does where it cannot share blocks: large reads and writes, from the start.
            Reference::CpOfWeights => {
                let arg = |key: &str, path: &Path| format!("{key}={}", path.display());
                let mut copy = Command::new("dd");
                copy.args([arg("if", &input.path), arg("of", &output), format!("count={}", input.n_payload)]);
                timed(copy.args(["bs=1M", "iflag=count_bytes,fullblock", "status=none"]))?.0
            }
            Reference::Python { script, arguments, clock, .. } => {
                let Some(python) = &self.python else {
                    return Err(Stop::new("the environment of the peers is missing"));
                };
                let mut command = python.command(&format!("xtask/bench/{script}"));
                command.arg(&input.path).arg(&output).args(*arguments).arg(run::target().join("peers/npm"));
                let (seconds, said) = timed(&mut command)?;
                let wrong = |_| Stop::new(format!("the script printed {said:?} instead of seconds"));
                let of_work = said.trim().parse().map_err(wrong)?;
                match clock {
                    Clock::Work => of_work,
                    Clock::Process => seconds,
                }
            }
        };
        fs::remove_file(&output).map_err(run::at(&output))?;
        Ok(seconds)
    }

    fn memory(&mut self, work: &Work, input: &Input) -> Result<(u64, measure::Formula), Stop> {
        let output = self.new_output(work.to);
        let peak = peak_memory(&mut self.command(work, input, &output))?;
        let mut header = measure::header_bytes(&input.path, input.n_payload)?;
        if matches!(work.writes, Writes::All | Writes::Half) {
            header = header.max(measure::header_bytes(&output, work.payload(input.n_payload).0)?);
        }
        let formula = measure::Formula { n_tensors: input.n_tensors, header };
        self.clean(work, input, &output)?;
        Ok((peak, formula))
    }

    /// Removes an output, which must be there and hold what the input holds.
    fn clean(&self, work: &Work, input: &Input, output: &Path) -> Result<(), Stop> {
        if work.writes == Writes::Nothing {
            return if output.exists() { Err(Stop::new("--dry-run wrote a file")) } else { Ok(()) };
        }
        let n_bytes = fs::metadata(output).map_err(run::at(output))?.len();
        let (least, most) = work.payload(input.n_payload);
        if n_bytes < least || n_bytes > most + most / 50 + (1 << 20) {
            return Err(Stop::new(format!("wrote {n_bytes} bytes for {least} to {most} of payload")));
        }
        fs::remove_file(output).map_err(run::at(output))
    }
}

impl Bar {
    /// Whether a median ratio of ours to theirs is as good as it must be; `None` if nothing is asked.
    pub(crate) fn is_met(self, ratio: f64) -> Option<bool> {
        match self {
            Bar::AtMost(bar) => Some(ratio <= bar),
            Bar::Faster(bar) => Some(1.0 / ratio >= bar),
            Bar::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_measured_again_take_the_place_of_theirs() {
        let bench = |machine: &str, names: &[&str], median: f64| {
            let rows: Vec<Value> = names.iter().map(|name| json!({"name": name, "median": median})).collect();
            json!({"machine": machine, "pairs": 7, "quick": false, "rows": rows})
        };
        let all: Vec<&str> = rows::ROWS.iter().map(|row| row.name).collect();
        let (before, again) = (bench("a", &all, 1.0), bench("a", &all[1..2], 2.0));
        let merged = amended(Some(&before), &again).unwrap();
        assert_eq!(merged["rows"].as_array().unwrap().len(), all.len());
        assert_eq!([&merged["rows"][0]["median"], &merged["rows"][1]["median"]], [1.0, 2.0]);
        assert!(amended(Some(&before), &bench("b", &all[..1], 2.0)).is_err());
        assert!(amended(Some(&bench("a", &all[2..], 1.0)), &again).is_err());
        assert!(amended(None, &again).is_err());
    }
}
