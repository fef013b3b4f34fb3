//! [`Io`] that fails on request, for tests.

use super::{Access, Advice, DirEntry, File, Io, Space, Stat};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A method of [`Io`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // each is the method of its name
pub enum Call {
    OpenRead,
    OpenWrite,
    OpenDir,
    CreateNew,
    Stat,
    StatPath,
    StatLink,
    ReadAt,
    WriteAt,
    CopyRange,
    CloneFile,
    SeekData,
    SeekHole,
    Allocate,
    SetLen,
    SetOwner,
    SetMode,
    Sync,
    Advise,
    TryLock,
    MakeDir,
    Rename,
    RenameNoreplace,
    RenameExchange,
    HardLink,
    Unlink,
    RemoveDir,
    ListDir,
    ReadLink,
    Canonicalize,
    Space,
}

/// A call about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// How many calls were made before it.
    pub idx: u64,
    /// Which method.
    pub call: Call,
    /// On what: the (first) path, or the path the file goes by in messages.
    pub path: &'a Path,
}

/// What happens to a call instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and returns this error number of the system (5 is EIO, 28 ENOSPC, 4 EINTR).
    Errno(i32),
    /// A read, write or copy does half of its work (at least a byte); other calls succeed.
    Short,
    /// Neither it nor any later call does anything, as if the process had been killed.
    Halt,
}

type Decide = dyn Fn(&Seen<'_>) -> Option<Fault> + Send + Sync;

/// An [`Io`] in front of another, which counts calls and fails those it is told to.
///
/// ```
/// use modelferry_engine::io::fault::{Fault, FaultIo};
/// use modelferry_engine::io::{Io, OsIo};
/// let io = FaultIo::nth(OsIo, 1, Fault::Errno(5));
/// assert!(io.stat_path("/".as_ref()).is_ok());
/// assert_eq!(io.stat_path("/".as_ref()).unwrap_err().raw_os_error(), Some(5));
/// assert_eq!((io.n_calls(), io.n_faults()), (2, 1));
/// ```
#[derive(Clone)]
pub struct FaultIo(Arc<Inner>);

struct Inner {
    io: Box<dyn Io>,
    decide: Box<Decide>,
    n_calls: AtomicU64,
    n_faults: AtomicU64,
    n_bytes_read: AtomicU64,
    halted: AtomicBool,
    shares_blocks: bool,
}

impl fmt::Debug for FaultIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultIo").field(&self.n_calls()).finish()
    }
}

