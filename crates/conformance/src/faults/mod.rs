//! Faults: whichever call to the system fails, the output is the old one or the new one, whole.
//!
//! A [`Scene`] is one conversion, or one edit of metadata, in a folder of its own. It runs once undisturbed, to know what is right, and then
//! with its first call failing, its second, its third, until a run has nothing left to fail. After each:
//!
//! - a call that was interrupted or did half of its work has changed nothing;
//! - a call that failed for good (EIO, ENOSPC) was survived, or the error is of kind I/O with the system's own words,
//!   and the folder holds what it held before;
//! - a process that was killed there has left the old output or the new one under its name, and beside it at most
//!   one staging folder, which the next run removes.
//!
//! Nothing here knows a format: sources are what the registered writers make, and the files of testdata, so a new
//! reader or writer joins by being registered.

mod folder;
mod scene;
mod sources;

use modelferry_core::registry::Registry;
use modelferry_engine::io::fault::Fault;
use scene::{Manner, Scene};
use sources::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every reader and every writer once, and as many of their calls as [`SHORT_RUNS`] allows, evenly spread.
    Short,
    /// Every source to every writer, every call.
    Full,
}

/// Runs that [`Depth::Short`] makes at most, however many formats there are: some ten seconds.
pub const SHORT_RUNS: u64 = 12_000;

/// What the fault loops have found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Runs in which a call failed.
    pub runs: u64,
    /// Every conversion that was put through it, with its runs.
    pub scenes: Vec<(String, u64)>,
    /// How often each method of [`Io`](modelferry_engine::io::Io) was made to fail.
    pub calls: BTreeMap<String, u64>,
    /// One of so many calls was made to fail.
    pub stride: u64,
    /// Everything that is wrong. Empty if all passed.
    pub failures: Vec<String>,
}

/// EIO; ENOSPC; EINTR; half of the work; the end of the process.
const FAULTS: [Fault; 5] = [Fault::Errno(5), Fault::Errno(28), Fault::Errno(4), Fault::Short, Fault::Halt];

/// The calls that the project promises to have made fail. What a conversion does not use (`CloneFile`) is not here.
const MUST_FAIL: &[&str] = &[
    "OpenRead",
    "OpenWrite",
    "CreateNew",
    "Stat",
    "StatPath",
    "StatLink",
    "ReadAt",
    "WriteAt",
    "Allocate",
    "Sync",
    "TryLock",
    "MakeDir",
    "Rename",
    "RenameNoreplace",
    "Unlink",
    "RemoveDir",
    "ListDir",
    "Canonicalize",
    "Space",
];

/// Failures of one scene that are reported; more say nothing new.
const MAX_FAILURES: usize = 5;

/// Runs the conversions of `registry` on the models under `testdata` with every call failing.
///
/// It writes into memory where the system has a file system for that, else into the folder for temporary files. A
/// reader or a writer that no conversion could be found for is a failure, and so is a run that tried nothing.
pub fn run(registry: &Registry, testdata: &Path, depth: Depth) -> Outcome {
    let mut outcome = Outcome { stride: 1, ..Outcome::default() };
    let scenes = match Scenes::choose(registry, testdata, depth) {
        Ok(scenes) => scenes,
        Err(why) => return Outcome { failures: vec![why], ..outcome },
    };
    outcome.failures = scenes.failures;
    let scenes = scenes.all;
    let n_planned: u64 = scenes.iter().map(|scene| scene.n_calls() * FAULTS.len() as u64).sum();
    if depth == Depth::Short {
        outcome.stride = n_planned.div_ceil(SHORT_RUNS).max(1);
    }
    for (number, scene) in scenes.iter().enumerate() {
        let mut failures = vec![];
        let mut runs = 0;
        for (idx, fault) in FAULTS.into_iter().enumerate() {
            // Each scene and fault begins at another call, so that a stride leaves none out everywhere.
            let mut nth = (number + idx) as u64 % outcome.stride;
            while let Some((call, result)) = scene.fail(fault, nth) {
                runs += 1;
                *outcome.calls.entry(call).or_default() += 1;
                failures.extend(result.err());
                nth += outcome.stride;
                if failures.len() >= MAX_FAILURES {
                    break;
                }
            }
        }
        failures.extend(scene.check_source().err());
        outcome.runs += runs;
        outcome.failures.extend(failures.into_iter().map(|why| format!("{}: {why}", scene.name)));
        outcome.scenes.push((scene.name.clone(), runs));
    }
    if outcome.stride == 1 {
        let unseen = MUST_FAIL.iter().filter(|call| !outcome.calls.contains_key(**call));
        outcome
            .failures
            .extend(unseen.map(|call| format!("no conversion has a call to {call} that could fail")));
    }
    if outcome.runs == 0 {
        outcome.failures.push("nothing was there to fail".to_owned());
    }
    outcome
}

