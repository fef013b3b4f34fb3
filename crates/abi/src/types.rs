//! The structs that cross the boundary, as C sees them.
//!
//! Rules that hold for all of them (reference: the header says them to authors in C):
//!
//! - Numbers have fixed widths; there is no `bool`, no `size_t`, no enum and no bit field.
//! - A struct that is passed by pointer begins with `struct_size`, the number of bytes its maker knows. It grows at its
//!   end only. Who receives one copies what both know and takes the rest as zero.
//! - [`MfText`], [`MfSlice`] and [`MfData`] are parts of other structs and arguments of functions: they never grow.
//! - Arrays travel as [`MfSlice`], whose stride is the size of an element as its maker knows it.
//! - Text is UTF-8 with a length, not ended by a NUL. What need not be UTF-8 says so.
//! - What one side allocates the same side frees, when the other calls `release`.

use std::ffi::c_void;

/// Text, or bytes where a field says so. Where a text may be absent, a null pointer says that it is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfText {
    /// First byte.
    pub ptr: *const u8,
    /// Number of bytes.
    pub len: u64,
}

/// An array whose elements are as large as its maker knows them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfSlice {
    /// First element.
    pub ptr: *const c_void,
    /// Number of elements.
    pub len: u64,
    /// Bytes from one element to the next.
    pub stride: u64,
}

/// An error: whose fault it is, where, what was expected there and what was found.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfError {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// One of `MF_ERROR_…`.
    pub kind: u32,
    /// 1 if the byte offset is known.
    pub has_offset: u32,
    /// What is wrong, without its place: no capital, no full stop.
    pub what: MfText,
    /// The format, where it is not the plugin's own.
    pub format: MfText,
    /// The file, by its name.
    pub file: MfText,
    /// The tensor.
    pub tensor: MfText,
    /// What should have been there.
    pub expected: MfText,
    /// What was there.
    pub found: MfText,
    /// What the user can do about it.
    pub hint: MfText,
    /// The cause in another's words: the system's.
    pub cause: MfText,
    /// The byte offset in the file.
    pub offset: u64,
}

/// Something that a conversion drops, rounds, renames or lays out anew.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfLoss {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// One of `MF_LOSS_…`.
    pub kind: u32,
    /// 1 if an option of the user's asked for exactly this.
    pub is_asked: u32,
    /// Which tensor or key.
    pub subject: MfText,
    /// Under which name it is written, where that is another.
    pub renamed: MfText,
    /// What became of it, for a person.
    pub detail: MfText,
    /// Bytes: axis `k` of what is written is axis `axes[k]` of the source's tensor. Empty if they are as they were.
    pub axes: MfText,
}

/// Where errors and losses are told. Texts are copied before the call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfReport {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// To be handed back.
    pub context: *mut c_void,
    /// Tells why the call that is under way will return `MF_FAILED`. The last one told counts.
    pub error: Option<unsafe extern "C" fn(context: *mut c_void, error: *const MfError)>,
    /// Tells of a loss.
    pub loss: Option<unsafe extern "C" fn(context: *mut c_void, loss: *const MfLoss)>,
}

/// Where bytes are.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfData {
    /// One of `MF_DATA_…`.
    pub kind: u32,
    /// With `MF_DATA_FILE`, the file; with `MF_DATA_UNSEEN`, a file that they come from, or `MF_NO_FILE`.
    pub file: u32,
    /// With `MF_DATA_FILE`, the first byte; with `MF_DATA_NODE`, the position in `nodes`; with `MF_DATA_MADE`, what
    /// `read_at` is given as `token`.
    pub at: u64,
}

/// A named array.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfTensor {
    /// Unique name.
    pub name: MfText,
    /// One of `MF_DTYPE_…`.
    pub dtype: u32,
    /// With `MF_DTYPE_OPAQUE`, elements in a block.
    pub block_elements: u16,
    /// With `MF_DTYPE_OPAQUE`, bytes of a block.
    pub block_bytes: u16,
    /// Extents in elements, row-major.
    pub shape: *const u64,
    /// Number of extents; 0 for a scalar.
    pub rank: u64,
    /// Bytes of the elements densely packed. Told to writers; a reader may leave it 0.
    pub byte_len: u64,
    /// The bytes: little-endian and row-major, unless a node says otherwise.
    pub data: MfData,
}

