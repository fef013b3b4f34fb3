//! The one door to the operating system.
//!
//! Everything the engine asks of the system is one method of [`Io`], one system call each, so that a test can make
//! the Nth of them fail ([`fault::FaultIo`]). [`File`] keeps its descriptor to itself: nothing goes around the door.
//! The trait speaks `std::io`; the functions beside it add what every caller owes (short counts, interrupted calls,
//! the file's name in the error).

use modelferry_core::error::{Error, Result};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

mod descriptors;
pub mod fault;
mod os;

pub(crate) use descriptors::Descriptors;
pub use os::OsIo;

/// The largest single read or write the helpers make. Writes of 4 MiB run at a quarter of the speed (DESIGN
/// section 7).
pub const CHUNK_BYTES: usize = 1 << 20;

/// An open file or folder. What can be done with it are the methods of [`Io`].
#[derive(Debug)]
pub struct File {
    descriptor: std::fs::File,
    shown: PathBuf,
}

impl File {
    /// The path used in messages.
    pub fn path(&self) -> &Path {
        &self.shown
    }

    /// Sets the path used in messages: a staged file goes by the name it will have.
    pub fn shown_as(mut self, path: impl Into<PathBuf>) -> File {
        self.shown = path.into();
        self
    }
}

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO (named pipe).
    Fifo,
    /// A socket.
    Socket,
    /// A character device, such as a terminal.
    CharacterDevice,
    /// A block device, such as a disk.
    BlockDevice,
    /// Something this system knows and we do not.
    Unknown,
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Regular => "a regular file",
            FileKind::Directory => "a directory",
            FileKind::Link => "a symbolic link",
            FileKind::Fifo => "a FIFO",
            FileKind::Socket => "a socket",
            FileKind::CharacterDevice => "a character device",
            FileKind::BlockDevice => "a block device",
            FileKind::Unknown => "no regular file",
        })
    }
}

/// Which file it is, whatever its name: equal for two names of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The file system's number.
    pub dev: u64,
    /// The file's number in it.
    pub ino: u64,
}

/// What changes when a file is replaced, resized or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Which file it is.
    pub identity: Identity,
    /// Length in bytes.
    pub len: u64,
    /// Last change of content, in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Last change of content or attributes, in nanoseconds since 1970. Programs set `modified_ns` back (`cp -p`,
    /// `touch`), not this.
    pub changed_ns: i128,
}

/// What the system knows about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Which one, and its state.
    pub fingerprint: Fingerprint,
    /// Bytes of disk it takes: less than its length if it has holes (or is compressed by the file system).
    pub disk_bytes: u64,
    /// Who may do what with it.
    pub permissions: Permissions,
    /// Names it has.
    pub n_names: u64,
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// The user it belongs to.
    pub user: u32,
    /// The group it belongs to.
    pub group: u32,
    /// The nine bits for user, group and others.
    pub mode: u32,
}

/// Room in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes a user without privileges may still write.
    pub available_bytes: u64,
    /// Bytes in all; 0 where the file system does not say, and then nothing can be concluded.
    pub total_bytes: u64,
    /// Longest file name in bytes; 0 where the file system does not say.
    pub name_bytes: usize,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without its folder.
    pub name: OsString,
    /// What it is; links are not followed.
    pub kind: FileKind,
}

/// How a range of a file will be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Read once, in order.
    Sequential,
    /// Not needed in the page cache any more. Dirty pages are not dropped, but Linux starts writing them: asked once
    /// behind the writer and again one window later, this is write-behind.
    DontNeed,
}

/// Who may look into a new folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The user alone.
    Private,
    /// Whom the umask allows.
    Umask,
}

