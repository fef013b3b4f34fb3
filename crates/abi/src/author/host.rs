//! The program as a plugin in Rust sees it: its files and what may be asked of it, behind core's traits.

use crate::codes::*;
use crate::raw::{self, zeroed};
use crate::report::Told;
use crate::types::*;
use crate::{layout, model};
use modelferry_core::inputs::{FileId, Inputs};
use modelferry_core::layout::Layout;
use modelferry_core::limits::Limits;
use modelferry_core::loss::Loss;
use modelferry_core::model::{Model, ModelView};
use modelferry_core::plugin::{Answer, Host, LayoutRequest, Query};
use modelferry_core::{Error, Result};

/// A call of the program's: its files.
pub(crate) struct Called {
    host: MfHost,
    call: u64,
    report: *const MfReport,
    limits: Limits,
}

// SAFETY: the program's functions may be called from any thread while its call is under way, which is as long as this
// lives.
unsafe impl Send for Called {}
// SAFETY: as above.
unsafe impl Sync for Called {}

fn absent() -> Error {
    Error::plugin("the program does not offer a function that is needed")
}

impl Called {
    /// # Safety
    ///
    /// The call is null or the program's, and under way for as long as the result lives.
    pub(crate) unsafe fn new(call: *const MfCall) -> Result<Called> {
        // SAFETY: promised by the caller.
        let call = unsafe { raw::sized(call) }?;
        // SAFETY: promised by the caller.
        let (host, limits) = unsafe { (raw::sized(call.host)?, raw::sized(call.limits)?) };
        Ok(Called { host, call: call.call, report: call.report, limits: to_limits(&limits) })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn report(&self) -> *const MfReport {
        self.report
    }

    /// Bytes of which the program says how many there are when it has been asked once.
    fn growing(&self, mut ask: impl FnMut(&mut [u8]) -> Result<u64>) -> Result<Vec<u8>> {
        let mut bytes = vec![0; 256];
        loop {
            let needed = ask(&mut bytes)?;
            let len =
                usize::try_from(needed).map_err(|_| Error::plugin("more bytes than memory").found(needed))?;
            let fits = len <= bytes.len();
            bytes.resize(len, 0);
            if fits {
                return Ok(bytes);
            }
        }
    }
}

/// What the program does not state is as this version has it.
fn to_limits(raw: &MfLimits) -> Limits {
    let mut limits = Limits::default();
    let state = |limit: &mut u64, stated: u64| {
        if stated != 0 {
            *limit = stated;
        }
    };
    let state_small = |limit: &mut usize, stated: u64| {
        if stated != 0 {
            *limit = usize::try_from(stated).unwrap_or(usize::MAX);
        }
    };
    state(&mut limits.header_bytes, raw.header_bytes);
    state(&mut limits.tensors, raw.tensors);
    state(&mut limits.files, raw.files);
    state_small(&mut limits.rank, raw.rank);
    state_small(&mut limits.name_bytes, raw.name_bytes);
    state_small(&mut limits.depth, raw.depth);
    state(&mut limits.objects, raw.objects);
    state(&mut limits.opcodes, raw.opcodes);
    state(&mut limits.nodes, raw.nodes);
    state(&mut limits.inline_bytes, raw.inline_bytes);
    state(&mut limits.repeated_bytes, raw.repeated_bytes);
    state(&mut limits.inflate_ratio, raw.inflate_ratio);
    state(&mut limits.read_amplification, raw.read_amplification);
    limits
}

impl Inputs for Called {
    fn root(&self) -> FileId {
        // SAFETY: the call is under way.
        FileId(self.host.root.map_or(MF_NO_FILE, |root| unsafe { root(self.call) }))
    }

    fn open(&self, relative: &str) -> Result<FileId> {
        let open = self.host.open.ok_or_else(absent)?;
        let mut file = MF_NO_FILE;
        // SAFETY: the call is under way, the text is borrowed for it.
        let _ = Told::by(|report| unsafe { open(self.call, report, MfText::of(relative), &mut file) })?;
        Ok(FileId(file))
    }

    fn release(&self, file: FileId) {
        if let Some(forget) = self.host.forget {
            // SAFETY: the call is under way.
            unsafe { forget(self.call, file.0) };
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let list = self.host.list.ok_or_else(absent)?;
        let bytes = self.growing(|out| {
            let (room, mut needed) = (out.len() as u64, 0);
            // SAFETY: the call is under way, and there is as much room as is said.
            let _ = Told::by(|report| unsafe {
                list(self.call, report, MfText::of(folder), out.as_mut_ptr(), room, &mut needed)
            })?;
            Ok(needed)
        })?;
        let text =
            String::from_utf8(bytes).map_err(|_| Error::plugin("names of files that are not UTF-8"))?;
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }

    fn name(&self, file: FileId) -> String {
        let Some(name) = self.host.name else { return String::new() };
        // SAFETY: the call is under way, and there is as much room as is said.
        let bytes =
            self.growing(|out| Ok(unsafe { name(self.call, file.0, out.as_mut_ptr(), out.len() as u64) }));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn len(&self, file: FileId) -> u64 {
        // SAFETY: the call is under way.
        self.host.len.map_or(0, |len| unsafe { len(self.call, file.0) })
    }

    fn read_at(&self, file: FileId, offset: u64, out: &mut [u8]) -> Result<()> {
        let read = self.host.read_at.ok_or_else(absent)?;
        let len = out.len() as u64;
        // SAFETY: the call is under way, and there is as much room as is said.
        let _ = Told::by(|report| unsafe { read(self.call, report, file.0, offset, out.as_mut_ptr(), len) })?;
        Ok(())
    }
}

/// Bytes of an answer at most, as core has it.
const MOST: u64 = 1 << 20;

/// What may be asked of the program while it waits.
pub(super) struct CalledHost<'a> {
    called: &'a Called,
}

impl<'a> CalledHost<'a> {
    pub(super) fn new(called: &'a Called) -> CalledHost<'a> {
        CalledHost { called }
    }
}

impl Host for CalledHost<'_> {
    fn limits(&self) -> &Limits {
        self.called.limits()
    }