/// Conversions, each run once to know what is right.
struct Scenes<'a> {
    registry: &'a Registry,
    all: Vec<Scene<'a>>,
    failures: Vec<String>,
}

impl<'a> Scenes<'a> {
    /// Those that are tried.
    fn choose(registry: &'a Registry, testdata: &Path, depth: Depth) -> Result<Scenes<'a>, String> {
        let made = sources::made(registry)?;
        let found = sources::found(registry, testdata, depth)?;
        let mut scenes = Scenes { registry, all: vec![], failures: vec![] };
        scenes.read_all(made.iter().chain(&found), depth);
        scenes.write_all(&made, depth);
        scenes.edit_all(&made);
        Ok(scenes)
    }

    /// Every source is read. Which writer takes it is the next in turn of those that can, or each of them.
    fn read_all<'s>(&mut self, sources: impl Iterator<Item = &'s Source>, depth: Depth) {
        let writers = self.writers();
        let mut read = BTreeSet::new();
        for (turn, source) in sources.enumerate() {
            let mut is_taken = false;
            for idx in 0..writers.len() {
                is_taken |= self.add(source, writers[(turn + idx) % writers.len()], &Manner::plain());
                if is_taken && (depth == Depth::Short || source.is_one_of_many) {
                    break;
                }
            }
            // What no format can hold under any policy is read by other files' conversions.
            if is_taken {
                read.insert(source.format);
            }
        }
        let formats = self.registry.readers().map(|reader| reader.info().format);
        let unread = formats.filter(|format| !read.contains(format));
        self.failures.extend(unread.map(|format| format!("no conversion reads {format}")));
    }

    /// Every writer publishes in every manner.
    fn write_all(&mut self, made: &[Source], depth: Depth) {
        for writer in self.writers() {
            for manner in Manner::all(depth) {
                let fits = |source: &&Source| source.is_sharded == manner.is_from_shards;
                let own = made.iter().filter(fits).filter(|source| source.format == writer);
                let others = made.iter().filter(fits).filter(|source| source.format != writer);
                let is_taken = own.chain(others).any(|source| self.add(source, writer, &manner));
                if !is_taken && !manner.is_for_some() {
                    self.failures.push(format!("{writer} takes no source, {}", manner.name));
                }
            }
        }
    }

    /// What can be edited in its place is.
    fn edit_all(&mut self, made: &[Source]) {
        let is_one_file = |source: &&Source| !source.is_sharded && !source.root.as_os_str().is_empty();
        for source in made.iter().filter(is_one_file) {
            match Scene::prepare_edit(self.registry, source) {
                Ok(scene) => self.all.extend(scene),
                Err(why) => self.failures.push(format!("{} edited: undisturbed: {why}", source.name)),
            }
        }
    }

    fn writers(&self) -> Vec<&'static str> {
        self.registry.writers().map(|writer| writer.info().format).collect()
    }

    /// Adds a conversion unless the writer refuses the source, which it tells.
    fn add(&mut self, source: &Source, writer: &'static str, manner: &Manner) -> bool {
        match Scene::prepare(self.registry, source, writer, manner) {
            Ok(Some(scene)) => self.all.push(scene),
            Ok(None) => return false,
            Err(why) => {
                let name = format!("{} to {writer}, {}", source.name, manner.name);
                self.failures.push(format!("{name}: undisturbed: {why}"));
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_without_plugins_has_not_passed() {
        let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
        let outcome = run(&Registry::default(), &testdata, Depth::Short);
        assert_eq!(outcome.runs, 0);
        assert!(!outcome.failures.is_empty());
    }
}
