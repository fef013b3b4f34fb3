"""GGUF files as gguf-py and llama.cpp's own C code see them: tensors, and values as (type, packed items)."""

import ctypes
import struct
from pathlib import Path

import gguf
import numpy as np
import xllamacpp

import bits
from common import check

# Our names of types of values, by their numbers in a file, and how struct packs them.
VALUE_TYPES = {0: ("u8", "B"), 1: ("i8", "b"), 2: ("u16", "H"), 3: ("i16", "h"), 4: ("u32", "I"), 5: ("i32", "i"),
               6: ("f32", "f"), 7: ("bool", "?"), 8: ("text", None), 10: ("u64", "Q"), 11: ("i64", "q"), 12: ("f64", "d")}
PACKING = dict(VALUE_TYPES.values())
LIST = 9
TEXT = 8


class _Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("context", ctypes.POINTER(ctypes.c_void_p))]


_library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
_Log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
silent = _Log(lambda *_: None)


def function(name, result, *arguments):
    found = getattr(_library, name)
    found.restype, found.argtypes = result, arguments
    return found


_pointer, _i64, _size, _text, _int = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int
function("ggml_log_set", None, _Log, _pointer)(silent, None)
_init = function("gguf_init_from_file", _pointer, _text, _Params)
_free = function("gguf_free", None, _pointer)
_free_tensors = function("ggml_free", None, _pointer)
_n_entries = function("gguf_get_n_kv", _i64, _pointer)
_key = function("gguf_get_key", _text, _pointer, _i64)
_entry_type = function("gguf_get_kv_type", _int, _pointer, _i64)
_item_type = function("gguf_get_arr_type", _int, _pointer, _i64)
_n_items = function("gguf_get_arr_n", _size, _pointer, _i64)
_items = function("gguf_get_arr_data", _pointer, _pointer, _i64)
_item_text = function("gguf_get_arr_str", _text, _pointer, _i64, _size)
_value = function("gguf_get_val_data", _pointer, _pointer, _i64)
_value_text = function("gguf_get_val_str", _text, _pointer, _i64)
_n_tensors = function("gguf_get_n_tensors", _i64, _pointer)
_name = function("gguf_get_tensor_name", _text, _pointer, _i64)
_find = function("ggml_get_tensor", _pointer, _pointer, _text)
_extents = function("gguf_get_tensor_ne", ctypes.POINTER(_i64), _pointer, _i64)
_type = function("gguf_get_tensor_type", _int, _pointer, _i64)
_tensor_size = function("gguf_get_tensor_size", _size, _pointer, _i64)
_data = function("ggml_get_data", _pointer, _pointer)
_alignment = function("gguf_get_alignment", _size, _pointer)
_type_name = function("ggml_type_name", _text, _int)


def type_name(number):
    """Our name of an element type, from ggml's: q4_K is q4_k."""
    return _type_name(number).decode().lower()


def by_llama(path):
    """(tensors, values) as gguf_init_from_file loads them, data included. Shapes lose dimensions of extent 1 in front."""
    held = ctypes.c_void_p()
    context = _init(str(path).encode(), _Params(False, ctypes.pointer(held)))
    check(context, f"llama.cpp refuses {path.name}")
    tensors, values = {}, {}
    for idx in range(_n_entries(context)):
        kind = _entry_type(context, idx)
        if kind == LIST:
            inner, n = _item_type(context, idx), _n_items(context, idx)
            name, code = VALUE_TYPES[inner]
            if inner == TEXT:
                found = [_item_text(context, idx, at) for at in range(n)]
            else:
                width = struct.calcsize(code)
                packed = ctypes.string_at(_items(context, idx), n * width) if n else b""
                found = [packed[at:at + width] for at in range(0, len(packed), width)]
            name = f"[{name}]"
        else:
            name, code = VALUE_TYPES[kind]
            found = [_value_text(context, idx) if kind == TEXT else
                     ctypes.string_at(_value(context, idx), struct.calcsize(code))]
        values[_key(context, idx).decode()] = (name, found)
    for idx in range(_n_tensors(context)):
        name = _name(context, idx)
        tensor = _find(held, name)
        shape = tuple(reversed(_extents(context, idx)[:4]))
        data = ctypes.string_at(_data(tensor), _tensor_size(context, idx))
        tensors[name.decode()] = bits.Tensor(type_name(_type(context, idx)), shape, data)
    _free_tensors(held)
    _free(context)
    return tensors, values


def four(tensors):
    """Tensors with the four dimensions that ggml gives each."""
    return {name: bits.Tensor(t.dtype, (1,) * (4 - len(t.shape)) + tuple(t.shape), t.data) for name, t in tensors.items()}


def by_gguf(path):
    """(tensors, values) as gguf's reader has them, in its order."""
    reader = gguf.GGUFReader(path)
    big = reader.endianess == gguf.GGUFEndian.BIG
    tensors, values = {}, {}
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        is_list = field.types[0] == gguf.GGUFValueType.ARRAY
        inner = int(field.parts[3][0]) if is_list else int(field.types[0])
        name, _ = VALUE_TYPES[inner]
        chosen = [field.parts[at] for at in field.data] if is_list else [field.parts[-1]]
        found = [np.asarray(part).tobytes() for part in chosen]
        if big and inner != TEXT:
            found = [item[::-1] for item in found]
        values[key] = (f"[{name}]" if is_list else name, found)
    for tensor in reader.tensors:
        data = tensor.data
        if data.dtype.byteorder == ">":
            data = data.astype(data.dtype.newbyteorder("<"))
        shape = tuple(reversed(tensor.shape.tolist()))
        raw = data.tobytes()
        if big and tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
            raw = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
        tensors[tensor.name] = bits.Tensor(type_name(int(tensor.tensor_type)), shape, raw)
    return tensors, values


def packed(name, value):
    """The items of a value that `inspect --json` prints, packed."""
    inner = name.strip("[]")
    items = value if name.startswith("[") else [value]
    if inner == "text":
        return [item.encode() for item in items]
    code = PACKING[inner]
    words = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
    return [struct.pack(f"<{code}", words.get(item, item) if isinstance(item, str) else item) for item in items]


def same_values(expected, found, where):
    """Keys, order, types and bits of values agree. Returns how many items were compared."""
    check(list(expected) == list(found), f"{where}: keys {list(expected)} became {list(found)}")
    wrong = [f"{key!r}: {expected[key]} became {found[key]}" for key in expected if expected[key] != found[key]]
    check(not wrong, f"{where}: " + "; ".join(wrong[:3])[:500])
    return sum(len(items) for _, items in expected.values())
