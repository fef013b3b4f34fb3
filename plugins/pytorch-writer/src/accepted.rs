//! What `torch.load` takes from strangers (`_get_allowed_globals` in `torch/_weights_only_unpickler.py`, torch 2.15),
//! but for classes of tensors and storages, which are nothing by themselves.

use modelferry_core::tree::{Instance, Object, Tree};

/// Element types, with those of bits that no tensor can have.
const DTYPES: &[&str] = &[
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex128",
    "complex64",
    "complex32",
    "bcomplex32",
    "uint16",
    "uint32",
    "uint64",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "float4_e2m1fn_x2",
    "qint8",
    "quint8",
    "qint32",
    "quint4x2",
    "quint2x4",
    "bits8",
    "bits16",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "int1",
    "int2",
    "int3",
    "int4",
    "int5",
    "int6",
    "int7",
    "uint1",
    "uint2",
    "uint3",
    "uint4",
    "uint5",
    "uint6",
    "uint7",
];

/// Ways to quantize.
const SCHEMES: &[&str] = &[
    "per_tensor_affine",
    "per_tensor_symmetric",
    "per_channel_affine",
    "per_channel_symmetric",
    "per_channel_affine_float_qparams",
];

/// Functions of `torch._utils` that make tensors.
const REBUILD: &[&str] = &[
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_qtensor",
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_sparse_tensor",
    "_rebuild_meta_tensor_no_storage",
    "_rebuild_wrapper_subclass",
    "_rebuild_device_tensor_from_numpy",
    "_rebuild_device_tensor_from_cpu_tensor",
];

/// Whether a class or function may be named.
pub(crate) fn is_accepted(module: &str, name: &str) -> bool {
    match module {
        "collections" => matches!(name, "OrderedDict" | "Counter"),
        "_codecs" => name == "encode",
        // Python 2's name of the module is what protocol 2 writes.
        "__builtin__" | "builtins" => matches!(name, "set" | "bytearray" | "complex"),
        "torch" => {
            matches!(name, "Size" | "Tensor" | "device") || DTYPES.contains(&name) || SCHEMES.contains(&name)
        }
        "torch.nn.parameter" => name == "Parameter",
        "torch.serialization" => name == "_get_layout",
        "torch._tensor" => name == "_rebuild_from_type_v2",
        "torch._utils" => REBUILD.contains(&name),
        _ => false,
    }
}

/// Whether a call may be made, and what was done to its result be done, as far as the callable decides that.
pub(crate) fn is_made(tree: &Tree, instance: &Instance) -> bool {
    let Some((module, name)) = tree.global(instance.callable) else { return false };
    if !is_accepted(module, name) || instance.kwargs.is_some() || !instance.items.is_empty() {
        return false;
    }
    match name {
        "OrderedDict" | "Counter" => {
            instance.states.iter().all(|state| matches!(tree[*state], Object::Dict(_)))
        }
        "Parameter" | "_rebuild_parameter" | "_rebuild_parameter_with_state" => instance.entries.is_empty(),
        _ => instance.entries.is_empty() && instance.states.is_empty(),
    }
}