/// The system calls of the engine.
///
/// Each method is one call and may fail, be interrupted, or do part of the work, as the system itself may; the
/// functions of this module and [`retry`] deal with that. Offsets and lengths are in bytes. Nothing here touches a
/// file's own position except [`seek_data`](Io::seek_data) and [`seek_hole`](Io::seek_hole), which nobody reads from,
/// so one [`File`] serves many threads.
pub trait Io: Send + Sync + fmt::Debug {
    /// Opens for reading, never waiting (a FIFO without a writer would wait for ever).
    fn open_read(&self, path: &Path) -> io::Result<File>;
    /// Opens an existing file for reading and writing; a link as the last part of `path` is an error.
    fn open_write(&self, path: &Path) -> io::Result<File>;
    /// Opens a folder, to lock or to sync it.
    fn open_dir(&self, path: &Path) -> io::Result<File>;
    /// Makes a file that is not there yet, with the mode the umask gives, for reading and writing.
    fn create_new(&self, path: &Path) -> io::Result<File>;
    /// What is open.
    fn stat(&self, file: &File) -> io::Result<Stat>;
    /// What is at `path`, links followed.
    fn stat_path(&self, path: &Path) -> io::Result<Stat>;
    /// What is at `path`, which may be a link.
    fn stat_link(&self, path: &Path) -> io::Result<Stat>;
    /// Reads at most `out.len()` bytes; 0 is the end of the file.
    fn read_at(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes at most `bytes.len()` bytes.
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Copies at most `len` bytes inside the kernel; 0 is the end of the source. Where the file system can share
    /// blocks and both offsets are aligned to them, Linux shares instead of copying.
    fn copy_range(
        &self,
        from: &File,
        from_offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> io::Result<u64>;
    /// Whether the file's file system can share blocks between files or copy them without sending them through this
    /// machine (btrfs, xfs, bcachefs, zfs, NFS, SMB). Elsewhere [`copy_range`](Io::copy_range) runs on one thread at a
    /// time and loses to parallel reads and writes: 0.44 s against 0.30 s for 1.6 GB on ext4.
    fn shares_blocks(&self, file: &File) -> bool;
    /// Makes `to` share all blocks of `from` (FICLONE). A range has no safe binding; [`copy_range`](Io::copy_range)
    /// shares aligned ranges by itself.
    fn clone_file(&self, from: &File, to: &File) -> io::Result<()>;
    /// The first byte at or after `offset` that is in no hole; none if there is only a hole up to the end.
    fn seek_data(&self, file: &File, offset: u64) -> io::Result<Option<u64>>;
    /// The first byte at or after `offset` that is in a hole, or the length of the file.
    fn seek_hole(&self, file: &File, offset: u64) -> io::Result<u64>;
    /// Reserves disk for a range, lengthening the file to hold it.
    fn allocate(&self, file: &File, offset: u64, len: u64) -> io::Result<()>;
    /// Sets the length; what is new is a hole.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()>;
    /// Gives the file to a user and a group. Without privileges, groups of one's own are all one can give it to.
    fn set_owner(&self, file: &File, user: u32, group: u32) -> io::Result<()>;
    /// Sets the nine permission bits.
    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()>;
    /// Waits until content and attributes are on the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Says how a range will be used; `len` 0 is up to the end.
    fn advise(&self, file: &File, offset: u64, len: u64, advice: Advice) -> io::Result<()>;
    /// Takes the file's exclusive lock, or fails with `WouldBlock`. It ends when the last [`File`] of this opening is
    /// dropped, or the process dies.
    fn try_lock(&self, file: &File) -> io::Result<()>;
    /// Makes a folder.
    fn make_dir(&self, path: &Path, access: Access) -> io::Result<()>;
    /// Renames, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames unless something is there, in one step. Not every file system can; [`rename_new`] always works.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Swaps two names in one step. Not every file system can.
    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name that is no folder.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no particular order.
    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;
    /// Where a link leads.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// The absolute path without links.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
    /// Room in the file system of `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// The machine's memory in bytes. Not a call that fails.
    fn memory_bytes(&self) -> u64;
}

/// Repeats `call` while a signal interrupts it.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// An error of kind [`Io`](modelferry_core::ErrorKind::Io): what was being done (`reading`), to which file, and why
/// it failed.
pub fn failed(doing: &'static str, path: &Path, error: io::Error) -> Error {
    Error::io(doing, error).file(path.display())
}

/// The error of an input that is no longer what it was.
pub fn changed(path: &Path) -> Error {
    Error::new(modelferry_core::ErrorKind::Io, "the input changed during the run").file(path.display())
}

/// What is at `path`, or none if nothing is. A link is followed only if `follow` says so.
pub fn look(io: &dyn Io, path: &Path, follow: Follow) -> Result<Option<Stat>> {
    let stat = retry(|| match follow {
        Follow::Yes => io.stat_path(path),
        Follow::No => io.stat_link(path),
    });
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(failed("looking at it", path, error)),
    }
}

/// Whether the last part of a path is followed when it is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Fills `out` from byte `offset` on. Errors: I/O; an end before that means that the file was cut after its length
/// was taken.
pub fn read_exact_at(io: &dyn Io, file: &File, offset: u64, out: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < out.len() {
        let end = out.len().min(done + CHUNK_BYTES);
        let at = offset.saturating_add(done as u64);
        match retry(|| io.read_at(file, at, &mut out[done..end])) {
            Ok(0) => return Err(ended_early(file, at)),
            Ok(n) => done += n,
            Err(error) => return Err(failed("reading", file.path(), error).offset(at)),
        }
    }
    Ok(())
}

/// Writes all of `bytes` from byte `offset` on.
pub fn write_all_at(io: &dyn Io, file: &File, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let end = bytes.len().min(done + CHUNK_BYTES);
        let at = offset.saturating_add(done as u64);
        match retry(|| io.write_at(file, at, &bytes[done..end])) {
            Ok(0) => return Err(failed("writing", file.path(), io::ErrorKind::WriteZero.into()).offset(at)),
            Ok(n) => done += n,
            Err(error) => return Err(failed("writing", file.path(), error).offset(at)),
        }
    }
    Ok(())
}

