//! An output is complete or it is not there.
//!
//! Everything is written in a staging folder `.NAME.partial-PID-N` beside the output, on the same file system:
//!
//! ```text
//! .NAME.partial-PID-N/
//!   lock      locked by the run while it lives, so that only what the dead left is removed
//!   new/      the output's files under their final names; `done/` once a set of them is published
//!   old/      what is being replaced, for as long as it may have to come back
//!   spool-N   values too large for memory; unlinked as soon as they are open
//! ```
//!
//! Publication renames. A single file takes its place in one step. A set of files in a folder that holds other things
//! cannot: what is replaced moves to `old/`, the root (the index) first, then the new files take their names, the root
//! last. So nobody ever finds an index whose shards are of two runs. An error in between puts everything back. A kill
//! in between leaves shards without an index, which no reader takes for a model, and the replaced files in the staging
//! folder; the files have their new names beside the staged ones (hard links, where there are such), so the next run
//! knows which to take away, and puts the old ones back.
//!
//! A folder that is not there yet is staged whole and renamed once. Into one that is there, a mount point or the
//! working folder perhaps, the files go like any other set, staged inside of it; what else it holds stays.
//!
//! Names are checked before the work and again by the renames, so of several runs for one output one wins and the
//! others fail as if it had been there all along. Nothing is ever written through a link.

mod commit;
mod leftovers;
mod names;

use crate::disk::or_dot;
use crate::io::{
    Access, Descriptors, File, FileKind, Follow, Identity, Io, allocate_or_set_len, changed, failed,
    is_absent, is_errno, is_unable, look, retry, twice,
};
pub use leftovers::{Leftovers, remove_leftovers};
use modelferry_core::error::{Error, Result};
use names::{Form, family};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Staged files kept open at a time, whatever their number.
const OPEN_FILES: usize = 12;

/// What to do about files that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Fail with [`Exists`](modelferry_core::ErrorKind::Exists).
    Refuse,
    /// Replace them, and remove what an earlier set of the same name had more of (`--force`).
    Force,
    /// The output is the input: this one file is replaced, by one with its owner and permissions, and nothing else is
    /// touched. The old file itself is never written to, so that its other names and those who read it keep what they
    /// have.
    Input,
}

/// How staged files get their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Disk is reserved for every byte, so that it cannot run out later.
    Full,
    /// The files begin as one hole, for a source with holes.
    Sparse,
}

/// When the output must be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before it replaces something, since a power cut could otherwise leave neither.
    Replacing,
    /// In any case (`--sync`).
    Always,
}

/// What shall be published where.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The output as the user named it. Its folder must be there.
    pub path: &'a Path,
    /// Whether it is a folder that holds all files, rather than the root file.
    pub is_folder: bool,
    /// The files: path relative to the output's folder (`/` between folders), and length in bytes.
    pub files: &'a [(String, u64)],
    /// Positions in `files` of the files that stand for a whole each, of one model or of several that are published
    /// together; they come last.
    pub roots: &'a [usize],
    /// What to do about files that are there already.
    pub replace: Replace,
    /// Files that must not stay beside the output, with all of their sets, though it has none of their name.
    pub supersedes: &'a [String],
    /// The files being read, which are never replaced or removed.
    pub inputs: &'a [Identity],
}

/// What looking at an output's place has shown.
struct Place {
    /// The folder that is there and that the output goes into, possibly empty.
    folder: PathBuf,
    /// What its staging folder is named after.
    name: OsString,
    /// Whether the output is a folder to be made in it: the first part of all files' paths.
    is_new_folder: bool,
    /// Per file its path relative to the folder, as the system has it.
    relative: Vec<PathBuf>,
    /// Files of an earlier set that the new one does not have.
    stale: Vec<PathBuf>,
    replaces: bool,
}

