//! `cargo xtask conformance`: the suite of the crate of that name on testdata, and its report.

use crate::flags::Flags;
use crate::judge;
use crate::libraries;
use crate::run::{self, Stop};
use crate::tally::Tally;
use modelferry_conformance::{Mutations, Outcome, SuiteOptions, Verdict};
use modelferry_core::registry::Registry;
use std::collections::BTreeSet;
use std::time::Duration;

/// Random expressions beyond the usual ones that a full run evaluates.
const MORE_SEEDS: u64 = 5_000;

const MUTATIONS: &str = "mutations";

/// What a whole run found.
pub(crate) struct Found {
    /// By the checks.
    pub(crate) outcome: Outcome,
    /// By the proof that they can fail.
    pub(crate) mutations: Mutations,
}

/// `cargo xtask conformance`.
pub(crate) fn main(flags: Flags) -> Result<u8, Stop> {
    if flags.has("--mutate") {
        return Ok(mutate().1.finish());
    }
    if flags.value("--plugin").is_some() {
        return judge::main(&flags);
    }
    if let Some(alone) =
        ["--testdata", "--bless"].into_iter().find(|key| flags.has(key) || flags.value(key).is_some())
    {
        return Err(Stop::usage(format!(
            "{alone} goes with --plugin; `fixtures --bless` is for those of the workspace"
        )));
    }
    if flags.has("--libraries") {
        let (outcome, tally) = libraries::run()?;
        print_matrix(&outcome);
        return Ok(tally.finish());
    }
    let (outcome, mut tally) = checks()?;
    print_matrix(&outcome);
    if flags.has("--full") {
        tally.add(more_seeds()?);
    }
    Ok(tally.finish())
}

/// Runs every check, and the proof that they can fail.
pub(crate) fn run() -> Result<(Found, Tally), Stop> {
    let (outcome, mut tally) = checks()?;
    let (mutations, found) = mutate();
    tally.add(found);
    Ok((Found { outcome, mutations }, tally))
}

/// Spoils conversions on purpose, prints each way to do that with its counts.
fn mutate() -> (Mutations, Tally) {
    println!("conversions spoilt on purpose, and how many of them the suite noticed");
    let registry = modelferry_cli::builtin::registry();
    let mutations = modelferry_conformance::mutate(registry, &run::root().join("testdata"));
    let mut tally = Tally::default();
    for mutated in &mutations.kinds {
        println!("{:>7}  {:>7}  {}", mutated.n_tried, mutated.n_caught, mutated.kind);
        tally.pass(MUTATIONS, mutated.n_caught);
    }
    mutations.failures.iter().for_each(|failure| tally.fail(MUTATIONS, failure));
    tally.must_have_run(MUTATIONS);
    (mutations, tally)
}

/// Runs every check, prints each with its count.
fn checks() -> Result<(Outcome, Tally), Stop> {
    let options = SuiteOptions { binary: Some(run::build_modelferry()?), ..options() };
    Ok(suite(&modelferry_cli::builtin::registry(), &options, Program::Runs))
}

/// Runs every check on libraries that stand in the place of the built-in plugins, prints each with its count.
pub(crate) fn of_libraries(registry: &Registry) -> (Outcome, Tally) {
    // A hundred thousand nested values cross as JSON, which a debug build writes and reads in 30 to 50 ms.
    let options = SuiteOptions { max_time: Duration::from_millis(200), ..options() };
    suite(registry, &options, Program::KeepsItsOwn)
}

/// Runs every check on many more random expressions.
pub(crate) fn more_seeds() -> Result<Tally, Stop> {
    let usual = options();
    let first_seed = usual.first_seed + usual.n_seeds;
    println!("seeds {first_seed} to {}", first_seed + MORE_SEEDS - 1);
    let only = vec!["random expressions".to_owned()];
    let options = SuiteOptions { first_seed, n_seeds: MORE_SEEDS, only, ..usual };
    let registry = modelferry_cli::builtin::registry();
    Ok(tally(&modelferry_conformance::run(&registry, &run::root().join("testdata"), &options), Program::Runs))
}

