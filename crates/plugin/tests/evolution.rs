//! Structs as shorter and longer versions of the boundary would have them: what both sides know is used, and nothing
//! beyond is looked at. Every struct here lies alone in memory of just its length, so that the address sanitizer sees
//! who reads past it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what does not hold ends the test")]

mod support;

use modelferry_abi::calls::Call;
use modelferry_abi::codes::*;
use modelferry_abi::export_plugin;
use modelferry_abi::raw::{Plain, zeroed};
use modelferry_abi::report::Told;
use modelferry_abi::types::*;
use modelferry_abi::{layout, model};
use modelferry_core::inputs::{Inputs, MemInputs};
use modelferry_core::layout::{Layout, Piece};
use modelferry_core::limits::Limits;
use modelferry_core::loss::{Loss, LossKind};
use modelferry_core::model::{Model, ModelView};
use modelferry_core::options::Options;
use modelferry_core::plugin::*;
use modelferry_core::{DType, Error, ErrorKind, Result};
use modelferry_plugin::Foreign;
use std::alloc::{alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr;
use support::*;

/// Memory of just so many bytes.
struct Tight {
    ptr: *mut u8,
    layout: std::alloc::Layout,
}

impl Tight {
    fn new(len: usize) -> Tight {
        let layout = std::alloc::Layout::from_size_align(len, 8).unwrap();
        // SAFETY: it is not empty.
        Tight { ptr: unsafe { alloc_zeroed(layout) }, layout }
    }

    /// The first `size` bytes of a sized struct, or more of them, the rest ones, with `size` as its size.
    fn sized<T: Plain>(value: &T, size: usize) -> Tight {
        let tight = Tight::slice(&[*value], size);
        // SAFETY: there is room for it.
        unsafe { tight.ptr.cast::<u64>().write(size as u64) };
        tight
    }

    /// Elements `stride` bytes apart, cut off or filled up with ones.
    fn slice<T: Plain>(items: &[T], stride: usize) -> Tight {
        let tight = Tight::new(items.len() * stride);
        for (idx, item) in items.iter().enumerate() {
            // SAFETY: within the memory of both.
            unsafe {
                let to = tight.ptr.add(idx * stride);
                to.write_bytes(0xff, stride);
                ptr::copy_nonoverlapping(ptr::from_ref(item).cast::<u8>(), to, stride.min(size_of::<T>()));
            }
        }
        tight
    }

    fn as_ptr<T>(&self) -> *mut T {
        self.ptr.cast()
    }
}

impl Drop for Tight {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.ptr, self.layout) }
    }
}

/// Sizes that a struct may have, and some that none has: they end within a field.
fn sizes<T>() -> impl Iterator<Item = usize> {
    (8..=size_of::<T>() + 24).step_by(4)
}

/// Whether a struct of this size ends between two fields, or behind all of them.
macro_rules! is_whole {
    ($size:expr, $name:ident: $($field:ident)*) => {
        $size >= size_of::<$name>() $(|| $size == std::mem::offset_of!($name, $field))*
    };
}

/// Strides that an array may have.
fn strides<T>() -> impl Iterator<Item = usize> {
    (8..=size_of::<T>() + 24).step_by(8)
}

fn slice_of<T: Plain>(items: &[T], stride: usize) -> (MfSlice, Tight) {
    let tight = Tight::slice(items, stride);
    (MfSlice { ptr: tight.as_ptr::<c_void>(), len: items.len() as u64, stride: stride as u64 }, tight)
}

/// Uses all that there is.
struct Meek;

impl Reader for Meek {
    fn info(&self) -> &'static ReaderInfo {
        static INFO: ReaderInfo = ReaderInfo {
            format: "meek",
            about: "",
            extensions: &[".meek"],
            magic: &[],
            place: Place::File,
            options: &[],
        };
        &INFO
    }

    fn identify(&self, inputs: &dyn Inputs) -> Verdict {
        if inputs.len(inputs.root()) == 16 { Verdict::Content } else { Verdict::No }
    }

    fn read(&self, inputs: &dyn Inputs, _: &Options, host: &mut dyn Host) -> Result<Model> {
        let root = inputs.root();
        let names = inputs.list("")?;
        let file = inputs.open(names.first().map_or("", |name| name))?;
        let bytes = inputs.read_vec(root, 0, inputs.len(root), host.limits().header_bytes)?;
        inputs.release(file);
        let mut model = Model::default();
        let region = model.nodes.region(root, 0, bytes.len() as u64)?;
        host.ask(&model, Query::Small { node: region, at: 0, len: 4 })?;
        host.read(inputs, root)?;
        let data = model.nodes.decode(region, DType::F32, bytes.len() as u64 / 4, Default::default())?;
        model.push(inputs.name(root), DType::F32, vec![bytes.len() as u64 / 4], data)?;
        model.losses.push(Loss::declared(LossKind::Order, "x", "y"));
        Ok(model)
    }
}

