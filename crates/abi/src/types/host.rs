//! What the program offers, and one call of it.

use super::*;

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