impl Output<'_> {
    /// The folder that is there and that the output goes into; fails if it cannot be put where it shall be. Changes
    /// nothing. [`Staging::begin`] looks again.
    ///
    /// Errors: [`Exists`](modelferry_core::ErrorKind::Exists); [`Usage`](modelferry_core::ErrorKind::Usage) for a
    /// name that is a link, a device or an input, also with [`Replace::Force`];
    /// [`Io`](modelferry_core::ErrorKind::Io) for a folder that is not there.
    pub fn check(&self, io: &dyn Io) -> Result<PathBuf> {
        self.look(io).map(|place| or_dot(&place.folder).to_owned())
    }

    /// The files of an earlier set that publishing this would remove: shards, index or single file of the same stem
    /// and extension. None without [`Replace::Force`].
    pub fn stale(&self, io: &dyn Io) -> Result<Vec<PathBuf>> {
        let place = self.look(io)?;
        Ok(place.stale.iter().map(|path| place.folder.join(path)).collect())
    }

    fn look(&self, io: &dyn Io) -> Result<Place> {
        // With a slash behind it, a link would be followed, and a file be nothing.
        let bare = self.path.components().as_path();
        let there = if self.is_folder { look(io, bare, Follow::No)? } else { None };
        let is_new_folder = self.is_folder && there.is_none();
        let (folder, name) = match &there {
            Some(stat) if stat.kind == FileKind::Directory => (self.path.to_owned(), OsStr::new(IN_FOLDER)),
            Some(stat) => {
                return Err(Error::usage("the output is no folder, and nothing is written through links")
                    .file(self.path.display())
                    .found(stat.kind));
            }
            None => (self.path.parent().unwrap_or(Path::new("")).to_owned(), self.name()?),
        };
        match look(io, or_dot(&folder), Follow::Yes)? {
            None => return Err(absent_folder(&folder)),
            Some(stat) if stat.kind != FileKind::Directory => {
                return Err(failed("using it as a folder", &folder, Errno::NOTDIR.into()).found(stat.kind));
            }
            Some(_) => {}
        }
        let relative = self.relative(name)?;
        if is_new_folder {
            let into = |path: PathBuf| Path::new(name).join(path);
            let relative = relative.into_iter().map(into).collect();
            let (name, stale) = (name.to_owned(), vec![]);
            return Ok(Place { folder, name, is_new_folder, relative, stale, replaces: false });
        }
        let mut replaces = !self.is_folder && check_name(io, self.path, self)?;
        let mut parents = HashSet::new();
        for path in &relative {
            for parent in path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
                if parents.insert(parent) {
                    check_parent(io, &folder.join(parent))?;
                }
            }
            replaces |= check_name(io, &folder.join(path), self)?;
        }
        let stale = match self.replace {
            Replace::Input => vec![],
            Replace::Refuse if self.supersedes.is_empty() => vec![],
            Replace::Refuse | Replace::Force => self.find_stale(io, &folder, &relative)?,
        };
        if let (Replace::Refuse, Some(path)) = (self.replace, stale.first()) {
            let error = Error::exists("a file is there that would be taken for this model's");
            return Err(error.file(folder.join(path).display()).hint("pass --force to replace it"));
        }
        replaces |= !stale.is_empty();
        Ok(Place { folder, name: name.to_owned(), is_new_folder, relative, stale, replaces })
    }

    /// The output's last part.
    fn name(&self) -> Result<&OsStr> {
        use std::os::unix::ffi::OsStrExt;
        let ends_in_slash = self.path.as_os_str().as_bytes().ends_with(b"/");
        match self.path.file_name() {
            Some(name) if !ends_in_slash || self.is_folder => Ok(name),
            _ => {
                Err(Error::usage("the output is named like a folder, not like a file")
                    .file(self.path.display()))
            }
        }
    }

    /// The files' paths as the system has them. A name that is no UTF-8 reaches a writer with U+FFFD in it, and comes
    /// back here.
    fn relative(&self, name: &OsStr) -> Result<Vec<PathBuf>> {
        let broken = |what: &'static str| Err(Error::plugin(what).file(self.path.display()));
        if self.roots.is_empty() || self.roots.iter().any(|&root| root >= self.files.len()) {
            return broken("an output has no root file");
        }
        if self.replace == Replace::Input && self.files.len() != 1 {
            return broken("an input is replaced by exactly one file");
        }
        let shown = name.to_string_lossy();
        if self.files.len() > 1 && name.to_str().is_none() && !self.is_folder {
            let what = "an output of several files needs a name that is UTF-8, for the files name each other";
            return Err(Error::usage(what).file(self.path.display()));
        }
        let mut seen = HashSet::new();
        let mut paths = Vec::with_capacity(self.files.len());
        for (path, _) in self.files {
            let is_plain =
                !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if !is_plain || !seen.insert(path) {
                return broken("an output file has no plain unique relative path")
                    .map_err(|error| error.found(path));
            }
            let is_named = *path == shown && !self.is_folder;
            paths.push(if is_named { PathBuf::from(name) } else { PathBuf::from(path) });
        }
        Ok(paths)
    }

    fn find_stale(&self, io: &dyn Io, folder: &Path, relative: &[PathBuf]) -> Result<Vec<PathBuf>> {
        // Several models published together lie beside each other.
        let root =
            self.roots.first().and_then(|&root| relative.get(root)).map_or(Path::new(""), PathBuf::as_path);
        let beside = root.parent().unwrap_or(Path::new(""));
        let mut families: HashSet<_> = self.supersedes.iter().map(|name| family(name).0).collect();
        for (idx, path) in relative.iter().enumerate().filter(|(_, path)| path.parent() == Some(beside)) {
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            let (family, form) = family(name);
            if self.replace == Replace::Force && (self.roots.contains(&idx) || form != Form::Single) {
                families.insert(family);
            }
        }
        let listed = folder.join(beside);
        let entries = match retry(|| io.list_dir(or_dot(&listed))) {
            Err(error) if is_absent(&error) => return Ok(vec![]),
            result => result.map_err(|error| failed("listing", or_dot(&listed), error))?,
        };
        let mut stale = vec![];
        for entry in entries.into_iter().filter(|entry| entry.kind == FileKind::Regular) {
            let Some((family, _)) = entry.name.to_str().map(family) else { continue };
            let path = beside.join(&entry.name);
            if !families.contains(&family) || relative.contains(&path) {
                continue;
            }
            match look(io, &folder.join(&path), Follow::No)? {
                // A set that is being read is nobody's debris, whatever its name: merging shards into one file must
                // not eat them.
                Some(stat) if self.inputs.contains(&stat.fingerprint.identity) => return Ok(vec![]),
                Some(_) => stale.push(path),
                None => {}
            }
        }
        stale.sort_unstable();
        Ok(stale)
    }
}

