//! Removing what is staged: one's own when it is done with, and that of the dead.

use super::{IN_FOLDER, LOCK, NEW, OLD, names};
use crate::disk::or_dot;
use crate::io::{FileKind, Io, is_absent, remove_tree, rename_new, retry, twice};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// What became of the staging folders of dead runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files that a run killed in the middle of replacing a set had moved aside are back in their places.
    pub restored: bool,
    /// A staging folder was left alone, because it holds such files and their places are taken.
    pub kept: bool,
}

/// Removes the staging folders of runs for `output` that were killed. A run that lives holds its lock and keeps its
/// folder. What cannot be removed stays: it is in nobody's way.
///
/// A run that was killed while it published a set of files may have given some of them their names already: these go.
/// What it was replacing is in its folder and goes back if all its places are free; else the folder stays until a run
/// for `output` has succeeded.
///
/// [`Staging::begin`](super::Staging::begin) does this. Do it before asking for free space, for the dead may hold it.
pub fn remove_leftovers(io: &dyn Io, output: &Path) -> Leftovers {
    for_each_dead(io, output, |folder, dir| {
        let mut leftovers = Leftovers::default();
        let (placed, waiting) = staged(io, folder, &dir.join(NEW))?;
        // With nothing waiting for its name the run had published all, and what it replaced was to go.
        if !waiting.is_empty() {
            for path in &placed {
                retry(|| io.unlink(&folder.join(path)))?;
            }
            let old = files_below(io, &dir.join(OLD))?;
            let is_free = |path: &PathBuf| {
                retry(|| io.stat_link(&folder.join(path))).is_err_and(|error| is_absent(&error))
            };
            if !old.iter().all(is_free) {
                return Ok(Leftovers { kept: true, restored: false });
            }
            for path in old {
                rename_new(io, &dir.join(OLD).join(&path), &folder.join(&path))?;
                leftovers.restored = true;
            }
            // The folders it made for them, or was about to; those with anything in them stay.
            for parent in parents(placed.iter().chain(&waiting)) {
                let _ = retry(|| io.remove_dir(&folder.join(parent)));
            }
        }
        remove_staging(io, dir)?;
        Ok(leftovers)
    })
}

/// The folders around files, deepest first.
fn parents<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Vec<&'a Path> {
    let around = paths.flat_map(|path| path.ancestors().skip(1)).filter(|path| !path.as_os_str().is_empty());
    let parents: BTreeSet<&Path> = around.collect();
    parents.into_iter().rev().collect()
}

/// The files that a run has staged: those that have their final names too, and those that do not.
fn staged(io: &dyn Io, folder: &Path, new: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut placed, mut waiting) = (vec![], vec![]);
    for path in files_below(io, new)? {
        let ours = retry(|| io.stat_link(&new.join(&path)))?.fingerprint.identity;
        match retry(|| io.stat_link(&folder.join(&path))) {
            Ok(found) if found.fingerprint.identity == ours => placed.push(path),
            Ok(_) => waiting.push(path),
            Err(error) if is_absent(&error) => waiting.push(path),
            Err(error) => return Err(error),
        }
    }
    Ok((placed, waiting))
}

/// Removes all that dead runs for `output` have left: after a run that has succeeded.
pub(super) fn remove_all_leftovers(io: &dyn Io, output: &Path) {
    for_each_dead(io, output, |_, dir| remove_staging(io, dir).map(|()| Leftovers::default()));
}

/// Calls `remove` with the output's folder and each staging folder for `output` whose run is dead.
fn for_each_dead(
    io: &dyn Io,
    output: &Path,
    remove: impl Fn(&Path, &Path) -> io::Result<Leftovers>,
) -> Leftovers {
    let mut all = Leftovers::default();
    // Beside the output, or in it where it is a folder.
    for_each_dead_named(io, output, IN_FOLDER.as_ref(), &remove, &mut all);
    if let Some(name) = output.file_name() {
        for_each_dead_named(io, output.parent().unwrap_or(Path::new("")), name, &remove, &mut all);
    }
    all
}

fn for_each_dead_named(
    io: &dyn Io,
    folder: &Path,
    name: &OsStr,
    remove: &impl Fn(&Path, &Path) -> io::Result<Leftovers>,
    all: &mut Leftovers,
) {
    let prefix = prefix(io, folder, name);
    let Ok(entries) = retry(|| io.list_dir(or_dot(folder))) else { return };
    for entry in entries {
        if entry.kind != FileKind::Directory || !names::is_staging(&entry.name, &prefix) {
            continue;
        }
        let dir = folder.join(&entry.name);
        match retry(|| io.open_write(&dir.join(LOCK))) {
            Ok(lock) => {
                if retry(|| io.try_lock(&lock)).is_ok() {
                    let found = remove(folder, &dir).unwrap_or_default();
                    all.restored |= found.restored;
                    all.kept |= found.kept;
                }
            }
            // Either about to be locked or almost removed: in both cases it goes only if it is empty.
            Err(error) if is_absent(&error) => drop(retry(|| io.remove_dir(&dir))),
            Err(_) => {}
        }
    }
}

/// The beginning of the staging names of `name` in `folder`.
pub(super) fn prefix(io: &dyn Io, folder: &Path, name: &OsStr) -> OsString {
    let limit = match retry(|| io.space(or_dot(folder))) {
        Ok(space) if space.name_bytes > 0 => space.name_bytes.min(255),
        _ => 255,
    };
    names::staging_prefix(name, limit)
}

/// The regular files in `base` and the folders below, relative to it; nothing if it is not there.
fn files_below(io: &dyn Io, base: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![];
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = match retry(|| io.list_dir(&base.join(&folder))) {
            Err(error) if is_absent(&error) => continue,
            result => result?,
        };
        for entry in entries {
            let path = folder.join(&entry.name);
            match entry.kind {
                FileKind::Directory => folders.push(path),
                FileKind::Regular => files.push(path),
                _ => {}
            }
        }
    }
    Ok(files)
}

/// Removes a staging folder, the lock last: a folder with anything in it is never without its lock.
pub(super) fn remove_staging(io: &dyn Io, dir: &Path) -> io::Result<()> {
    let entries = match twice(|| io.list_dir(dir)) {
        Err(error) if is_absent(&error) => return Ok(()),
        result => result?,
    };
    let mut first = Ok(());
    // `old` after `new` and `done`: see what `remove_leftovers` concludes from an empty `new`.
    let mut names: Vec<&OsString> = entries.iter().map(|entry| &entry.name).collect();
    names.sort_unstable();
    for name in names.into_iter().filter(|name| *name != LOCK) {
        first = first.and(remove_tree(io, &dir.join(name)));
    }
    first?;
    remove_tree(io, &dir.join(LOCK))?;
    match twice(|| io.remove_dir(dir)) {
        Err(error) if is_absent(&error) => Ok(()),
        result => result,
    }
}
