//! Seeded loops: the kept inputs first, then the files of testdata as they are, then mutated ones.

use crate::corpus::{self, File};
use crate::mutate;
use crate::random::Random;
use crate::targets::{Reached, TARGETS, Target};
use modelferry_conformance::Stopwatch;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Once;
use std::time::{Duration, Instant};

/// What one case may take.
const MAX_TIME: Duration = Duration::from_secs(1);

/// What one case may hold at once, beside three times its input.
const MAX_MEMORY: u64 = 64 << 20;

/// Different faults of one target after which its run ends.
const MAX_FAILURES: usize = 20;

/// How many smaller inputs are tried to show a fault with less.
const MAX_SHRINKS: usize = 3000;

/// How long a target runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// So many cases: the same on every machine.
    Cases(u64),
    /// So long.
    Time(Duration),
}

/// The counting allocator of the program, if it has one.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Forgets the largest amount seen, and gives what is held now.
    pub begin: fn() -> usize,
    /// The largest amount held since.
    pub peak: fn() -> usize,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of targets; none for all.
    pub targets: Vec<String>,
    /// What every case is made from, with its number.
    pub seed: u64,
    /// The first case.
    pub first_case: u64,
    /// How many, or how long, for each target.
    pub budget: Budget,
    /// The folder with `models`, `bad` and `fuzz`.
    pub testdata: PathBuf,
    /// Where memory is measured.
    pub probe: Option<Probe>,
    /// A file that always names the case that is running, for whoever finds this process dead.
    pub trace: Option<PathBuf>,
    /// Where inputs that fail are written.
    pub keep: Option<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Each target that ran.
    pub targets: Vec<TargetOutcome>,
    /// What does not hold; one case for each kind of fault.
    pub failures: Vec<Failure>,
}

/// What one target did.
#[derive(Clone, Debug)]
pub struct TargetOutcome {
    /// The target.
    pub name: &'static str,
    /// Kept inputs that were replayed.
    pub n_kept: u64,
    /// Files of testdata, the bad ones among them, that were judged as they are.
    pub n_files: u64,
    /// Mutated or made inputs.
    pub n_cases: u64,
    /// Those of them that were read; the rest was refused.
    pub n_read: u64,
    /// The slowest case.
    pub slowest: Duration,
    /// The most memory that one case took, in bytes beyond what was held before it.
    pub most_memory: u64,
}

/// An input for which something does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The target.
    pub target: String,
    /// What does not hold.
    pub what: String,
    /// The command that shows it again.
    pub command: String,
    /// The input, made smaller where that was possible, if it could be written down.
    pub file: Option<PathBuf>,
}

impl Outcome {
    /// Cases of all targets, kept ones and files of testdata included.
    pub fn n_runs(&self) -> u64 {
        self.targets.iter().map(|target| target.n_kept + target.n_files + target.n_cases).sum()
    }
}

/// Runs targets.
///
/// Errors: a target that is not there, testdata that cannot be read, or a loop that tests nothing.
pub fn run(options: &Options) -> Result<Outcome, String> {
    let chosen = chosen(&options.targets)?;
    let files = corpus::files(&options.testdata).map_err(|error| format!("testdata: {error}"))?;
    let trace =
        options.trace.as_ref().map(fs::File::create).transpose().map_err(|error| error.to_string())?;
    let mut outcome = Outcome::default();
    for target in chosen {
        let loop_ = Loop { target, options, trace: trace.as_ref(), budget: options.budget };
        loop_.run(&files, &mut outcome)?;
    }
    Ok(outcome)
}

/// Runs one target on one input.
///
/// Errors: a target that is not there.
pub fn run_input(target: &str, input: &[u8], options: &Options) -> Result<Option<String>, String> {
    let target = chosen(&[target.to_owned()])?[0];
    let loop_ = Loop { target, options, trace: None, budget: options.budget };
    Ok(loop_.judge(input).fault)
}

/// The input of one case, for whoever wants to look at it.
///
/// Errors: as for [`run()`].
pub fn input_of(target: &str, options: &Options) -> Result<Vec<u8>, String> {
    let target = chosen(&[target.to_owned()])?[0];
    let files = corpus::files(&options.testdata).map_err(|error| format!("testdata: {error}"))?;
    Ok(make(target, &Seeds::of(target, &files), options.seed, options.first_case))
}

