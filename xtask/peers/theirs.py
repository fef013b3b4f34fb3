"""Reading files with the programs that own the formats."""

import json
import struct
import zipfile

import numpy as np
import safetensors
import safetensors.numpy

import bits
from common import check


def read_safetensors(path):
    """A file as safetensors itself parses it, every dtype included, twice: from bytes and from the file."""
    found = {}
    for name, entry in safetensors.deserialize(path.read_bytes()):
        found[name] = bits.Tensor(bits.FROM_SAFETENSORS[entry["dtype"]], tuple(entry["shape"]), bytes(entry["data"]))
    with safetensors.safe_open(path, "np") as file:
        check(set(file.keys()) == set(found), "safe_open and deserialize see other names")
        for name, tensor in found.items():
            view = file.get_slice(name)
            seen = bits.FROM_SAFETENSORS[view.get_dtype()], tuple(view.get_shape())
            check(seen == (tensor.dtype, tensor.shape), f"safe_open sees {name!r} as {seen}")
    return found


def metadata(path):
    """The `__metadata__` of a file as safetensors sees it."""
    with safetensors.safe_open(path, "np") as file:
        return file.metadata() or {}


def read_sharded(index):
    """(tensors, shards) of an index: every shard read by safetensors, each tensor where the index says and nowhere else.

    Tensors that the index does not name are taken along, as transformers does.
    """
    weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    found = {}
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        tensors = read_safetensors(index.parent / shard)
        wrong = [name for name in tensors if weight_map.get(name, shard) != shard]
        check(not wrong, f"{shard} holds {wrong[:3]}, which the index puts elsewhere")
        found.update(tensors)
    check(set(found) >= set(weight_map), "the index names tensors that no shard holds")
    return found, shards


def read_npz(path, types):
    """An archive as numpy loads it. Void arrays are viewed as the ml_dtypes type that `types` gives for the name."""
    check_zip(path)
    found = {}
    with np.load(path) as archive:
        check(len(set(archive.files)) == len(archive.files), "numpy sees a name twice")
        for name in archive.files:
            found[name] = seen_by_numpy(archive[name], types.get(name))
    return found


def read_npy(path, dtype=None):
    """A single array as numpy loads it, by reading and by mapping."""
    read = np.load(path)
    if read.size:
        mapped = np.load(path, mmap_mode="r")
        check(mapped.dtype == read.dtype and mapped.tobytes() == read.tobytes(), "mapped and read arrays differ")
    return seen_by_numpy(read, dtype)


def seen_by_numpy(array, dtype):
    """An array with void elements viewed as the ml_dtypes type meant."""
    if array.dtype.kind == "V":
        meant = np.dtype(bits.TYPES[dtype][1])
        check(array.dtype == np.dtype(f"V{meant.itemsize}"), f"numpy sees {array.dtype} for {dtype}")
        array = array.view(meant)
    return bits.of_numpy(array)


def check_zip(path):
    """The archive is sound for Python's zipfile: CRCs, order, and extra fields that parse to their last byte."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        check(damaged is None, f"zipfile.testzip: {damaged}")
        names = archive.namelist()
        check(len(set(names)) == len(names), "zipfile sees a name twice")
        data = path.read_bytes() if path.stat().st_size < 1 << 26 else None
        for info in archive.infolist():
            check(info.compress_type == zipfile.ZIP_STORED, f"{info.filename} is not stored")
            check(info.date_time == (1980, 1, 1, 0, 0, 0), f"{info.filename} holds a clock: {info.date_time}")
            check_extra(info.extra, info.filename)
            if data is not None:
                check_local(data, info)


def check_local(data, info):
    """The local header says what the directory says, and its extra field is sound."""
    _, flags, method, _, _, _, packed, size, name_length, extra_length = struct.unpack_from("<HHHHHIIIHH", data,
                                                                                            info.header_offset + 4)
    start = info.header_offset + 30
    name = data[start:start + name_length].decode("utf-8" if flags & 0x800 else "cp437")
    check(name == info.orig_filename, f"{info.filename}: the local header says {name!r}")
    check((flags, method) == (info.flag_bits, info.compress_type), f"{info.filename}: flags or method disagree")
    check(packed in (info.compress_size, 0xFFFFFFFF) and size in (info.file_size, 0xFFFFFFFF), f"{info.filename}: sizes")
    check_extra(data[start + name_length:start + name_length + extra_length], info.filename)


def check_extra(extra, name):
    """A zip extra field is a row of (id, length, bytes), each id once."""
    at, seen = 0, set()
    while at < len(extra):
        check(at + 4 <= len(extra), f"{name}: stray bytes in the extra field")
        kind, length = struct.unpack_from("<HH", extra, at)
        check(kind not in seen, f"{name}: extra field {kind:#x} twice")
        seen.add(kind)
        at += 4 + length
        check(at <= len(extra), f"{name}: extra field {kind:#x} is longer than there is room")
