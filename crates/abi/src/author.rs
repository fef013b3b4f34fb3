//! The plugin's side in Rust: a reader or a writer behind the C functions of a library.

pub(crate) mod host;

use crate::codes::*;
use crate::info::{ReaderText, WriterText};
use crate::raw::{self, zeroed};
use crate::report::{caught, guard, report_of, tell_losses};
use crate::types::*;
use crate::{epilogue, layout, model, view};
use host::{Called, CalledHost};
use modelferry_core::layout::Layout;
use modelferry_core::loss::Loss;
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Reader, Verdict, Writer};
use modelferry_core::{Error, Result};
use std::ffi::c_void;

/// Exports readers, writers or both as the one function of a library.
///
/// The first argument is the function's name: `modelferry_ID_v1` with `-` as `_`, where the id is the crate's own name.
/// Readers and writers are constants. The same crate can be linked in, where its types are used as they are;
/// `cargo rustc --crate-type cdylib` makes a library of it.
///
/// ```
/// # mod a {
/// # use modelferry_abi::core::{plugin::*, model::Model, inputs::Inputs, options::Options, Result};
/// # struct FlatReader;
/// # static INFO: ReaderInfo = ReaderInfo { format: "flat", about: "", extensions: &[], magic: &[], place: Place::File, options: &[] };
/// # impl Reader for FlatReader {
/// #     fn info(&self) -> &'static ReaderInfo { &INFO }
/// #     fn identify(&self, _: &dyn Inputs) -> Verdict { Verdict::No }
/// #     fn read(&self, _: &dyn Inputs, _: &Options, _: &mut dyn Host) -> Result<Model> { Ok(Model::default()) }
/// # }
/// modelferry_abi::export_plugin!(modelferry_flat_reader_v1, readers: [FlatReader]);
/// # }
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($entry:ident $(, readers: [$($reader:expr),+ $(,)?])? $(, writers: [$($writer:expr),+ $(,)?])? $(,)?) => {
        #[cfg(panic = "abort")]
        compile_error!("a plugin must unwind: a panic of its own is an error of one run, not the end of the program");

        /// What this library is, to the program that has loaded it.
        #[unsafe(no_mangle)]
        pub extern "C" fn $entry() -> *const $crate::types::MfPlugin {
            static TABLES: ::std::sync::OnceLock<$crate::author::Tables> = ::std::sync::OnceLock::new();
            let make = || {
                $crate::author::Tables::new(
                    env!("CARGO_PKG_NAME"),
                    env!("CARGO_PKG_VERSION"),
                    &[$($(&$reader),+)?],
                    &[$($(&$writer),+)?],
                )
            };
            let tables = || TABLES.get_or_init(make).plugin();
            $crate::report::caught(tables).unwrap_or(::std::ptr::null())
        }
    };
}

/// The tables of functions of a library.
pub struct Tables {
    plugin: &'static MfPlugin,
}

// SAFETY: the tables are made before anybody sees them and never change.
unsafe impl Send for Tables {}
// SAFETY: as above.
unsafe impl Sync for Tables {}

impl Tables {
    /// Makes them; they stay for as long as the process lives.
    pub fn new(
        id: &'static str,
        version: &'static str,
        readers: &[&'static dyn Reader],
        writers: &[&'static dyn Writer],
    ) -> Tables {
        let lasting = |text: serde_json::Result<String>| MfText::of(text.unwrap_or_default().leak());
        let reader = |&reader: &&'static dyn Reader| MfReader {
            struct_size: size_of::<MfReader>() as u64,
            owner: owned(reader),
            info: lasting(serde_json::to_string(&ReaderText::of(reader.info()))),
            identify: Some(identify),
            read: Some(read),
        };
        let writer = |&writer: &&'static dyn Writer| MfWriter {
            struct_size: size_of::<MfWriter>() as u64,
            owner: owned(writer),
            info: lasting(serde_json::to_string(&WriterText::of(writer.info()))),
            layout: Some(lay_out),
            relayout: Some(lay_out_again),
            epilogue: Some(make_epilogue),
        };
        let (readers, writers): (Vec<_>, Vec<_>) =
            (readers.iter().map(reader).collect(), writers.iter().map(writer).collect());
        let plugin = MfPlugin {
            struct_size: size_of::<MfPlugin>() as u64,
            abi_minor: 0,
            id: MfText::of(id),
            version: MfText::of(version),
            readers: MfSlice::of(readers.leak()),
            writers: MfSlice::of(writers.leak()),
            ..zeroed()
        };
        Tables { plugin: Box::leak(Box::new(plugin)) }
    }

    /// What the entry returns.
    pub fn plugin(&self) -> *const MfPlugin {
        self.plugin
    }
}

/// A reference that functions of C are handed.
fn owned<T: ?Sized>(to: &'static T) -> *mut c_void {
    std::ptr::from_ref::<&'static T>(Box::leak(Box::new(to))).cast_mut().cast()
}

