//! How torch writes its element types down.

use modelferry_core::DType;

/// What stands in a pickle for an element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// The class of its storages, in module `torch`.
    Storage(&'static str),
    /// Its own name, in module `torch`: storages of the younger types hold bytes and do not know their type.
    Untyped(&'static str),
}

/// Every type that torch has a name for (`torch/storage.py`: `_dtype_to_storage_type_map` and `_new_dtypes`, torch 2.15).
#[rustfmt::skip]
const ELEMENTS: [(DType, Element); 21] = [
    (DType::F64, Element::Storage("DoubleStorage")),
    (DType::F32, Element::Storage("FloatStorage")),
    (DType::F16, Element::Storage("HalfStorage")),
    (DType::Bf16, Element::Storage("BFloat16Storage")),
    (DType::I64, Element::Storage("LongStorage")),
    (DType::I32, Element::Storage("IntStorage")),
    (DType::I16, Element::Storage("ShortStorage")),
    (DType::I8, Element::Storage("CharStorage")),
    (DType::U8, Element::Storage("ByteStorage")),
    (DType::Bool, Element::Storage("BoolStorage")),
    (DType::C64, Element::Storage("ComplexFloatStorage")),
    (DType::C128, Element::Storage("ComplexDoubleStorage")),
    (DType::C32, Element::Untyped("complex32")),
    (DType::U16, Element::Untyped("uint16")),
    (DType::U32, Element::Untyped("uint32")),
    (DType::U64, Element::Untyped("uint64")),
    (DType::F8E4M3, Element::Untyped("float8_e4m3fn")),
    (DType::F8E5M2, Element::Untyped("float8_e5m2")),
    (DType::F8E4M3Fnuz, Element::Untyped("float8_e4m3fnuz")),
    (DType::F8E5M2Fnuz, Element::Untyped("float8_e5m2fnuz")),
    (DType::F8E8M0, Element::Untyped("float8_e8m0fnu")),
];

/// Two of these in a byte are one element of torch's, so that shapes differ along the last dimension.
const PAIRS: (DType, Element) = (DType::F4E2M1, Element::Untyped("float4_e2m1fn_x2"));

/// Every type that torch has.
pub(crate) const DTYPES: [DType; ELEMENTS.len() + 1] = {
    let mut dtypes = [PAIRS.0; ELEMENTS.len() + 1];
    let mut idx = 0;
    while idx < ELEMENTS.len() {
        dtypes[idx] = ELEMENTS[idx].0;
        idx += 1;
    }
    dtypes
};

/// How a type is written down; `None` for one that torch lacks.
pub(crate) fn element(dtype: DType) -> Option<Element> {
    ELEMENTS.iter().chain([&PAIRS]).find(|(known, _)| *known == dtype).map(|(_, element)| *element)
}

/// Our elements in one of torch's along the last dimension.
pub(crate) fn per_element(dtype: DType) -> u64 {
    if dtype == PAIRS.0 { 2 } else { 1 }
}
