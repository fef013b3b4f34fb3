"""Tensors as what they are: a type's name, a shape, and bytes. Everything is compared in this form."""

import json
import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np

# Our name -> (name in safetensors, numpy type or None, torch type or None). Names of torch types are text, so that
# suites without torch need not load it.
TYPES = {
    "bool": ("BOOL", np.bool_, "bool"),
    "u8": ("U8", np.uint8, "uint8"),
    "i8": ("I8", np.int8, "int8"),
    "u16": ("U16", np.uint16, "uint16"),
    "i16": ("I16", np.int16, "int16"),
    "u32": ("U32", np.uint32, "uint32"),
    "i32": ("I32", np.int32, "int32"),
    "u64": ("U64", np.uint64, "uint64"),
    "i64": ("I64", np.int64, "int64"),
    "f16": ("F16", np.float16, "float16"),
    "bf16": ("BF16", ml_dtypes.bfloat16, "bfloat16"),
    "f32": ("F32", np.float32, "float32"),
    "f64": ("F64", np.float64, "float64"),
    "c64": ("C64", np.complex64, "complex64"),
    "c128": (None, np.complex128, "complex128"),
    "c32": (None, None, "complex32"),
    "f8_e4m3": ("F8_E4M3", ml_dtypes.float8_e4m3fn, "float8_e4m3fn"),
    "f8_e5m2": ("F8_E5M2", ml_dtypes.float8_e5m2, "float8_e5m2"),
    "f8_e4m3fnuz": ("F8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz, "float8_e4m3fnuz"),
    "f8_e5m2fnuz": ("F8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz, "float8_e5m2fnuz"),
    "f8_e8m0": ("F8_E8M0", ml_dtypes.float8_e8m0fnu, "float8_e8m0fnu"),
    "f6_e2m3": ("F6_E2M3", None, None),
    "f6_e3m2": ("F6_E3M2", None, None),
    "f4_e2m1": ("F4", None, None),
}
FROM_SAFETENSORS = {row[0]: name for name, row in TYPES.items() if row[0]}
FROM_NUMPY = {np.dtype(row[1]): name for name, row in TYPES.items() if row[1]}
FROM_TORCH = {row[2]: name for name, row in TYPES.items() if row[2]}
FLOAT8 = [name for name in TYPES if name.startswith("f8_")]


@dataclass(frozen=True)
class Tensor:
    """A tensor: row-major, little-endian bytes."""

    dtype: str
    shape: tuple
    data: bytes

    @property
    def count(self):
        """Elements."""
        return math.prod(self.shape)


def of_numpy(array):
    """A numpy array of any byte and memory order."""
    array = np.asarray(array)
    big = array.dtype.byteorder == ">"
    little = array.byteswap().view(array.dtype.newbyteorder("<")) if big else array
    return Tensor(FROM_NUMPY[little.dtype], array.shape, little.tobytes())


def to_numpy(tensor):
    """The array again."""
    return np.frombuffer(tensor.data, dtype=TYPES[tensor.dtype][1]).reshape(tensor.shape)


def of_torch(tensor):
    """A torch tensor of any strides."""
    import torch

    tensor = tensor.detach().resolve_conj().resolve_neg()
    flat = tensor.contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    if tensor.dtype == torch.float4_e2m1fn_x2:
        # One element of torch's is two of everybody's.
        return Tensor("f4_e2m1", (*tensor.shape[:-1], tensor.shape[-1] * 2), data)
    return Tensor(FROM_TORCH[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape), data)


def to_torch(tensor):
    """The torch tensor again."""
    import torch

    dtype = getattr(torch, TYPES[tensor.dtype][2])
    if not tensor.data:
        return torch.empty(tensor.shape, dtype=dtype)
    return torch.frombuffer(bytearray(tensor.data), dtype=torch.uint8).view(dtype).reshape(tensor.shape)


def raw_safetensors(path):
    """A safetensors file read by these few lines alone: (tensors in header order, metadata)."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(FROM_SAFETENSORS[entry["dtype"]], tuple(entry["shape"]), data[start + begin:start + end])
    return tensors, metadata


def differences(expected, found):
    """What is not the same, in words; empty if nothing."""
    wrong = [f"{name!r} is missing" for name in expected if name not in found]
    wrong += [f"{name!r} is too many" for name in found if name not in expected]
    for name, want in expected.items():
        have = found.get(name)
        if have is None or have == want:
            continue
        if (want.dtype, want.shape) != (have.dtype, have.shape):
            wrong.append(f"{name!r}: {want.dtype}{list(want.shape)} became {have.dtype}{list(have.shape)}")
        else:
            at = next((i for i, (a, b) in enumerate(zip(want.data, have.data)) if a != b), min(len(want.data), len(have.data)))
            wrong.append(f"{name!r}: {want.dtype}{list(want.shape)} differs from byte {at}: "
                         f"{want.data[at:at + 8].hex()} became {have.data[at:at + 8].hex()}")
    return wrong
