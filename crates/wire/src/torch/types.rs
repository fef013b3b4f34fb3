//! torch's element types and storage classes.

use modelferry_core::dtype::DType;

/// Whether an element of torch's is one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    /// It is.
    No,
    /// So many of ours lie in one byte, and shapes count bytes: `float4_e2m1fn_x2`.
    Bytes(u64),
    /// So many of ours lie in one byte, low bits first, and shapes count ours: `quint4x2`.
    Items(u64),
}

/// An element type of torch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementType {
    /// Its name below `torch`.
    pub name: &'static str,
    /// What its values are; opaque where only torch knows.
    pub dtype: DType,
    /// Bytes of one element of a storage.
    pub bytes: u64,
    /// How elements and values differ.
    pub packed: Packed,
    /// What its storage class is called, without `Storage`. The types without one are saved untyped.
    storage: Option<&'static str>,
}

const fn plain(name: &'static str, storage: &'static str, dtype: DType) -> ElementType {
    ElementType { storage: Some(storage), ..untyped(name, dtype) }
}

const fn untyped(name: &'static str, dtype: DType) -> ElementType {
    ElementType { name, dtype, bytes: dtype.item_bytes(), packed: Packed::No, storage: None }
}

const fn opaque(name: &'static str, bytes: u16) -> ElementType {
    untyped(name, DType::Opaque { elements: 1, bytes })
}

const fn packed(name: &'static str, storage: &'static str, dtype: DType, n: u64) -> ElementType {
    ElementType { packed: Packed::Items(n), ..plain(name, storage, dtype) }
}

// `torch/storage.py`, `_dtype_to_storage_type_map`, and the types that `torch/_utils.py` sends to
// `_rebuild_tensor_v3` (torch 2.15).
const TYPES: [ElementType; 33] = [
    plain("float32", "Float", DType::F32),
    plain("bfloat16", "BFloat16", DType::Bf16),
    plain("float16", "Half", DType::F16),
    plain("int64", "Long", DType::I64),
    plain("float64", "Double", DType::F64),
    plain("uint8", "Byte", DType::U8),
    plain("bool", "Bool", DType::Bool),
    plain("int32", "Int", DType::I32),
    plain("int16", "Short", DType::I16),
    plain("int8", "Char", DType::I8),
    plain("complex64", "ComplexFloat", DType::C64),
    plain("complex128", "ComplexDouble", DType::C128),
    plain("qint8", "QInt8", DType::I8),
    plain("quint8", "QUInt8", DType::U8),
    plain("qint32", "QInt32", DType::I32),
    packed("quint4x2", "QUInt4x2", DType::U4, 2),
    packed("quint2x4", "QUInt2x4", DType::U2, 4),
    plain("complex32", "ComplexHalf", DType::C32),
    untyped("uint16", DType::U16),
    untyped("uint32", DType::U32),
    untyped("uint64", DType::U64),
    untyped("float8_e4m3fn", DType::F8E4M3),
    untyped("float8_e5m2", DType::F8E5M2),
    untyped("float8_e4m3fnuz", DType::F8E4M3Fnuz),
    untyped("float8_e5m2fnuz", DType::F8E5M2Fnuz),
    untyped("float8_e8m0fnu", DType::F8E8M0),
    ElementType { packed: Packed::Bytes(2), ..untyped("float4_e2m1fn_x2", DType::F4E2M1) },
    opaque("bcomplex32", 4),
    opaque("bits8", 1),
    opaque("bits16", 2),
    opaque("bits1x8", 1),
    opaque("bits2x4", 1),
    opaque("bits4x2", 1),
];

impl ElementType {
    /// The type that is called so below `torch`, by its own name or one of its others.
    pub fn from_name(name: &str) -> Option<&'static ElementType> {
        let name = match name {
            "float" => "float32",
            "double" => "float64",
            "half" => "float16",
            "long" => "int64",
            "int" => "int32",
            "short" => "int16",
            "chalf" => "complex32",
            "cfloat" => "complex64",
            "cdouble" => "complex128",
            name => name,
        };
        TYPES.iter().find(|known| known.name == name)
    }

    /// The type whose storage class begins so: `Float` of `FloatStorage` and `FloatTensor`.
    pub(super) fn from_class(prefix: &str) -> Option<&'static ElementType> {
        TYPES.iter().find(|known| known.storage == Some(prefix))
    }
}

/// What a storage says it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageType {
    /// Elements of one type.
    Typed(&'static ElementType),
    /// Bytes.
    Untyped,
}

impl StorageType {
    /// The class of this name: `torch FloatStorage`, `torch.cuda FloatStorage`, `torch.storage UntypedStorage`.
    pub fn from_global(module: &str, name: &str) -> Option<StorageType> {
        if !matches!(module, "torch" | "torch.cuda" | "torch.storage") {
            return None;
        }
        match name.strip_suffix("Storage")? {
            "Untyped" | "_Untyped" => Some(StorageType::Untyped),
            prefix => ElementType::from_class(prefix).map(StorageType::Typed),
        }
    }

    /// Bytes of one of the elements that the storage counts.
    pub fn bytes(self) -> u64 {
        match self {
            StorageType::Typed(element) => element.bytes,
            StorageType::Untyped => 1,
        }
    }
}
