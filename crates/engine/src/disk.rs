//! The files of a model on disk.
//!
//! Names in a model's files (an index, external data) come from strangers. They are looked up beside the file the
//! user named, and whatever they resolve to must lie in that folder, or in the folder the user's file really is in:
//! the Hugging Face cache keeps `snapshots/COMMIT/model.safetensors` as a link to `blobs/SHA`, beside which the other
//! shards are. Of a folder that is one of that cache's snapshots the files may be in its `blobs`. The user's own path
//! may lead anywhere.
//!
//! A file is taken by its fingerprint when it is first opened. Whenever it is opened again, and once at the end, it
//! must still be the same.

use crate::io::{
    self, Descriptors, DirEntry, File, FileKind, Fingerprint, Follow, Identity, Io, Stat, changed, failed,
    is_absent, is_errno, look, read_exact_at, retry,
};
use crate::space;
use modelferry_core::error::{Error, Result};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::limits::Limits;
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// Input files kept open at a time, whatever their number.
const OPEN_FILES: usize = 32;

/// [`Inputs`] on disk: the file or folder the user named, and the files in that folder that its reader asks for.
///
/// Reads are positioned and run in parallel; no lock is held while the system works.
#[derive(Debug)]
pub struct DiskInputs {
    io: Arc<dyn Io>,
    /// The folder as the user gave it, possibly empty: what messages show.
    folder: PathBuf,
    /// Where files may really be: `folder` without links, and the folder of the root without links.
    allowed: [PathBuf; 2],
    /// The folder's name, where it and not a file is what the user named.
    folder_name: Option<String>,
    max_files: u64,
    known: RwLock<Known>,
    descriptors: Descriptors,
}

#[derive(Debug, Default)]
struct Known {
    files: Vec<Entry>,
    by_name: HashMap<String, FileId>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: String,
    /// As the user would write it, links and all.
    shown: PathBuf,
    /// Without links.
    real: PathBuf,
    stat: Stat,
    /// Looked at and found to be no part of the model.
    is_released: bool,
}

impl Known {
    /// A released file is part of the model again.
    fn retake(&mut self, file: FileId) {
        if let Some(entry) = self.files.get_mut(file.0 as usize) {
            entry.is_released = false;
        }
    }
}

impl DiskInputs {
    /// The inputs of which `path` is the root, with the default limit on the number of files.
    ///
    /// Errors: [`Io`](modelferry_core::ErrorKind::Io) if it cannot be opened,
    /// [`Unsupported`](modelferry_core::ErrorKind::Unsupported) if it is no regular file.
    pub fn open(io: Arc<dyn Io>, path: &Path) -> Result<DiskInputs> {
        let Some(stat) = look(&*io, path, Follow::Yes)? else { return Err(no_root(&*io, path)) };
        if stat.kind == FileKind::Directory {
            return DiskInputs::open_folder(io, path);
        }
        if stat.kind != FileKind::Regular {
            return Err(Error::unsupported("only regular files are read, for they are read by position")
                .file(path.display())
                .found(stat.kind));
        }
        let canonicalize = |path: &Path| {
            retry(|| io.canonicalize(path)).map_err(|error| failed("resolving its path", path, error))
        };
        let real = canonicalize(path)?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let real_folder = real.parent().unwrap_or(Path::new("/")).to_owned();
        let allowed = [canonicalize(or_dot(&folder))?, real_folder];
        let file_name = path.file_name().or(real.file_name()).unwrap_or_default();
        let name = file_name.to_string_lossy().into_owned();
        let inputs = DiskInputs {
            io,
            folder,
            allowed,
            folder_name: None,
            max_files: Limits::default().files,
            known: RwLock::default(),
            descriptors: Descriptors::new(OPEN_FILES),
        };
        inputs.add(name.clone(), name, path.to_owned(), real)?;
        Ok(inputs)
    }

    fn open_folder(io: Arc<dyn Io>, path: &Path) -> Result<DiskInputs> {
        let real =
            retry(|| io.canonicalize(path)).map_err(|error| failed("resolving its path", path, error))?;
        let name = path.file_name().or(real.file_name()).unwrap_or_default().to_string_lossy().into_owned();
        let blobs = blobs_of(&real).unwrap_or_else(|| real.clone());
        Ok(DiskInputs {
            io,
            folder: path.to_owned(),
            allowed: [real, blobs],
            folder_name: Some(name),
            max_files: Limits::default().files,
            known: RwLock::default(),
            descriptors: Descriptors::new(OPEN_FILES),
        })
    }

    /// Whether the user named a folder.
    pub fn is_folder(&self) -> bool {
        self.folder_name.is_some()
    }

