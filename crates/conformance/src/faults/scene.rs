//! One conversion in a folder of its own, undisturbed and disturbed.

use super::Depth;
use super::folder::{self, Folder, Tree};
use super::sources::{SHARDS, Source};
use crate::suite::guarded;
use modelferry_convert::edit::{Change, EditJob, EditReport, edit};
use modelferry_convert::{Context, Job, Policy, Report, convert};
use modelferry_core::error::{Error, ErrorKind};
use modelferry_core::loss::LossKind;
use modelferry_core::plugin::{Place, Shards};
use modelferry_core::registry::Registry;
use modelferry_engine::io::fault::{Fault, FaultIo};
use modelferry_engine::io::{Io, OsIo};
use modelferry_engine::{Control, Settings};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How a conversion is published, and over what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) name: &'static str,
    before: Before,
    shards: Option<Shards>,
    /// Whether the folder that is written is made by the run. One that is there else holds a stranger's file.
    pub(super) is_new_folder: bool,
    /// Whether it reads a source of several files.
    pub(super) is_from_shards: bool,
    verify: bool,
    sync: bool,
    threads: usize,
}

/// What is there before the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nothing of ours.
    Nothing,
    /// One file of the output's name.
    File,
    /// More files than the output will have.
    LongerSet,
    /// What a run for the same output has left that was killed.
    DeadRun,
}

impl Manner {
    /// To one new file.
    pub(super) fn plain() -> Manner {
        Manner {
            name: "new",
            before: Before::Nothing,
            shards: None,
            is_new_folder: false,
            is_from_shards: false,
            verify: false,
            sync: false,
            threads: 1,
        }
    }

    /// Those beyond [`plain`](Manner::plain).
    pub(super) fn all(depth: Depth) -> Vec<Manner> {
        let new = Manner::plain();
        let set = Manner { name: "new set", shards: Some(SHARDS), ..new };
        let mut manners = vec![
            Manner { name: "file over file", before: Before::File, ..new },
            Manner { name: "new, verified", verify: true, ..new },
            Manner { name: "after a dead run", before: Before::DeadRun, ..new },
            Manner { name: "set over longer set", before: Before::LongerSet, ..set },
            Manner { name: "new folder", is_new_folder: true, ..new },
        ];
        if depth == Depth::Full {
            manners.extend([
                set,
                Manner { name: "shards kept", is_from_shards: true, shards: Some(Shards::Keep), ..set },
                Manner { name: "set over file", before: Before::File, ..set },
                Manner { name: "file over set", before: Before::LongerSet, ..new },
                Manner {
                    name: "set over longer set, verified",
                    before: Before::LongerSet,
                    verify: true,
                    ..set
                },
                Manner { name: "new, synced", sync: true, ..new },
                Manner { name: "new folder of a set", is_new_folder: true, ..set },
                Manner { name: "new folder, synced", is_new_folder: true, sync: true, ..new },
                Manner {
                    name: "new folder after a dead run",
                    is_new_folder: true,
                    before: Before::DeadRun,
                    ..new
                },
                Manner { name: "new set, synced", sync: true, ..set },
                Manner { name: "file over file, two threads", before: Before::File, threads: 2, ..new },
                Manner {
                    name: "set over longer set, two threads",
                    before: Before::LongerSet,
                    threads: 2,
                    ..set
                },
            ]);
        }
        manners
    }

    /// Whether it is only for some formats: those of several files, or of folders.
    pub(super) fn is_for_some(&self) -> bool {
        self.shards.is_some() || self.before == Before::LongerSet || self.is_new_folder
    }
}

/// What is done.
enum Work {
    Convert(Box<Job>),
    /// The output is the input.
    Edit(EditJob),
}

impl Work {
    /// Does it, and gives its error, its account, and the file that stands for what it wrote.
    fn perform(&self, cx: &Context<'_>) -> (Option<Error>, String, Option<String>) {
        match self {
            Work::Convert(job) => {
                let mut report = Report::default();
                let error = convert(cx, job, &mut report).err();
                let verified = report.n_verified;
                let account = format!("{:?}, {:?}, verified {verified:?}", report.files, report.losses);
                (error, account, report.root)
            }
            Work::Edit(job) => {
                let mut report = EditReport::default();
                let error = edit(cx, job, &mut report).err();
                (error, format!("{:?}, {} bytes", report.changes, report.bytes), None)
            }
        }
    }

