//! Writes numpy's arrays: `.npz` archives, and a single `.npy`.
//!
//! # What does not fit
//!
//! - numpy knows neither bf16 nor float8. ml_dtypes' arrays are written by `np.savez` as void types that keep only
//!   their width and a byte order; we write the same, and add a zip extra field, which numpy does not look at, from
//!   which our reader gets the type back. A lone `.npy` has no place for that: bf16 is known by its width, float8
//!   is refused.
//! - An archive holds arrays and nothing else: no metadata, no ties, one file.
//! - A zip entry's CRC stands before its data: it is a hole that the engine fills at the end.

#![forbid(unsafe_code)]

mod npy;
mod npz;

pub use npy::NpyWriter;
pub use npz::NpzWriter;

/// Adds both writers to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_writer(NpzWriter);
    registry.add_writer(NpyWriter);
}

modelferry_abi::export_plugin!(modelferry_npz_writer_v1, writers: [NpzWriter, NpyWriter]);
