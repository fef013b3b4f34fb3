//! What one side offers the other while a call of it is under way: the program a plugin, and a plugin in Rust the makers
//! of a model that it was given.
//!
//! A call is a number, not a pointer: a plugin that uses one after its end, or from a thread that it left behind, gets an
//! error and does no harm.

use crate::codes::*;
use crate::raw::{self, zeroed};
use crate::report::{caught, guard, tell_losses};
use crate::types::*;
use crate::{layout, model};
use modelferry_core::expr::NodeId;
use modelferry_core::inputs::{FileId, Inputs, MemInputs};
use modelferry_core::limits::Limits;
use modelferry_core::model::ModelView;
use modelferry_core::plugin::{Answer, Host, Query};
use modelferry_core::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

/// What one call is about.
struct About {
    inputs: *const dyn Inputs,
    /// Null while a plugin is asked whether a file is its own, and when all is written.
    host: Option<Mutex<*mut dyn Host>>,
    /// What a writer was given.
    view: Option<*const ModelView<'static>>,
    limits: Limits,
}

// SAFETY: inputs and views are `Sync`; a host is behind a lock. That they live as long as the call is seen to by `Call`.
unsafe impl Send for About {}
// SAFETY: as above.
unsafe impl Sync for About {}

/// A call while it is under way; nothing once it is over. Who is inside keeps it from ending.
type Slot = Arc<RwLock<Option<About>>>;

static CALLS: LazyLock<Mutex<HashMap<u64, Slot>>> = LazyLock::new(Mutex::default);
static NEXT: AtomicU64 = AtomicU64::new(1);

fn calls() -> MutexGuard<'static, HashMap<u64, Slot>> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call of a plugin, from its start to its end.
pub struct Call {
    number: u64,
    slot: Slot,
    limits: MfLimits,
}

impl Call {
    /// A call about these.
    ///
    /// # Safety
    ///
    /// All of them outlive the result. The host is used by nobody else meanwhile.
    unsafe fn new(inputs: &dyn Inputs, host: Option<&mut dyn Host>, view: Option<&ModelView<'_>>) -> Call {
        let limits = host.as_ref().map_or_else(Limits::default, |host| host.limits().clone());
        // SAFETY: only lifetimes are forgotten, and `drop` ends them in time.
        let about = unsafe {
            About {
                inputs: std::mem::transmute::<&dyn Inputs, &'static dyn Inputs>(inputs),
                host: host.map(|host| {
                    Mutex::new(std::ptr::from_mut(
                        std::mem::transmute::<&mut dyn Host, &'static mut dyn Host>(host),
                    ))
                }),
                view: view.map(|view| std::ptr::from_ref(view).cast()),
                limits: limits.clone(),
            }
        };
        let (number, slot) = (NEXT.fetch_add(1, Ordering::Relaxed), Arc::new(RwLock::new(Some(about))));
        calls().insert(number, Arc::clone(&slot));
        Call { number, slot, limits: of_limits(&limits) }
    }

