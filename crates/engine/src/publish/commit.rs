//! Putting staged files in their places, and back again if something fails.

use super::{DONE, NEW, OLD, Output, Replace, Staging, Sync, check_name, exists, is_lockless, make_parents};
use crate::disk::or_dot;
use crate::io::{Access, File, Io, failed, is_absent, is_errno, is_unable, rename_new, retry, twice};
use modelferry_core::ErrorKind;
use modelferry_core::error::{Error, Result};
use rustix::io::Errno;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) fn publish(staging: &mut Staging, sync: Sync) -> Result<()> {
    if staging.replace == Replace::Input {
        take_permissions(staging)?;
    }
    let must_sync = sync == Sync::Always || staging.replaces;
    if must_sync {
        for idx in 0..staging.files.len() {
            let file = staging.file(idx)?;
            retry(|| staging.io.sync(&file)).map_err(|error| failed("syncing", file.path(), error))?;
        }
    }
    if let Some(name) = &staging.new_folder {
        return publish_folder(staging, name, must_sync);
    }
    if staging.files.len() == 1 && staging.stale.is_empty() && staging.relative(0).components().count() == 1 {
        return publish_one(staging, must_sync);
    }
    let _lock = lock_folder(&*staging.io, or_dot(&staging.folder))?;
    let mut done = vec![];
    let result = publish_all(staging, must_sync, &mut done);
    let Err(error) = result else {
        // From here on nothing can make the next run take these files for half a set. Without it only a file that
        // somebody removes while we are being killed could.
        let _ = retry(|| staging.io.rename(&staging.dir.join(NEW), &staging.dir.join(DONE)));
        return Ok(());
    };
    for step in done.iter().rev() {
        if undo(staging, step).is_err() {
            // Better debris than a lost file.
            staging.keep = true;
        }
    }
    if staging.keep {
        let what = format!("not everything could be put back; the rest is in {}", staging.dir.display());
        return Err(Error::new(ErrorKind::Io, what).file(staging.output.display()).source(error));
    }
    Err(error)
}

/// A new folder: one step.
fn publish_folder(staging: &Staging, name: &Path, must_sync: bool) -> Result<()> {
    let io = &*staging.io;
    let (from, to) = (staging.dir.join(NEW).join(name), staging.folder.join(name));
    if must_sync {
        sync_folders(staging, |idx| staging.path(idx))?;
    }
    place(io, &from, &to)?;
    if must_sync { sync_around(staging, &to) } else { Ok(()) }
}

/// Waits until what has taken its place in one step is there on the disk too.
fn sync_around(staging: &Staging, placed: &Path) -> Result<()> {
    sync_dir(&*staging.io, or_dot(&staging.folder))
        .map_err(|error| error.hint(format!("the new {} is complete and in its place", placed.display())))
}

/// Waits until the names in the folders of all files are on the disk.
fn sync_folders(staging: &Staging, path: impl Fn(usize) -> PathBuf) -> Result<()> {
    let mut synced = HashSet::new();
    for idx in 0..staging.files.len() {
        let path = path(idx);
        let folder = path.parent().unwrap_or(Path::new(""));
        if synced.insert(folder.to_owned()) {
            sync_dir(&*staging.io, or_dot(folder))?;
        }
    }
    Ok(())
}

/// One file: one step.
fn publish_one(staging: &Staging, must_sync: bool) -> Result<()> {
    let io = &*staging.io;
    let (from, to) = (staging.path(0), staging.final_path(0));
    check_name(io, &to, &as_output(staging))?;
    match staging.replace {
        Replace::Refuse => place(io, &from, &to)?,
        Replace::Force | Replace::Input => {
            retry(|| io.rename(&from, &to)).map_err(|error| failed("renaming into place", &to, error))?;
        }
    }
    if must_sync { sync_around(staging, &to) } else { Ok(()) }
}

/// Gives the staged file the owner and permissions of the one it will replace. Who cannot give it the group keeps
/// that group's rights from it: another group must not get them.
fn take_permissions(staging: &Staging) -> Result<()> {
    let io = &*staging.io;
    let path = staging.final_path(0);
    let at_fault = |error| failed("taking over its permissions", &path, error);
    let wanted = retry(|| io.stat_link(&path)).map_err(at_fault)?.permissions;
    let file = staging.file(0)?;
    let mut found = retry(|| io.stat(&file)).map_err(at_fault)?.permissions;
    let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied || is_unable(error);
    // Giving it to the user too takes a privilege; to a group of one's own, none.
    for user in [wanted.user, found.user] {
        if (found.user, found.group) == (user, wanted.group) {
            break;
        }
        match retry(|| io.set_owner(&file, user, wanted.group)) {
            Ok(()) => {
                (found.user, found.group) = (user, wanted.group);
                // It may have taken rights away: what they are now is not known.
                found.mode = u32::MAX;
                break;
            }
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(at_fault(error)),
        }
    }
    let mut mode = wanted.mode;
    if found.group != wanted.group {
        mode &= !0o070 | (mode & 0o007) << 3;
    }
    match found.mode == mode {
        true => Ok(()),
        false => retry(|| io.set_mode(&file, mode)).map_err(at_fault),
    }
}

/// Something done on the way to publication.
enum Step {
    /// The file was moved out of the way.
    Aside { from: PathBuf, to: PathBuf },
    /// The staged file took its place.
    Placed { idx: usize },
    /// A folder was made for it.
    MadeDir(PathBuf),
}

