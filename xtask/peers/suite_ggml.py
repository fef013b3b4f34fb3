"""ggml's own quantizers and decoders, from llama.cpp built for plain x86-64: our blocks are theirs, byte by byte."""

import ctypes
import struct

import gguf
import numpy as np

import bits
import ggml
import models
from common import ALLOW_OVERFLOW, OURS_TO_THEIRS, THEIRS_TO_OURS, check

LLAMA = "xllamacpp"
GGUF = "gguf"
ROW = 1024
# Types that are written, and whether importance matters to them.
TYPES = {"q4_0": True, "q4_1": True, "q5_0": True, "q5_1": True, "q8_0": False, "q2_k": True, "q3_k": True, "q4_k": True,
         "q5_k": True, "q6_k": True, "iq4_nl": True, "iq4_xs": True, "tq1_0": False, "tq2_0": False, "mxfp4": False}
# Those that gguf's numpy code quantizes too.
SIMPLE = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0", "mxfp4")
# For dot products alone: ggml has no decoder for one, and none that is part of a format for the other.
UNDECODED = ("q8_1", "q8_k")
# Of ggml, those without a name included.
N_TYPES = 43
LEVELS = ("portable", "avx2", "avx512")


class _Traits(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleave", ctypes.c_int64),
                ("size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))]


_chunk = ggml.function("ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p,
                        ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_traits = ggml.function("ggml_get_type_traits", ctypes.POINTER(_Traits), ctypes.c_int)


def numbered(name):
    """ggml's number of a type."""
    return next(n for n in range(N_TYPES) if _traits(n).contents.name and ggml.type_name(n) == name)


def by_ggml(name, floats, weights=None):
    """Blocks of whole rows, with weights for each row's elements if there are any."""
    traits = _traits(numbered(name)).contents
    out = np.zeros(floats.size // traits.block * traits.size, np.uint8)
    _chunk(numbered(name), floats.ctypes.data, out.ctypes.data, 0, floats.size // ROW, ROW,
           None if weights is None else weights.ctypes.data)
    return out.tobytes()


def floats_of(judge):
    """(what they are, values): rows that are easy, and rows that are not."""
    n = 1 << (20 if judge.full else 15)
    generator = models.generator("ggml floats")
    normal = generator.standard_normal
    yield "normal", normal(n) * 0.02
    yield "rounded to bf16", (np.float32(normal(n) * 0.02).view(np.uint32) & 0xffff0000).view(np.float32)
    yield "many scales", generator.laplace(size=n) * np.repeat(10.0 ** generator.uniform(-6, 2, n // 32), 32)
    yield "zeros", np.zeros(n)
    yield "constants", np.repeat(normal(n // 256), 256)
    yield "sparse", np.where(generator.random(n) < 0.03, normal(n), 0)
    yield "subnormal", (generator.integers(0, 1 << 32, n, dtype=np.uint32) & 0x807fffff).view(np.float32)
    yield "1e30", np.where(generator.random(n) < 0.5, 1e30, -1e30)
    yield "few of 1e30", np.where(generator.random(n) < 0.004, 1e30, normal(n))


def run(judge):
    """All cases."""
    for name, values in floats_of(judge):
        floats = np.ascontiguousarray(values, np.float32).reshape(-1, ROW)
        quantized(judge, name, floats)
        weighted(judge, name, floats)
    each_level(judge)
    simple(judge)
    decoded(judge)


def source(case, floats, name="w.weight"):
    """A safetensors file with these rows."""
    header = f'{{"{name}":{{"dtype":"F32","shape":{list(floats.shape)},"data_offsets":[0,{floats.nbytes}]}}}}'.encode()
    path = case.path("in.safetensors")
    path.write_bytes(struct.pack("<Q", len(header)) + header + floats.tobytes())
    return path


def same_blocks(case, kind, expected, target):
    """The one tensor of a file of ours has these bytes."""
    found = ggml.by_llama(target)[0]["w.weight"]
    case.opened()
    size = _traits(numbered(kind)).contents.size
    check(found.dtype == kind, f"{kind} became {found.dtype}")
    theirs, ours = (np.frombuffer(data, np.uint8).reshape(-1, size) for data in (expected, found.data))
    check(theirs.shape == ours.shape, f"{theirs.shape} blocks became {ours.shape}")
    wrong = np.flatnonzero((theirs != ours).any(1))
    check(not wrong.size, f"{kind}: {wrong.size} of {len(ours)} blocks differ, the first is {wrong[:1]}")
    case.values += len(ours)


def quantized(judge, name, floats):
    """Every type without weights."""
    with judge.case(f"blocks of {name}", LLAMA, OURS_TO_THEIRS) as case:
        path = source(case, floats)
        for kind in TYPES:
            same_blocks(case, kind, by_ggml(kind, floats), case.convert(path, f"{kind}.gguf", "--tensor-type", f"*={kind}", *ALLOW_OVERFLOW))


def matrices(case, weights):
    """The same importance in both forms of file."""
    legacy = case.path("imatrix.dat")
    name = b"w.weight"
    legacy.write_bytes(struct.pack(f"<ii{len(name)}sii", 1, len(name), name, 1, weights.size) + weights.tobytes())
    path = case.path("imatrix.gguf")
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["random"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    writer.add_tensor("w.weight.in_sum2", (weights * 4).reshape(1, -1))
    writer.add_tensor("w.weight.counts", np.full((1, 1), 4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return legacy, path


def weighted(judge, name, floats):
    """Every type with importance, from both forms of file."""
    generator = models.generator(f"ggml weights {name}")
    weights = np.float32(np.where(generator.random(ROW) < 0.1, 0, generator.standard_normal(ROW) ** 2))
    with judge.case(f"weighted blocks of {name}", LLAMA, OURS_TO_THEIRS) as case:
        path = source(case, floats)
        for kind in TYPES:
            expected = by_ggml(kind, floats, weights)
            for idx, matrix in enumerate(matrices(case, weights)):
                target = case.convert(path, f"{kind}-{idx}.gguf", "--tensor-type", f"*={kind}", "--imatrix", matrix, *ALLOW_OVERFLOW)
                same_blocks(case, kind, expected, target)


def each_level(judge):
    """Every set of instructions, and any number of threads, gives the same bytes."""
    generator = models.generator("ggml levels")
    floats = np.float32(generator.standard_normal((64, ROW)) * 0.02)
    with judge.case("blocks at every level of instructions", LLAMA, OURS_TO_THEIRS) as case:
        path = source(case, floats)
        for kind in TYPES:
            for level in LEVELS:
                target = case.path(f"{kind}-{level}.gguf")
                threads = str(1 + LEVELS.index(level))
                judge.convert(path, target, "--tensor-type", f"*={kind}", "--threads", threads, env={"MODELFERRY_CPU": level})
                same_blocks(case, kind, by_ggml(kind, floats), target)


def simple(judge):
    """What gguf quantizes by itself."""
    generator = models.generator("gguf numpy")
    floats = np.float32(generator.standard_normal((64, ROW)) * 0.02)
    with judge.case("blocks of gguf's numpy", GGUF, OURS_TO_THEIRS) as case:
        path = source(case, floats)
        for kind in SIMPLE:
            expected = gguf.quantize(floats, gguf.GGMLQuantizationType[kind.upper()]).tobytes()
            same_blocks(case, kind, expected, case.convert(path, f"{kind}.gguf", "--tensor-type", f"*={kind}"))


def decoded(judge):
    """Every type that ggml decodes, random bits: NaN is NaN, everything else bit for bit."""
    generator = models.generator("ggml decoders")
    for number in range(N_TYPES):
        traits = _traits(number).contents
        if not traits.is_quantized or not traits.to_float or ggml.type_name(number) in UNDECODED:
            continue
        kind = ggml.type_name(number)
        with judge.case(f"values of {kind}", LLAMA, THEIRS_TO_OURS) as case:
            n = (1 << 20 if judge.full else 1 << 15) // traits.block
            blocks = generator.integers(0, 256, n * traits.size, dtype=np.uint8)
            expected = np.zeros(n * traits.block, np.float32)
            traits.to_float(blocks.ctypes.data, expected.ctypes.data, expected.size)
            path = case.path("in.gguf")
            path.write_bytes(bare(number, expected.size, blocks.tobytes()))
            found, _ = bits.raw_safetensors(case.convert(path, "out.safetensors", "--dtype", "f32"))
            ours = np.frombuffer(found["w.weight"].data, np.float32)
            case.opened()
            check(ours.size == expected.size, f"{expected.size} values became {ours.size}")
            wrong = (ours.view(np.uint32) != expected.view(np.uint32)) & ~(np.isnan(ours) & np.isnan(expected))
            check(not wrong.any(), f"{wrong.sum()} of {ours.size} values differ, the first is {np.flatnonzero(wrong)[:1]}")
            case.values += ours.size


def bare(number, n, data):
    """A file of version 3 with one tensor of one row, by hand: gguf does not know every type."""
    name = b"w.weight"
    head = b"GGUF" + struct.pack("<IqqQ", 3, 1, 0, len(name)) + name + struct.pack("<IqIQ", 1, n, number, 0)
    return head + bytes(-len(head) % 32) + data + bytes(-len(data) % 32)
