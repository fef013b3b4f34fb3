//! Libraries: found by their manifests, opened when a reader or writer of theirs is used.

use crate::foreign::{Foreign, ForeignReader, ForeignWriter};
use crate::manifest::{self, Manifest};
use crate::trust::{self, Pins};
use modelferry_abi::info::ReaderText;
use modelferry_abi::types::MfEntry;
use modelferry_core::epilogue::{Outcome, SmallFile};
use modelferry_core::inputs::Inputs;
use modelferry_core::layout::Layout;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{
    Host, LayoutRequest, Magic, Place, Reader, ReaderInfo, Verdict, Writer, WriterInfo,
};
use modelferry_core::{Error, Result};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A library that has been checked and not been opened.
#[derive(Debug)]
pub struct Library {
    /// Its real path.
    pub path: PathBuf,
    /// What its manifest says.
    pub manifest: Manifest,
    pins: Option<Arc<Pins>>,
    opened: OnceLock<std::result::Result<Foreign, String>>,
}

impl Library {
    /// Looks at a library without reading or executing it: real path, who can write it, manifest. Its hash is checked
    /// when it is opened: fifty libraries in a folder cost next to nothing until one of them is needed.
    ///
    /// Errors, of kind [`Plugin`](modelferry_core::ErrorKind::Plugin): one for each.
    pub fn find(path: &Path, pins: Option<Arc<Pins>>) -> Result<Library> {
        let path = trust::resolve(path)?;
        let manifest = Manifest::read(&path)?;
        Ok(Library { path, manifest, pins, opened: OnceLock::new() })
    }

    /// Whether it is the library that its manifest speaks of, and, if pins are wanted, the one that was pinned.
    ///
    /// Errors: it is not; it cannot be read.
    pub fn check(&self) -> Result<()> {
        let found = trust::sha256(&self.path)?;
        if found != self.manifest.sha256 {
            return Err(Error::plugin("the library is not the one that its manifest speaks of")
                .expected(&self.manifest.sha256)
                .found(found));
        }
        self.pins.as_ref().map_or(Ok(()), |pins| pins.check(&self.manifest.id, &found))
    }

    /// Checks and opens it, once; it stays open for as long as the process lives.
    ///
    /// Errors, of kind [`Plugin`](modelferry_core::ErrorKind::Plugin): its hash is another, it is no library, it has no entry, it is not what
    /// its manifest says.
    pub fn open(&self) -> Result<&Foreign> {
        let opened = self.opened.get_or_init(|| {
            let opened = self.check().and_then(|()| open(&self.path, &self.manifest.id));
            let opened = opened.and_then(|found| self.compare(found));
            opened.map_err(|error| error.to_string())
        });
        opened.as_ref().map_err(|text| Error::plugin(text.clone()).file(self.path.display()))
    }

    /// Its readers and writers are those of the manifest, in its order.
    fn compare(&self, found: Foreign) -> Result<Foreign> {
        let other = |what: &'static str| Error::plugin(what).hint("its manifest may be of another build");
        if (&found.id, &found.version) != (&self.manifest.id, &self.manifest.version) {
            return Err(other("the library says that it is another")
                .expected(format_args!("{} {}", self.manifest.id, self.manifest.version))
                .found(format_args!("{} {}", found.id, found.version)));
        }
        let readers = found.readers.iter().map(|reader| reader.info().format);
        let writers = found.writers.iter().map(|writer| writer.info().format);
        if !readers.eq(self.manifest.readers.iter().map(|reader| &*reader.format))
            || !writers.eq(self.manifest.writers.iter().map(|writer| &*writer.format))
        {
            return Err(other("the library holds other formats than its manifest says"));
        }
        Ok(found)
    }

    /// Its readers, which open it when they are used.
    pub fn readers(self: &Arc<Library>) -> Result<Vec<LazyReader>> {
        let reader = |(idx, text): (usize, &ReaderText)| {
            Ok(LazyReader { library: Arc::clone(self), idx, info: text.lasting()? })
        };
        let found: Result<Vec<_>> = self.manifest.readers.iter().enumerate().map(reader).collect();
        found.map_err(|error| error.file(manifest::place(&self.path).display()))
    }

