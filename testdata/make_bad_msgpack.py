"""Damaged and hostile msgpack files. Each name says what is wrong, and nothing else is."""

import struct

import msgpack

from rawfiles import foreign

DATA = struct.pack("<6f", *range(6))
CHUNKED = "__msgpack_chunked_array__"
U64 = (1 << 64) - 1


def packed(value):
    """One value, by the package that flax uses."""
    return msgpack.packb(value)


def ext(code, data):
    """An extension as a value."""
    return msgpack.ExtType(code, data)


def array(shape=(2, 3), dtype="float32", data=DATA, *, code=1, behind=b""):
    """A good array, or not quite. `shape` and `dtype` may be any values, and bytes for `behind` follow what they hold."""
    return ext(code, packed([shape, dtype, data]) + behind)


def of(value=None, **more):
    """A file with a good tensor beside this one."""
    return packed({"good": array(), "w": array() if value is None else value, **more})


def raw(data, key=b"\xa1w"):
    """A file with a good tensor, and these bytes where a value belongs."""
    return b"\x82\xa4good" + packed(array()) + key + data


def parts(shape=None, chunks=None, **more):
    """An array in two parts, or not quite."""
    shape = {"0": 2, "1": 3} if shape is None else shape
    chunks = {"0": array([4], data=DATA[:16]), "1": array([2], data=DATA[16:])} if chunks is None else chunks
    return {CHUNKED: True, "shape": shape, "chunks": chunks, **more}


def values():
    """(name, bytes) of files whose structure is wrong."""
    good = of()
    yield "file-empty", b""
    yield from foreign(good)
    yield "file-cut-in-key", good[:3]
    yield "file-cut-in-extension", good[:8]
    yield "file-cut-in-elements", good[:-10]
    yield "file-cut-one-byte", good[:-1]
    yield "file-one-byte-more", good + b"\0"
    yield "file-two-documents", good + good
    yield "value-never-used", raw(b"\xc1")
    yield "value-missing", raw(b"")
    yield "map-2-pow-32-minus-1", b"\xdf\xff\xff\xff\xff"
    yield "map-2-pow-32-minus-1-inside", raw(b"\xdf\xff\xff\xff\xff\xa1a\x01")
    yield "map-one-more", b"\x83" + good[1:]
    yield "map-one-less", b"\x81" + good[1:]
    yield "list-2-pow-32-minus-1", raw(b"\xdd\xff\xff\xff\xff\x01")
    yield "text-2-pow-32-minus-1", raw(b"\xdb\xff\xff\xff\xffabc")
    yield "bytes-2-pow-32-minus-1", raw(b"\xc6\xff\xff\xff\xffabc")
    yield "extension-2-pow-32-minus-1", raw(b"\xc9\xff\xff\xff\xff\x01\x93\x91\x02")
    yield "text-not-utf-8", raw(b"\xa2\xff\xfe")
    yield "key-not-utf-8", raw(b"\x01", key=b"\xa2\xff\xfe")
    yield "key-surrogate", raw(b"\x01", key=b"\xa3\xed\xa0\x80")
    yield "key-twice", b"\x83" + good[1:] + b"\xa1w" + packed(array())
    yield "key-twice-numbers", raw(b"\x82\x01\x01\xcc\x01\x02")
    yield "key-list", raw(b"\x01", key=b"\x91\x01")
    yield "key-map", raw(b"\x01", key=b"\x80")
    yield "key-array", raw(b"\x01", key=packed(array()))
    yield "key-70-kib", of(**{"k" * 70_000: array()})
    yield "names-clash", packed({"a.b": array(), "a": {"b": array()}})
    yield "names-clash-number-and-text", packed({"x": array(), "a": {1: array(), "1": array()}})
    yield "depth-129", raw(b"\x91" * 128 + b"\x01")
    yield "depth-2000", raw(b"\x91" * 2000 + b"\x01")
    yield "depth-60000-maps", raw(b"\x81\xa0" * 60_000 + b"\x01")
    yield "depth-60000-lists-unclosed", raw(b"\x91" * 60_000)
    yield "root-number", b"\x07"
    yield "root-text", packed("a text and nothing else")
    yield "root-nothing", b"\xc0"
    yield "root-list-of-numbers", packed([1, 2, 3])
    yield "no-tensor", packed({"a": 1, "b": {"c": "text"}})
    yield "optimizer-alone", packed({"state": {0: {"m": array()}}, "param_groups": [1]})
    layer = {"Dense_0": {"kernel": array()}}
    yield "several-params-and-ema", packed({"params": layer, "params_ema": layer})


def files():
    """(name, bytes) of every bad file."""
    yield from values()
    yield from arrays()