/// Fails unless a file may be put at `path`; says whether there is one now.
fn check_name(io: &dyn Io, path: &Path, output: &Output<'_>) -> Result<bool> {
    let Some(stat) = look(io, path, Follow::No)? else {
        return if output.replace == Replace::Input { Err(changed(path)) } else { Ok(false) };
    };
    let at_fault = |error: Error| Err(error.file(path.display()));
    let is_input = output.inputs.contains(&stat.fingerprint.identity);
    match stat.kind {
        FileKind::Regular if output.replace == Replace::Input => match is_input {
            true => Ok(true),
            false => Err(changed(path)),
        },
        FileKind::Regular if is_input => at_fault(Error::usage("the output is one of the input's own files")),
        FileKind::Regular => match output.replace {
            Replace::Refuse => Err(exists(path)),
            Replace::Force | Replace::Input => Ok(true),
        },
        FileKind::Directory => at_fault(Error::exists("the output is a directory")),
        FileKind::Link => {
            let error = Error::usage("the output is a symbolic link, and nothing is written through links");
            match retry(|| io.read_link(path)) {
                Ok(target) => at_fault(error.hint(format!("it leads to {}", target.display()))),
                Err(_) => at_fault(error),
            }
        }
        kind => at_fault(Error::usage("only a regular file can be replaced by the output").found(kind)),
    }
}

/// Fails if something other than a folder is where a folder of the output shall be.
fn check_parent(io: &dyn Io, path: &Path) -> Result<()> {
    match look(io, path, Follow::No)? {
        Some(stat) if stat.kind != FileKind::Directory => {
            Err(Error::usage("a folder of the output is taken")
                .file(path.display())
                .expected(FileKind::Directory)
                .found(stat.kind))
        }
        _ => Ok(()),
    }
}

fn absent_folder(folder: &Path) -> Error {
    Error::new(modelferry_core::ErrorKind::Io, "the output's folder is not there").file(folder.display())
}

fn exists(path: &Path) -> Error {
    Error::exists("the output is there already").file(path.display()).hint("pass --force to replace it")
}

/// An output that is being made. Dropping it removes all of it.
#[derive(Debug)]
pub struct Staging {
    io: Arc<dyn Io>,
    output: PathBuf,
    folder: PathBuf,
    dir: PathBuf,
    /// Held as long as the run lives.
    _lock: Option<File>,
    files: Vec<StagedFile>,
    roots: Vec<usize>,
    replace: Replace,
    inputs: Vec<Identity>,
    is_folder: bool,
    /// The folder to be made, whose name all files' paths begin with.
    new_folder: Option<PathBuf>,
    stale: Vec<PathBuf>,
    replaces: bool,
    n_spools: AtomicU64,
    descriptors: Descriptors,
    /// The staging folder holds something that must not be lost.
    keep: bool,
    leftovers: Leftovers,
}

#[derive(Debug)]
struct StagedFile {
    relative: PathBuf,
    identity: Identity,
}

/// What the staging folder in an output folder is named after.
const IN_FOLDER: &str = "model";