    /// Its writers, which open it when they are used.
    pub fn writers(self: &Arc<Library>) -> Result<Vec<LazyWriter>> {
        let found: Result<Vec<_>> = (self.manifest.writers.iter().enumerate())
            .map(|(idx, text)| Ok(LazyWriter { library: Arc::clone(self), idx, info: text.lasting()? }))
            .collect();
        found.map_err(|error| error.file(manifest::place(&self.path).display()))
    }
}

/// Opens the library of a plugin and asks it what it is. This executes its code.
pub fn open(path: &Path, id: &str) -> Result<Foreign> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    let entry = manifest::entry(id);
    // SAFETY: the user has named the library, and trusts it. It is never closed: what it holds has no end.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| {
        // The loader's own words are what libloading's error has as its source.
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Error::plugin(format!("the file cannot be loaded as a library: {why}"))
    })?;
    let library = ManuallyDrop::new(library);
    // SAFETY: a symbol of this name is the entry of a plugin, whose type is fixed by its version.
    let symbol = unsafe { library.get::<MfEntry>(entry.as_bytes()) };
    let symbol = symbol.map_err(|_| {
        Error::plugin("the library is no plugin of modelferry, or of another version")
            .expected(format_args!("a function {entry}"))
    })?;
    // SAFETY: as above; what it returns stays for as long as the process lives.
    unsafe { Foreign::new(symbol()) }
}

/// Whether a file holds these bytes.
fn is_in(magic: &Magic, inputs: &dyn Inputs) -> bool {
    let mut found = vec![0; magic.bytes.len()];
    inputs.read_at(inputs.root(), magic.at, &mut found).is_ok() && found == magic.bytes
}

/// A reader of a library that is opened when it is needed.
#[derive(Debug)]
pub struct LazyReader {
    library: Arc<Library>,
    idx: usize,
    info: &'static ReaderInfo,
}

impl LazyReader {
    fn opened(&self) -> Result<&ForeignReader> {
        let reader = self.library.open()?.readers.get(self.idx);
        reader.ok_or_else(|| Error::plugin("a reader that is not there"))
    }

    /// What the manifest alone says of a file.
    fn guess(&self, inputs: &dyn Inputs) -> Verdict {
        let name = inputs.name(inputs.root());
        match () {
            () if self.info.place == Place::Folder => Verdict::Name,
            () if self.info.magic.iter().any(|magic| is_in(magic, inputs)) => Verdict::Content,
            () if self.info.extensions.iter().any(|ending| name.ends_with(ending)) => Verdict::Name,
            () => Verdict::No,
        }
    }
}

impl Reader for LazyReader {
    fn info(&self) -> &'static ReaderInfo {
        self.info
    }

    /// Nothing is executed for a file that the manifest does not speak of.
    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        match self.guess(inputs) {
            Verdict::No => Verdict::No,
            // A library that does not open says so when it is to read.
            guess => self.opened().map_or(guess, |reader| reader.identify(inputs)),
        }
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        self.opened()?.read(inputs, options, host)
    }
}

/// A writer of a library that is opened when it is needed.
#[derive(Debug)]
pub struct LazyWriter {
    library: Arc<Library>,
    idx: usize,
    info: &'static WriterInfo,
}

impl LazyWriter {
    fn opened(&self) -> Result<&ForeignWriter> {
        let writer = self.library.open()?.writers.get(self.idx);
        writer.ok_or_else(|| Error::plugin("a writer that is not there"))
    }
}

impl Writer for LazyWriter {
    fn info(&self) -> &'static WriterInfo {
        self.info
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        self.opened()?.layout(view, request, host)
    }

    fn relayout(&self, view: &ModelView<'_>, file_name: &str, host: &mut dyn Host) -> Result<Layout> {
        self.opened()?.relayout(view, file_name, host)
    }

    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        self.opened()?.epilogue(outcome)
    }
}
