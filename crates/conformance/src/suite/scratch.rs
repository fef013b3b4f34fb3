//! A folder for the suite's own files, and what lies in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A folder that is removed with everything in it.
pub(super) struct Scratch {
    path: PathBuf,
    next: AtomicU64,
    is_kept: bool,
}

/// Two suites in one process need two folders.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Scratch {
    pub(super) fn new() -> io::Result<Scratch> {
        let name =
            format!("modelferry-conformance-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        // Without links in it, as the system names the files that are open.
        Ok(Scratch { path: path.canonicalize()?, next: AtomicU64::new(0), is_kept: false })
    }

    /// A new empty folder in this one.
    pub(super) fn folder(&self) -> io::Result<Scratch> {
        let path = self.path.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path)?;
        Ok(Scratch { path, next: AtomicU64::new(0), is_kept: false })
    }

    /// The folder's path; it goes when the folder around it goes.
    pub(super) fn keep(mut self) -> PathBuf {
        self.is_kept = true;
        self.path.clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Every file below this folder, by its path relative to it, with its content.
    pub(super) fn files(&self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for path in walk(&self.path)? {
            let name = path.strip_prefix(&self.path).unwrap_or(&path).to_string_lossy().into_owned();
            files.insert(name, fs::read(&path)?);
        }
        Ok(files)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed lies in the system's folder for temporary files, which is emptied by others.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Every file below a folder, sorted.
pub(super) fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Files below these folders, which have no links in their paths, that this process holds open.
pub(super) fn open_files(folders: &[&Path]) -> Vec<PathBuf> {
    // Other systems than Linux do not tell; there is nothing to check.
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return vec![] };
    let targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.filter(|target| folders.iter().any(|folder| target.starts_with(folder))).collect()
}
