//! `cargo xtask fuzz`: runs the targets in a process of its own, and speaks for it if it dies.
//!
//! A stack overflow, an allocation that aborts and an endless loop end or stop the process that they happen in. So
//! the loops run in a child, which writes down which case it is at, and the parent watches that file.

#![forbid(unsafe_code)]
// A program for developers, on a terminal: printing is its purpose.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use modelferry_fuzz::run::{first_inputs, input_of, run_input};
use modelferry_fuzz::{Budget, Options, Outcome, Probe, TARGETS, run};
use peak_alloc::PeakAlloc;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const USAGE: &str = "[TARGET…] [--seed=N] [--cases=N | --seconds=S] [--case=N] [--input=FILE] [--show] [--corpus=DIR] [--testdata=DIR]";

/// Names the file that the child writes its case to.
const CHILD: &str = "MODELFERRY_FUZZ_TRACE";

/// A case that takes this long hangs.
const HANG: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match std::env::var_os(CHILD) {
        Some(trace) => child(&args, PathBuf::from(trace)),
        None if args.iter().any(|arg| arg == "--help") => {
            println!("usage: {USAGE}\n");
            TARGETS.iter().for_each(|target| println!("  {:<20} {}", target.name, target.about));
            Ok(true)
        }
        None => parent(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// Runs the child and watches it.
fn parent(args: &[String]) -> Result<bool, String> {
    let text = |error: std::io::Error| error.to_string();
    let trace = std::env::temp_dir().join(format!("modelferry-fuzz-trace-{}", std::process::id()));
    let program = std::env::current_exe().map_err(text)?;
    let mut child = Command::new(program).args(args).env(CHILD, &trace).spawn().map_err(text)?;
    let read = || std::fs::read_to_string(&trace).unwrap_or_default().trim().to_owned();
    let (mut last, mut since) = (String::new(), Instant::now());
    let dead = loop {
        if let Some(status) = child.try_wait().map_err(text)? {
            break match status.code() {
                Some(0) => None,
                // It has said what is wrong.
                Some(_) => Some(String::new()),
                None => Some(format!("the process died: {status}")),
            };
        }
        let now = read();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > HANG && !last.is_empty() {
            child.kill().and_then(|()| child.wait()).map_err(text)?;
            break Some(format!("no end after {HANG:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let at = read();
    // A file that stays is in nobody's way.
    let _ = std::fs::remove_file(&trace);
    match dead {
        None => Ok(true),
        Some(why) => {
            if !why.is_empty() {
                println!("FAILED {why}\n    cargo xtask fuzz {at}");
            }
            Ok(false)
        }
    }
}

fn child(args: &[String], trace: PathBuf) -> Result<bool, String> {
    let mut options = Options {
        targets: vec![],
        seed: 1,
        first_case: 0,
        budget: Budget::Cases(1000),
        testdata: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata"),
        probe: Some(Probe {
            begin: || {
                MEMORY.reset_peak_usage();
                MEMORY.current_usage()
            },
            peak: || MEMORY.peak_usage(),
        }),
        trace: Some(trace),
        keep: Some(std::env::temp_dir().join("modelferry-fuzz")),
    };
    let (mut input, mut corpus, mut is_one, mut show) = (None, None, false, false);
    for arg in args {
        let (key, value) = arg.split_once('=').unwrap_or((arg, ""));
        let number = || value.parse::<u64>().map_err(|_| format!("{arg}: no number; usage: {USAGE}"));
        match key {
            "--seed" => options.seed = number()?,
            "--cases" => options.budget = Budget::Cases(number()?),
            "--seconds" => options.budget = Budget::Time(Duration::from_secs(number()?)),
            "--case" => {
                options.first_case = number()?;
                is_one = true;
            }
            "--input" => input = Some(value.to_owned()),
            "--testdata" => options.testdata = PathBuf::from(value),
            "--corpus" => corpus = Some(PathBuf::from(value)),
            "--show" => show = true,
            _ if key.starts_with('-') => return Err(format!("{arg} is not known; usage: {USAGE}")),
            _ => options.targets.push(arg.clone()),
        }
    }
    if let Some(path) = input {
        let [target] = &options.targets[..] else { return Err("--input needs one target".to_owned()) };
        let bytes = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
        let fault = run_input(target, &bytes, &options)?;
        println!("{}", fault.as_ref().map_or("everything holds", String::as_str));
        return Ok(fault.is_none());
    }
    if let Some(folder) = corpus {
        return write_corpus(&options, &folder);
    }
    if is_one {
        options.budget = Budget::Cases(1);
        for target in options.targets.iter().filter(|_| show) {
            println!("{}", input_of(target, &options)?.escape_ascii());
        }
    }
    println!("seed {}", options.seed);
    let outcome = run(&options)?;
    print(&outcome);
    Ok(outcome.failures.is_empty())
}

/// Writes inputs for cargo-fuzz to begin with: `DIR/TARGET` is what `cargo fuzz run` takes after the target's name.
fn write_corpus(options: &Options, folder: &Path) -> Result<bool, String> {
    let text = |error: std::io::Error| error.to_string();
    for target in TARGETS
        .iter()
        .filter(|known| options.targets.is_empty() || options.targets.iter().any(|name| name == known.name))
    {
        let folder = folder.join(target.name.replace('-', "_"));
        std::fs::create_dir_all(&folder).map_err(text)?;
        let inputs = first_inputs(target.name, options)?;
        for (idx, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("{idx:04}")), input).map_err(text)?;
        }
        println!("{}: {} inputs", folder.display(), inputs.len());
    }
    Ok(true)
}

fn print(outcome: &Outcome) {
    for target in &outcome.targets {
        println!(
            "{:<20} {:>3} kept, {:>4} files, {:>8} cases, {:>7} read, slowest {:?}, most memory {} KiB",
            target.name,
            target.n_kept,
            target.n_files,
            target.n_cases,
            target.n_read,
            target.slowest,
            target.most_memory >> 10,
        );
    }
    for failure in &outcome.failures {
        println!("FAILED {}: {}\n    {}", failure.target, failure.what, failure.command);
        if let Some(file) = &failure.file {
            println!("    input: {}", file.display());
        }
    }
    println!("{} runs, {} failures", outcome.n_runs(), outcome.failures.len());
}