/// Rewrites the recorded errors of testdata/bad.
pub(crate) fn bless() -> Result<Tally, Stop> {
    let binary = Some(run::build_modelferry()?);
    let options = SuiteOptions { binary, bless: true, ..options() };
    Ok(suite(&modelferry_cli::builtin::registry(), &options, Program::Runs).1)
}

fn suite(registry: &Registry, options: &SuiteOptions, program: Program) -> (Outcome, Tally) {
    println!(
        "conformance on testdata, {} random expressions from seed {}",
        options.n_seeds, options.first_seed
    );
    let outcome = modelferry_conformance::run(registry, &run::root().join("testdata"), options);
    let mut tally = tally(&outcome, program);
    tally.check("conformance", !outcome.pairs.is_empty(), || "no reader met a writer".to_owned());
    for format in registry.readers().map(|reader| reader.info().format) {
        let is_met = outcome.pairs.iter().any(|pair| pair.reader == format);
        tally.check("conformance", is_met, || format!("no model was read by the reader of {format}"));
    }
    for format in registry.writers().map(|writer| writer.info().format) {
        let is_met = outcome.pairs.iter().any(|pair| pair.writer == format);
        tally.check("conformance", is_met, || format!("no model was written as {format}"));
    }
    (outcome, tally)
}

/// The usual ones, with the files that readers of the workspace keep in their own crates.
pub(crate) fn options() -> SuiteOptions {
    let plugins = std::fs::read_dir(run::root().join("plugins")).into_iter().flatten().flatten();
    let readers = plugins.filter(|entry| entry.file_name().to_string_lossy().ends_with("-reader"));
    let own = readers.map(|entry| entry.path().join("testdata")).filter(|folder| folder.is_dir());
    let mut more_testdata: Vec<_> = own.collect();
    more_testdata.sort();
    SuiteOptions { more_testdata, ..SuiteOptions::default() }
}

/// Whether the program itself, as a process, can be shown the plugins that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// It runs with the plugins that are judged.
    Runs,
    /// It cannot: libraries stand in the place of built-in plugins, which it lets nobody take over.
    KeepsItsOwn,
}

/// Counts what a run has found, and prints each check with its number.
pub(crate) fn tally(outcome: &Outcome, program: Program) -> Tally {
    let mut tally = Tally::default();
    let n_checked: u64 = outcome.checks.iter().map(|(_, n)| n).sum();
    for (name, n) in &outcome.checks {
        if !outcome.left_out.contains(name) {
            println!("{n:>7}  {name}");
            tally.check("conformance", *n > 0, || format!("{name}: nothing ran"));
        } else if program == Program::KeepsItsOwn {
            tally.leave_out(
                "conformance",
                format!("{name}: the program keeps its own plugins of these formats"),
            );
        } else {
            tally.fail("conformance", format!("{name}: left out"));
        }
    }
    for failure in &outcome.failures {
        tally.fail("conformance", failure);
    }
    tally.pass("conformance", n_checked.saturating_sub(outcome.failures.len() as u64));
    tally
}

/// Prints readers x writers, each field with its counts.
pub(crate) fn print_matrix(outcome: &Outcome) {
    let counts = outcome.counts();
    let readers: BTreeSet<&str> = counts.keys().map(|(reader, _)| *reader).collect();
    let writers: BTreeSet<&str> = counts.keys().map(|(_, writer)| *writer).collect();
    println!("\nexact/declared/refused, from the left to the top; a fourth number has failed");
    print!("{:<14}", "");
    writers.iter().for_each(|writer| print!("{writer:>18}"));
    println!();
    for reader in readers {
        print!("{reader:<14}");
        for writer in &writers {
            let of = |verdict| {
                counts
                    .get(&(reader, *writer))
                    .and_then(|counts| counts.get(&verdict))
                    .copied()
                    .unwrap_or_default()
            };
            let failed = of(Verdict::Failed);
            let mut text =
                format!("{}/{}/{}", of(Verdict::Exact), of(Verdict::Declared), of(Verdict::Refused));
            if failed > 0 {
                text += &format!("/{failed}");
            }
            print!("{text:>18}");
        }
        println!();
    }
}
