"""Makes tiny.flat and tiny.flatdata beside this file: run it anywhere, it takes no arguments and uses no clock."""

import pathlib
import struct


def runs(elements):
    """The elements of four bytes as runs: where each ends, and its element."""
    found = []
    for position, element in enumerate(elements, 1):
        if found and found[-1][1] == element:
            found[-1][0] = position
        else:
            found.append([position, element])
    return b"".join(struct.pack("<Q4s", end, element) for end, element in found)


def pack(letter, values):
    return [struct.pack("<" + letter, value) for value in values]


TENSORS = [
    ("matrix", "f32", "raw", [2, 3], pack("f", [0.5, -1.0, 2.0, 1e30, 0.0, 3.25])),
    ("runs", "i32", "rle", [7, 100], pack("i", [7] * 300 + list(range(50)) + [-1] * 350)),
    ("scalar", "f32", "raw", [], pack("f", [1.5])),
    ("step", "i32", "rle", [], pack("i", [-12])),
    ("nothing", "f32", "raw", [0, 4], []),
]

data = b""
lines = ["FLAT 1", "data tiny.flatdata"]
for name, dtype, packing, shape, elements in TENSORS:
    packed = runs(elements) if packing == "rle" else b"".join(elements)
    lines.append(" ".join(map(str, ["tensor", name, dtype, packing, len(data), len(packed), *shape])))
    data += packed
lines.append("end")

here = pathlib.Path(__file__).parent
(here / "tiny.flat").write_text("\n".join(lines) + "\n")
(here / "tiny.flatdata").write_bytes(data)
