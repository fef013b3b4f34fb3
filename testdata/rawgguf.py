"""Byte-level builder of GGUF files, right or wrong. Nothing here checks anything."""

import struct
from dataclasses import dataclass

# Types of values, and how struct packs them.
U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, LIST, U64, I64, F64 = range(13)
PACKING = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}

# Block types: number, elements and bytes of a block, and its numbers of more than a byte as (place, width, count),
# which are what another byte order reverses (structs of ggml-common.h).
BLOCKS = {
    "q4_0": (2, 32, 18, [(0, 2, 1)]),
    "q4_1": (3, 32, 20, [(0, 2, 2)]),
    "q5_0": (6, 32, 22, [(0, 2, 1), (2, 4, 1)]),
    "q5_1": (7, 32, 24, [(0, 2, 2), (4, 4, 1)]),
    "q8_0": (8, 32, 34, [(0, 2, 1)]),
    "q8_1": (9, 32, 36, [(0, 2, 2)]),
    "q2_k": (10, 256, 84, [(80, 2, 2)]),
    "q3_k": (11, 256, 110, [(108, 2, 1)]),
    "q4_k": (12, 256, 144, [(0, 2, 2)]),
    "q5_k": (13, 256, 176, [(0, 2, 2)]),
    "q6_k": (14, 256, 210, [(208, 2, 1)]),
    "q8_k": (15, 256, 292, [(0, 4, 1), (260, 2, 16)]),
    "iq2_xxs": (16, 256, 66, None),
    "iq2_xs": (17, 256, 74, [(0, 2, 1), (2, 2, 32)]),
    "iq3_xxs": (18, 256, 98, [(0, 2, 1), (66, 4, 8)]),
    "iq1_s": (19, 256, 50, [(0, 2, 1), (34, 2, 8)]),
    "iq4_nl": (20, 32, 18, [(0, 2, 1)]),
    "iq3_s": (21, 256, 110, [(0, 2, 1)]),
    "iq2_s": (22, 256, 82, [(0, 2, 1)]),
    "iq4_xs": (23, 256, 136, [(0, 2, 2)]),
    "iq1_m": (29, 256, 56, [(48, 2, 4)]),
    "tq1_0": (34, 256, 54, [(52, 2, 1)]),
    "tq2_0": (35, 256, 66, [(64, 2, 1)]),
    "mxfp4": (39, 32, 17, []),
    "nvfp4": (40, 64, 36, []),
    "q1_0": (41, 128, 18, [(0, 2, 1)]),
    "q2_0": (42, 64, 18, [(0, 2, 1)]),
}


@dataclass
class Tensor:
    """One tensor's record and data. `dims` has the contiguous extent first; `at` overrides the running offset."""

    name: bytes
    dims: tuple
    kind: int
    data: bytes
    at: int = None
    n_dims: int = None


@dataclass
class Raw:
    """Bytes that take the place of a value, its type included."""

    data: bytes


class Builder:
    """Packs numbers in one byte order."""

    def __init__(self, big=False):
        self.order = ">" if big else "<"

    def pack(self, code, *numbers):
        """Numbers by struct."""
        return struct.pack(self.order + code, *numbers)

    def text(self, text):
        """A text with its length."""
        return self.pack("Q", len(text)) + text

    def value(self, kind, value):
        """A value behind its type; a list is (type of items, items)."""
        if kind == LIST:
            inner, items = value
            packed = b"".join(self.text(i) if inner == TEXT else self.pack(PACKING[inner], i) for i in items)
            return self.pack("IIQ", LIST, inner, len(items)) + packed
        return self.pack("I", kind) + (self.text(value) if kind == TEXT else self.pack(PACKING[kind], value))

    def file(self, entries=(), tensors=(), *, version=3, align=32, n_tensors=None, n_entries=None, pad_last=True,
             pad_header=True):
        """A file of (key, type, value) or (key, Raw) and tensors."""
        out = b"GGUF" + self.pack("IQQ", version, len(tensors) if n_tensors is None else n_tensors,
                                  len(entries) if n_entries is None else n_entries)
        for key, *value in entries:
            out += self.text(key) + (value[0].data if isinstance(value[0], Raw) else self.value(*value))
        data = b""
        for idx, tensor in enumerate(tensors):
            out += self.text(tensor.name)
            out += self.pack("I", len(tensor.dims) if tensor.n_dims is None else tensor.n_dims)
            out += self.pack(f"{len(tensor.dims)}Q", *tensor.dims)
            out += self.pack("IQ", tensor.kind, len(data) if tensor.at is None else tensor.at)
            data += tensor.data
            if pad_last or idx + 1 < len(tensors):
                data += b"\0" * (-len(data) % align)
        return out + (b"\0" * (-len(out) % align) if pad_header else b"") + data


def swap_blocks(data, name):
    """Blocks of one byte order in the other."""
    _, _, size, fields = BLOCKS[name]
    out = bytearray(data)
    for block in range(0, len(data), size):
        for at, width, count in fields:
            for start in range(block + at, block + at + width * count, width):
                out[start:start + width] = out[start:start + width][::-1]
    return bytes(out)
