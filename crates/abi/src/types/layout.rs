//! Where every output byte comes from, and what will report on the run.

use super::*;
use std::ffi::c_void;

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
