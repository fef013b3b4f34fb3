//! [`Io`] on Linux.

use super::{Access, Advice, DirEntry, File, FileKind, Fingerprint, Identity, Io, Permissions, Space, Stat};
use rustix::fs::{
    self as sys, AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags,
};
use rustix::io::Errno;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The operating system itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsIo;

/// More than this in one `copy_file_range` would keep a cancelled run waiting.
const COPY_BYTES: u64 = 64 << 20;

fn open(path: &Path, flags: OFlags, mode: Mode) -> io::Result<File> {
    // O_NOCTTY: opening a terminal must not make it ours. O_NONBLOCK means nothing for regular files.
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let descriptor = sys::open(path, flags, mode)?;
    Ok(File { descriptor: descriptor.into(), shown: path.to_owned() })
}

fn kind(file_type: FileType) -> FileKind {
    match file_type {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharacterDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Unknown => FileKind::Unknown,
    }
}

// The width and sign of these fields differ between architectures, and none is negative where it matters.
#[allow(clippy::unnecessary_cast)]
fn stat(stat: &sys::Stat) -> Stat {
    let nanoseconds = |seconds: i128, nanoseconds: i128| seconds * 1_000_000_000 + nanoseconds;
    Stat {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        fingerprint: Fingerprint {
            identity: Identity { dev: stat.st_dev as u64, ino: stat.st_ino as u64 },
            len: stat.st_size as u64,
            modified_ns: nanoseconds(stat.st_mtime as i128, stat.st_mtime_nsec as i128),
            changed_ns: nanoseconds(stat.st_ctime as i128, stat.st_ctime_nsec as i128),
        },
        // st_blocks counts 512 bytes whatever the file system's block is (stat(2)).
        disk_bytes: (stat.st_blocks as u64).saturating_mul(512),
        permissions: Permissions {
            user: stat.st_uid as u32,
            group: stat.st_gid as u32,
            mode: stat.st_mode as u32 & 0o777,
        },
        n_names: stat.st_nlink as u64,
    }
}

impl Io for OsIo {
    fn open_read(&self, path: &Path) -> io::Result<File> {
        open(path, OFlags::RDONLY, Mode::empty())
    }

    fn open_write(&self, path: &Path) -> io::Result<File> {
        open(path, OFlags::RDWR | OFlags::NOFOLLOW, Mode::empty())
    }

    fn open_dir(&self, path: &Path) -> io::Result<File> {
        open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        open(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW, mode)
    }

    fn stat(&self, file: &File) -> io::Result<Stat> {
        Ok(stat(&sys::fstat(&file.descriptor)?))
    }

    fn stat_path(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat(&sys::stat(path)?))
    }

    fn stat_link(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat(&sys::lstat(path)?))
    }

    fn read_at(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        file.descriptor.read_at(out, offset)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        file.descriptor.write_at(bytes, offset)
    }

    fn copy_range(
        &self,
        from: &File,
        from_offset: u64,
        to: &File,
        to_offset: u64,
        len: u64,
    ) -> io::Result<u64> {
        let (mut source, mut target) = (from_offset, to_offset);
        let len = len.min(COPY_BYTES) as usize;
        let copied = sys::copy_file_range(
            &from.descriptor,
            Some(&mut source),
            &to.descriptor,
            Some(&mut target),
            len,
        )?;
        Ok(copied as u64)
    }

    fn shares_blocks(&self, file: &File) -> bool {
        // statfs(2) and linux/magic.h: btrfs, xfs, bcachefs, zfs, NFS, CIFS, SMB2.
        const MAGIC: [u32; 7] =
            [0x9123_683e, 0x5846_5342, 0xca45_1a4e, 0x2fc1_2fc1, 0x6969, 0xff53_4d42, 0xfe53_4d42];
        sys::fstatfs(&file.descriptor).is_ok_and(|found| MAGIC.contains(&(found.f_type as u32)))
    }

    fn clone_file(&self, from: &File, to: &File) -> io::Result<()> {
        Ok(sys::ioctl_ficlone(&to.descriptor, &from.descriptor)?)
    }

    fn seek_data(&self, file: &File, offset: u64) -> io::Result<Option<u64>> {
        match sys::seek(&file.descriptor, sys::SeekFrom::Data(offset)) {
            Ok(at) => Ok(Some(at)),
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn seek_hole(&self, file: &File, offset: u64) -> io::Result<u64> {
        Ok(sys::seek(&file.descriptor, sys::SeekFrom::Hole(offset))?)
    }

    fn allocate(&self, file: &File, offset: u64, len: u64) -> io::Result<()> {
        Ok(sys::fallocate(&file.descriptor, FallocateFlags::empty(), offset, len)?)
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        Ok(sys::ftruncate(&file.descriptor, len)?)
    }

    fn set_owner(&self, file: &File, user: u32, group: u32) -> io::Result<()> {
        Ok(sys::fchown(&file.descriptor, Some(sys::Uid::from_raw(user)), Some(sys::Gid::from_raw(group)))?)
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        Ok(sys::fchmod(&file.descriptor, Mode::from_bits_truncate(mode & 0o777))?)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Ok(sys::fsync(&file.descriptor)?)
    }

    fn advise(&self, file: &File, offset: u64, len: u64, advice: Advice) -> io::Result<()> {
        let advice = match advice {
            Advice::Sequential => sys::Advice::Sequential,
            Advice::DontNeed => sys::Advice::DontNeed,
        };
        Ok(sys::fadvise(&file.descriptor, offset, NonZeroU64::new(len), advice)?)
    }

    fn try_lock(&self, file: &File) -> io::Result<()> {
        Ok(sys::flock(&file.descriptor, FlockOperation::NonBlockingLockExclusive)?)
    }

    fn make_dir(&self, path: &Path, access: Access) -> io::Result<()> {
        let mode = match access {
            Access::Private => Mode::RWXU,
            Access::Umask => Mode::RWXU | Mode::RWXG | Mode::RWXO,
        };
        Ok(sys::mkdir(path, mode)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(sys::rename(from, to)?)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(sys::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn rename_exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        Ok(sys::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(sys::linkat(CWD, from, CWD, to, AtFlags::empty())?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        Ok(sys::unlink(path)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(sys::rmdir(path)?)
    }

    fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            use std::os::unix::fs::FileTypeExt;
            let kind = match entry.file_type()? {
                kind if kind.is_file() => FileKind::Regular,
                kind if kind.is_dir() => FileKind::Directory,
                kind if kind.is_symlink() => FileKind::Link,
                kind if kind.is_fifo() => FileKind::Fifo,
                kind if kind.is_socket() => FileKind::Socket,
                kind if kind.is_char_device() => FileKind::CharacterDevice,
                kind if kind.is_block_device() => FileKind::BlockDevice,
                _ => FileKind::Unknown,
            };
            entries.push(DirEntry { name: entry.file_name(), kind });
        }
        Ok(entries)
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::read_link(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let found = sys::statvfs(path)?;
        Ok(Space {
            available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            name_bytes: found.f_namemax as usize,
        })
    }

    fn memory_bytes(&self) -> u64 {
        let found = rustix::system::sysinfo();
        // The type of the field is the machine word.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        let total = found.totalram as u64;
        total.saturating_mul(u64::from(found.mem_unit))
    }
}