/// How a sequence of items is made of others: `MF_OP_…` says which field means what.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfNode {
    /// One of `MF_OP_…`.
    pub op: u32,
    /// Type of the items, one of `MF_DTYPE_…`.
    pub dtype: u32,
    /// With `MF_DTYPE_OPAQUE`, elements in a block.
    pub block_elements: u16,
    /// With `MF_DTYPE_OPAQUE`, bytes of a block.
    pub block_bytes: u16,
    /// Choices of the operation: `MF_FLAG_…`.
    pub flags: u32,
    /// Number of items.
    pub n: u64,
    /// The sequence that it is made of, by its position: an earlier one.
    pub of: u64,
    /// First number of the operation.
    pub p: u64,
    /// Second number of the operation.
    pub q: u64,
    /// Further numbers of the operation.
    pub list: *const u64,
    /// How many there are.
    pub list_len: u64,
}

/// A file that belongs to a model and holds no weights.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfAsset {
    /// Path relative to the model's folder, `/` between folders.
    pub name: MfText,
    /// Length in bytes.
    pub len: u64,
    /// Its bytes: a part of a file, or a node that is one or is held in a blob.
    pub data: MfData,
}

/// A CRC-32 that a source states about bytes of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfClaim {
    /// A sequence of bytes, by its position in `nodes`.
    pub node: u64,
    /// The CRC-32 (IEEE 802.3).
    pub crc32: u32,
    /// 1 if the description itself rests on these bytes.
    pub is_header: u32,
}

/// A model, described: what a reader makes and a writer takes. A writer is given no nodes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfModel {
    /// Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    pub struct_size: u64,
    /// Its maker's own.
    pub owner: *mut c_void,
    /// Frees what the model points at. Called once, when nothing of it is needed any more; may be null.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
    /// Fills `out` with bytes that only the maker can make: `len` of them from `offset` on of the sequence `token` of
    /// `source` (0 unless a node says otherwise), out of the files that the model was read from, which `call` gives.
    /// Called from several threads, and twice for the same range.
    pub read_at: Option<
        unsafe extern "C" fn(
            owner: *mut c_void,
            call: *const MfCall,
            source: u64,
            token: u64,
            offset: u64,
            out: *mut u8,
            len: u64,
        ) -> i32,
    >,
    /// [`MfTensor`], in file order.
    pub tensors: MfSlice,
    /// [`MfNode`], each made of earlier ones.
    pub nodes: MfSlice,
    /// [`MfText`], of bytes: what nodes and the document name by position.
    pub blobs: MfSlice,
    /// [`MfAsset`].
    pub assets: MfSlice,
    /// [`MfClaim`].
    pub claims: MfSlice,
    /// The rest as JSON: ties, metadata, config, nested values, a graph. Empty if there is none.
    /// docs/plugin-abi.md has its schema.
    pub document: MfText,
}

/// An output file: its pieces in order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfOutFile {
    /// Relative path, `/` between folders.
    pub path: MfText,
    /// Position of its first piece in `pieces`.
    pub first_piece: u64,
    /// Number of its pieces.
    pub n_pieces: u64,
}

/// A run of output bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfPiece {
    /// One of `MF_PIECE_…`.
    pub kind: u32,
    /// Of a tensor's bytes: `MF_FLAG_BIG_ENDIAN`, `MF_FLAG_HIGH_BITS_FIRST`.
    pub flags: u32,
    /// Position of the blob, tensor or asset.
    pub idx: u64,
    /// First byte of it.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A checksum over output bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfDigest {
    /// One of `MF_DIGEST_…`.
    pub algo: u32,
    /// Zero.
    pub reserved: u32,
    /// Position of the file in `files`.
    pub file: u64,
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
}

/// A hole of zeros that a digest fills at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfPatch {
    /// One of `MF_FORM_…`.
    pub form: u32,
    /// Zero.
    pub reserved: u32,
    /// Position of the file in `files`.
    pub file: u64,
    /// First byte of the hole.
    pub at: u64,
    /// Position of the digest in `digests`.
    pub digest: u64,
}

/// A file of the source that is part of the output where it is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfLink {
    /// Its path relative to the output's folder, as [`MfHost::link`] gave it.
    pub path: MfText,
    /// Zero.
    pub reserved: u32,
    /// The file.
    pub file: u32,
    /// Tensors that lie in it.
    pub n_tensors: u64,
}