impl Writer for Meek {
    fn info(&self) -> &'static WriterInfo {
        static INFO: WriterInfo = WriterInfo {
            format: "meek",
            about: "",
            extensions: &[".meek"],
            place: Place::File,
            options: &[],
            dtypes: &[DType::F32],
            max_rank: 4,
            max_tensors: u64::MAX,
            names: Carries::Yes,
            ties: Carries::No,
            metadata: MetadataForm::None,
            tree: Carries::No,
            graph: Carries::No,
            config: Carries::No,
            assets: Carries::No,
            shards: Carries::No,
        };
        &INFO
    }

    fn layout(
        &self,
        view: &ModelView<'_>,
        request: &LayoutRequest<'_>,
        host: &mut dyn Host,
    ) -> Result<(Layout, Vec<Loss>)> {
        host.layout(view, "other", request)?;
        let mut layout = Layout::default();
        let pieces = (0..view.tensors().len()).map(|idx| Piece::tensor(view, idx)).collect();
        layout.push_file(request.file_name, pieces);
        Ok((layout, vec![Loss::declared(LossKind::Order, "x", "y")]))
    }
}

export_plugin!(modelferry_meek_v1, readers: [Meek], writers: [Meek]);

/// Answers all questions.
#[derive(Default)]
struct Kind {
    limits: Limits,
}

impl Host for Kind {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn ask(&mut self, _: &Model, _: Query) -> Result<Answer> {
        Ok(Answer::Bytes(vec![1; 4]))
    }

    fn read(&mut self, _: &dyn Inputs, _: modelferry_core::inputs::FileId) -> Result<Model> {
        Ok(Model::default())
    }

    fn layout(&mut self, _: &ModelView<'_>, _: &str, _: &LayoutRequest<'_>) -> Result<(Layout, Vec<Loss>)> {
        Ok((Layout::default(), vec![]))
    }
}

fn inputs() -> MemInputs {
    MemInputs::new("in.meek", [0u8; 16].to_vec())
}

fn tables() -> (MfPlugin, MfReader, MfWriter) {
    // SAFETY: what `export_plugin!` has made is what it says.
    unsafe {
        let plugin = *modelferry_meek_v1();
        (plugin, *plugin.readers.ptr.cast::<MfReader>(), *plugin.writers.ptr.cast::<MfWriter>())
    }
}

/// Makes a call with the functions of the program, of which one struct is another.
fn with_call<T>(view: Option<&ModelView<'_>>, f: impl FnOnce(MfCall) -> T) -> Result<T> {
    let mut found = None;
    Call::make(&inputs(), Some(&mut Kind::default()), view, |call| {
        Told::by(|report| {
            found = Some(f(call(report)));
            MF_OK
        })
        .map(drop)
    })?;
    found.ok_or_else(|| Error::plugin("no call"))
}

/// Has the reader read; gives whether it did.
fn read(call: &MfCall, model: *mut MfModel) -> bool {
    let (_, reader, _) = tables();
    let none = MfSlice { ptr: ptr::null(), len: 0, stride: 0 };
    // SAFETY: the tables are what they say, and so is what is passed.
    let done = unsafe { reader.read.unwrap()(reader.owner, call, none, model) } == MF_OK;
    // SAFETY: as above.
    unsafe { reader.identify.unwrap()(reader.owner, call) };
    done
}

fn room() -> MfModel {
    MfModel { struct_size: size_of::<MfModel>() as u64, ..zeroed() }
}

fn release(model: &MfModel) {
    if let Some(release) = model.release {
        // SAFETY: its own owner, once.
        unsafe { release(model.owner) }
    }
}

