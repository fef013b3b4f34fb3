"""Damaged and hostile ONNX files. Each name says what is wrong, and nothing else is."""

import struct

from rawfiles import foreign
from rawonnx import entry, external, f32, graph, initializers, model, num, sub, tag, tensor, varint

DATA = struct.pack("<2f", 1, 2)
RAW = sub(9, DATA)
GOOD = initializers(tensor(RAW))
U64 = (1 << 64) - 1


def one(*fields, **how):
    """A model of one tensor with these fields."""
    return initializers(tensor(*fields, **how))


def node(op, *fields):
    """A node of a graph."""
    return sub(1, *fields, sub(4, op))


def constant(name, *fields, output="c"):
    """A Constant with one attribute."""
    return node("Constant", sub(2, output) if output is not None else b"", sub(5, sub(1, name), *fields))


def nested(depth):
    """Graphs in attributes of nodes of graphs."""
    inside = sub(2, "deepest")
    for _ in range(depth):
        inside = sub(1, sub(4, "If"), sub(5, sub(1, "then_branch"), sub(6, inside))) + sub(2, "g")
    return num(1, 8) + sub(8, num(2, 17)) + sub(7, inside)


def lengths(good):
    """(name, bytes) of files whose fields are longer than what they are in."""
    graph_at = good.rindex(tag(7, 2))
    head, body = good[:graph_at], good[graph_at + 2:]
    yield "length-graph-one-more", head + tag(7, 2) + varint(len(body) + 1) + body
    yield "length-graph-one-less", head + tag(7, 2) + varint(len(body) - 1) + body
    yield "length-graph-2-pow-31", head + tag(7, 2) + varint(1 << 31) + body
    yield "length-graph-2-pow-63", head + tag(7, 2) + varint(1 << 63) + body
    yield "length-graph-2-pow-64-minus-1", head + tag(7, 2) + varint(U64) + body
    yield "length-graph-11-bytes", head + tag(7, 2) + b"\xff" * 10 + b"\x01" + body
    yield "length-graph-65-bits", head + tag(7, 2) + b"\xff" * 9 + b"\x02" + body
    yield "length-initializer-past-graph", model(tag(5, 2) + varint(1000) + tensor(RAW))
    yield "length-raw-data-past-tensor", one(tag(9, 2) + varint(100) + DATA)
    yield "length-raw-data-2-pow-64-minus-1", one(tag(9, 2) + varint(U64) + DATA)
    yield "length-name-past-tensor", initializers(num(1, 2) + num(2, 1) + RAW + tag(8, 2) + varint(50) + b"w")


def documents():
    """(name, bytes) of files that are no model as a whole."""
    yield "file-empty", b""
    yield from foreign(GOOD)
    yield "file-cut-in-tag", GOOD[:-1]
    yield from lengths(GOOD)
    yield "wire-type-3", GOOD + tag(30, 3)
    yield "wire-type-4", GOOD + tag(30, 4)
    yield "wire-type-6", GOOD + tag(30, 6)
    yield "wire-type-7", GOOD + tag(30, 7)
    yield "field-number-0", GOOD + tag(0, 0) + b"\0"
    yield "field-number-2-pow-29", GOOD + tag(1 << 29, 0) + b"\0"
    yield "graph-missing", num(1, 8) + sub(8, num(2, 17))
    yield "graph-twice", GOOD + sub(7, graph())
    yield "ir-version-missing", sub(8, num(2, 17)) + sub(7, graph(sub(5, tensor(RAW))))
    yield "opset-missing", initializers(tensor(RAW), opset=None)
    yield "opset-damaged", model(sub(5, tensor(RAW)), opset=None, before=sub(8, tag(2, 2) + varint(9)))
    yield "metadata-damaged", model(sub(5, tensor(RAW)), before=sub(14, tag(1, 2) + varint(9) + b"k"))
    yield "metadata-key-twice", model(sub(5, tensor(RAW)), before=entry(14, "k", "1") + entry(14, "k", "2"))
    yield "metadata-not-utf-8", model(sub(5, tensor(RAW)), before=sub(14, sub(1, b"\xff"), sub(2, "v")))
    yield "nesting-129", nested(129)
    yield "nesting-10000", nested(10_000)
    yield "initializer-number", model(num(5, 1))
    yield "node-number", model(num(1, 1))


