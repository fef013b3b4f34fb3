//! What a run has shown, and the files that are made of it.

use super::*;
use std::ffi::c_void;

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