#[test]
fn a_plugin_is_given_shorter_and_longer_structs() {
    // Each: the sizes with which it could still do all that it does.
    let mut works = vec![];
    for size in sizes::<MfHost>() {
        let done = with_call(None, |call| {
            // SAFETY: the program's own.
            let host = Tight::sized(unsafe { &*call.host }, size);
            let mut model = room();
            let done = read(&MfCall { host: host.as_ptr(), ..call }, &mut model);
            release(&model);
            done
        });
        works.push(("host", size, done.unwrap_or(false), size >= std::mem::offset_of!(MfHost, layout)));
    }
    for size in sizes::<MfLimits>() {
        let done = with_call(None, |call| {
            // SAFETY: the program's own.
            let limits = Tight::sized(unsafe { &*call.limits }, size);
            let mut model = room();
            let done = read(&MfCall { limits: limits.as_ptr(), ..call }, &mut model);
            release(&model);
            done
        });
        // What is not stated is as this version has it.
        works.push(("limits", size, done.unwrap_or(false), true));
    }
    for size in sizes::<MfReport>() {
        let done = with_call(None, |call| {
            // SAFETY: the program's own.
            let report = Tight::sized(unsafe { &*call.report }, size);
            let mut model = room();
            let done = read(&MfCall { report: report.as_ptr(), ..call }, &mut model);
            release(&model);
            done
        });
        works.push(("report", size, done.unwrap_or(false), true));
    }
    for size in sizes::<MfCall>() {
        let done = with_call(None, |call| {
            let (call, mut model) = (Tight::sized(&call, size), room());
            // SAFETY: it says how long it is.
            let done = read(unsafe { &*call.as_ptr() }, &mut model);
            release(&model);
            done
        });
        works.push(("call", size, done.unwrap_or(false), size >= size_of::<MfCall>()));
    }
    for size in sizes::<MfModel>() {
        let mut given = room();
        let done = with_call(None, |call| {
            let model = Tight::sized(&room(), size);
            let done = read(&call, model.as_ptr());
            // SAFETY: as many bytes as both hold.
            unsafe {
                ptr::copy_nonoverlapping(model.ptr, (&raw mut given).cast(), size.min(size_of::<MfModel>()))
            };
            if size >= 24 {
                release(&given);
            }
            done
        });
        works.push(("model", size, done.unwrap(), true));
        assert_eq!(given.struct_size, (size.min(size_of::<MfModel>()) & !7) as u64);
    }
    for (what, size, found, expected) in works {
        assert_eq!(found, expected, "{what} of {size} bytes");
    }
}

#[test]
fn a_writer_is_given_shorter_and_longer_structs() {
    let (_, reader, writer) = tables();
    assert!(reader.read.is_some());
    let mut model = Model::default();
    let region = model.nodes.region(modelferry_core::inputs::FileId(0), 0, 8).unwrap();
    let data = model.nodes.decode(region, DType::F32, 2, Default::default()).unwrap();
    model.push("w", DType::F32, vec![2], data).unwrap();
    let view = ModelView::new(&model, &Limits::default()).unwrap();
    let shown = modelferry_abi::view::Shown::new(view).unwrap();
    let options = Options::default();
    let wanted = layout::Wanted::new(&LayoutRequest {
        file_name: "x",
        weights: "",
        options: &options,
        shards: Shards::One,
    });
    let lay_out = |model: *const MfModel, request: *const MfRequest, found: *mut MfLayout| {
        with_call(Some(&view), |call| {
            // SAFETY: the tables are what they say, and so is what is passed.
            unsafe { writer.layout.unwrap()(writer.owner, &call, model, request, found) == MF_OK }
        })
    };
    let release = |size: usize, found: &Tight| {
        // SAFETY: it was filled as far as it is long.
        if let (true, MfLayout { owner, release: Some(release), .. }) = unsafe {
            let mut given: MfLayout = zeroed();
            ptr::copy_nonoverlapping(found.ptr, (&raw mut given).cast(), size.min(size_of::<MfLayout>()));
            (size >= 24, given)
        } {
            // SAFETY: its own owner, once.
            unsafe { release(owner) };
        }
    };
    let whole = size_of::<MfLayout>();
    let room: MfLayout = zeroed();
    for size in sizes::<MfRequest>() {
        let (request, found) = (Tight::sized(&wanted.raw(), size), Tight::sized(&room, whole));
        assert!(
            lay_out(&shown.model(), request.as_ptr(), found.as_ptr()).unwrap(),
            "request of {size} bytes"
        );
        release(whole, &found);
    }
    for size in sizes::<MfModel>() {
        let (model, found) = (Tight::sized(&shown.model(), size), Tight::sized(&room, whole));
        let done = lay_out(model.as_ptr(), &wanted.raw(), found.as_ptr()).unwrap();
        let is_whole = is_whole!(size, MfModel: release read_at tensors nodes blobs assets claims document);
        assert!(done || !is_whole, "model of {size} bytes");
        release(whole, &found);
    }
    for size in sizes::<MfLayout>() {
        let found = Tight::sized(&room, size);
        assert!(lay_out(&shown.model(), &wanted.raw(), found.as_ptr()).unwrap(), "layout of {size} bytes");
        release(size, &found);
    }
}