/// The parts of a staging folder.
const LOCK: &str = "lock";
const NEW: &str = "new";
const DONE: &str = "done";
const OLD: &str = "old";

impl Staging {
    /// Checks the output's place, removes what dead runs for it have left, and makes all files at their lengths.
    ///
    /// Errors: those of [`Output::check`]; [`Io`](modelferry_core::ErrorKind::Io) when the folder cannot be written
    /// to or the disk cannot hold the files.
    pub fn begin(io: Arc<dyn Io>, output: &Output<'_>, allocate: Allocate) -> Result<Staging> {
        let mut place = output.look(&*io)?;
        let leftovers = remove_leftovers(&*io, output.path);
        if leftovers.restored {
            place = output.look(&*io)?;
        }
        let (dir, lock) = make_staging_dir(&io, &place.folder, &place.name)?;
        let mut staging = Staging {
            io,
            output: output.path.to_owned(),
            folder: place.folder,
            dir,
            _lock: lock,
            files: Vec::with_capacity(output.files.len()),
            roots: output.roots.to_vec(),
            replace: output.replace,
            inputs: output.inputs.to_vec(),
            is_folder: output.is_folder,
            new_folder: place.is_new_folder.then(|| PathBuf::from(&place.name)),
            stale: place.stale,
            replaces: place.replaces,
            n_spools: AtomicU64::new(0),
            descriptors: Descriptors::new(OPEN_FILES),
            keep: false,
            leftovers,
        };
        let new = staging.dir.join(NEW);
        let make_dir = |path: &Path| retry(|| staging.io.make_dir(path, Access::Umask));
        make_dir(&new).map_err(|error| failed("making a temporary folder", &new, error))?;
        let mut made = HashSet::new();
        for (relative, (_, len)) in place.relative.into_iter().zip(output.files) {
            make_parents(&*staging.io, &new, &relative, &mut made)?;
            let path = new.join(&relative);
            let shown = staging.folder.join(&relative);
            let file = staging
                .descriptors
                .open(|| staging.io.create_new(&path))
                .map_err(|error| failed("making it", &shown, error))?
                .shown_as(&shown);
            match allocate {
                Allocate::Full => allocate_or_set_len(&*staging.io, &file, *len)?,
                Allocate::Sparse => retry(|| staging.io.set_len(&file, *len))
                    .map_err(|error| failed("setting its length", &shown, error))?,
            }
            let stat =
                retry(|| staging.io.stat(&file)).map_err(|error| failed("looking at it", &shown, error))?;
            staging.files.push(StagedFile { relative, identity: stat.fingerprint.identity });
            staging.descriptors.insert(staging.files.len() - 1, file);
        }
        Ok(staging)
    }

    /// File `idx`, open for reading and writing for the time of a call. Of a set of thousands only the last used are
    /// kept open.
    pub fn file(&self, idx: usize) -> Result<Arc<File>> {
        if let Some(open) = self.descriptors.get(idx) {
            return Ok(open);
        }
        let path = self.path(idx);
        let shown = self.final_path(idx);
        let open = self.descriptors.open(|| self.io.open_write(&path));
        let open =
            open.map_err(|error| failed("opening its temporary file", &shown, error))?.shown_as(&shown);
        let stat = retry(|| self.io.stat(&open)).map_err(|error| failed("looking at it", &shown, error))?;
        if self.files.get(idx).is_none_or(|file| file.identity != stat.fingerprint.identity) {
            return Err(Error::new(
                modelferry_core::ErrorKind::Io,
                "its temporary file was replaced during the run",
            )
            .file(shown.display()));
        }
        Ok(self.descriptors.insert(idx, open))
    }

    /// Where file `idx` is now, under its final name in a folder of its own: beside it are the other files of the
    /// output, so an index that is staged finds its shards.
    pub fn path(&self, idx: usize) -> PathBuf {
        self.dir.join(NEW).join(self.relative(idx))
    }

    /// The folder that the staged files lie in as they will lie in the output's.
    pub fn staged_folder(&self) -> PathBuf {
        let new = self.dir.join(NEW);
        self.new_folder.as_ref().map_or_else(|| new.clone(), |name| new.join(name))
    }

    /// Where file `idx` will be.
    pub fn final_path(&self, idx: usize) -> PathBuf {
        self.folder.join(self.relative(idx))
    }