/// Where every output byte comes from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfLayout {
    /// Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    pub struct_size: u64,
    /// Its maker's own.
    pub owner: *mut c_void,
    /// Frees what the layout points at. Called once; may be null.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
    /// [`MfOutFile`].
    pub files: MfSlice,
    /// [`MfPiece`], of all files.
    pub pieces: MfSlice,
    /// [`MfText`], of bytes.
    pub blobs: MfSlice,
    /// [`MfDigest`].
    pub digests: MfSlice,
    /// [`MfPatch`].
    pub patches: MfSlice,
    /// Position of the file that stands for the whole.
    pub root: u64,
    /// [`MfText`]: names of files that would be taken for this model if they stayed beside the output.
    pub supersedes: MfSlice,
    /// [`MfText`]: what a person should know of the output although nothing is lost.
    pub notes: MfSlice,
    /// [`MfLink`].
    pub links: MfSlice,
    /// [`MfPromise`]: files that report on the run. Who takes in a layout takes these along.
    pub promises: MfSlice,
}

/// A file that reports on the run: promised by a layout, made by [`MfWriter::epilogue`] when all else is written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfPromise {
    /// Relative path, `/` between folders.
    pub path: MfText,
    /// Bytes that it has at most, up to 2^20.
    pub at_most: u64,
    /// Where the layout has taken in another one whose writer makes the file, the format of that writer. A writer leaves
    /// it empty in promises of its own, and passes on those of others as they are, but for the positions that follow.
    pub format: MfText,
    /// With a format, the position in `files` of the first file of that writer.
    pub first_file: u64,
    /// With a format, the number of its files.
    pub n_files: u64,
    /// With a format, the position in `digests` of its first digest.
    pub first_digest: u64,
    /// With a format, the number of its digests.
    pub n_digests: u64,
}

/// A file that is written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfWritten {
    /// Relative path, `/` between folders.
    pub path: MfText,
    /// Length in bytes.
    pub len: u64,
}

/// A digest that is taken: of the finished bytes, unless it fills a hole.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfDigested {
    /// One of `MF_DIGEST_…`.
    pub algo: u32,
    /// Zero.
    pub reserved: u32,
    /// Position of the file in `files`.
    pub file: u64,
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub len: u64,
    /// The bytes of the digest; a CRC-32 as a little-endian number.
    pub value: MfText,
}

/// What writing a tensor has shown of its values.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfSeen {
    /// Position of the tensor in the model that the writer was given.
    pub tensor: u64,
    /// Its name there.
    pub name: MfText,
    /// The type that it is written in, one of `MF_DTYPE_…`.
    pub dtype: u32,
    /// With `MF_DTYPE_OPAQUE`, elements in a block.
    pub block_elements: u16,
    /// With `MF_DTYPE_OPAQUE`, bytes of a block.
    pub block_bytes: u16,
    /// Values outside of the range of the type they were cast to.
    pub overflow: u64,
    /// Values that are not zero and that a cast made zero.
    pub underflow: u64,
    /// Values that were quantized; 0 if none were, and all that follows is 0 then.
    pub n_quantized: u64,
    /// NaN and infinities among them. In what follows they do not count.
    pub n_non_finite: u64,
    /// Finite ones whose scale is beyond the type that holds it. In the errors they do not count.
    pub n_beyond_scale: u64,
    /// Root of the mean square of the differences that quantization made, six digits of it.
    pub rms: f64,
    /// The largest of them, six digits of it.
    pub largest: f64,
}

/// What a run has shown when all but the promised files is written.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfOutcome {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// [`MfPromise`]: the files to be made.
    pub promises: MfSlice,
    /// [`MfWritten`], in the order of the layout's files.
    pub files: MfSlice,
    /// [`MfDigested`], in the order of the layout's digests.
    pub digests: MfSlice,
    /// [`MfSeen`], of the tensors whose values showed something, in their order.
    pub tensors: MfSlice,
    /// [`MfLoss`]: what the values showed to be lost, and the user has accepted.
    pub losses: MfSlice,
}

/// A promised file, made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfSmallFile {
    /// Its path, as it was promised.
    pub path: MfText,
    /// All that it holds: UTF-8.
    pub text: MfText,
}

/// The files that report on a run.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfEpilogue {
    /// Bytes of this struct. Who passes room for one sets it; who fills it sets it to what was filled.
    pub struct_size: u64,
    /// Its maker's own.
    pub owner: *mut c_void,
    /// Frees what the files point at. Called once; may be null.
    pub release: Option<unsafe extern "C" fn(owner: *mut c_void)>,
    /// [`MfSmallFile`], one for each promise.
    pub files: MfSlice,
}

/// The value of a declared option.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfOption {
    /// Its name.
    pub name: MfText,
    /// Its value, as the user would type it; options without value and default are not passed.
    pub value: MfText,
}