    /// Sets how many files one model may be made of.
    pub fn limits(mut self, limits: &Limits) -> DiskInputs {
        self.max_files = limits.files;
        self
    }

    /// Takes over the files of another model that is read from too, with what they were when they were first opened.
    /// They are numbered from the returned number on, called by their paths, and found by no name.
    ///
    /// Errors: both together are too many.
    pub fn adopt(&self, other: &DiskInputs) -> Result<u32> {
        let theirs = other.known().files.clone();
        let mut known = self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let first = known.files.len();
        let n_files = first.saturating_add(theirs.len());
        Limits::check("two models are made of too many files", n_files as u64, self.max_files)?;
        let called = |entry: Entry| Entry { name: entry.shown.display().to_string(), ..entry };
        known.files.extend(theirs.into_iter().map(called));
        u32::try_from(first).map_err(|_| Error::limit("two models are made of too many files"))
    }

    /// Puts the file at `path` under the name `relative` beside the root: it will be there, or is thought to be.
    pub fn place(&self, relative: &str, path: &Path) -> Result<()> {
        let real = retry(|| self.io.canonicalize(path))
            .map_err(|error| failed("resolving its path", path, error))?;
        self.add(relative.to_owned(), relative.to_owned(), path.to_owned(), real).map(drop)
    }

    /// A file, open for the time of a call. Holding many keeps many descriptors open.
    ///
    /// Errors: it was replaced or written to since it was first opened.
    pub fn handle(&self, file: FileId) -> Result<Arc<File>> {
        let idx = file.0 as usize;
        if let Some(open) = self.descriptors.get(idx) {
            return Ok(open);
        }
        let entry = self.entry(file)?;
        let open = self.open_entry(&entry.shown, &entry.real)?;
        let stat =
            retry(|| self.io.stat(&open)).map_err(|error| failed("looking at it", &entry.shown, error))?;
        if stat.fingerprint != entry.stat.fingerprint {
            return Err(changed(&entry.shown));
        }
        Ok(self.descriptors.insert(idx, open))
    }

    /// The file's path as the user would write it.
    pub fn path(&self, file: FileId) -> PathBuf {
        self.known().files.get(file.0 as usize).map(|entry| entry.shown.clone()).unwrap_or_default()
    }

    /// What the file was when it was first opened.
    pub fn fingerprint(&self, file: FileId) -> Option<Fingerprint> {
        self.known().files.get(file.0 as usize).map(|entry| entry.stat.fingerprint)
    }

    /// The files opened so far that are part of the model, the root included.
    pub fn used(&self) -> HashSet<FileId> {
        let known = self.known();
        let used = known.files.iter().zip(0..).filter(|(entry, _)| !entry.is_released);
        used.map(|(_, idx)| FileId(idx)).collect()
    }

    /// Which files those are, for [`publish`](crate::publish) to keep its hands off.
    pub fn identities(&self) -> Vec<Identity> {
        let known = self.known();
        let used = known.files.iter().filter(|entry| !entry.is_released);
        used.map(|entry| entry.stat.fingerprint.identity).collect()
    }

    /// The input that `path` leads to, by whatever links.
    pub fn find(&self, path: &Path) -> Result<Option<FileId>> {
        let Some(stat) = look(&*self.io, path, Follow::Yes)? else { return Ok(None) };
        let is_it = |entry: &Entry| {
            !entry.is_released && entry.stat.fingerprint.identity == stat.fingerprint.identity
        };
        Ok(self.known().files.iter().position(is_it).map(|idx| FileId(idx as u32)))
    }

    /// Bytes of all files opened so far.
    pub fn total_len(&self) -> u64 {
        self.known().files.iter().fold(0, |sum, entry| sum.saturating_add(entry.stat.fingerprint.len))
    }

    /// Whether the file takes less disk than its length, so that looking for holes may pay.
    pub fn is_sparse(&self, file: FileId) -> bool {
        let is_sparse = |entry: &Entry| entry.stat.disk_bytes < entry.stat.fingerprint.len;
        self.known().files.get(file.0 as usize).is_some_and(is_sparse)
    }

    /// Bytes of the file that are in no hole.
    pub fn data_len(&self, file: FileId) -> Result<u64> {
        let len = self.len(file);
        if !self.is_sparse(file) {
            return Ok(len);
        }
        space::data_bytes(&*self.io, &*self.handle(file)?, 0..len)
    }

    /// Says that what was read of the file is not needed in memory any more, if it is still open.
    pub fn advise_done(&self, file: FileId) -> Result<()> {
        match self.descriptors.get(file.0 as usize) {
            Some(open) => io::advise_done(&*self.io, &open),
            None => Ok(()),
        }
    }

