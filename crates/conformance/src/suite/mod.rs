//! The suite: named checks over every reader, writer and model that is there.
//!
//! Nothing here knows a format. A new reader or writer joins by being registered, a new model by lying in
//! `testdata/models`, a new damaged file by lying in `testdata/bad`.

mod author;
mod bad;
mod casts;
mod content;
mod damage;
mod declines;
mod expressions;
mod fixtures;
mod judged;
mod mutations;
mod pairs;
mod processes;
mod repeats;
mod run;
mod scratch;
mod sweeps;
mod truncated;
mod twins;
mod writers;

pub use author::{Left, PLACEHOLDER, reader_is_done, writer_is_done};
pub use judged::Judged;
pub use mutations::{Mutated, Mutations, mutate};
pub use twins::twins;

use fixtures::Fixture;
pub(crate) use fixtures::folders_of_models;
use modelferry_core::registry::Registry;
use modelferry_engine::Control;
use modelferry_engine::io::OsIo;
use scratch::Scratch;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a run of the suite may do besides comparing.
#[derive(Clone, Debug)]
pub struct SuiteOptions {
    /// The `modelferry` program, to run as a process of its own. Without it that check is left out, and named in
    /// [`Outcome::left_out`].
    pub binary: Option<PathBuf>,
    /// Plugins that the program is told of.
    pub plugins: Vec<PathBuf>,
    /// Writes the `.expect` files of `testdata/bad` instead of comparing with them.
    pub bless: bool,
    /// What a person does to have them written, for messages.
    pub bless_by: &'static str,
    /// Folders like `testdata`, beside it.
    pub more_testdata: Vec<PathBuf>,
    /// Which readers and writers are judged; all if nothing is said.
    pub judged: Option<Judged>,
    /// What one bad or damaged file may take, in time of the processor.
    pub max_time: Duration,
    /// First seed of the random expressions.
    pub first_seed: u64,
    /// Number of seeds.
    pub n_seeds: u64,
    /// Runs only the checks whose names contain one of these; all if there are none.
    pub only: Vec<String>,
}

impl Default for SuiteOptions {
    /// A thousand seeds, a tenth of a second, no process, nothing rewritten.
    fn default() -> SuiteOptions {
        SuiteOptions {
            binary: None,
            plugins: vec![],
            bless: false,
            bless_by: "`cargo xtask fixtures --bless`",
            more_testdata: vec![],
            judged: None,
            max_time: Duration::from_millis(100),
            first_seed: 0,
            n_seeds: 1000,
            only: vec![],
        }
    }
}

/// What became of one model on its way from a reader to a writer and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing changed, and nothing was said to.
    Exact,
    /// What changed is what was declared.
    Declared,
    /// Refused with exit 12, naming what the format lacks.
    Refused,
    /// None of these.
    Failed,
}

/// One way that was tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Format read; `memory` for a model made here.
    pub reader: String,
    /// Format written.
    pub writer: String,
    /// Which model.
    pub model: String,
    /// What became of it.
    pub verdict: Verdict,
}

/// What the suite found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many things each check has looked at, by its name, in the order of the checks.
    pub checks: Vec<(&'static str, u64)>,
    /// Every reader × writer × model.
    pub pairs: Vec<Pair>,
    /// Everything that is wrong. Empty if the suite has passed.
    pub failures: Vec<String>,
    /// Checks that could not run with these options.
    pub left_out: Vec<&'static str>,
}

impl Outcome {
    /// Verdicts counted by reader and writer.
    pub fn counts(&self) -> BTreeMap<(&str, &str), BTreeMap<Verdict, u64>> {
        let mut counts: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for pair in &self.pairs {
            let of_pair = counts.entry((&*pair.reader, &*pair.writer)).or_default();
            *of_pair.entry(pair.verdict).or_default() += 1;
        }
        counts
    }
}

