//! The manifest beside a library: what it is, so that nothing of it has to be executed to know.
//!
//! It is a JSON file with the library's name and the ending `.json`: `libflat.so` and `libflat.json`.

use modelferry_abi::codes::{MF_ABI_MAJOR, MF_ABI_MINOR};
use modelferry_abi::info::{ReaderText, WriterText};
use modelferry_core::plugin::{Reader as _, Writer as _};
use modelferry_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The version of the manifest's own schema.
pub const SCHEMA: u32 = 1;

/// The target that this program was built for, as Rust names it.
pub const TARGET: &str = env!("MODELFERRY_TARGET");

/// Bytes of a manifest at most.
const MOST: u64 = 1 << 20;

/// What a library is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Unique name; the entry's name is made of it.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// `MAJOR.MINOR` of the boundary that it was built for.
    pub abi: String,
    /// The target that it was built for.
    pub target: String,
    /// SHA-256 of the library, in hexadecimal.
    pub sha256: String,
    /// Its readers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<ReaderText>,
    /// Its writers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<WriterText>,
}

/// Where the manifest of a library is.
pub fn place(library: &Path) -> PathBuf {
    library.with_extension("json")
}

impl Manifest {
    /// Reads the manifest beside a library and checks that its library could be loaded here.
    ///
    /// Errors, all of kind [`Plugin`](modelferry_core::ErrorKind::Plugin): there is none, others can write it, it is not
    /// of the schema, it speaks of another target or version of the boundary.
    pub fn read(library: &Path) -> Result<Manifest> {
        let path = place(library);
        let named = |error: Error| error.file(path.display());
        let found = std::fs::symlink_metadata(&path).map_err(|error| {
            named(Error::plugin("a plugin needs a manifest beside its library").source(error))
                .hint("`modelferry plugin manifest LIBRARY` writes one")
        })?;
        // A link could lead to where others write.
        if !found.is_file() {
            return Err(named(Error::plugin("a manifest is a file")));
        }
        crate::trust::check(&found).map_err(named)?;
        if found.len() > MOST {
            let error = Error::plugin("a manifest is too long");
            return Err(named(error.expected(format_args!("at most {MOST} bytes")).found(found.len())));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| named(Error::plugin("the manifest cannot be read").source(error)))?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|error| {
            named(Error::plugin("the manifest is not of the published schema").source(error))
        })?;
        manifest.check().map_err(named)?;
        Ok(manifest)
    }

    fn check(&self) -> Result<()> {
        if self.schema != SCHEMA {
            return Err(Error::plugin("the manifest is of another schema")
                .expected(SCHEMA)
                .found(self.schema));
        }
        check_id(&self.id)?;
        let ours = format!("ABI {MF_ABI_MAJOR}.0 to {MF_ABI_MAJOR}.{MF_ABI_MINOR}");
        let numbers = self
            .abi
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
        if !numbers.is_some_and(|(major, minor)| major == MF_ABI_MAJOR && (0..=MF_ABI_MINOR).contains(&minor))
        {
            return Err(Error::plugin("the plugin is built for another version of modelferry")
                .expected(ours)
                .found(format_args!("ABI {}", self.abi)));
        }
        if self.target != TARGET {
            return Err(Error::plugin("the plugin is built for another target")
                .expected(TARGET)
                .found(&self.target));
        }
        if self.readers.is_empty() && self.writers.is_empty() {
            return Err(Error::plugin("the manifest names neither a reader nor a writer"));
        }
        Ok(())
    }

    /// What the manifest of a library says, by the library itself. This executes its code.
    ///
    /// Errors: those of [`trust::resolve`](crate::trust::resolve) and [`library::open`](crate::library::open).
    pub fn of(library: &Path) -> Result<Manifest> {
        let path = crate::trust::resolve(library)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let id = stem.strip_prefix(std::env::consts::DLL_PREFIX).unwrap_or(&stem);
        let found = crate::library::open(&path, id).map_err(|error| error.file(path.display()))?;
        let readers = found.readers.iter().map(|reader| ReaderText::of(reader.info())).collect();
        let writers = found.writers.iter().map(|writer| WriterText::of(writer.info())).collect();
        Ok(Manifest {
            schema: SCHEMA,
            abi: format!("{MF_ABI_MAJOR}.{}", found.abi_minor),
            target: TARGET.to_owned(),
            sha256: crate::trust::sha256(&path)?,
            id: found.id,
            version: found.version,
            readers,
            writers,
        })
    }

    /// Writes it beside its library, and says where.
    pub fn write(&self, library: &Path) -> Result<PathBuf> {
        let path = place(library);
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        std::fs::write(&path, text + "\n")
            .map_err(|error| Error::io("writing a manifest", error).file(path.display()))?;
        Ok(path)
    }

    /// The name of the library's entry.
    pub fn entry(&self) -> String {
        entry(&self.id)
    }
}

/// An id is part of a symbol's name and of messages.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    match !id.is_empty() && id.len() <= 64 && id.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(Error::plugin("an id is not made of small letters, digits, - and _").found(id)),
    }
}

/// The name of the entry of the library with this id.
pub(crate) fn entry(id: &str) -> String {
    format!("modelferry_{}_v{MF_ABI_MAJOR}", id.replace('-', "_"))
}