#[test]
fn the_program_is_given_shorter_and_longer_tables() {
    let (plugin, reader, writer) = tables();
    // SAFETY: the tables are what they say, as far as they are long.
    let found = |plugin: &Tight| unsafe { Foreign::new(plugin.as_ptr()) };
    for size in sizes::<MfPlugin>() {
        // A table that ends before the writers has readers only.
        let (end_of_readers, end) = (std::mem::offset_of!(MfPlugin, writers), size_of::<MfPlugin>());
        match found(&Tight::sized(&plugin, size)) {
            Ok(found) => {
                let counts = (found.readers.len(), found.writers.len());
                assert_eq!(counts, (1, usize::from(size >= end)), "{size}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Plugin, "{size}: {error}");
                assert!(size < end && size != end_of_readers, "{size}: {error}");
            }
        }
    }
    for stride in strides::<MfReader>() {
        let (readers, _held) = slice_of(&[reader, reader], stride);
        let found = found(&Tight::sized(&MfPlugin { readers, ..plugin }, size_of::<MfPlugin>()));
        assert_eq!(found.is_ok(), stride >= size_of::<MfReader>(), "{stride}");
    }
    for stride in strides::<MfWriter>() {
        let (writers, _held) = slice_of(&[writer, writer], stride);
        let found = found(&Tight::sized(&MfPlugin { writers, ..plugin }, size_of::<MfPlugin>()));
        // Only what came last may be absent: laying out again.
        assert_eq!(found.is_ok(), stride >= std::mem::offset_of!(MfWriter, relayout), "{stride}");
    }
    for absent in [
        MfReader { identify: None, ..reader },
        MfReader { read: None, ..reader },
        MfReader { info: MfText::EMPTY, ..reader },
        MfReader { info: MfText::of(&[0xffu8]), ..reader },
        MfReader { info: MfText::of("[]"), ..reader },
    ] {
        let (readers, _held) = slice_of(&[absent], size_of::<MfReader>());
        let error = failure(found(&Tight::sized(&MfPlugin { readers, ..plugin }, size_of::<MfPlugin>())));
        assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
    }
    for absent in [MfWriter { layout: None, ..writer }, MfWriter { info: MfText::of("{}"), ..writer }] {
        let (writers, _held) = slice_of(&[absent], size_of::<MfWriter>());
        let error = failure(found(&Tight::sized(&MfPlugin { writers, ..plugin }, size_of::<MfPlugin>())));
        assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
    }
    let whole = size_of::<MfPlugin>();
    for odd in [
        MfPlugin { id: MfText::of(&[0xffu8]), ..plugin },
        MfPlugin { version: MfText { ptr: ptr::null(), len: 1 }, ..plugin },
        MfPlugin { abi_minor: MF_ABI_MINOR + 1, ..plugin },
        MfPlugin { readers: MfSlice { ptr: ptr::null(), len: 1 << 60, stride: 8 }, ..plugin },
        MfPlugin { readers: MfSlice { len: 1 << 60, stride: 0, ..plugin.readers }, ..plugin },
        MfPlugin { readers: zeroed(), writers: zeroed(), ..plugin },
    ] {
        let error = failure(found(&Tight::sized(&odd, whole)));
        assert_eq!(error.kind(), ErrorKind::Plugin, "{error}");
    }
    // SAFETY: null is looked at first.
    assert_eq!(failure(unsafe { Foreign::new(ptr::null()) }).kind(), ErrorKind::Plugin);
}

#[test]
fn the_program_is_told_in_shorter_and_longer_structs() {
    let text = MfText::of("it");
    let error =
        MfError { kind: MF_ERROR_TARGET, what: text, cause: text, has_offset: 1, offset: 7, ..zeroed() };
    let loss = MfLoss { kind: MF_LOSS_ORDER, subject: text, renamed: text, detail: text, ..zeroed() };
    for size in sizes::<MfError>() {
        let told = Told::by(|report| {
            let error = Tight::sized(&error, size);
            // SAFETY: the report is the call's own.
            unsafe { (*report).error.unwrap()((*report).context, error.as_ptr()) };
            MF_FAILED
        });
        let found = failure(told);
        assert_eq!(found.kind(), if size >= 16 { ErrorKind::Target } else { ErrorKind::Plugin }, "{size}");
        assert_eq!(found.what() == "it", size >= 32, "{size}");
    }
    for size in sizes::<MfLoss>() {
        let told = Told::by(|report| {
            let loss = Tight::sized(&loss, size);
            // SAFETY: the report is the call's own.
            unsafe { (*report).loss.unwrap()((*report).context, loss.as_ptr()) };
            MF_OK
        });
        let losses = told.unwrap().losses();
        assert_eq!(losses.is_ok(), size >= 16, "{size}");
    }
}

#[test]
fn the_program_is_asked_in_shorter_and_longer_structs() {
    let node = MfNode { op: MF_OP_REGION, dtype: MF_DTYPE_U8, n: 4, ..zeroed() };
    let nodes = [node];
    let asked = MfModel { nodes: MfSlice::of(&nodes), ..room() };
    let query = MfQuery { kind: MF_QUERY_SMALL, len: 4, ..zeroed() };
    let put = |model: &Tight, query: &Tight, answer: &Tight| {
        with_call(None, |call| {
            let mut out = [0u8; 4];
            // SAFETY: the program's functions, and structs that say how long they are.
            unsafe {
                (*call.host).ask.unwrap()(
                    call.call,
                    ptr::null(),
                    model.as_ptr(),
                    query.as_ptr(),
                    out.as_mut_ptr(),
                    4,
                    answer.as_ptr(),
                ) == MF_OK
            }
        })
        .unwrap()
    };
    let (whole_query, whole_model) =
        (|| Tight::sized(&query, size_of::<MfQuery>()), || Tight::sized(&asked, size_of::<MfModel>()));
    let answer = |size: usize| Tight::sized(&zeroed::<MfAnswer>(), size);
    for size in sizes::<MfQuery>() {
        let done = put(&whole_model(), &Tight::sized(&query, size), &answer(size_of::<MfAnswer>()));
        assert_eq!(done, size >= 16, "a query of {size} bytes");
    }
    for size in sizes::<MfAnswer>() {
        assert!(put(&whole_model(), &whole_query(), &answer(size)), "an answer of {size} bytes");
    }
    for size in sizes::<MfModel>() {
        let done = put(&Tight::sized(&asked, size), &whole_query(), &answer(size_of::<MfAnswer>()));
        assert_eq!(done, size >= std::mem::offset_of!(MfModel, blobs), "a model of {size} bytes");
    }
}

#[test]
fn elements_may_be_shorter_and_longer() {
    let shape = [2u64];
    let tensor = MfTensor {
        name: MfText::of("w"),
        dtype: MF_DTYPE_F32,
        shape: shape.as_ptr(),
        rank: 1,
        data: MfData { kind: MF_DATA_FILE, file: 0, at: 0 },
        ..zeroed()
    };
    let node = MfNode { op: MF_OP_REGION, dtype: MF_DTYPE_U8, n: 4, ..zeroed() };
    let asset =
        MfAsset { name: MfText::of("a"), len: 4, data: MfData { kind: MF_DATA_FILE, file: 0, at: 0 } };
    let claim = MfClaim { node: 0, crc32: 1, is_header: 1 };
    let (inputs, limits) = (inputs(), Limits::default());
    // SAFETY: the arrays are what they say.
    let take = |model: MfModel| unsafe { model::take(model, &inputs, &limits) };
    for stride in strides::<MfTensor>() {
        let (tensors, _held) = slice_of(&[tensor, MfTensor { name: MfText::of("v"), ..tensor }], stride);
        assert_eq!(
            take(MfModel { tensors, ..room() }).is_ok(),
            stride >= size_of::<MfTensor>() - 8,
            "{stride}"
        );
    }
    for stride in strides::<MfNode>() {
        let (nodes, _held) = slice_of(&[node, node], stride);
        // Of a node that says no more there are no bytes.
        assert!(take(MfModel { nodes, ..room() }).is_ok(), "{stride}");
    }
    for stride in strides::<MfAsset>() {
        let (assets, _held) = slice_of(&[asset, asset], stride);
        assert_eq!(
            take(MfModel { assets, ..room() }).is_ok(),
            stride >= size_of::<MfAsset>() - 8,
            "{stride}"
        );
    }
    for stride in strides::<MfClaim>() {
        let (claims, _held) = slice_of(&[claim, claim], stride);
        let found = take(MfModel { nodes: MfSlice::of(&[node]), claims, ..room() }).unwrap();
        assert_eq!(found.claims[1].crc32, u32::from(stride >= 16), "{stride}");
    }
    let file = MfOutFile { path: MfText::of("x"), first_piece: 0, n_pieces: 1 };
    let piece = MfPiece { kind: MF_PIECE_ZERO, len: 4, ..zeroed() };
    let digest = MfDigest { algo: MF_DIGEST_CRC32, len: 4, ..zeroed() };
    let patch = MfPatch { form: MF_FORM_RAW, ..zeroed() };
    let text = MfText::of("x");
    // SAFETY: the arrays are what they say.
    let take = |layout: MfLayout| unsafe { layout::take(layout) };
    for stride in strides::<MfOutFile>() {
        let (files, _held) = slice_of(&[file, file], stride);
        let found = take(MfLayout { files, pieces: MfSlice::of(&[piece]), ..zeroed() });
        assert_eq!(
            found.unwrap().files[1].len,
            if stride >= size_of::<MfOutFile>() { 4 } else { 0 },
            "{stride}"
        );
    }
    for stride in strides::<MfPiece>() {
        let (pieces, _held) = slice_of(&[piece, piece], stride);
        let files = [MfOutFile { n_pieces: 2, ..file }];
        let found = take(MfLayout { files: MfSlice::of(&files), pieces, ..zeroed() }).unwrap();
        assert_eq!(found.files[0].len, if stride >= size_of::<MfPiece>() { 8 } else { 0 }, "{stride}");
    }
    for stride in strides::<MfDigest>() {
        let (digests, _held) = slice_of(&[digest, digest], stride);
        assert_eq!(take(MfLayout { digests, ..zeroed() }).unwrap().digests.len(), 2);
    }
    for stride in strides::<MfPatch>() {
        let (patches, _held) = slice_of(&[patch, patch], stride);
        assert_eq!(take(MfLayout { patches, ..zeroed() }).unwrap().patches.len(), 2);
    }
    for stride in strides::<MfText>() {
        let (notes, _held) = slice_of(&[text, text], stride);
        assert_eq!(take(MfLayout { notes, ..zeroed() }).unwrap().notes[1] == "x", stride >= 16, "{stride}");
    }
    let option = MfOption { name: text, value: text };
    for stride in strides::<MfOption>() {
        let (options, _held) = slice_of(&[option, option], stride);
        // SAFETY: the array is what it says.
        let found = unsafe { layout::to_options(options) };
        assert!(found.is_ok() || !is_whole!(stride, MfOption: value), "{stride}");
    }
}

#[test]
fn the_sanitizer_sees_nobody_read_past() {
    for test in [
        "a_plugin_is_given_shorter_and_longer_structs",
        "a_writer_is_given_shorter_and_longer_structs",
        "the_program_is_given_shorter_and_longer_tables",
        "the_program_is_told_in_shorter_and_longer_structs",
        "the_program_is_asked_in_shorter_and_longer_structs",
        "elements_may_be_shorter_and_longer",
    ] {
        sanitized(test);
    }
}

#[test]
fn reading_past_a_struct() {
    if is_sanitized() {
        let lies = Tight::sized(&zeroed::<MfLimits>(), 16);
        // SAFETY: none: this is what must be seen.
        let limits = unsafe {
            lies.as_ptr::<u64>().write(size_of::<MfLimits>() as u64);
            modelferry_abi::raw::sized(lies.as_ptr::<MfLimits>())
        };
        assert!(limits.is_ok());
    }
}

#[test]
fn the_sanitizer_would_see_it() {
    let (passed, said) = run_sanitized("reading_past_a_struct");
    assert!(!passed && said.contains("heap-buffer-overflow"), "{said}");
}