def tensors():
    """(name, bytes) of files whose one tensor is wrong."""
    yield "elements-missing", one()
    yield "elements-raw-and-typed", one(RAW, sub(4, DATA))
    yield "elements-typed-twice", one(sub(4, DATA), sub(5, varint(1), varint(2)))
    yield "elements-raw-twice", one(RAW, RAW)
    yield "elements-raw-and-external", one(RAW, external("w.data"))
    yield "elements-in-field-of-other-type", one(sub(10, struct.pack("<2d", 1, 2)))
    yield "elements-int64-in-int32-data", one(sub(5, varint(1), varint(2)), kind=7)
    yield "raw-too-short", one(sub(9, DATA[:-1]))
    yield "raw-too-long", one(sub(9, DATA + b"\0"))
    yield "raw-of-int4-too-long", one(sub(9, b"\1\2\3"), kind=22, dims=(3,))
    yield "raw-is-a-number", one(num(9, 1))
    yield "elements-for-none", one(sub(4, DATA), dims=(0,))
    yield "packed-too-few", one(sub(4, DATA[:4]))
    yield "packed-too-many", one(sub(4, DATA + DATA))
    yield "packed-cut-in-number", one(sub(4, DATA[:6]))
    yield "unpacked-too-few", one(f32(4, 1.0))
    yield "unpacked-too-many", one(f32(4, 1.0), f32(4, 2.0), f32(4, 3.0))
    yield "unpacked-wrong-width", one(tag(4, 1) + struct.pack("<d", 1), tag(4, 1) + struct.pack("<d", 1))
    yield "varints-too-few", one(sub(7, varint(1)), kind=7)
    yield "varints-too-many", one(sub(7, varint(1), varint(2), varint(3)), kind=7)
    yield "varints-cut", one(sub(7, varint(1), b"\x80"), kind=7)
    yield "varints-too-long", one(sub(7, varint(1), b"\xff" * 10, b"\x01"), kind=7)
    yield "varints-in-pieces", one(sub(7, varint(1)), num(7, 2), sub(7, varint(3)), kind=7, dims=(3,))
    yield "varints-count-2-pow-40", one(sub(7, varint(1)), kind=7, dims=(1 << 40,))
    yield "dims-negative", one(RAW, dims=(-2,))
    yield "dims-overflow", one(RAW, dims=(1 << 32, 1 << 32))
    yield "dims-2-pow-63-minus-1", one(RAW, dims=((1 << 63) - 1,))
    yield "dims-65", one(RAW, dims=(1,) * 64 + (2,))
    yield "dims-float", initializers(f32(1, 2.0) + num(2, 1) + RAW + sub(8, "w"))
    yield "type-0", one(RAW, kind=0)
    yield "type-missing", initializers(num(1, 2) + RAW + sub(8, "w"))
    yield "type-27", one(RAW, kind=27)
    yield "type-negative", one(RAW, kind=-1)
    yield "texts-as-numbers", one(sub(5, varint(1), varint(2)), kind=8)
    yield "texts-external", one(external("w.data"), kind=8)
    yield "segment", one(RAW, sub(3, num(1, 0), num(2, 1)))
    yield "name-empty", one(RAW, name="")
    yield "name-missing", initializers(num(1, 2) + num(2, 1) + RAW)
    yield "name-not-utf-8", one(RAW, name=b"\xff\xfe")
    yield "name-65537-bytes", one(RAW, name="n" * 65537)
    yield "name-twice", initializers(tensor(RAW), tensor(RAW))
    yield "data-location-2", one(RAW, num(14, 2))