/// Copies `len` bytes between two files: inside the kernel where it can, else through memory.
pub fn copy_all(io: &dyn Io, from: &File, from_at: u64, to: &File, to_at: u64, len: u64) -> Result<()> {
    let mut done = 0;
    while done < len {
        let (source, target) = (from_at.saturating_add(done), to_at.saturating_add(done));
        match retry(|| io.copy_range(from, source, to, target, len - done)) {
            // Some file systems answer 0 where there is data; reading tells that from the end.
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if is_unable(&error) => break,
            Err(error) => return Err(failed("copying into it", to.path(), error).offset(target)),
        }
    }
    if done == len {
        return Ok(());
    }
    let mut buffer = vec![0; (len - done).min(CHUNK_BYTES as u64 / 4) as usize];
    while done < len {
        let part = (len - done).min(buffer.len() as u64) as usize;
        read_exact_at(io, from, from_at.saturating_add(done), &mut buffer[..part])?;
        write_all_at(io, to, to_at.saturating_add(done), &buffer[..part])?;
        done += part as u64;
    }
    Ok(())
}

/// Says that the whole file is not needed in memory any more; see [`Advice::DontNeed`]. A file system without advice
/// is as good.
pub fn advise_done(io: &dyn Io, file: &File) -> Result<()> {
    let _ = retry(|| io.advise(file, 0, 0, Advice::DontNeed));
    Ok(())
}

/// Renames `from` to the free name `to`, in the best way the file system has: one step, else a link and an unlink,
/// else (FAT) a look and a rename. Fails with `AlreadyExists` if the name is taken.
pub fn rename_new(io: &dyn Io, from: &Path, to: &Path) -> io::Result<()> {
    match retry(|| io.rename_noreplace(from, to)) {
        Err(error) if is_unable(&error) => {}
        result => return result,
    }
    match retry(|| io.hard_link(from, to)) {
        Ok(()) => {
            // Two names of one file: if the old one cannot be removed, the new one must go again.
            return match twice(|| io.unlink(from)) {
                Ok(()) => Ok(()),
                Err(error) => {
                    let _ = twice(|| io.unlink(to));
                    Err(error)
                }
            };
        }
        Err(error) if is_unable(&error) => {}
        // A folder has no hard links (EPERM is how Linux says so).
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(error),
    }
    match retry(|| io.stat_link(to)) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if is_absent(&error) => retry(|| io.rename(from, to)),
        Err(error) => Err(error),
    }
}

/// Calls again once if it fails: for undoing and tidying, where giving up at a passing fault leaves debris.
pub(crate) fn twice<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    retry(&mut call).or_else(|_| retry(&mut call))
}

/// Removes a file, or a folder with all that is in it; links are removed, not followed. Goes on after a failure and
/// reports the first.
pub(crate) fn remove_tree(io: &dyn Io, path: &Path) -> io::Result<()> {
    // Ours are three levels deep; whatever is deeper is not ours.
    const DEPTH: usize = 16;
    fn remove(io: &dyn Io, path: &Path, kind: FileKind, depth: usize) -> io::Result<()> {
        if kind != FileKind::Directory {
            return match twice(|| io.unlink(path)) {
                Err(error) if is_absent(&error) => Ok(()),
                result => result,
            };
        }
        if depth == 0 {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let mut first = Ok(());
        for entry in twice(|| io.list_dir(path))? {
            let result = remove(io, &path.join(&entry.name), entry.kind, depth - 1);
            first = first.and(result);
        }
        first.and(twice(|| io.remove_dir(path)))
    }
    match twice(|| io.stat_link(path)) {
        Ok(stat) => remove(io, path, stat.kind, DEPTH),
        Err(error) if is_absent(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reserves `len` bytes of disk for a new file; where the file system cannot, only sets its length.
pub fn allocate_or_set_len(io: &dyn Io, file: &File, len: u64) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    match retry(|| io.allocate(file, 0, len)) {
        Ok(()) => return Ok(()),
        Err(error) if is_unable(&error) => {}
        Err(error) => {
            return Err(
                failed("reserving its space", file.path(), error).expected(format_args!("{len} bytes"))
            );
        }
    }
    retry(|| io.set_len(file, len)).map_err(|error| failed("setting its length", file.path(), error))
}

/// Whether the error says that nothing is there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether the error says that the file system or the kernel lacks the call, so that another way can be tried.
pub fn is_unable(error: &io::Error) -> bool {
    let unable = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::XDEV, Errno::NOTTY, Errno::PERM];
    is_errno(error, &unable)
}

/// Whether the error is one of these of the system.
pub(crate) fn is_errno(error: &io::Error, errnos: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| errnos.iter().any(|errno| errno.raw_os_error() == code))
}

fn ended_early(file: &File, at: u64) -> Error {
    Error::new(modelferry_core::ErrorKind::Io, "the file ended early: it changed during the run")
        .file(file.path().display())
        .offset(at)
}

#[cfg(test)]
mod tests;