    /// Makes a call of a plugin: `f` is given what the plugin is given, but for the place to tell.
    pub fn make<T>(
        inputs: &dyn Inputs,
        host: Option<&mut dyn Host>,
        view: Option<&ModelView<'_>>,
        f: impl FnOnce(&dyn Fn(*const MfReport) -> MfCall) -> T,
    ) -> T {
        // SAFETY: it ends before this function does, and so before what it is about.
        let call = unsafe { Call::new(inputs, host, view) };
        f(&|report| MfCall {
            struct_size: size_of::<MfCall>() as u64,
            call: call.number,
            host: &raw const HOST,
            report,
            limits: &call.limits,
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        calls().remove(&self.number);
        // Waits for whoever is inside.
        *self.slot.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn of_limits(limits: &Limits) -> MfLimits {
    MfLimits {
        struct_size: size_of::<MfLimits>() as u64,
        header_bytes: limits.header_bytes,
        tensors: limits.tensors,
        files: limits.files,
        rank: limits.rank as u64,
        name_bytes: limits.name_bytes as u64,
        depth: limits.depth as u64,
        objects: limits.objects,
        opcodes: limits.opcodes,
        nodes: limits.nodes,
        inline_bytes: limits.inline_bytes,
        repeated_bytes: limits.repeated_bytes,
        inflate_ratio: limits.inflate_ratio,
        read_amplification: limits.read_amplification,
    }
}

static HOST: MfHost = MfHost {
    struct_size: size_of::<MfHost>() as u64,
    abi_minor: MF_ABI_MINOR,
    reserved: 0,
    root: Some(root),
    len: Some(len),
    name: Some(name),
    open: Some(open),
    forget: Some(forget),
    list: Some(list),
    read_at: Some(read_at),
    ask: Some(ask),
    read_model: Some(read_model),
    layout: Some(lay_out),
    link: Some(link),
};

/// Runs `f` with what a call is about, if it is under way.
fn within<T>(call: u64, f: impl FnOnce(&dyn Inputs, &About) -> Result<T>) -> Result<T> {
    let over = || Error::plugin("a plugin used a call that is over").found(call);
    let slot = calls().get(&call).cloned().ok_or_else(over)?;
    // Locked, or about to be, by its end alone. Waiting for that would be waiting for itself where a plugin calls from
    // within a call of its own.
    let about = match slot.try_read() {
        Ok(about) => about,
        Err(TryLockError::Poisoned(about)) => about.into_inner(),
        Err(TryLockError::WouldBlock) => return Err(over()),
    };
    let about = about.as_ref().ok_or_else(over)?;
    // SAFETY: the call cannot end while its lock is held.
    f(unsafe { &*about.inputs }, about)
}

impl About {
    fn host<T>(&self, f: impl FnOnce(&mut dyn Host) -> Result<T>) -> Result<T> {
        let none = || Error::plugin("a plugin asked for more than files in a call that offers nothing else");
        // Two threads, or a host that a plugin calls back from inside itself, would share it.
        let host = self.host.as_ref().ok_or_else(none)?.try_lock();
        let mut host = host.map_err(|_| Error::plugin("a plugin asked two things at once"))?;
        // SAFETY: the call cannot end while its lock is held, and the host is behind this one.
        f(unsafe { &mut **host })
    }
}

/// Runs what answers a call that cannot fail: an error or a panic is no answer.
fn quietly<T>(none: T, work: impl FnOnce() -> Result<T>) -> T {
    caught(work).and_then(|done| done).unwrap_or(none)
}

unsafe extern "C" fn root(call: u64) -> u32 {
    quietly(MF_NO_FILE, || within(call, |inputs, _| Ok(inputs.root().0)))
}

unsafe extern "C" fn len(call: u64, file: u32) -> u64 {
    quietly(0, || within(call, |inputs, _| Ok(inputs.len(FileId(file)))))
}

unsafe extern "C" fn name(call: u64, file: u32, out: *mut u8, room: u64) -> u64 {
    let work = |inputs: &dyn Inputs, _: &About| {
        let name = inputs.name(FileId(file));
        // SAFETY: the room is the plugin's.
        fill_some(unsafe { raw::room(out, room) }?, name.as_bytes());
        Ok(name.len() as u64)
    };
    quietly(0, || within(call, work))
}

/// As many bytes as there is room for.
fn fill_some(room: &mut [u8], bytes: &[u8]) {
    let n = room.len().min(bytes.len());
    room[..n].copy_from_slice(&bytes[..n]);
}

unsafe extern "C" fn open(call: u64, report: *const MfReport, name: MfText, file: *mut u32) -> i32 {
    let work = || {
        within(call, |inputs, _| {
            // SAFETY: the plugin's text.
            let found = inputs.open(unsafe { raw::text(name) }?)?;
            if file.is_null() {
                return Err(Error::plugin("there is no room for a result"));
            }
            // SAFETY: the plugin's room, looked at above.
            unsafe { file.write(found.0) };
            Ok(())
        })
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn forget(call: u64, file: u32) {
    let work = |inputs: &dyn Inputs, _: &About| {
        inputs.release(FileId(file));
        Ok(())
    };
    quietly((), || within(call, work));
}

unsafe extern "C" fn list(
    call: u64,
    report: *const MfReport,
    folder: MfText,
    out: *mut u8,
    room: u64,
    needed: *mut u64,
) -> i32 {
    let work = || {
        within(call, |inputs, _| {
            // SAFETY: the plugin's text.
            let names = inputs.list(unsafe { raw::text(folder) }?)?;
            let bytes: Vec<u8> = names.iter().flat_map(|name| name.bytes().chain([0])).collect();
            if needed.is_null() {
                return Err(Error::plugin("there is no room for a result"));
            }
            // SAFETY: the plugin's room, looked at above.
            unsafe { needed.write(bytes.len() as u64) };
            // SAFETY: the plugin's room.
            fill_some(unsafe { raw::room(out, room) }?, &bytes);
            Ok(())
        })
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn read_at(
    call: u64,
    report: *const MfReport,
    file: u32,
    offset: u64,
    out: *mut u8,
    len: u64,
) -> i32 {
    let work = || {
        // SAFETY: the plugin's room.
        within(call, |inputs, _| inputs.read_at(FileId(file), offset, unsafe { raw::room(out, len) }?))
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn ask(
    call: u64,
    report: *const MfReport,
    model: *const MfModel,
    query: *const MfQuery,
    out: *mut u8,
    room: u64,
    answer: *mut MfAnswer,
) -> i32 {
    let work = || {
        within(call, |inputs, about| {
            // SAFETY: the plugin's structs, which stay until this returns.
            let (query, (model, ids)) =
                unsafe { (raw::sized(query)?, model::borrow(raw::sized(model)?, inputs, &about.limits)?) };
            let query = to_query(&query, &ids)?;
            let (mut count, mut number) = (0, 0.0);
            match about.host(|host| host.ask(&model, query))? {
                Answer::Bool(is) => count = is.into(),
                Answer::Count(n) => count = n,
                Answer::Number(n) => number = n,
                Answer::Bytes(bytes) => {
                    count = bytes.len() as u64;
                    // SAFETY: the plugin's room.
                    fill_some(unsafe { raw::room(out, room) }?, &bytes);
                }
                _ => return Err(Error::unsupported("an answer that cannot be put across")),
            }
            // SAFETY: the plugin's room.
            unsafe { raw::fill(answer, &MfAnswer { count, number, ..zeroed() }) }
        })
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

fn to_query(raw: &MfQuery, ids: &[NodeId]) -> Result<Query> {
    let node = |idx: u64| {
        let found = usize::try_from(idx).ok().and_then(|idx| ids.get(idx).copied());
        found.ok_or_else(|| Error::plugin("a question about a node that is not there").found(idx))
    };
    Ok(match raw.kind {
        MF_QUERY_EQUAL => Query::Equal(node(raw.node)?, node(raw.other)?),
        MF_QUERY_SMALL => Query::Small { node: node(raw.node)?, at: raw.at, len: raw.len },
        MF_QUERY_ALL_ZERO => Query::AllZero(node(raw.node)?),
        MF_QUERY_ABS_MAX => Query::AbsMax(node(raw.node)?),
        MF_QUERY_NNZ => Query::Nnz(node(raw.node)?),
        other => return Err(Error::unsupported("a question that is not known here").found(other)),
    })
}

unsafe extern "C" fn read_model(call: u64, report: *const MfReport, root: u32, out: *mut MfModel) -> i32 {
    let work = || {
        within(call, |inputs, about| {
            let mut found = about.host(|host| host.read(inputs, FileId(root)))?;
            // SAFETY: the plugin's report.
            unsafe { tell_losses(report, &std::mem::take(&mut found.losses)) };
            // SAFETY: the plugin's room.
            unsafe { raw::fill(out, &model::give(found)?) }
        })
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn lay_out(
    call: u64,
    report: *const MfReport,
    format: MfText,
    is_weights: u32,
    request: *const MfRequest,
    out: *mut MfLayout,
) -> i32 {
    let work = || {
        within(call, |_, about| {
            let view = about.view.ok_or_else(|| Error::plugin("only a writer has a model to lay out"))?;
            // SAFETY: the call cannot end while its lock is held.
            let view = unsafe { &*view };
            let view = if is_weights != 0 { view.weights() } else { *view };
            // SAFETY: the plugin's text and request.
            let (format, asked) = unsafe { (raw::text(format)?, layout::Asked::new(request)?) };
            let (found, losses) = about.host(|host| host.layout(&view, format, &asked.request()))?;
            // SAFETY: the plugin's report.
            unsafe { tell_losses(report, &losses) };
            // SAFETY: the plugin's room.
            unsafe { raw::fill(out, &layout::give(found)?) }
        })
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

unsafe extern "C" fn link(
    call: u64,
    report: *const MfReport,
    file: u32,
    out: *mut u8,
    room: u64,
    needed: *mut u64,
) -> i32 {
    let work = || {
        within(call, |_, about| {
            let path = about.host(|host| host.link(FileId(file)))?;
            if needed.is_null() {
                return Err(Error::plugin("there is no room for a result"));
            }
            // SAFETY: the plugin's room, looked at above.
            unsafe { needed.write(path.len() as u64) };
            // SAFETY: the plugin's room.
            fill_some(unsafe { raw::room(out, room) }?, path.as_bytes());
            Ok(())
        })
    };
    // SAFETY: the plugin's report.
    unsafe { guard(report, work) }
}

/// No files: a writer has none.
pub fn no_files() -> MemInputs {
    MemInputs::default()
}
