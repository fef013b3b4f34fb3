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

mod host;
mod layout;
mod model;
mod outcome;
mod plugin;
mod request;
mod told;

pub use host::*;
pub use layout::*;
pub use model::*;
pub use outcome::*;
pub use plugin::*;
pub use request::*;
use std::ffi::c_void;
pub use told::*;

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
