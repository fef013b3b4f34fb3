//! A reader or writer of a library as core knows readers and writers.

use modelferry_abi::calls::{Call, no_files};
use modelferry_abi::codes::*;
use modelferry_abi::info::{ReaderText, WriterText, parse};
use modelferry_abi::raw::{self, zeroed};
use modelferry_abi::report::{Told, caught};
use modelferry_abi::types::*;
use modelferry_abi::{epilogue, layout, model, view};
use modelferry_core::epilogue::{Outcome, SmallFile};
use modelferry_core::inputs::Inputs;
use modelferry_core::layout::Layout;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::{Host, LayoutRequest, Reader, ReaderInfo, Verdict, Writer, WriterInfo};
use modelferry_core::{Error, Result};

/// What a library says it is.
#[derive(Debug)]
pub struct Foreign {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The smallest minor version of the boundary that it works with.
    pub abi_minor: u32,
    /// Its readers.
    pub readers: Vec<ForeignReader>,
    /// Its writers.
    pub writers: Vec<ForeignWriter>,
}

impl Foreign {
    /// A plugin that is linked in, called through the boundary all the same: what proves that both forms are one.
    ///
    /// A function that is safe to call and of this type is one that `export_plugin!` has made: what it returns is what
    /// it says.
    pub fn linked(entry: extern "C" fn() -> *const MfPlugin) -> Result<Foreign> {
        // SAFETY: promised by its type.
        unsafe { Foreign::new(entry()) }
    }

    /// Looks at what the entry of a library returned.
    ///
    /// Errors: a table that is none, an id that is none, a version of the boundary that is not ours.
    ///
    /// # Safety
    ///
    /// The table, and all that it points at, is what it says and stays for as long as the process lives.
    pub unsafe fn new(plugin: *const MfPlugin) -> Result<Foreign> {
        if plugin.is_null() {
            return Err(Error::plugin("the library refuses this program: its entry returned nothing"));
        }
        // SAFETY: promised by the caller.
        let plugin = unsafe { raw::sized(plugin) }?;
        // SAFETY: promised by the caller.
        let (id, version) = unsafe { (raw::text(plugin.id)?, raw::text(plugin.version)?) };
        if plugin.abi_minor > MF_ABI_MINOR {
            return Err(Error::plugin(format!("{id} is made for a newer modelferry"))
                .expected(format_args!("ABI {MF_ABI_MAJOR}.{MF_ABI_MINOR} or older"))
                .found(format_args!("{MF_ABI_MAJOR}.{}", plugin.abi_minor)));
        }
        // SAFETY: promised by the caller.
        let (readers, writers) =
            unsafe { (raw::items::<MfReader>(plugin.readers)?, raw::items::<MfWriter>(plugin.writers)?) };
        // SAFETY: promised by the caller.
        let readers =
            readers.map(|table| unsafe { ForeignReader::new(table) }).collect::<Result<Vec<_>>>()?;
        // SAFETY: promised by the caller.
        let writers =
            writers.map(|table| unsafe { ForeignWriter::new(table) }).collect::<Result<Vec<_>>>()?;
        if readers.is_empty() && writers.is_empty() {
            return Err(Error::plugin(format!("{id} holds neither a reader nor a writer")));
        }
        Ok(Foreign {
            id: id.to_owned(),
            version: version.to_owned(),
            abi_minor: plugin.abi_minor,
            readers,
            writers,
        })
    }
}

fn absent(what: &'static str) -> Error {
    Error::plugin("the library lacks a function").found(what)
}

/// A reader of a library.
#[derive(Clone, Copy, Debug)]
pub struct ForeignReader {
    table: MfReader,
    info: &'static ReaderInfo,
}

// SAFETY: the boundary says that a plugin's functions may be called from any thread; its tables never change.
unsafe impl Send for ForeignReader {}
// SAFETY: as above.
unsafe impl Sync for ForeignReader {}

impl ForeignReader {
    /// # Safety
    ///
    /// The table is what it says, for as long as the process lives.
    unsafe fn new(table: MfReader) -> Result<ForeignReader> {
        // SAFETY: promised by the caller.
        let info = parse::<ReaderText>(unsafe { raw::text(table.info) }?)?.lasting()?;
        if table.identify.is_none() {
            return Err(absent("identify"));
        }
        if table.read.is_none() {
            return Err(absent("read"));
        }
        Ok(ForeignReader { table, info })
    }
}