fn publish_all(staging: &Staging, must_sync: bool, done: &mut Vec<Step>) -> Result<()> {
    let io = &*staging.io;
    let output = as_output(staging);
    if !staging.is_folder {
        check_name(io, &staging.output, &output)?;
    }
    let others = (0..staging.files.len()).filter(|idx| !staging.roots.contains(idx));
    let roots = staging.roots.iter().copied();
    if staging.replace == Replace::Force {
        let old = staging.dir.join(OLD);
        retry(|| io.make_dir(&old, Access::Private))
            .map_err(|error| failed("making a temporary folder", &old, error))?;
        let mut made = HashSet::new();
        let replaced = roots.clone().chain(others.clone()).map(|idx| staging.relative(idx));
        for relative in replaced.chain(staging.stale.iter().map(PathBuf::as_path)) {
            let path = staging.folder.join(relative);
            if check_name(io, &path, &output)? {
                make_parents(io, &old, relative, &mut made)?;
                let aside = old.join(relative);
                rename_new(io, &path, &aside).map_err(|error| failed("moving it aside", &path, error))?;
                done.push(Step::Aside { from: path, to: aside });
            }
        }
    }
    for idx in others.chain(roots) {
        for parent in staging.relative(idx).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let path = staging.folder.join(parent);
            if parent.as_os_str().is_empty() {
                continue;
            }
            match retry(|| io.make_dir(&path, Access::Umask)) {
                Ok(()) => done.push(Step::MadeDir(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => super::check_parent(io, &path)?,
                Err(error) => return Err(failed("making a folder of the output", &path, error)),
            }
        }
        place_one_of_many(io, &staging.path(idx), &staging.final_path(idx))?;
        done.push(Step::Placed { idx });
    }
    if must_sync {
        sync_folders(staging, |idx| staging.final_path(idx))?;
    }
    Ok(())
}

fn place(io: &dyn Io, from: &Path, to: &Path) -> Result<()> {
    rename_new(io, from, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(to),
        _ => failed("renaming into place", to, error),
    })
}

/// Gives a staged file its final name beside its staged one, where the file system can: if this process dies before
/// all have theirs, the next run knows by the other name which files to take away again.
fn place_one_of_many(io: &dyn Io, from: &Path, to: &Path) -> Result<()> {
    match retry(|| io.hard_link(from, to)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(to)),
        Err(error) if is_unable(&error) || is_errno(&error, &[Errno::ACCESS, Errno::MLINK]) => {
            place(io, from, to)
        }
        Err(error) => Err(failed("putting it in its place", to, error)),
    }
}

/// Takes one step back. What is no longer as the step has left it is somebody else's and stays.
fn undo(staging: &Staging, step: &Step) -> io::Result<()> {
    let io = &*staging.io;
    match step {
        Step::Aside { from, to } => twice(|| rename_new(io, to, from)),
        Step::Placed { idx } => {
            let path = staging.final_path(*idx);
            match twice(|| io.stat_link(&path)) {
                Ok(stat) if stat.fingerprint.identity == staging.files[*idx].identity => {
                    let staged = staging.path(*idx);
                    match twice(|| io.stat_link(&staged)) {
                        // Two names of one file: renaming one to the other would do nothing.
                        Ok(_) => twice(|| io.unlink(&path)),
                        Err(error) if is_absent(&error) => twice(|| io.rename(&path, &staged)),
                        Err(error) => Err(error),
                    }
                }
                Ok(_) => Ok(()),
                Err(error) if is_absent(&error) => Ok(()),
                Err(error) => Err(error),
            }
        }
        Step::MadeDir(path) => {
            let _ = twice(|| io.remove_dir(path));
            Ok(())
        }
    }
}

fn as_output(staging: &Staging) -> Output<'_> {
    Output {
        path: &staging.output,
        is_folder: staging.is_folder,
        files: &[],
        roots: &[],
        replace: staging.replace,
        supersedes: &[],
        inputs: &staging.inputs,
    }
}

/// Waits until no other run is publishing a set of files in this folder: two forced ones must not mix theirs.
fn lock_folder(io: &dyn Io, folder: &Path) -> Result<Option<File>> {
    const STEP: Duration = Duration::from_millis(10);
    const PATIENCE: u32 = 3000;
    let file = retry(|| io.open_dir(folder)).map_err(|error| failed("opening", folder, error))?;
    for _ in 0..PATIENCE {
        match retry(|| io.try_lock(&file)) {
            Ok(()) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(STEP),
            Err(error) if is_lockless(&error) => return Ok(None),
            Err(error) => return Err(failed("locking", folder, error)),
        }
    }
    Err(Error::new(ErrorKind::Io, "another run has been publishing in this folder for 30 s")
        .file(folder.display()))
}

/// Waits until the names in a folder are on the disk, where the file system lets folders be synced.
fn sync_dir(io: &dyn Io, folder: &Path) -> Result<()> {
    let result = retry(|| io.open_dir(folder)).and_then(|file| retry(|| io.sync(&file)));
    match result {
        Err(error) if is_unable(&error) || is_errno(&error, &[Errno::BADF, Errno::ACCESS]) => Ok(()),
        result => result.map_err(|error| failed("syncing", folder, error)),
    }
}