    /// Makes an unnamed file of `len` bytes on the output's disk. It is gone when it is dropped.
    pub fn spool(&self, len: u64) -> Result<File> {
        let n = self.n_spools.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("spool-{n}"));
        let shown = self.folder.join("(temporary values)");
        let file = self
            .descriptors
            .open(|| self.io.create_new(&path))
            .map_err(|error| failed("making a temporary file", &shown, error))?
            .shown_as(&shown);
        // If this fails, the file goes with the staging folder.
        let _ = twice(|| self.io.unlink(&path));
        allocate_or_set_len(&*self.io, &file, len)?;
        Ok(file)
    }

    /// Puts the files in their places and returns these, in the order of [`Output::files`].
    ///
    /// Errors: [`Exists`](modelferry_core::ErrorKind::Exists) when another run was faster;
    /// [`Io`](modelferry_core::ErrorKind::Io). After an error everything is as it was, with one exception, which the
    /// error names: a single file that has replaced another and whose folder then could not be synced stays.
    pub fn publish(mut self, sync: Sync) -> Result<Vec<PathBuf>> {
        commit::publish(&mut self, sync)?;
        if self.leftovers.kept {
            leftovers::remove_all_leftovers(&*self.io, &self.output);
        }
        Ok((0..self.files.len()).map(|idx| self.final_path(idx)).collect())
    }

    fn relative(&self, idx: usize) -> &Path {
        self.files.get(idx).map_or(Path::new(""), |file| &file.relative)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        self.descriptors.close_all();
        if !self.keep {
            // What cannot be removed now is removed by the next run for this output.
            let _ = leftovers::remove_staging(&*self.io, &self.dir);
        }
    }
}

/// Makes the folders above `relative` in `base`, those not in `made` yet.
fn make_parents(io: &dyn Io, base: &Path, relative: &Path, made: &mut HashSet<PathBuf>) -> Result<()> {
    let parents: Vec<&Path> =
        relative.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
    for parent in parents.into_iter().rev() {
        if made.insert(parent.to_owned()) {
            let path = base.join(parent);
            retry(|| io.make_dir(&path, Access::Umask))
                .map_err(|error| failed("making a temporary folder", &path, error))?;
        }
    }
    Ok(())
}

/// Makes a staging folder and locks it. Without locks in the file system it stays unlocked, and nobody will take it
/// for dead, since locking it fails for them too.
fn make_staging_dir(io: &Arc<dyn Io>, folder: &Path, name: &OsStr) -> Result<(PathBuf, Option<File>)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Other processes of the same number (containers on one disk) and runs that are just tidying are in the way only
    // now and then.
    const TRIES: usize = 1000;
    let prefix = leftovers::prefix(&**io, folder, name);
    for _ in 0..TRIES {
        let n = NEXT.fetch_add(1, Ordering::Relaxed) % 1_000_000;
        let dir = folder.join(names::staging_name(&prefix, n));
        match retry(|| io.make_dir(&dir, Access::Private)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed("making a temporary folder in it", or_dot(folder), error)),
        }
        match lock_staging_dir(&**io, &dir) {
            Ok(Locked::Yes(lock)) => return Ok((dir, Some(lock))),
            Ok(Locked::Unable) => return Ok((dir, None)),
            Ok(Locked::Lost) => drop(leftovers::remove_staging(&**io, &dir)),
            Err(error) => {
                drop(leftovers::remove_staging(&**io, &dir));
                return Err(failed("locking a temporary folder in it", or_dot(folder), error));
            }
        }
    }
    Err(Error::new(modelferry_core::ErrorKind::Io, "no name is free for a temporary folder")
        .file(or_dot(folder).display()))
}

enum Locked {
    Yes(File),
    /// The file system has no locks.
    Unable,
    /// Another run took the folder for dead before it was locked.
    Lost,
}

fn lock_staging_dir(io: &dyn Io, dir: &Path) -> io::Result<Locked> {
    let path = dir.join(LOCK);
    let lock = match retry(|| io.create_new(&path)) {
        Ok(lock) => lock,
        Err(error) if is_absent(&error) => return Ok(Locked::Lost),
        Err(error) => return Err(error),
    };
    match retry(|| io.try_lock(&lock)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Locked::Lost),
        Err(error) if is_lockless(&error) => return Ok(Locked::Unable),
        Err(error) => return Err(error),
    }
    let ours = retry(|| io.stat(&lock))?.fingerprint.identity;
    match retry(|| io.stat_link(&path)) {
        Ok(found) if found.fingerprint.identity == ours => Ok(Locked::Yes(lock)),
        Ok(_) => Ok(Locked::Lost),
        Err(error) if is_absent(&error) => Ok(Locked::Lost),
        Err(error) => Err(error),
    }
}

fn is_lockless(error: &io::Error) -> bool {
    is_unable(error) || is_errno(error, &[Errno::NOLCK, Errno::BADF])
}