/// A check: its name in reports, whether there is something that it judges, and what does it.
type Check = (&'static str, fn(&Suite<'_>) -> bool, fn(&Suite<'_>, &mut Log));

/// Every check.
const CHECKS: &[Check] = &[
    ("every file is taken by its own reader and declined by all others", |_| true, declines::check),
    ("every writer keeps what it does not declare", |suite| suite.has_writer(), writers::check),
    ("every reader to every writer is exact, declared or refused", |_| true, pairs::check),
    ("casts round once and their losses are seen", casts::judges, casts::check),
    ("threads, memory, instructions and a second run change no byte", |_| true, repeats::check),
    ("a process of any locale writes the same bytes", |_| true, processes::check),
    ("a file that is cut anywhere is an error", |suite| suite.has_reader(), truncated::check),
    ("a header with any bit flipped is an error or a model", |suite| suite.has_reader(), sweeps::check_bits),
    (
        "a header with any number replaced is an error or a model",
        |suite| suite.has_reader(),
        sweeps::check_numbers,
    ),
    ("a bad file gives its recorded error", |suite| suite.has_reader(), bad::check),
    ("random expressions agree with the naive evaluator", |suite| suite.judges_all(), expressions::check),
];

/// Runs every check on the plugins of `registry` and the files under `testdata`.
///
/// It writes into the system's folder for temporary files, and into `testdata` if [`SuiteOptions::bless`] says so.
/// A check that finds nothing to look at has failed.
pub fn run(registry: &Registry, testdata: &Path, options: &SuiteOptions) -> Outcome {
    let mut outcome = Outcome::default();
    let mut log = Log::default();
    let suite = match Suite::prepare(registry, testdata, options, &mut log) {
        Ok(suite) => suite,
        Err(why) => return Outcome { failures: vec![why], ..outcome },
    };
    outcome.failures.append(&mut log.failures);
    let is_wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|part| name.contains(part));
    for &(name, _, check) in CHECKS.iter().filter(|(name, judges, _)| is_wanted(name) && judges(&suite)) {
        let mut log = Log::default();
        if let Err(panic) = guarded(|| check(&suite, &mut log)) {
            log.failures.push(panic);
        }
        if log.is_left_out {
            outcome.left_out.push(name);
        } else if log.n_checked == 0 {
            log.failures.push("nothing was there to check".to_owned());
        }
        outcome.checks.push((name, log.n_checked));
        outcome.failures.extend(log.failures.iter().map(|failure| format!("{name}: {failure}")));
        outcome.pairs.append(&mut log.pairs);
    }
    if outcome.checks.is_empty() {
        outcome.failures.push(format!("no check has a name with any of {:?}", options.only));
    }
    outcome
}

/// What the checks share.
struct Suite<'a> {
    registry: &'a Registry,
    /// Folders of files, without links in their paths; the last one is that of whoever is judged.
    testdata: Vec<PathBuf>,
    options: &'a SuiteOptions,
    /// Files that readers take, from testdata and made here.
    fixtures: Vec<Fixture>,
    scratch: Scratch,
    control: Control,
    io: Arc<OsIo>,
}

impl<'a> Suite<'a> {
    fn prepare(
        registry: &'a Registry,
        testdata: &Path,
        options: &'a SuiteOptions,
        log: &mut Log,
    ) -> Result<Suite<'a>, String> {
        let mut suite = Suite::empty(registry, testdata, options)?;
        suite.fixtures = fixtures::find(&suite, log)?;
        suite.fixtures.extend(fixtures::make(&suite, log)?);
        Ok(suite)
    }

    /// Without fixtures.
    fn empty(
        registry: &'a Registry,
        testdata: &Path,
        options: &'a SuiteOptions,
    ) -> Result<Suite<'a>, String> {
        let scratch = Scratch::new().map_err(|error| format!("no folder for temporary files: {error}"))?;
        let mut folders: Vec<PathBuf> = vec![];
        for folder in [testdata].into_iter().chain(options.more_testdata.iter().map(|folder| &**folder)) {
            let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        let (control, io) = (Control::new(), Arc::new(OsIo));
        Ok(Suite { registry, testdata: folders, options, fixtures: vec![], scratch, control, io })
    }
}

/// What one check has found.
#[derive(Debug, Default)]
struct Log {
    n_checked: u64,
    failures: Vec<String>,
    pairs: Vec<Pair>,
    is_left_out: bool,
}

impl Log {
    /// Counts one thing that was looked at, and its fault if it has one.
    fn record<T>(&mut self, subject: &str, result: Result<T, String>) -> Option<T> {
        self.n_checked += 1;
        result.map_err(|why| self.failures.push(format!("{subject}: {why}"))).ok()
    }
}

/// Runs `work`, and turns a panic into its message.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("a panic: {text}")
    })
}