    /// Fails if a file opened so far was replaced, resized or written to since: the last thing before publication.
    pub fn check_unchanged(&self) -> Result<()> {
        let entries = self.known().files.clone();
        for entry in entries.into_iter().filter(|entry| !entry.is_released) {
            match look(&*self.io, &entry.shown, Follow::Yes)? {
                Some(stat) if stat.fingerprint == entry.stat.fingerprint => {}
                _ => return Err(changed(&entry.shown)),
            }
        }
        Ok(())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn entry(&self, file: FileId) -> Result<Entry> {
        let unknown = || Error::plugin("a file that was never opened is read");
        self.known().files.get(file.0 as usize).cloned().ok_or_else(unknown)
    }

    /// Opens `real`, which has no links in it any more, under the name `shown`.
    fn open_entry(&self, shown: &Path, real: &Path) -> Result<File> {
        let open = self.descriptors.open(|| self.io.open_read(real));
        open.map(|file| file.shown_as(shown)).map_err(|error| failed("opening", shown, error))
    }

    /// Opens a file that may be read and remembers it under the name asked for and its plain one.
    fn add(&self, asked: String, name: String, shown: PathBuf, real: PathBuf) -> Result<FileId> {
        // By the path without links: looking first keeps us from opening a device, and between the two looks nothing
        // may have changed.
        let before = look(&*self.io, &real, Follow::No)?.ok_or_else(|| changed(&shown))?;
        if before.kind != FileKind::Regular {
            return Err(Error::malformed("no regular file").file(shown.display()).found(before.kind));
        }
        let open = self.open_entry(&shown, &real)?;
        let stat = retry(|| self.io.stat(&open)).map_err(|error| failed("looking at it", &shown, error))?;
        if stat.fingerprint.identity != before.fingerprint.identity {
            return Err(changed(&shown));
        }
        let mut known = self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(&file) = known.by_name.get(&name) {
            known.by_name.insert(asked, file);
            known.retake(file);
            return Ok(file);
        }
        let idx = known.files.len();
        Limits::check("the model is made of too many files", idx as u64 + 1, self.max_files)?;
        let file = FileId(idx as u32);
        known.files.push(Entry { name: name.clone(), shown, real, stat, is_released: false });
        known.by_name.insert(asked, file);
        known.by_name.insert(name, file);
        drop(known);
        self.descriptors.insert(idx, open);
        Ok(file)
    }

    /// The path relative to the folder that a name stands for, if it stays inside as it is written.
    fn plain(&self, relative: &str) -> Result<PathBuf> {
        let refused = |what: &'static str| Err(Error::malformed(what).file(relative));
        if relative.is_empty() {
            return refused("a file of the model has an empty name");
        }
        if relative.contains('\0') {
            return refused("a file name contains a NUL");
        }
        if relative.starts_with('/') {
            return refused("an absolute path leaves the model's folder");
        }
        let mut plain = PathBuf::new();
        for part in relative.split('/') {
            match part {
                "" => return refused("a file name has an empty part"),
                ".." => return refused("`..` leaves the model's folder"),
                "." => {}
                part => plain.push(self.undo_lossy(&plain, part)?),
            }
        }
        if plain.as_os_str().is_empty() {
            return refused("a file name has no part");
        }
        Ok(plain)
    }

    /// The real name of `part` in `folder`: names that are no UTF-8 come to readers with U+FFFD in them.
    fn undo_lossy(&self, folder: &Path, part: &str) -> Result<OsString> {
        if !part.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(part.into());
        }
        let folder = self.folder.join(folder);
        if look(&*self.io, &folder.join(part), Follow::No)?.is_some() {
            return Ok(part.into());
        }
        let entries =
            retry(|| self.io.list_dir(or_dot(&folder))).map_err(|error| failed("listing", &folder, error))?;
        let mut matching = entries.into_iter().filter(|entry| entry.name.to_string_lossy() == part);
        match (matching.next(), matching.next()) {
            (Some(entry), None) => Ok(entry.name),
            (Some(_), Some(_)) => {
                Err(Error::malformed("several files look like this name, which is not UTF-8")
                    .file(folder.join(part).display()))
            }
            (None, _) => Ok(part.into()),
        }
    }

    fn leads_out(&self, shown: &Path, real: &Path) -> Error {
        Error::malformed("a link leads out of the model's folder")
            .file(shown.display())
            .expected(format_args!("a file in {}", self.allowed[0].display()))
            .found(real.display())
    }