impl Reader for ForeignReader {
    fn info(&self) -> &'static ReaderInfo {
        self.info
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        let Some(identify) = self.table.identify else { return Verdict::No };
        let mut verdict = MF_VERDICT_NO;
        // What went wrong while it looked is no answer; reading will say it.
        let _ = Call::make(inputs, None, None, |call| {
            Told::by(|report| {
                // SAFETY: a function of the library, and a call that is under way.
                verdict = unsafe { identify(self.table.owner, &call(report)) };
                MF_OK
            })
        });
        match verdict {
            MF_VERDICT_NAME => Verdict::Name,
            MF_VERDICT_CONTENT => Verdict::Content,
            _ => Verdict::No,
        }
    }

    fn read(&self, inputs: &dyn Inputs, options: &Options, host: &mut dyn Host) -> Result<Model> {
        let read = self.table.read.ok_or_else(|| absent("read"))?;
        let (owner, options) = (self.table.owner, layout::of_options(options));
        let mut found = MfModel { struct_size: size_of::<MfModel>() as u64, ..zeroed() };
        let limits = host.limits().clone();
        let told = Call::make(inputs, Some(host), None, |call| {
            // SAFETY: a function of the library, a call that is under way, and room for a model.
            Told::by(|report| unsafe { read(owner, &call(report), MfSlice::of(&options), &mut found) })
        })?;
        // SAFETY: what the library has filled is what it says.
        let mut model = caught(|| unsafe { model::take(found, inputs, &limits) })??;
        model.losses = told.losses()?;
        Ok(model)
    }
}

/// A writer of a library.
#[derive(Clone, Copy, Debug)]
pub struct ForeignWriter {
    table: MfWriter,
    info: &'static WriterInfo,
}

// SAFETY: the boundary says that a plugin's functions may be called from any thread; its tables never change.
unsafe impl Send for ForeignWriter {}
// SAFETY: as above.
unsafe impl Sync for ForeignWriter {}

impl ForeignWriter {
    /// # Safety
    ///
    /// The table is what it says, for as long as the process lives.
    unsafe fn new(table: MfWriter) -> Result<ForeignWriter> {
        // SAFETY: promised by the caller.
        let info = parse::<WriterText>(unsafe { raw::text(table.info) }?)?.lasting()?;
        if table.layout.is_none() {
            return Err(absent("layout"));
        }
        Ok(ForeignWriter { table, info })
    }

    /// Has the library fill a layout for a view.
    fn fill(
        view: &ModelView<'_>,
        host: &mut dyn Host,
        f: impl FnOnce(&MfCall, &MfModel, &mut MfLayout) -> i32,
    ) -> Result<(Layout, Vec<Loss>)> {
        let shown = view::Shown::new(*view)?;
        let model = shown.model();
        let mut found = MfLayout { struct_size: size_of::<MfLayout>() as u64, ..zeroed() };
        let told = Call::make(&no_files(), Some(host), Some(view), |call| {
            Told::by(|report| f(&call(report), &model, &mut found))
        })?;
        // SAFETY: what the library has filled is what it says.
        let layout = caught(|| unsafe { layout::take(found) })??;
        Ok((layout, told.losses()?))
    }
}

impl Writer for ForeignWriter {
    fn info(&self) -> &'static WriterInfo {
        self.info
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        let lay_out = self.table.layout.ok_or_else(|| absent("layout"))?;
        let (owner, wanted) = (self.table.owner, layout::Wanted::new(request));
        let request = wanted.raw();
        // SAFETY: a function of the library, a call that is under way, and room for a layout.
        ForeignWriter::fill(view, host, |call, model, found| unsafe {
            lay_out(owner, call, model, &request, found)
        })
    }

    fn relayout(&self, view: &ModelView<'_>, file_name: &str, host: &mut dyn Host) -> Result<Layout> {
        let Some(lay_out) = self.table.relayout else {
            return Err(
                Error::unsupported("metadata of this format cannot be edited yet").format(self.info.format)
            );
        };
        let (owner, name) = (self.table.owner, MfText::of(file_name));
        // SAFETY: a function of the library, a call that is under way, and room for a layout.
        let filled = ForeignWriter::fill(view, host, |call, model, found| unsafe {
            lay_out(owner, call, model, name, found)
        });
        Ok(filled?.0)
    }

    fn epilogue(&self, outcome: &Outcome) -> Result<Vec<SmallFile>> {
        let Some(make) = self.table.epilogue else { return Ok(vec![]) };
        let (owner, shown) = (self.table.owner, epilogue::Shown::new(outcome)?);
        let outcome = shown.raw();
        let mut found = MfEpilogue { struct_size: size_of::<MfEpilogue>() as u64, ..zeroed() };
        let told = Call::make(&no_files(), None, None, |call| {
            // SAFETY: a function of the library, a call that is under way, and room for files.
            Told::by(|report| unsafe { make(owner, &call(report), &outcome, &mut found) })
        })?;
        // SAFETY: what the library has filled is what it says.
        let files = caught(|| unsafe { epilogue::take(found) })??;
        match told.losses()?.first() {
            Some(loss) => Err(Error::plugin("a loss is told when all is written").found(loss)),
            None => Ok(files),
        }
    }
}
