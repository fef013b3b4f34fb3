//! A folder for one conversion, and what lies in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What lies below a folder: files with their content, folders with none.
pub(super) type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A folder that is removed with everything in it. In memory where there is such a file system: thousands of runs
/// that sync would wait for the disk.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> io::Result<Folder> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("modelferry-faults-{}-{n}", std::process::id()));
        fs::create_dir(&path)?;
        // Without links in it, as the system names the files that are open.
        Ok(Folder(path.canonicalize()?))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies where others tidy up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes `folder` hold these files and nothing else. Runs of zeros become holes.
pub(super) fn fill<'a>(folder: &Path, files: impl Iterator<Item = (&'a Path, &'a [u8])>) -> io::Result<()> {
    const BLOCK: usize = 4096;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir(folder)?;
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = fs::File::create(path)?;
        file.set_len(bytes.len() as u64)?;
        for (idx, block) in bytes.chunks(BLOCK).enumerate() {
            if block.iter().any(|&byte| byte != 0) {
                file.write_all_at(block, (idx * BLOCK) as u64)?;
            }
        }
    }
    Ok(())
}

/// What lies in `folder`.
pub(super) fn tree(folder: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path.clone());
                tree.insert(path, None);
            } else {
                tree.insert(path, Some(fs::read(entry.path())?));
            }
        }
    }
    Ok(tree)
}

/// The names of a tree, for messages.
pub(super) fn names(tree: &Tree) -> String {
    let names: Vec<String> = tree
        .iter()
        .map(|(path, content)| match content {
            Some(bytes) => format!("{} ({} bytes)", path.display(), bytes.len()),
            None => format!("{}/", path.display()),
        })
        .collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// A file below `folder` that this process holds open.
pub(super) fn open_file(folder: &Path) -> Option<PathBuf> {
    // Other systems than Linux do not tell; there is nothing to check.
    let descriptors = fs::read_dir("/proc/self/fd").ok()?;
    let mut targets = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.find(|target| target.starts_with(folder))
}
