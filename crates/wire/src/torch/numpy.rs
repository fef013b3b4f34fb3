//! Numpy's arrays and scalars in pickles (numpy 1.x and 2.x, `numpy/_core/src/multiarray/methods.c`, `scalartypes.c.src`).

use super::rebuild::Reader;
use crate::npy::{MemoryOrder, type_string};
use modelferry_core::dtype::DType;
use modelferry_core::error::{Error, Result};
use modelferry_core::expr::{Blob, ByteOrder};
use modelferry_core::tree::{Instance, Object, ObjectId, Tree};

/// An array, its bytes in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inline {
    /// The object that holds its bytes, in one of the forms that Pythons and protocols give them.
    holder: ObjectId,
    /// Type of its elements.
    pub dtype: DType,
    /// Order of their bytes.
    pub byte_order: ByteOrder,
    /// Extents.
    pub size: Box<[u64]>,
    /// Order of the elements.
    pub order: MemoryOrder,
    /// Whether it is a scalar and no array of rank 0.
    pub is_scalar: bool,
}

impl Inline {
    /// Its bytes, out of the tree that it is described in. Costs their number unless the pickle is of protocol 3 or
    /// newer, so it is to be called for arrays that are wanted.
    ///
    /// Errors: of kind [`Malformed`](modelferry_core::error::ErrorKind::Malformed) where there are more or fewer than
    /// type and extents ask for.
    pub fn bytes(&self, tree: &Tree) -> Result<Blob> {
        let blob = blob(tree, self.holder).ok_or_else(|| Error::malformed("a numpy array has no bytes"))?;
        let n_elements = self.size.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent));
        // An extent of 0 makes any other harmless.
        let n_elements = if self.size.contains(&0) { Some(0) } else { n_elements };
        let expected = n_elements.and_then(|n| n.checked_mul(self.dtype.item_bytes()));
        if expected != Some(blob.len() as u64) {
            let error = Error::malformed("a numpy array has the wrong number of bytes");
            let error = match expected {
                Some(expected) => error.expected(format_args!("{expected} bytes")),
                None => error,
            };
            return Err(error.found(format_args!("{} bytes", blob.len())));
        }
        Ok(blob)
    }
}

/// The array or scalar that a call makes; `None` for anything else, and for arrays of what is no number.
pub(super) fn array(reader: Reader<'_>, instance: &Instance) -> Result<Option<Inline>> {
    let tree = reader.tree;
    let Some((module, name)) = tree.global(instance.callable) else { return Ok(None) };
    let args = tree.sequence(instance.args);
    let wrong = || Error::malformed("a numpy array is malformed");
    let (dtype, holder, size, order, is_scalar) = match (module, name, args) {
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct", Some(_)) => {
            let state = instance.states.first().and_then(|&state| tree.sequence(state)).ok_or_else(wrong)?;
            // Before numpy 1.0 there was no version in front.
            let (&[size, dtype, is_fortran, bytes] | &[_, size, dtype, is_fortran, bytes]) = state else {
                return Err(wrong());
            };
            let order = match tree[is_fortran] {
                Object::Bool(true) | Object::Int(1) => MemoryOrder::Fortran,
                _ => MemoryOrder::C,
            };
            (dtype, bytes, Some(size), order, false)
        }
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer", Some(&[bytes, dtype, size, order])) => {
            let order = match tree.text(order) {
                Some("F") => MemoryOrder::Fortran,
                _ => MemoryOrder::C,
            };
            (dtype, bytes, Some(size), order, false)
        }
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar", Some(&[dtype, bytes])) => {
            (dtype, bytes, None, MemoryOrder::C, true)
        }
        _ => return Ok(None),
    };
    let Some((dtype, byte_order)) = element(tree, dtype) else { return Ok(None) };
    let size = match size {
        None => [].into(),
        Some(size) => reader.extents(size)?,
    };
    Ok(Some(Inline { holder, dtype, byte_order, size, order, is_scalar }))
}

/// `numpy.dtype('f4', False, True)` with a state whose second value is the byte order.
fn element(tree: &Tree, id: ObjectId) -> Option<(DType, ByteOrder)> {
    let instance = tree.instance(id)?;
    if tree.global(instance.callable) != Some(("numpy", "dtype")) {
        return None;
    }
    let of = *tree.sequence(instance.args)?.first()?;
    let state = instance.states.first().and_then(|&state| tree.sequence(state)).unwrap_or_default();
    let byte_order = match state.get(1).and_then(|&order| tree.text(order)) {
        Some(">") => ByteOrder::Big,
        _ => ByteOrder::Little,
    };
    if let Some((module, name)) = tree.global(of) {
        let dtype = if module == "ml_dtypes" { ml_dtype(name) } else { None };
        return dtype.map(|dtype| (dtype, byte_order));
    }
    let text = tree.text(of)?;
    // Kind and width, as in headers, the byte order apart. What is no number stays an object of the tree.
    let is_it = |dtype: &DType| type_string(*dtype).and_then(|known| known.get(1..)) == Some(text);
    let dtype = DType::all().find(is_it).filter(|_| !text.starts_with('V'));
    dtype.map(|dtype| (dtype, byte_order))
}

/// Types of the package ml_dtypes (0.5) that take whole bytes.
fn ml_dtype(name: &str) -> Option<DType> {
    Some(match name {
        "bfloat16" => DType::Bf16,
        "float8_e4m3fn" => DType::F8E4M3,
        "float8_e5m2" => DType::F8E5M2,
        "float8_e4m3fnuz" => DType::F8E4M3Fnuz,
        "float8_e5m2fnuz" => DType::F8E5M2Fnuz,
        "float8_e8m0fnu" => DType::F8E8M0,
        "float8_e3m4" => DType::F8E3M4,
        "float8_e4m3" => DType::F8E4M3Ieee,
        "float8_e4m3b11fnuz" => DType::F8E4M3B11Fnuz,
        _ => return None,
    })
}

/// Bytes in any of the forms that protocols and Pythons give them.
fn blob(tree: &Tree, id: ObjectId) -> Option<Blob> {
    match &tree[id] {
        Object::Bytes(bytes) => Some(bytes.clone()),
        // The `str` of Python 2, of which we take for text what can be text.
        Object::Text(text) => Some(Blob::from(text.as_bytes())),
        Object::Instance(instance) => {
            let args = tree.sequence(instance.args)?;
            match (tree.global(instance.callable)?, args) {
                (("_codecs", "encode"), [text, _latin1]) => latin1(tree.text(*text)?),
                (("__builtin__" | "builtins", "bytes"), []) => Some(Blob::from([])),
                (("__builtin__" | "builtins", "bytearray"), []) => Some(Blob::from([])),
                (("__builtin__" | "builtins", "bytearray"), [bytes]) => match &tree[*bytes] {
                    Object::Bytes(bytes) => Some(bytes.clone()),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}

fn latin1(text: &str) -> Option<Blob> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        bytes.push(u8::try_from(u32::from(c)).ok()?);
    }
    Some(bytes.into())
}