/// What a writer is asked for besides the model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfRequest {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// Name of the output file, without folder; for a folder, the folder's own name.
    pub file_name: MfText,
    /// Format of the weights in a folder; empty for a file.
    pub weights: MfText,
    /// [`MfOption`].
    pub options: MfSlice,
    /// One of `MF_SHARDS_…`.
    pub shards: u32,
    /// Zero.
    pub reserved: u32,
    /// With `MF_SHARDS_MAX`, the most bytes of tensors in a file.
    pub shard_bytes: u64,
}

/// A question about payload.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfQuery {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// One of `MF_QUERY_…`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The sequence, by its position in the nodes that come with the question.
    pub node: u64,
    /// With `MF_QUERY_EQUAL`, the other one.
    pub other: u64,
    /// With `MF_QUERY_SMALL`, the first item.
    pub at: u64,
    /// With `MF_QUERY_SMALL`, the number of items.
    pub len: u64,
}

/// The answer to an [`MfQuery`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfAnswer {
    /// Bytes of this struct. Set by who asks.
    pub struct_size: u64,
    /// To `MF_QUERY_EQUAL` and `MF_QUERY_ALL_ZERO` 0 or 1, to `MF_QUERY_NNZ` the count, to `MF_QUERY_SMALL` the number
    /// of bytes, which are in `out` if they are not more than there is room for.
    pub count: u64,
    /// To `MF_QUERY_ABS_MAX`.
    pub number: f64,
}

/// What a file may ask of a reader at most. Reaching one is an error of kind `MF_ERROR_LIMIT`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfLimits {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// Bytes of one header, directory or index document.
    pub header_bytes: u64,
    /// Tensors in one model.
    pub tensors: u64,
    /// Files one model is made of.
    pub files: u64,
    /// Dimensions of one tensor.
    pub rank: u64,
    /// Bytes of one tensor name.
    pub name_bytes: u64,
    /// Nesting of documents.
    pub depth: u64,
    /// Objects of one document of nested values.
    pub objects: u64,
    /// Instructions of one pickle.
    pub opcodes: u64,
    /// Nodes of one model.
    pub nodes: u64,
    /// Bytes of payload held in blobs.
    pub inline_bytes: u64,
    /// Bytes of tensors that repeat elements of small storages.
    pub repeated_bytes: u64,
    /// Ratio of inflated to deflated bytes.
    pub inflate_ratio: u64,
    /// Bytes read for each byte written.
    pub read_amplification: u64,
}

/// What the program offers a plugin. It lives as long as the process.
///
/// `call` is [`MfCall::call`]. Functions that can fail return `MF_OK` or `MF_FAILED` and tell `report` why; given the
/// report of the call itself, their error is the call's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfHost {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// The minor version of the program's side.
    pub abi_minor: u32,
    /// Zero.
    pub reserved: u32,
    /// The file that the user named; `MF_FOLDER` where that is a folder.
    pub root: Option<unsafe extern "C" fn(call: u64) -> u32>,
    /// The length of a file in bytes.
    pub len: Option<unsafe extern "C" fn(call: u64, file: u32) -> u64>,
    /// The name of a file relative to the model's folder. Fills at most `room` bytes of `out` and returns how many there
    /// are.
    pub name: Option<unsafe extern "C" fn(call: u64, file: u32, out: *mut u8, room: u64) -> u64>,
    /// Finds a file by its name relative to the model's folder.
    pub open:
        Option<unsafe extern "C" fn(call: u64, report: *const MfReport, name: MfText, file: *mut u32) -> i32>,
    /// Says that a file that was opened is not part of the model after all.
    pub forget: Option<unsafe extern "C" fn(call: u64, file: u32)>,
    /// What is in a folder of the model's folder, which is the empty name: names, each ended by a NUL, folders with a
    /// `/` before it. Fills at most `room` bytes of `out`; `needed` is how many there are.
    pub list: Option<
        unsafe extern "C" fn(
            call: u64,
            report: *const MfReport,
            folder: MfText,
            out: *mut u8,
            room: u64,
            needed: *mut u64,
        ) -> i32,
    >,
    /// Fills `out` with `len` bytes of a file from `offset` on.
    pub read_at: Option<
        unsafe extern "C" fn(
            call: u64,
            report: *const MfReport,
            file: u32,
            offset: u64,
            out: *mut u8,
            len: u64,
        ) -> i32,
    >,
    /// Answers a question about payload. Of `model` the nodes, blobs and `read_at` are looked at; it stays the caller's.
    pub ask: Option<
        unsafe extern "C" fn(
            call: u64,
            report: *const MfReport,
            model: *const MfModel,
            query: *const MfQuery,
            out: *mut u8,
            room: u64,
            answer: *mut MfAnswer,
        ) -> i32,
    >,
    /// Reads the model that a file is the root of: a model inside a model. Its nodes speak of the same files. To be
    /// released by the caller.
    pub read_model: Option<
        unsafe extern "C" fn(call: u64, report: *const MfReport, root: u32, model: *mut MfModel) -> i32,
    >,
    /// Lays the tensors of the model that the call is about out as files of another format. To be released by the
    /// caller. With `is_weights` 1 its config and assets are left out, for the caller writes them.
    pub layout: Option<
        unsafe extern "C" fn(
            call: u64,
            report: *const MfReport,
            format: MfText,
            is_weights: u32,
            request: *const MfRequest,
            layout: *mut MfLayout,
        ) -> i32,
    >,
    /// The path under which the output can speak of a file of the source, relative to the output's folder. Fills at most
    /// `room` bytes of `out`; `needed` is how many there are.
    pub link: Option<
        unsafe extern "C" fn(
            call: u64,
            report: *const MfReport,
            file: u32,
            out: *mut u8,
            room: u64,
            needed: *mut u64,
        ) -> i32,
    >,
}