    fn missing(&self, relative: &Path, shown: &Path) -> Error {
        let error = Error::malformed("no such file beside the model").file(shown.display());
        if let Ok(target) = retry(|| self.io.read_link(shown)) {
            return error.found(format_args!("a link to {}, which leads nowhere", target.display()));
        }
        let [folder, real_folder] = &self.allowed;
        let elsewhere = real_folder.join(relative);
        if folder != real_folder && matches!(look(&*self.io, &elsewhere, Follow::Yes), Ok(Some(_))) {
            return error
                .hint(format!("the model is a link; name it by its own path in {}", real_folder.display()));
        }
        error
    }
}

impl Inputs for DiskInputs {
    fn root(&self) -> FileId {
        if self.is_folder() { FileId::FOLDER } else { FileId(0) }
    }

    fn open(&self, relative: &str) -> Result<FileId> {
        let known = self.known().by_name.get(relative).copied();
        if let Some(file) = known {
            self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()).retake(file);
            return Ok(file);
        }
        let plain = self.plain(relative)?;
        let shown = self.folder.join(&plain);
        let real = match retry(|| self.io.canonicalize(&shown)) {
            Ok(real) => real,
            Err(error) if is_absent(&error) || is_errno(&error, &[Errno::NAMETOOLONG]) => {
                return Err(self.missing(&plain, &shown));
            }
            Err(error) if is_errno(&error, &[Errno::LOOP]) => {
                return Err(Error::malformed("a link that leads to itself").file(shown.display()));
            }
            Err(error) => return Err(failed("resolving its path", &shown, error)),
        };
        if !self.allowed.iter().any(|folder| real.starts_with(folder)) {
            return Err(self.leads_out(&shown, &real));
        }
        let name = plain
            .components()
            .map(|part| match part {
                Component::Normal(part) => part.to_string_lossy(),
                _ => "".into(),
            })
            .collect::<Vec<_>>()
            .join("/");
        self.add(relative.to_owned(), name, shown, real)
    }

    fn release(&self, file: FileId) {
        let mut known = self.known.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The root was named by the user.
        if file != self.root()
            && let Some(entry) = known.files.get_mut(file.0 as usize)
        {
            entry.is_released = true;
        }
    }

    /// Regular files, links and folders. Those whose names are no UTF-8 are shown with U+FFFD, and opened by that name
    /// if it is the only one that looks so.
    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let folder = match folder {
            "" => or_dot(&self.folder).to_owned(),
            folder => self.folder.join(self.plain(folder)?),
        };
        let at_fault = |error| failed("listing", &folder, error);
        let real = retry(|| self.io.canonicalize(&folder)).map_err(at_fault)?;
        if !real.starts_with(&self.allowed[0]) {
            return Err(self.leads_out(&folder, &real));
        }
        let entries = retry(|| self.io.list_dir(&folder)).map_err(at_fault)?;
        let shown = |entry: DirEntry| match entry.kind {
            FileKind::Regular | FileKind::Link => Some(entry.name.to_string_lossy().into_owned()),
            FileKind::Directory => Some(format!("{}/", entry.name.to_string_lossy())),
            _ => None,
        };
        let mut names: Vec<String> = entries.into_iter().filter_map(shown).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn name(&self, file: FileId) -> String {
        if file == FileId::FOLDER {
            return self.folder_name.clone().unwrap_or_default();
        }
        self.known().files.get(file.0 as usize).map(|entry| entry.name.clone()).unwrap_or_default()
    }

    fn len(&self, file: FileId) -> u64 {
        self.known().files.get(file.0 as usize).map_or(0, |entry| entry.stat.fingerprint.len)
    }

    fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        let len = self.len(file);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > len) {
            return Err(Error::malformed("a read ends past the file")
                .file(self.name(file))
                .offset(offset)
                .expected(format_args!("{} bytes", out.len()))
                .found(format_args!("{} bytes", len.saturating_sub(offset))));
        }
        read_exact_at(&*self.io, &*self.handle(file)?, offset, out)
    }
}

/// Where the Hugging Face cache keeps the files of which `REPOSITORY/snapshots/COMMIT` has the links:
/// `REPOSITORY/blobs` (huggingface_hub, `file_download.py`).
fn blobs_of(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.parent().filter(|parent| parent.file_name() == Some("snapshots".as_ref()))?;
    Some(snapshots.parent()?.join("blobs"))
}

/// The error of a root that is not there, or is a link that leads nowhere.
fn no_root(io: &dyn Io, path: &Path) -> Error {
    let error = Error::new(modelferry_core::ErrorKind::Io, "no such file").file(path.display());
    match retry(|| io.read_link(path)) {
        Ok(target) => error.found(format_args!("a link to {}, which leads nowhere", target.display())),
        Err(_) => error,
    }
}

/// The folder as the system wants it: the working folder has no empty name.
pub(crate) fn or_dot(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}