def values():
    """(name, bytes) of constants and sparse tensors that are wrong."""
    yield "constant-without-output", model(constant("value", sub(5, tensor(RAW)), output=None))
    yield "constant-float-missing", model(constant("value_float"))
    yield "constant-float-twice", model(constant("value_float", f32(2, 1.0), f32(2, 2.0)))
    yield "constant-float-as-int", model(constant("value_float", num(2, 1)))
    yield "constant-ints-cut", model(constant("value_ints", sub(8, varint(1), b"\x80")))
    yield "constant-name-of-initializer", model(constant("value", sub(5, tensor(RAW)), output="w"), sub(5, tensor(RAW)))
    yield "constant-value-too-short", model(constant("value", sub(5, tensor(sub(9, b"")))))
    part = tensor(RAW)
    yield "sparse-without-indices", model(sub(15, sub(1, part)))
    yield "sparse-values-twice", model(sub(15, sub(1, part), sub(1, part), sub(2, part)))
    yield "sparse-without-name", model(sub(15, sub(1, tensor(RAW, name="")), sub(2, part)))


def locations():
    """(name, bytes) of tensors whose elements lie where nothing may."""
    place = lambda location, **more: one(external(location, **more))
    yield "location-missing", place(None, offset=0)
    yield "location-empty", place("")
    yield "location-absolute", place("/etc/passwd", length=8)
    yield "location-drive", place("C:\\weights.data", length=8)
    yield "location-backslash", place("\\weights.data", length=8)
    yield "location-parent", place("../onnx-escape.data", length=8)
    yield "location-parent-by-detour", place("sub/../../onnx-escape.data", length=8)
    yield "location-parent-inside", place("sub/../w.data", length=8)
    yield "location-parent-by-backslash", place("..\\onnx-escape.data", length=8)
    yield "location-nul", place("w.data\0.txt", length=8)
    yield "location-memory", place("*/_ORT_MEM_ADDR_/*", offset=140737353973760, length=8)
    yield "location-not-there", place("not-there.data", length=8)
    yield "location-folder", place("sub", length=8)
    yield "location-twice", one(entry(13, "location", "w.data"), external("w.data", length=8))
    yield "location-not-utf-8", one(entry(13, "location", b"\xff.data"), num(14, 1))
    yield "offset-negative", place("w.data", offset=-1, length=8)
    yield "offset-text", place("w.data", offset="zero", length=8)
    yield "offset-with-sign", place("w.data", offset="+0", length=8)
    yield "offset-past-end", place("w.data", offset=1000, length=8)
    yield "offset-2-pow-64", place("w.data", offset=1 << 64, length=8)
    yield "offset-plus-length-overflow", place("w.data", offset=U64, length=8)
    yield "length-short", place("w.data", length=7)
    yield "length-long", place("w.data", length=9)
    yield "length-past-end", one(external("w.data", length=4000), dims=(1000,))
    yield "length-left-out-past-end", one(external("w.data", offset=4), dims=(1000,))
    yield "length-2-pow-63", one(external("w.data", length=1 << 63), dims=(1 << 61,))


def make(out):
    """Writes every file."""
    for files in (documents(), tensors(), values()):
        for name, data in files:
            out.write(f"bad/onnx/{name}.onnx", data, "hand", name.replace("-", " "))
    for name, data in locations():
        out.write(f"bad/onnx/external/{name}.onnx", data, "hand", name.replace("-", " "))
    out.write("bad/onnx/external/w.data", DATA * 4, "hand", "goes with the models beside it")
    out.write("bad/onnx/external/sub/w.data", DATA, "hand", "a folder that is no file")
    out.write("bad/onnx/onnx-escape.data", DATA, "hand", "bait outside the folder: its values may appear nowhere")
