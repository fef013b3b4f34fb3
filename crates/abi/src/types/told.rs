//! What a call tells: errors and losses.

use super::*;
use std::ffi::c_void;

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