/// One call of a plugin: what it is about.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfCall {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// To be handed to the functions of `host`. Means nothing once the call has returned.
    pub call: u64,
    /// What the program offers.
    pub host: *const MfHost,
    /// Where errors and losses of this call are told.
    pub report: *const MfReport,
    /// The limits in force.
    pub limits: *const MfLimits,
}

/// A reader.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfReader {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// Handed to its functions; the library's own, and may be null.
    pub owner: *mut c_void,
    /// What it is, as JSON: one of the `readers` of a manifest.
    pub info: MfText,
    /// Whether the root file is of this format: one of `MF_VERDICT_…`. Reads a bounded number of bytes.
    pub identify: Option<unsafe extern "C" fn(owner: *mut c_void, call: *const MfCall) -> u32>,
    /// Fills `model`, reading headers and never payload. `options` are [`MfOption`].
    pub read: Option<
        unsafe extern "C" fn(
            owner: *mut c_void,
            call: *const MfCall,
            options: MfSlice,
            model: *mut MfModel,
        ) -> i32,
    >,
}

/// A writer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfWriter {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// Handed to its functions; the library's own, and may be null.
    pub owner: *mut c_void,
    /// What it is and what it can represent, as JSON: one of the `writers` of a manifest.
    pub info: MfText,
    /// Fills `layout` with the bytes of every output file, and tells of losses.
    pub layout: Option<
        unsafe extern "C" fn(
            owner: *mut c_void,
            call: *const MfCall,
            model: *const MfModel,
            request: *const MfRequest,
            layout: *mut MfLayout,
        ) -> i32,
    >,
    /// The same for a file of this format of which only metadata has changed; null in a writer that cannot.
    pub relayout: Option<
        unsafe extern "C" fn(
            owner: *mut c_void,
            call: *const MfCall,
            model: *const MfModel,
            file_name: MfText,
            layout: *mut MfLayout,
        ) -> i32,
    >,
    /// Fills `epilogue` with the files that the layout has promised, made of what the run has shown; null in a writer
    /// that promises none. Called when all other bytes are written and before anything is published: a failure publishes
    /// nothing. There are no files to read and nothing to ask.
    pub epilogue: Option<
        unsafe extern "C" fn(
            owner: *mut c_void,
            call: *const MfCall,
            outcome: *const MfOutcome,
            epilogue: *mut MfEpilogue,
        ) -> i32,
    >,
}

/// What a library returns when it is asked what it is. It lives as long as the process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MfPlugin {
    /// Bytes of this struct.
    pub struct_size: u64,
    /// The smallest minor version of the program's side that it works with.
    pub abi_minor: u32,
    /// Zero.
    pub reserved: u32,
    /// Its name, unique: small letters, digits and `-`.
    pub id: MfText,
    /// Its own version.
    pub version: MfText,
    /// [`MfReader`].
    pub readers: MfSlice,
    /// [`MfWriter`].
    pub writers: MfSlice,
}

/// The one function that a library exports, under the name `modelferry_ID_v1`, `-` in the id as `_`.
pub type MfEntry = unsafe extern "C" fn() -> *const MfPlugin;