/// # Safety
///
/// The pointer comes from [`owned`], for the same type.
unsafe fn own<T: ?Sized>(owner: *mut c_void) -> Result<&'static T> {
    if owner.is_null() {
        return Err(Error::plugin("a function was called without its owner"));
    }
    // SAFETY: promised by the caller.
    Ok(unsafe { *owner.cast::<&'static T>() })
}

unsafe extern "C" fn identify(owner: *mut c_void, call: *const MfCall) -> u32 {
    let verdict = caught(|| {
        // SAFETY: its own owner; the program's call, which is under way.
        let (reader, call) = unsafe { (own::<dyn Reader>(owner), Called::new(call)) };
        reader.ok().zip(call.ok()).map_or(Verdict::No, |(reader, call)| reader.identify(&call))
    });
    // Nothing can be told of a panic here; reading, which comes next, will meet it again.
    match verdict.unwrap_or(Verdict::Name) {
        Verdict::No => MF_VERDICT_NO,
        Verdict::Name => MF_VERDICT_NAME,
        Verdict::Content => MF_VERDICT_CONTENT,
    }
}

unsafe extern "C" fn read(
    owner: *mut c_void,
    call: *const MfCall,
    options: MfSlice,
    out: *mut MfModel,
) -> i32 {
    // SAFETY: the program's call, which is under way.
    let report = unsafe { report_of(call) };
    let work = || {
        // SAFETY: its own owner; the program's call and options.
        let (reader, call, options) =
            unsafe { (own::<dyn Reader>(owner)?, Called::new(call)?, layout::to_options(options)?) };
        let mut host = CalledHost::new(&call);
        let mut found = reader.read(&call, &options, &mut host)?;
        // SAFETY: the program's report.
        unsafe { tell_losses(report, &std::mem::take(&mut found.losses)) };
        let given = model::give(found)?;
        // SAFETY: the program has made room.
        unsafe { raw::fill(out, &given) }
    };
    // SAFETY: the program's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn lay_out(
    owner: *mut c_void,
    call: *const MfCall,
    model: *const MfModel,
    request: *const MfRequest,
    out: *mut MfLayout,
) -> i32 {
    // SAFETY: the program's call, which is under way.
    let report = unsafe { report_of(call) };
    let work = || {
        // SAFETY: the program's request.
        let asked = unsafe { layout::Asked::new(request) }?;
        let lay_out = |writer: &dyn Writer, view: &ModelView<'_>, host: &mut CalledHost<'_>| {
            writer.layout(view, &asked.request(), host)
        };
        // SAFETY: its own owner; the program's call and model, and its room.
        unsafe { laid_out(owner, call, model, out, &lay_out) }
    };
    // SAFETY: the program's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn lay_out_again(
    owner: *mut c_void,
    call: *const MfCall,
    model: *const MfModel,
    file_name: MfText,
    out: *mut MfLayout,
) -> i32 {
    // SAFETY: the program's call, which is under way.
    let report = unsafe { report_of(call) };
    let work = || {
        // SAFETY: the program's text.
        let file_name = unsafe { raw::text(file_name) }?;
        let lay_out = |writer: &dyn Writer, view: &ModelView<'_>, host: &mut CalledHost<'_>| {
            Ok((writer.relayout(view, file_name, host)?, vec![]))
        };
        // SAFETY: its own owner; the program's call and model, and its room.
        unsafe { laid_out(owner, call, model, out, &lay_out) }
    };
    // SAFETY: the program's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn make_epilogue(
    owner: *mut c_void,
    call: *const MfCall,
    outcome: *const MfOutcome,
    out: *mut MfEpilogue,
) -> i32 {
    // SAFETY: the program's call, which is under way.
    let report = unsafe { report_of(call) };
    let work = || {
        // SAFETY: its own owner; the program's outcome.
        let (writer, outcome) =
            unsafe { (own::<dyn Writer>(owner)?, epilogue::seen(&raw::sized(outcome)?)?) };
        let given = epilogue::give(writer.epilogue(&outcome)?);
        // SAFETY: the program has made room.
        unsafe { raw::fill(out, &given) }
    };
    // SAFETY: the program's report.
    unsafe { guard(report, work) }
}

type LayOut<'a> =
    dyn Fn(&dyn Writer, &ModelView<'_>, &mut CalledHost<'_>) -> Result<(Layout, Vec<Loss>)> + 'a;

/// # Safety
///
/// The owner is a writer's; call and model are the program's, and so is the room.
unsafe fn laid_out(
    owner: *mut c_void,
    call: *const MfCall,
    model: *const MfModel,
    out: *mut MfLayout,
    lay_out: &LayOut<'_>,
) -> Result<()> {
    // SAFETY: promised by the caller.
    let (writer, call, model) =
        unsafe { (own::<dyn Writer>(owner)?, Called::new(call)?, view::seen(&raw::sized(model)?)?) };
    let view = ModelView::of_validated(&model);
    let (found, losses) = lay_out(writer, &view, &mut CalledHost::new(&call))?;
    // SAFETY: promised by the caller.
    unsafe { tell_losses(call.report(), &losses) };
    let given = layout::give(found)?;
    // SAFETY: promised by the caller.
    unsafe { raw::fill(out, &given) }
}
