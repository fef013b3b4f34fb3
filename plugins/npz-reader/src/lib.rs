//! Reads numpy's arrays: `.npz` archives, and a single `.npy`.
//!
//! Format: numpy's `numpy/lib/_format_impl.py` and NEP 1; the archive is a zip file with one `.npy` per array, stored
//! or deflated.

#![forbid(unsafe_code)]

mod array;
mod npy;
mod npz;

pub use npy::NpyReader;
pub use npz::NpzReader;

/// Adds both readers to a registry.
pub fn register(registry: &mut modelferry_core::registry::Registry) {
    registry.add_reader(NpzReader);
    registry.add_reader(NpyReader);
}

modelferry_abi::export_plugin!(modelferry_npz_reader_v1, readers: [NpzReader, NpyReader]);