    fn ask(&mut self, model: &Model, query: Query) -> Result<Answer> {
        let ask = self.called.host.ask.ok_or_else(absent)?;
        let (kind, node, other, at, len) = match &query {
            Query::Equal(a, b) => (MF_QUERY_EQUAL, *a, Some(*b), 0, 0),
            Query::Small { node, at, len } => (MF_QUERY_SMALL, *node, None, *at, *len),
            Query::AllZero(node) => (MF_QUERY_ALL_ZERO, *node, None, 0, 0),
            Query::AbsMax(node) => (MF_QUERY_ABS_MAX, *node, None, 0, 0),
            Query::Nnz(node) => (MF_QUERY_NNZ, *node, None, 0, 0),
            _ => return Err(Error::unsupported("a question that cannot be put across")),
        };
        let about: Vec<_> = std::iter::once(node).chain(other).collect();
        let asked = model::Asked::new(model, &about)?;
        let given = asked.model();
        let raw = MfQuery {
            struct_size: size_of::<MfQuery>() as u64,
            kind,
            node: asked.place(node),
            other: other.map_or(MF_NONE, |id| asked.place(id)),
            at,
            len,
            ..zeroed()
        };
        let mut answer = MfAnswer { struct_size: size_of::<MfAnswer>() as u64, ..zeroed() };
        // SAFETY: the call is under way; all that is passed lives until it returns.
        let mut put = |out: &mut [u8]| {
            let room = out.len() as u64;
            // SAFETY: as above.
            let _ = Told::by(|report| unsafe {
                ask(self.called.call, report, &given, &raw, out.as_mut_ptr(), room, &mut answer)
            })?;
            Ok(answer.count)
        };
        if kind == MF_QUERY_SMALL {
            // Asked once: questions are recorded.
            let room = len.checked_mul(model.nodes[node].dtype.item_bytes());
            let room = room.filter(|room| *room <= MOST).and_then(|room| usize::try_from(room).ok());
            let mut bytes = vec![0; room.ok_or_else(|| Error::limit("a question for too many bytes"))?];
            let n = put(&mut bytes)?;
            if n != bytes.len() as u64 {
                return Err(Error::plugin("an answer of another length").expected(bytes.len()).found(n));
            }
            return Ok(Answer::Bytes(bytes));
        }
        put(&mut [])?;
        Ok(match kind {
            MF_QUERY_ABS_MAX => Answer::Number(answer.number),
            MF_QUERY_NNZ => Answer::Count(answer.count),
            _ => Answer::Bool(answer.count != 0),
        })
    }

    fn read(&mut self, _: &dyn Inputs, root: FileId) -> Result<Model> {
        let read = self.called.host.read_model.ok_or_else(absent)?;
        let mut found = MfModel { struct_size: size_of::<MfModel>() as u64, ..zeroed() };
        // SAFETY: the call is under way, and there is room for a model.
        let told = Told::by(|report| unsafe { read(self.called.call, report, root.0, &mut found) })?;
        // SAFETY: what the program has filled is what it says.
        let mut model = unsafe { model::take(found, self.called, self.called.limits()) }?;
        model.losses = told.losses()?;
        Ok(model)
    }

    fn link(&mut self, file: FileId) -> Result<String> {
        let link = self.called.host.link.ok_or_else(absent)?;
        let bytes = self.called.growing(|out| {
            let (room, mut needed) = (out.len() as u64, 0);
            // SAFETY: the call is under way, and there is as much room as is said.
            let _ = Told::by(|report| unsafe {
                link(self.called.call, report, file.0, out.as_mut_ptr(), room, &mut needed)
            })?;
            Ok(needed)
        })?;
        String::from_utf8(bytes).map_err(|_| Error::plugin("a path that is not UTF-8"))
    }

    fn layout(
        &mut self,
        view: &ModelView<'_>,
        format: &str,
        request: &LayoutRequest<'_>,
    ) -> Result<(Layout, Vec<Loss>)> {
        let lay_out = self.called.host.layout.ok_or_else(absent)?;
        let wanted = layout::Wanted::new(request);
        let request = wanted.raw();
        let mut found = MfLayout { struct_size: size_of::<MfLayout>() as u64, ..zeroed() };
        let (format, is_weights) = (MfText::of(format), u32::from(view.is_weights()));
        // SAFETY: the call is under way; all that is passed lives until it returns, and there is room for a layout.
        let told = Told::by(|report| unsafe {
            lay_out(self.called.call, report, format, is_weights, &request, &mut found)
        })?;
        // SAFETY: what the program has filled is what it says.
        Ok((unsafe { layout::take(found) }?, told.losses()?))
    }
}
