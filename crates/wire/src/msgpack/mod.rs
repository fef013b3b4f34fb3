//! MessagePack documents as flax writes them: nested dictionaries with arrays in them.
//!
//! A document is one value. Arrays, which MessagePack knows nothing of, are extensions that hold a document of their own:
//! shape, name of the element type, elements in row-major order. An array of more than [`MAX_CHUNK`] bytes is a
//! dictionary of parts, because the format counts bytes in 32 bits.
//!
//! Format: <https://github.com/msgpack/msgpack/blob/master/spec.md>; what stands in it: `flax/serialization.py`,
//! flax 0.12.

mod cursor;
mod read;
mod write;

pub use read::{Array, Document, parse};
pub use write::Emitter;

use modelferry_core::DType;

/// The extension that is an array.
pub const ARRAY: i8 = 1;

/// The extension that is a complex number of Python: two floating-point numbers.
pub const COMPLEX: i8 = 2;

/// The extension that is a number of numpy: an array without dimensions.
pub const SCALAR: i8 = 3;

/// The key of a dictionary by which it is an array in parts.
pub const CHUNKED: &str = "__msgpack_chunked_array__";

/// Bytes of elements above which an array is written in parts, and in each of them at most (`MAX_CHUNK_SIZE`).
pub const MAX_CHUNK: u64 = 1 << 30;

/// Module and name by which a complex number stands in a tree: a call with two numbers.
pub const COMPLEX_CLASS: (&str, &str) = ("builtins", "complex");

/// Module and name by which an extension that flax does not know stands in a tree: a call with code and bytes.
pub const EXTENSION_CLASS: (&str, &str) = ("msgpack", "ExtType");

/// Element types by the names that numpy and ml_dtypes give them.
///
/// Their types below a byte are left out: an array of such holds each element in a byte of its own.
#[rustfmt::skip]
const DTYPES: [(DType, &str); 23] = [
    (DType::Bool, "bool"),
    (DType::I8, "int8"), (DType::I16, "int16"), (DType::I32, "int32"), (DType::I64, "int64"),
    (DType::U8, "uint8"), (DType::U16, "uint16"), (DType::U32, "uint32"), (DType::U64, "uint64"),
    (DType::F16, "float16"), (DType::Bf16, "bfloat16"), (DType::F32, "float32"), (DType::F64, "float64"),
    (DType::F8E4M3, "float8_e4m3fn"), (DType::F8E5M2, "float8_e5m2"),
    (DType::F8E4M3Fnuz, "float8_e4m3fnuz"), (DType::F8E5M2Fnuz, "float8_e5m2fnuz"),
    (DType::F8E8M0, "float8_e8m0fnu"), (DType::F8E3M4, "float8_e3m4"), (DType::F8E4M3Ieee, "float8_e4m3"),
    (DType::F8E4M3B11Fnuz, "float8_e4m3b11fnuz"),
    (DType::C64, "complex64"), (DType::C128, "complex128"),
];

/// Every element type that an array can have.
pub const fn dtypes() -> [DType; DTYPES.len()] {
    let mut dtypes = [DType::Bool; DTYPES.len()];
    let mut idx = 0;
    while idx < DTYPES.len() {
        dtypes[idx] = DTYPES[idx].0;
        idx += 1;
    }
    dtypes
}

/// numpy's name of an element type; `None` for one that it lacks.
pub fn name_of(dtype: DType) -> Option<&'static str> {
    DTYPES.iter().find(|(known, _)| *known == dtype).map(|(_, name)| *name)
}

fn dtype_of(name: &[u8]) -> Option<DType> {
    DTYPES.iter().find(|(_, known)| known.as_bytes() == name).map(|(dtype, _)| *dtype)
}

#[cfg(test)]
mod tests;