/// Inputs that a loop would begin with, unchanged; for a target that takes choices, some.
///
/// Errors: as for [`run()`].
pub fn first_inputs(target: &str, options: &Options) -> Result<Vec<Vec<u8>>, String> {
    let target = chosen(&[target.to_owned()])?[0];
    let files = corpus::files(&options.testdata).map_err(|error| format!("testdata: {error}"))?;
    let seeds = Seeds::of(target, &files);
    Ok(match target.takes_choices {
        true => (0..100).map(|case| make(target, &seeds, options.seed, case)).collect(),
        false => seeds.all,
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>, String> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| TARGETS.iter().find(|target| target.name == name);
    let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .map(|name| find(name).ok_or_else(|| format!("no target {name:?}, but {}", known())))
        .collect()
}

/// Inputs to begin with.
struct Seeds {
    all: Vec<Vec<u8>>,
    /// How many of them, the first, are of files that are right.
    n_good: usize,
}

impl Seeds {
    fn of(target: &Target, files: &[File]) -> Seeds {
        let (good, bad): (Vec<&File>, Vec<&File>) =
            files.iter().partition(|file| file.name.starts_with("models/"));
        let mut all = (target.beginnings)();
        all.extend(good.into_iter().filter_map(target.seed));
        let n_good = all.len();
        all.extend(bad.into_iter().filter_map(target.seed));
        Seeds { all, n_good }
    }
}

/// The input of a case: choices, or a file of the corpus changed.
fn make(target: &Target, seeds: &Seeds, seed: u64, case: u64) -> Vec<u8> {
    let mut random = Random::of_case(seed, target.name, case);
    if target.takes_choices {
        let len = 1 + random.below(400);
        let mut bytes = random.bytes(len);
        // Small numbers are the usual choices, large ones the rare.
        if random.one_in(2) {
            let largest = *random.pick(&[64, 128, 200, 240]);
            bytes.iter_mut().for_each(|byte| *byte = (u16::from(*byte) * largest / 256) as u8);
        }
        return bytes;
    }
    // What is right is broken soon enough.
    let n = if random.one_in(4) || seeds.n_good == 0 { seeds.all.len() } else { seeds.n_good };
    let mut bytes = seeds.all.get(random.below(n)).cloned().unwrap_or_default();
    // The first byte of a whole file chooses its name, which changes on its own.
    let split = usize::from(target.name == "whole-path" || target.name == "npy-header").min(bytes.len());
    let mut head: Vec<u8> = bytes.drain(..split).collect();
    mutate::mutate(&mut bytes, &seeds.all, &mut random);
    if let Some(first) = head.first_mut()
        && random.one_in(12)
    {
        *first = random.below(8) as u8;
    }
    head.append(&mut bytes);
    head
}

/// One target at work.
struct Loop<'a> {
    target: &'static Target,
    options: &'a Options,
    trace: Option<&'a fs::File>,
    budget: Budget,
}

/// What one case did.
struct Judged {
    fault: Option<String>,
    is_read: bool,
    took: Duration,
    memory: u64,
}

impl Loop<'_> {
    fn run(&self, files: &[File], outcome: &mut Outcome) -> Result<(), String> {
        let name = self.target.name;
        let mut found = TargetOutcome {
            name,
            n_kept: 0,
            n_files: 0,
            n_cases: 0,
            n_read: 0,
            slowest: Duration::ZERO,
            most_memory: 0,
        };
        let mut signatures: BTreeMap<String, u64> = BTreeMap::new();
        let testdata = &self.options.testdata;
        for kept in corpus::kept(testdata, name).map_err(|error| format!("testdata/fuzz: {error}"))? {
            self.note(&format!("{name} --input={}", kept.name));
            found.n_kept += 1;
            if let Some(what) = self.judge(&kept.bytes).fault {
                let file = testdata.join(&kept.name);
                let command = format!("cargo xtask fuzz {name} --input=testdata/{}", kept.name);
                outcome.failures.push(Failure { target: name.to_owned(), what, command, file: Some(file) });
            }
        }
        for (file, input) in files.iter().filter_map(|file| Some((file, (self.target.seed)(file)?))) {
            self.note(&format!("{name}, testdata/{}", file.name));
            found.n_files += 1;
            let judged = self.judge(&input);
            found.most_memory = found.most_memory.max(judged.memory);
            if let Some(what) = judged.fault {
                let kept = self.keep(&input, &what);
                let path = kept.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
                let command = format!("cargo xtask fuzz {name} --input={path}");
                let what = format!("testdata/{}: {what}", file.name);
                outcome.failures.push(Failure { target: name.to_owned(), what, command, file: kept });
            }
        }
        let seeds = Seeds::of(self.target, files);
        if seeds.all.is_empty() && !self.target.takes_choices {
            return Err(format!("{name}: testdata has no file to begin with"));
        }
        let began = Instant::now();
        for case in self.options.first_case.. {
            let is_over = match self.budget {
                Budget::Cases(n) => found.n_cases >= n,
                Budget::Time(time) => began.elapsed() >= time,
            };
            if is_over || signatures.len() >= MAX_FAILURES {
                break;
            }
            let reproduce = format!("{name} --seed={} --case={case}", self.options.seed);
            self.note(&reproduce);
            let input = make(self.target, &seeds, self.options.seed, case);
            let judged = self.judge(&input);
            found.n_cases += 1;
            found.n_read += u64::from(judged.is_read);
            found.slowest = found.slowest.max(judged.took);
            found.most_memory = found.most_memory.max(judged.memory);
            let Some(what) = judged.fault else { continue };
            let count = signatures.entry(signature(&what)).or_default();
            *count += 1;
            if *count == 1 {
                let file = self.keep(&self.shrink(input, &what), &what);
                let command = format!("cargo xtask fuzz {reproduce}");
                outcome.failures.push(Failure { target: name.to_owned(), what, command, file });
            }
        }
        // A loop in which everything is refused, or nothing is, does not test what it is for.
        let is_long = found.n_cases >= 1000 && signatures.is_empty();
        if is_long && (found.n_read == 0 || found.n_read == found.n_cases) {
            return Err(format!("{name}: {} of {} cases were read", found.n_read, found.n_cases));
        }
        outcome.targets.push(found);
        Ok(())
    }

    /// Says which case runs now.
    fn note(&self, what: &str) {
        if let Some(trace) = self.trace {
            // A trace that cannot be written is no reason to stop.
            let _ = trace.write_all_at(format!("{what:<200}\n").as_bytes(), 0);
        }
    }

    fn judge(&self, input: &[u8]) -> Judged {
        let judged = self.judge_once(input);
        // A processor that others share is slower at times.
        if judged.took > MAX_TIME && judged.fault.is_some() { self.judge_once(input) } else { judged }
    }

    fn judge_once(&self, input: &[u8]) -> Judged {
        let before = self.options.probe.map_or(0, |probe| (probe.begin)());
        let watch = Stopwatch::start();
        let result = guarded(|| (self.target.check)(input)).and_then(|result| result);
        let took = watch.took();
        let memory = self.options.probe.map_or(0, |probe| (probe.peak)().saturating_sub(before)) as u64;
        let most = MAX_MEMORY + 3 * input.len() as u64;
        let is_read = result == Ok(Reached::Read);
        let fault = match result {
            Err(fault) => Some(fault),
            Ok(_) if took > MAX_TIME => Some(format!("too slow: {took:?}")),
            Ok(_) if memory > most => Some(format!("too much memory: {memory} bytes of at most {most}")),
            Ok(_) => None,
        };
        Judged { fault, is_read, took, memory }
    }

    /// Takes parts away as long as the same thing goes wrong.
    fn shrink(&self, mut input: Vec<u8>, what: &str) -> Vec<u8> {
        let wanted = signature(what);
        let began = Instant::now();
        let mut part = input.len() / 2;
        let mut tries = 0;
        while part > 0 {
            let mut at = 0;
            while at < input.len() && tries < MAX_SHRINKS && began.elapsed() < 10 * MAX_TIME {
                tries += 1;
                let mut less = input.clone();
                less.drain(at..(at + part).min(input.len()));
                let is_same = self.judge_once(&less).fault.is_some_and(|fault| signature(&fault) == wanted);
                if is_same {
                    input = less;
                } else {
                    at += part;
                }
            }
            part /= 2;
        }
        input
    }

    /// Writes an input down, under a name that says what is wrong with it.
    fn keep(&self, input: &[u8], what: &str) -> Option<PathBuf> {
        let folder = self.options.keep.as_ref()?.join(self.target.name);
        let words: Vec<String> = signature(what)
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
        let name: String = words.join("-").chars().take(60).collect();
        let path = folder.join(name.trim_matches('-'));
        fs::create_dir_all(&folder).and_then(|()| fs::write(&path, input)).ok().map(|()| path)
    }
}