    /// The same, whatever is there already.
    fn forced(&self, force: bool) -> Work {
        match self {
            Work::Convert(job) => Work::Convert(Box::new(Job { force, ..(**job).clone() })),
            Work::Edit(job) => Work::Edit(job.clone()),
        }
    }
}

/// A conversion or an edit, and what is right for it.
pub(super) struct Scene<'a> {
    pub(super) name: String,
    registry: &'a Registry,
    folder: Folder,
    work: Work,
    settings: Settings,
    source: Tree,
    source_state: Vec<(PathBuf, i64, i64, u64)>,
    before: Tree,
    after: Tree,
    /// The file that stands for the output.
    root: PathBuf,
    /// The folder that the run makes around its files; empty for none.
    around: PathBuf,
    /// A staging folder that is there from the start. A fault may keep it from being removed.
    dead: Option<PathBuf>,
    n_calls: u64,
    /// The account of the undisturbed run.
    account: String,
}

/// What a run was, and left.
struct Attempt {
    error: Option<Error>,
    account: String,
    root: Option<String>,
    found: Tree,
}

/// A file of somebody else beside or in the output.
const STRANGER: &str = "stranger.txt";

impl<'a> Scene<'a> {
    /// Runs a conversion undisturbed; `None` if the format refuses the source.
    pub(super) fn prepare(
        registry: &'a Registry,
        source: &Source,
        writer: &'static str,
        manner: &Manner,
    ) -> Result<Option<Scene<'a>>, String> {
        let info = registry.writer(writer).map_err(|error| error.to_string())?.info();
        let folder = Folder::new().map_err(|error| format!("no folder for temporary files: {error}"))?;
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        let files = source.files.iter().map(|(path, bytes)| (&**path, &**bytes));
        folder::fill(&input, files).map_err(|error| error.to_string())?;
        let is_folder = info.place == Place::Folder;
        if manner.is_new_folder && !is_folder {
            return Ok(None);
        }
        let name = match (is_folder, manner.is_new_folder) {
            (false, _) => PathBuf::from(format!("m{}", info.extensions.last().copied().unwrap_or_default())),
            (true, true) => PathBuf::from("m"),
            // The folder that is there is the output. Of a model without a config this file stands for it.
            (true, false) => PathBuf::from("model.safetensors"),
        };
        // What staging folders are named after.
        let staged = if is_folder && !manner.is_new_folder { Path::new("model") } else { &*name };
        let job = Job {
            input: input.join(&source.root),
            output: if is_folder && !manner.is_new_folder { output.clone() } else { output.join(&name) },
            to: Some(writer.to_owned()),
            shards: manner.shards,
            policy: Policy { allow: LossKind::ALL.into(), strict: false },
            verify: manner.verify,
            force: matches!(manner.before, Before::File | Before::LongerSet),
            ..Job::default()
        };
        let settings = Settings { threads: manner.threads, sync: manner.sync, ..small_settings() };
        let name_of_scene = format!("{} to {writer}, {}", source.name, manner.name);
        let mut scene =
            Scene::new(registry, name_of_scene, folder, Work::Convert(Box::new(job.clone())), &name)?;
        scene.settings = settings;
        scene.around = if manner.is_new_folder { name.clone() } else { PathBuf::new() };
        let old = match manner.before {
            Before::Nothing => vec![],
            // No process has this number for long.
            Before::DeadRun => ["lock", "new/m"].map(|path| dead(staged).join(path)).to_vec(),
            Before::File => vec![name.clone()],
            Before::LongerSet => match scene.longer_set(&job)? {
                Some(names) => names,
                None => return Ok(None),
            },
        };
        let text = |name: &Path| format!("the old {}", name.display()).into_bytes();
        for name in old {
            let around = name.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
            scene.before.extend(around.map(|folder| (folder.to_owned(), None)));
            scene.before.insert(name.clone(), Some(text(&name)));
        }

