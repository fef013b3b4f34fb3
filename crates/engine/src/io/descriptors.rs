//! A bounded number of open files out of any number of known ones.

use super::{File, is_errno, retry};
use rustix::io::Errno;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// The most recently used open files of a numbered set, at most `cap` of them: a model of 10,000 shards is read under
/// `ulimit -n 64`.
///
/// A file handed out stays open while somebody holds it, so callers hold one only for the time of a call.
#[derive(Debug)]
pub(crate) struct Descriptors {
    cap: usize,
    open: Mutex<Vec<(usize, Arc<File>)>>,
}

impl Descriptors {
    pub(crate) fn new(cap: usize) -> Descriptors {
        Descriptors { cap, open: Mutex::default() }
    }

    /// File `idx`, if it is open.
    pub(crate) fn get(&self, idx: usize) -> Option<Arc<File>> {
        let mut open = self.lock();
        let at = open.iter().position(|(known, _)| *known == idx)?;
        // The most recent stands last. With at most a few dozen entries a scan beats every clever structure.
        let entry = open.remove(at);
        let file = Arc::clone(&entry.1);
        open.push(entry);
        Some(file)
    }

    /// Keeps `file` as number `idx`. If another thread was faster, its file is returned and ours is closed.
    pub(crate) fn insert(&self, idx: usize, file: File) -> Arc<File> {
        let mut open = self.lock();
        if let Some((_, file)) = open.iter().find(|(known, _)| *known == idx) {
            return Arc::clone(file);
        }
        if open.len() >= self.cap {
            open.remove(0);
        }
        let file = Arc::new(file);
        open.push((idx, Arc::clone(&file)));
        file
    }

    /// Opens a file; if the process has too many open, closes ours and tries again.
    pub(crate) fn open(&self, mut open: impl FnMut() -> io::Result<File>) -> io::Result<File> {
        match retry(&mut open) {
            Err(error) if is_errno(&error, &[Errno::MFILE, Errno::NFILE]) => {
                self.close_all();
                retry(&mut open)
            }
            result => result,
        }
    }

    /// Closes all that nobody holds.
    pub(crate) fn close_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Arc<File>)>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
