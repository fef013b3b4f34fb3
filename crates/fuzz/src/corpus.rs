//! Files to begin with.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// A file of testdata.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path below testdata.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Files that are larger teach a mutation loop nothing more.
const MAX_BYTES: u64 = 1 << 16;

/// Folders of testdata whose files are good beginnings.
const FOLDERS: [&str; 2] = ["models", "bad"];

/// Every small file that readers are tried on.
///
/// Errors: a folder that cannot be read.
pub fn files(testdata: &Path) -> io::Result<Vec<File>> {
    let mut files = vec![];
    for folder in FOLDERS {
        for path in walk(&testdata.join(folder))? {
            let is_note =
                path.extension().is_some_and(|extension| extension == "expect" || extension == "md");
            // Links, sockets and devices are part of testdata too.
            let is_plain =
                path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES);
            if is_plain && !is_note {
                let name = path.strip_prefix(testdata).unwrap_or(&path).to_string_lossy().into_owned();
                files.push(File { name, bytes: fs::read(&path)? });
            }
        }
    }
    Ok(files)
}

/// Inputs of a target that once were faults: name and content, by name.
///
/// Errors: a folder that cannot be read; one that is not there is empty.
pub fn kept(testdata: &Path, target: &str) -> io::Result<Vec<File>> {
    let folder = testdata.join("fuzz").join(target);
    if !folder.is_dir() {
        return Ok(vec![]);
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(testdata).unwrap_or(&path).to_string_lossy().into_owned();
        Ok(File { name, bytes: fs::read(&path)? })
    };
    walk(&folder)?
        .into_iter()
        .filter(|path| path.extension().is_none_or(|end| end != "md"))
        .map(read)
        .collect()
}

fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    Ok(found)
}