impl FaultIo {
    /// Asks `decide` before each call. It may also look, wait, or change files under the engine.
    pub fn new(
        io: impl Io + 'static,
        decide: impl Fn(&Seen<'_>) -> Option<Fault> + Send + Sync + 'static,
    ) -> FaultIo {
        FaultIo::with(io, decide, false)
    }

    fn with(
        io: impl Io + 'static,
        decide: impl Fn(&Seen<'_>) -> Option<Fault> + Send + Sync + 'static,
        shares_blocks: bool,
    ) -> FaultIo {
        FaultIo(Arc::new(Inner {
            io: Box::new(io),
            decide: Box::new(decide),
            n_calls: AtomicU64::new(0),
            n_faults: AtomicU64::new(0),
            n_bytes_read: AtomicU64::new(0),
            halted: AtomicBool::new(false),
            shares_blocks,
        }))
    }

    /// Fails the call before which `idx` others were made.
    pub fn nth(io: impl Io + 'static, idx: u64, fault: Fault) -> FaultIo {
        FaultIo::new(io, move |seen| (seen.idx == idx).then_some(fault))
    }

    /// Fails every call of these methods: a file system that lacks them, a disk that stays full.
    pub fn every(io: impl Io + 'static, calls: &'static [Call], fault: Fault) -> FaultIo {
        FaultIo::new(io, move |seen| calls.contains(&seen.call).then_some(fault))
    }

    /// Claims that the file system shares blocks, so that the engine copies inside the kernel where it may.
    pub fn sharing_blocks(io: impl Io + 'static) -> FaultIo {
        FaultIo::with(io, |_| None, true)
    }

    /// Calls made so far.
    pub fn n_calls(&self) -> u64 {
        self.0.n_calls.load(Ordering::Relaxed)
    }

    /// Faults injected so far; of a halt, each call after it counts.
    pub fn n_faults(&self) -> u64 {
        self.0.n_faults.load(Ordering::Relaxed)
    }

    /// Bytes that reads and copies inside the kernel have given so far, of whatever files.
    pub fn n_bytes_read(&self) -> u64 {
        self.0.n_bytes_read.load(Ordering::Relaxed)
    }

    fn pass(&self, call: Call, path: &Path) -> io::Result<Amount> {
        let idx = self.0.n_calls.fetch_add(1, Ordering::Relaxed);
        let fault = if self.0.halted.load(Ordering::Relaxed) {
            Some(Fault::Halt)
        } else {
            (self.0.decide)(&Seen { idx, call, path })
        };
        if fault.is_some() {
            self.0.n_faults.fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            None => Ok(Amount::All),
            Some(Fault::Short) => Ok(Amount::Half),
            Some(Fault::Errno(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Halt) => {
                self.0.halted.store(true, Ordering::Relaxed);
                Err(io::Error::other("the process was killed"))
            }
        }
    }
}

/// How much of the work a call may do.
enum Amount {
    All,
    Half,
}

impl Amount {
    fn of(&self, len: u64) -> u64 {
        match self {
            Amount::All => len,
            Amount::Half => len.div_ceil(2),
        }
    }
}

impl Io for FaultIo {
    fn open_read(&self, path: &Path) -> io::Result<File> {
        self.pass(Call::OpenRead, path)?;
        self.0.io.open_read(path)
    }

    fn open_write(&self, path: &Path) -> io::Result<File> {
        self.pass(Call::OpenWrite, path)?;
        self.0.io.open_write(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<File> {
        self.pass(Call::OpenDir, path)?;
        self.0.io.open_dir(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.pass(Call::CreateNew, path)?;
        self.0.io.create_new(path)
    }

    fn stat(&self, file: &File) -> io::Result<Stat> {
        self.pass(Call::Stat, file.path())?;
        self.0.io.stat(file)
    }

    fn stat_path(&self, path: &Path) -> io::Result<Stat> {
        self.pass(Call::StatPath, path)?;
        self.0.io.stat_path(path)
    }

    fn stat_link(&self, path: &Path) -> io::Result<Stat> {
        self.pass(Call::StatLink, path)?;
        self.0.io.stat_link(path)
    }

    fn read_at(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let len = self.pass(Call::ReadAt, file.path())?.of(out.len() as u64) as usize;
        let n = self.0.io.read_at(file, offset, &mut out[..len])?;
        self.0.n_bytes_read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let len = self.pass(Call::WriteAt, file.path())?.of(bytes.len() as u64) as usize;
        self.0.io.write_at(file, offset, &bytes[..len])
    }

    fn copy_range(
        &self,
        from: &File,
        from_offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> io::Result<u64> {
        let len = self.pass(Call::CopyRange, to.path())?.of(len);
        let n = self.0.io.copy_range(from, from_offset, to, to_offset, len)?;
        self.0.n_bytes_read.fetch_add(n, Ordering::Relaxed);
        Ok(n)
    }

    fn shares_blocks(&self, file: &File) -> bool {
        self.0.shares_blocks || self.0.io.shares_blocks(file)
    }

    fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        self.pass(Call::CloneFile, to.path())?;
        self.0.io.clone_file(from, to)
    }

    fn seek_data(&self, file: &File, offset: u64) -> io::Result<Option<u64>> {
        self.pass(Call::SeekData, file.path())?;
        self.0.io.seek_data(file, offset)
    }

    fn seek_hole(&self, file: &File, offset: u64) -> io::Result<u64> {
        self.pass(Call::SeekHole, file.path())?;
        self.0.io.seek_hole(file, offset)
    }

    fn allocate(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        self.pass(Call::Allocate, file.path())?;
        self.0.io.allocate(file, offset, len)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.pass(Call::SetLen, file.path())?;
        self.0.io.set_len(file, len)
    }

    fn set_owner(&self, file: &File, user: u32, group: u32) -> io::Result<()> {
        self.pass(Call::SetOwner, file.path())?;
        self.0.io.set_owner(file, user, group)
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        self.pass(Call::SetMode, file.path())?;
        self.0.io.set_mode(file, mode)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.pass(Call::Sync, file.path())?;
        self.0.io.sync(file)
    }

    fn advise(&self, file: &File, offset: u64, len: u64, advice: Advice) -> io::Result<()> {
        self.pass(Call::Advise, file.path())?;
        self.0.io.advise(file, offset, len, advice)
    }

    fn try_lock(&self, file: &File) -> io::Result<()> {
        self.pass(Call::TryLock, file.path())?;
        self.0.io.try_lock(file)
    }

    fn make_dir(&self, path: &Path, access: Access) -> io::Result<()> {
        self.pass(Call::MakeDir, path)?;
        self.0.io.make_dir(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Call::Rename, from)?;
        self.0.io.rename(from, to)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Call::RenameNoreplace, from)?;
        self.0.io.rename_noreplace(from, to)
    }

    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.pass(Call::RenameExchange, one)?;
        self.0.io.rename_exchange(one, other)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(Call::HardLink, from)?;
        self.0.io.hard_link(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pass(Call::Unlink, path)?;
        self.0.io.unlink(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.pass(Call::RemoveDir, path)?;
        self.0.io.remove_dir(path)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.pass(Call::ListDir, path)?;
        self.0.io.list_dir(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.pass(Call::ReadLink, path)?;
        self.0.io.read_link(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.pass(Call::Canonicalize, path)?;
        self.0.io.canonicalize(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.pass(Call::Space, path)?;
        self.0.io.space(path)
    }

    fn memory_bytes(&self) -> u64 {
        self.0.io.memory_bytes()
    }
}
