//! What a library is.

use super::*;
use std::ffi::c_void;

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
