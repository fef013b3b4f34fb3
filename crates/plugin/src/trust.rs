//! Whether a library may be opened: opening one runs its code before any function of it is called.

use modelferry_core::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Anybody may write.
const BY_OTHERS: u32 = 0o002;
/// The group may write.
const BY_GROUP: u32 = 0o020;
/// In a folder that anybody may write only owners remove what is theirs.
const STICKY: u32 = 0o1000;

/// The library's real path, if neither it nor a folder on its way can be changed by others.
///
/// Errors, all of kind [`Plugin`](modelferry_core::ErrorKind::Plugin): it is not there or no file, it or a folder
/// belongs to a stranger or can be written by others.
pub fn resolve(library: &Path) -> Result<PathBuf> {
    let named = |error: Error| error.file(library.display());
    let real = library
        .canonicalize()
        .map_err(|error| named(Error::plugin("the plugin's library cannot be opened").source(error)))?;
    for part in real.ancestors() {
        let found = part
            .symlink_metadata()
            .map_err(|error| named(Error::plugin("the plugin's library cannot be opened").source(error)))?;
        if part == real && !found.is_file() {
            return Err(named(Error::plugin("a plugin's library is a file")));
        }
        check(&found).map_err(|error| error.file(part.display()))?;
    }
    Ok(real)
}

/// Whether a file or folder can be changed by nobody but the user and root.
///
/// Errors, of kind [`Plugin`](modelferry_core::ErrorKind::Plugin): it belongs to a stranger or can be written by others.
pub(crate) fn check(found: &Metadata) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != 0 && found.uid() != me {
        return Err(Error::plugin("a plugin, or a folder that it is in, belongs to another user")
            .expected(format_args!("user {me} or root"))
            .found(format_args!("user {}", found.uid())));
    }
    // A group that has the number of its only member is no other: so some systems give every user a group and let it
    // write.
    let by_group = found.mode() & BY_GROUP != 0 && found.gid() != 0 && found.gid() != me;
    let is_shared = by_group || found.mode() & BY_OTHERS != 0;
    if is_shared && !(found.is_dir() && found.mode() & STICKY != 0) {
        return Err(Error::plugin("a plugin, or a folder that it is in, can be written by others")
            .found(format_args!("mode {:o}", found.mode() & 0o7777))
            .hint("chmod go-w takes that away"));
    }
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let failed = |error| Error::io("reading a plugin", error).file(path.display());
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The hashes that the user has pinned, by id: a JSON object of its own file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins(std::collections::BTreeMap<String, String>);

impl Pins {
    /// Reads a file of pins; none where there is no file.
    pub fn read(path: &Path) -> Result<Pins> {
        let named = |error: Error| error.file(path.display());
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Pins)
                .map_err(|error| named(Error::plugin("pinned hashes that cannot be read").source(error))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Pins::default()),
            Err(error) => Err(Error::io("reading pinned hashes", error).file(path.display())),
        }
    }

    /// Sets a pin.
    pub fn set(&mut self, id: &str, sha256: &str) {
        self.0.insert(id.to_owned(), sha256.to_owned());
    }

    /// Writes them: a new file that takes the old one's place.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |error| Error::io("writing pinned hashes", error).file(path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let text = serde_json::to_string_pretty(&self.0).unwrap_or_default();
        let new = path.with_extension("new");
        std::fs::write(&new, text + "\n").map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)
    }

    /// Whether this library is the one that was pinned.
    ///
    /// Errors: it was not pinned, or another was.
    pub fn check(&self, id: &str, sha256: &str) -> Result<()> {
        match self.0.get(id) {
            Some(pinned) if pinned == sha256 => Ok(()),
            Some(pinned) => Err(Error::plugin(format!("{id} is not the library that was pinned"))
                .expected(pinned)
                .found(sha256)),
            None => Err(Error::plugin(format!("{id} is not pinned, and --locked takes pinned plugins only"))
                .hint("`modelferry plugin add LIBRARY` pins it")),
        }
    }
}