        if !scene.run_undisturbed()? {
            return Ok(None);
        }
        // Where one shard is enough there is no set to publish.
        if manner.shards.is_some() && scene.after.len() < 3 {
            return Ok(None);
        }
        if manner.before == Before::DeadRun {
            scene.dead = Some(dead(staged));
        }
        Ok(Some(scene))
    }

    /// The metadata of a source changed in its place; `None` if its format has none.
    pub(super) fn prepare_edit(registry: &'a Registry, source: &Source) -> Result<Option<Scene<'a>>, String> {
        let folder = Folder::new().map_err(|error| format!("no folder for temporary files: {error}"))?;
        folder::fill(&folder.path().join("in"), [].into_iter()).map_err(|error| error.to_string())?;
        let changes = vec![Change::Set { key: "edited".to_owned(), text: "yes".to_owned() }];
        let path = folder.path().join("out").join(&source.root);
        let work = Work::Edit(EditJob { path, changes, ..EditJob::default() });
        let mut scene = Scene::new(registry, format!("{} edited", source.name), folder, work, &source.root)?;
        scene.before.extend(source.files.iter().map(|(path, bytes)| (path.clone(), Some(bytes.clone()))));
        Ok(if scene.run_undisturbed()? { Some(scene) } else { None })
    }

    fn new(
        registry: &'a Registry,
        name: String,
        folder: Folder,
        work: Work,
        root: &Path,
    ) -> Result<Scene<'a>, String> {
        let input = folder.path().join("in");
        Ok(Scene {
            name,
            registry,
            source: folder::tree(&input).map_err(|error| error.to_string())?,
            source_state: state(&input).map_err(|error| error.to_string())?,
            folder,
            work,
            settings: small_settings(),
            before: Tree::from([(STRANGER.into(), Some(b"a stranger's".to_vec()))]),
            after: Tree::new(),
            root: root.to_owned(),
            around: PathBuf::new(),
            dead: None,
            n_calls: 0,
            account: String::new(),
        })
    }

    /// Learns what is right; false if the format refuses it.
    fn run_undisturbed(&mut self) -> Result<bool, String> {
        let io = FaultIo::new(OsIo, |_| None);
        let attempt = self.attempt(Arc::new(io.clone()), &self.work, Start::Before)?;
        match attempt.error {
            Some(error) if matches!(error.kind(), ErrorKind::Target | ErrorKind::Unsupported) => {
                return Ok(false);
            }
            Some(error) => return Err(error.to_string()),
            None => {}
        }
        (self.n_calls, self.account, self.after) = (io.n_calls(), attempt.account, attempt.found);
        self.root = attempt.root.map_or_else(|| self.root.clone(), |root| self.around.join(root));
        self.check_whole()?;
        Ok(true)
    }

    /// Calls of an undisturbed run.
    pub(super) fn n_calls(&self) -> u64 {
        self.n_calls
    }

    /// The names of an output of more files than that of `job`; `None` if the format has no shards.
    fn longer_set(&self, job: &Job) -> Result<Option<Vec<PathBuf>>, String> {
        let job = Job { shards: Some(Shards::Max(600)), verify: false, ..job.clone() };
        let attempt = self.attempt(Arc::new(OsIo), &Work::Convert(Box::new(job)), Start::Before)?;
        match attempt.error {
            Some(error) if error.kind() == ErrorKind::Target => Ok(None),
            Some(error) => Err(error.to_string()),
            None if attempt.found.len() < 4 => Ok(None),
            None => {
                let is_ours = |path: &PathBuf| path.as_os_str() != STRANGER;
                let files = attempt.found.into_iter().filter(|(_, content)| content.is_some());
                Ok(Some(files.map(|(path, _)| path).filter(is_ours).collect()))
            }
        }
    }

    /// Sees that an undisturbed run leaves what was there, what it wrote, and nothing else.
    fn check_whole(&self) -> Result<(), String> {
        if self.after.get(Path::new(STRANGER)) != self.before.get(Path::new(STRANGER)) {
            return Err("a stranger's file is gone".to_owned());
        }
        if let Some(path) = self.after.keys().find(|path| is_staging(path)) {
            return Err(format!("{} is left", path.display()));
        }
        let is_old = |path: &&PathBuf| {
            path.as_os_str() != STRANGER
                && self.before.get(*path).is_some_and(Option::is_some)
                && self.before.get(*path) == self.after.get(*path)
        };
        match self.after.keys().find(is_old) {
            Some(path) => Err(format!("{} was not replaced", path.display())),
            None => Ok(()),
        }
    }

    /// Fails call number `nth` and judges what became of it; `None` if there are not so many calls. Gives the method
    /// that failed.
    pub(super) fn fail(&self, fault: Fault, nth: u64) -> Option<(String, Result<(), String>)> {
        let hit = Arc::new(Mutex::new(None));
        let seen_by = Arc::clone(&hit);
        let io = FaultIo::new(OsIo, move |seen| {
            (seen.idx == nth).then(|| {
                let place = (format!("{:?}", seen.call), seen.path.display().to_string());
                *seen_by.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(place);
                fault
            })
        });
        let attempt = self.attempt(Arc::new(io), &self.work, Start::Before);
        let hit = hit.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let (call, path) = hit.clone().unwrap_or_else(|| ("no call".to_owned(), String::new()));
        let result = attempt.and_then(|attempt| match fault {
            _ if hit.is_none() => self.judge_success(&attempt),
            Fault::Halt => self.judge_halt(&attempt),
            Fault::Short | Fault::Errno(4) => self.judge_success(&attempt),
            Fault::Errno(code) => self.judge_error(&attempt, code),
        });
        let path = path.replace(&self.folder.path().display().to_string(), "");
        let result = result.map_err(|why| format!("{fault:?} at call {nth} ({call} of {path}): {why}"));
        // A run that nothing happened to ends the loop, unless it went wrong all by itself.
        (hit.is_some() || result.is_err()).then_some((call, result))
    }

    fn judge_success(&self, attempt: &Attempt) -> Result<(), String> {
        match &attempt.error {
            Some(error) => Err(format!("it should succeed: {error}")),
            None => self.same(&attempt.found, &self.after, "what an undisturbed run leaves"),
        }?;
        match attempt.account == self.account {
            true => Ok(()),
            false => Err(format!("it tells {} instead of {}", attempt.account, self.account)),
        }
    }

    fn judge_error(&self, attempt: &Attempt, code: i32) -> Result<(), String> {
        let Some(error) = &attempt.error else { return self.judge_success(attempt) };
        if error.kind() != ErrorKind::Io {
            return Err(format!("the error is of kind {:?}: {error}", error.kind()));
        }
        let text = error.to_string();
        if !text.contains(&format!("(os error {code})")) {
            return Err(format!("the error does not say what the system said: {text}"));
        }
        // The one exception: the folder of a file that took its place could not be synced.
        match text.contains("is complete and in its place") {
            true => self.same(&attempt.found, &self.after, "the new output"),
            false => self.same(&attempt.found, &self.before, "what was there before"),
        }
        .map_err(|why| format!("{why}, after {text}"))
    }

    /// What a kill may leave, and what the runs after it make of that.
    fn judge_halt(&self, attempt: &Attempt) -> Result<(), String> {
        self.check_killed(&attempt.found)?;
        let again = |force| self.attempt(Arc::new(OsIo), &self.work.forced(force), Start::AsFound);

        // Without --force the output is there, and complete, or it is made now.
        let next = again(false)?;
        let (settled, staged) = split(&next.found);
        match &next.error {
            None => {
                let is_new = |(path, content)| settled.get(path) == Some(content);
                if !self.after.iter().all(is_new) || !staged.is_empty() {
                    return Err(format!("the next run leaves {}", folder::names(&next.found)));
                }
            }
            Some(error) if error.kind() == ErrorKind::Exists => {
                let is_whole = [&self.before, &self.after].iter().any(|whole| next.found == self.own(whole));
                if !is_whole {
                    return Err(format!("the next run ({error}) leaves {}", folder::names(&next.found)));
                }
            }
            Some(error) => return Err(format!("the next run: {error}")),
        }
        let forced = again(true)?;
        match forced.error {
            Some(error) => Err(format!("the next run by force: {error}")),
            None if forced.found == self.after => Ok(()),
            None => Err(format!("the next run by force leaves {}", folder::names(&forced.found))),
        }
    }

    /// The old output or the new one is there, whole, or all that was there is in the one staging folder.
    fn check_killed(&self, found: &Tree) -> Result<(), String> {
        let (found, before) = (&self.own(found), &self.own(&self.before));
        let (settled, staged) = split(found);
        let n_staging = staged.keys().filter(|path| path.components().count() == 1).count();
        if n_staging > 1 {
            return Err(format!("{n_staging} staging folders: {}", folder::names(found)));
        }
        let is_one_step = before.keys().all(|path| self.after.contains_key(path)) && self.after.len() == 2;
        let is_whole = match settled.get(&self.root) {
            _ if is_one_step => settled == *before || settled == self.after,
            Some(content) if Some(content) == self.after.get(&self.root) => settled == self.after,
            Some(_) => settled == *before,
            // Files without their root are no model; what they replace must not be lost.
            None => true,
        };
        if !is_whole {
            return Err(format!("neither old nor new: {}", folder::names(found)));
        }
        let lost = before.iter().find(|(_, content)| !found.values().any(|other| other == *content));
        match lost {
            Some((path, _)) if !self.after.iter().all(|(path, content)| found.get(path) == Some(content)) => {
                Err(format!("{} is lost: {}", path.display(), folder::names(found)))
            }
            _ => Ok(()),
        }
    }

    /// What is found without what was dead from the start.
    fn own(&self, found: &Tree) -> Tree {
        let is_own = |path: &Path| self.dead.as_ref().is_none_or(|dead| !path.starts_with(dead));
        let mut own = found.clone();
        own.retain(|path, _| is_own(path));
        own
    }

    fn same(&self, found: &Tree, expected: &Tree, what: &str) -> Result<(), String> {
        if self.own(found) == self.own(expected) {
            return Ok(());
        }
        let names = (folder::names(found), folder::names(expected));
        Err(format!("it leaves {} instead of {what}, {}", names.0, names.1))
    }

    /// The source is what it was, its times too.
    pub(super) fn check_source(&self) -> Result<(), String> {
        let input = self.folder.path().join("in");
        let found = folder::tree(&input).map_err(|error| error.to_string())?;
        let state = state(&input).map_err(|error| error.to_string())?;
        match found == self.source && state == self.source_state {
            true => Ok(()),
            false => Err("the source was touched".to_owned()),
        }
    }

    /// One run.
    ///
    /// Errors: it panicked, or left a file open.
    fn attempt(&self, io: Arc<dyn Io>, work: &Work, start: Start) -> Result<Attempt, String> {
        let output = self.folder.path().join("out");
        if start == Start::Before {
            let files = self.before.iter().filter_map(|(path, content)| Some((&**path, content.as_deref()?)));
            folder::fill(&output, files).map_err(|error| error.to_string())?;
        }
        let control = Control::new();
        let cx = Context { registry: self.registry, io, settings: &self.settings, control: &control };
        let (error, account, root) = guarded(|| work.perform(&cx))?;
        drop(cx);
        if let Some(path) = folder::open_file(self.folder.path()) {
            return Err(format!("{} is still open", path.display()));
        }
        let found = folder::tree(&output).map_err(|error| error.to_string())?;
        Ok(Attempt { error, account, root, found })
    }
}

/// So little memory that every stage is spooled.
fn small_settings() -> Settings {
    Settings { threads: 1, memory: 1, ..Settings::default() }
}

/// What the output's folder holds when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// What was there before the first.
    Before,
    /// What the last run left.
    AsFound,
}

/// What has its final name, and what lies in staging folders.
fn split(found: &Tree) -> (Tree, Tree) {
    found.clone().into_iter().partition(|(path, _)| !is_staging(path))
}

/// The staging folder of a run that is dead since before ours.
fn dead(output: &Path) -> PathBuf {
    PathBuf::from(format!(".{}.partial-1-1", output.display()))
}

fn is_staging(path: &Path) -> bool {
    let first = path.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    first.is_some_and(|name| name.starts_with('.') && name.contains(".partial-"))
}

/// Which files there are, and when they were last changed.
fn state(folder: &Path) -> std::io::Result<Vec<(PathBuf, i64, i64, u64)>> {
    let mut state = vec![];
    for path in folder::tree(folder)?.into_keys() {
        let found = fs::symlink_metadata(folder.join(&path))?;
        state.push((path, found.mtime(), found.mtime_nsec(), found.ino()));
    }
    Ok(state)
}