/// A fault without its numbers and names: two faults with one signature are one fault.
fn signature(what: &str) -> String {
    // A panic is where it is, whatever it says.
    if let Some(place) = what.strip_prefix("a panic: panicked at ").and_then(|rest| rest.split(": ").next()) {
        return format!("a panic: panicked at {place}");
    }
    let mut out = String::new();
    let mut is_quoted = false;
    for c in what.chars() {
        if c == '"' {
            is_quoted = !is_quoted;
        }
        if !is_quoted && !c.is_ascii_digit() {
            out.push(c);
        }
    }
    out.chars().take(120).collect()
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work`; a panic becomes its message and place.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Tests of this crate fail by panics that nobody here waits for.
            let is_ours = PANIC.with(|panic| {
                panic.try_borrow_mut().is_ok_and(|mut panic| match &mut *panic {
                    Some(text) => {
                        *text = info.to_string();
                        true
                    }
                    None => false,
                })
            });
            if !is_ours {
                before(info);
            }
        }));
    });
    PANIC.with(|panic| panic.replace(Some(String::new())));
    let result = catch_unwind(AssertUnwindSafe(work));
    let message = PANIC.with(|panic| panic.replace(None));
    result.map_err(|_| format!("a panic: {}", message.unwrap_or_default().replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            targets: vec![],
            seed: 1,
            first_case: 0,
            budget: Budget::Cases(20),
            testdata: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata"),
            probe: None,
            trace: None,
            keep: None,
        }
    }

    #[test]
    fn a_case_can_be_made_again() {
        for target in TARGETS {
            let of = |case| input_of(target.name, &Options { first_case: case, ..options() }).unwrap();
            assert_eq!(of(3), of(3), "{}", target.name);
            assert!((0..20).any(|case| of(case) != of(case + 1)), "{}", target.name);
        }
    }

    #[test]
    fn unknown_targets_are_named() {
        let error = run(&Options { targets: vec!["x".to_owned()], ..options() }).unwrap_err();
        assert!(error.starts_with("no target \"x\", but safetensors-header, "), "{error}");
    }

    const BROKEN: Target = Target {
        name: "broken",
        about: "fails where it is shown an x",
        check: |bytes| {
            assert!(!bytes.contains(&b'y'), "a y at {bytes:?}");
            match bytes.contains(&b'x') {
                true => Err(format!("an x among {} bytes", bytes.len())),
                false => Ok(Reached::Read),
            }
        },
        seed: |_| Some(b"0123456789".to_vec()),
        beginnings: Vec::new,
        takes_choices: false,
    };

    #[test]
    fn faults_are_found_once_and_made_small() {
        let options = Options { budget: Budget::Cases(20_000), ..options() };
        let loop_ = Loop { target: &BROKEN, options: &options, trace: None, budget: options.budget };
        let mut outcome = Outcome::default();
        loop_.run(&[File { name: String::new(), bytes: vec![] }], &mut outcome).unwrap();
        let mut found: Vec<String> =
            outcome.failures.iter().map(|failure| signature(&failure.what)).collect();
        found.sort();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a panic: panicked at crates/fuzz/src/run.rs"), "{found:?}");
        assert_eq!(found[1], "an x among  bytes");
        assert!(outcome.failures[0].command.starts_with("cargo xtask fuzz broken --seed=1 --case="));
        assert_eq!(loop_.shrink(b"0123x45".to_vec(), "an x among 7 bytes"), b"x");
    }
}