def arrays():
    """(name, bytes) of files with an array that is none."""
    yield "array-empty", of(ext(1, b""))
    yield "array-number", of(ext(1, b"\x01"))
    yield "array-map", of(ext(1, b"\x80"))
    yield "array-two-members", of(ext(1, packed([[2, 3], "float32"])))
    yield "array-four-members", of(ext(1, packed([[2, 3], "float32", DATA, 1])))
    yield "array-bytes-behind", of(array(behind=b"\0"))
    yield "array-inner-longer", of(ext(1, packed([[2, 3], "float32", DATA])[:-1]))
    yield "array-in-array", of(ext(1, packed([[2, 3], "float32", array()])))
    yield "array-scalar-with-wrong-bytes", of(array([], data=DATA[:3], code=3))
    yield "shape-number", of(array(6))
    yield "shape-map", of(array({"0": 2, "1": 3}))
    yield "shape-text", of(array(["2", "3"]))
    yield "shape-float", of(array([2.0, 3]))
    yield "shape-true", of(array([True, 6]))
    yield "shape-nothing", of(array([None, 6]))
    yield "shape-negative", of(array([-1, 3]))
    yield "shape-two-negatives", of(array([-2, -3]))
    yield "shape-too-large", of(array([2, 4]))
    yield "shape-too-small", of(array([2, 2]))
    yield "shape-0-with-data", of(array([0, 3]))
    yield "shape-2-pow-63", of(array([1 << 63]))
    yield "shape-2-pow-64-minus-1", of(array([U64]))
    yield "shape-product-overflows", of(array([1 << 32, 1 << 32]))
    yield "shape-product-overflows-to-6", of(array([(1 << 63) + 3, 2]))
    yield "shape-bytes-overflow", of(array([1 << 62]))
    yield "shape-4-tib", of(array([1 << 40]))
    yield "shape-rank-65", of(array([1] * 64 + [6]))
    yield "shape-rank-2-pow-32-minus-1", of(ext(1, b"\x93\xdd\xff\xff\xff\xff\x01"))
    yield "type-empty", of(array(dtype=""))
    yield "type-number", of(array(dtype=4))
    yield "type-nothing", of(array(dtype=None))
    yield "type-unknown", of(array(dtype="float33"))
    yield "type-short-form", of(array(dtype="<f4"))
    yield "type-big-endian", of(array(dtype=">f4"))
    yield "type-of-python", of(array(dtype="float"))
    yield "type-upper-case", of(array(dtype="Float32"))
    yield "type-object", of(array(dtype="object"))
    yield "type-long-double", of(array(dtype="float128"))
    yield "type-datetime", of(array(dtype="datetime64[ns]"))
    yield "type-text", of(array(dtype="str32"))
    yield "type-void", of(array(dtype="void32"))
    yield "type-int4", of(array(dtype="int4"))
    yield "type-float4", of(array(dtype="float4_e2m1fn"))
    yield "type-100-kib", of(array(dtype="f" * 100_000))
    yield "type-with-control-characters", of(array(dtype="f\x1b[31m"))
    yield "elements-number", of(array(data=6))
    yield "elements-list", of(array(data=[1, 2, 3, 4, 5, 6]))
    yield "elements-one-byte-short", of(array(data=DATA[:-1]))
    yield "elements-one-byte-more", of(array(data=DATA + b"\0"))
    yield "elements-past-array", of(ext(1, b"\x93\x92\x02\x03\xa7float32\xc6\xff\xff\xff\xff" + DATA))
    yield "complex-empty", of(ext(2, b""))
    yield "complex-one-number", of(ext(2, packed([1.0])))
    yield "complex-three-numbers", of(ext(2, packed([1.0, 2.0, 3.0])))
    yield "complex-texts", of(ext(2, packed(["1", "2"])))
    yield "complex-bytes-behind", of(ext(2, packed([1.0, 2.0]) + b"\0"))
    yield "parts-shape-missing", of({CHUNKED: True, "chunks": parts()["chunks"]})
    yield "parts-chunks-missing", of({CHUNKED: True, "shape": {"0": 2, "1": 3}})
    yield "parts-marker-alone", of({CHUNKED: True})
    yield "parts-marker-is-array", of({**parts(), CHUNKED: array()})
    yield "parts-something-else", of(parts(more=1))
    yield "parts-none", of(parts(chunks={}))
    yield "parts-one-missing", of(parts(chunks={"0": array([4], data=DATA[:16]), "2": array([2], data=DATA[16:])}))
    yield "parts-too-few", of(parts(chunks={"0": array([4], data=DATA[:16])}))
    yield "parts-too-many", of(parts(chunks={"0": array(), "1": array()}))
    yield "parts-numbered-by-numbers", of(parts(chunks={0: array()}))
    yield "parts-leading-zero", of(parts(chunks={"00": array()}))
    yield "parts-list", of(parts(chunks=[array()]))
    yield "parts-of-numbers", of(parts(chunks={"0": 1}))
    yield "parts-of-parts", of(parts(chunks={"0": parts()}))
    yield "parts-several-types", of(parts(chunks={"0": array([4], data=DATA[:16]), "1": array([2], "int32", DATA[16:])}))
    yield "parts-without-dimensions", of(parts(shape={}, chunks={"0": array([], data=DATA[:4])}))
    yield "parts-shape-list", of(parts(shape=[2, 3]))
    yield "parts-shape-negative", of(parts(shape={"0": -1, "1": 3}))
    yield "parts-shape-text", of(parts(shape={"0": "6"}))
    yield "parts-shape-overflows", of(parts(shape={"0": 1 << 63, "1": 2}))


def make(out):
    """Writes all of them."""
    for name, data in files():
        out.write(f"bad/msgpack/{name}.msgpack", data, "hand", name.replace("-", " "))
