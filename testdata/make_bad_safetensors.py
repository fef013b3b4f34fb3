"""Damaged and hostile safetensors files and indexes. Each name says what is wrong, and nothing else is."""

import json
import struct

from make_safetensors import by_hand, f32
from rawfiles import entry, foreign, safetensors

DATA = f32(1, 2, 3, 4)
GOOD = {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 8, 16)}


def raw(text, data=DATA, **how):
    """A file whose header is this text."""
    return safetensors(text if isinstance(text, bytes) else text.encode(), data, **how)


def one(data=DATA, **change):
    """A file with one tensor of four f32, some of its keys changed; None removes a key."""
    value = {**entry("F32", [4], 0, 16), **change}
    return safetensors({"a": {key: item for key, item in value.items() if item is not None}}, data)


def one_text(shape="[4]", offsets="[0,16]", dtype='"F32"'):
    """The same, with the JSON of each key as text."""
    return raw(f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}')


def files():
    """(name, bytes) of every bad safetensors file."""
    good = safetensors(GOOD, DATA)
    header = good[8:-16]
    deep = b"[" * 10_000
    yield "file-empty", b""
    yield "file-seven-bytes", good[:7]
    yield from foreign(good)

    yield "length-0", raw(header, length=0)
    yield "length-1", raw(header, length=1)
    yield "length-beyond-file", raw(header, length=len(good) + 1)
    yield "length-to-end-of-file", raw(header, length=len(header) + 16)
    yield "length-2-pow-31", raw(header, length=1 << 31)
    yield "length-2-pow-63", raw(header, length=1 << 63)
    yield "length-2-pow-64-minus-1", raw(header, length=(1 << 64) - 1)
    yield "length-2-pow-64-minus-8", raw(header, length=(1 << 64) - 8)
    yield "length-one-short", raw(header.rstrip(), length=len(header.rstrip()) - 1)
    yield "length-big-endian", struct.pack(">Q", len(header)) + header + DATA

    yield "json-none", raw("not json")
    yield "json-only-blanks", raw(" " * 16, b"")
    yield "json-array", raw("[]", b"")
    yield "json-string", raw('"text"', b"")
    yield "json-null", raw("null", b"")
    yield "json-byte-order-mark", raw(b"\xef\xbb\xbf" + header)
    yield "json-leading-blank", raw(b" " + header)
    yield "json-utf-16", raw(json.dumps(GOOD).encode("utf-16-le"))
    yield "json-invalid-utf-8-in-name", raw(header.replace(b'"a"', b'"\xff"'))
    yield "json-overlong-utf-8-in-name", raw(header.replace(b'"a"', b'"\xc0\xaf"'))
    yield "json-lone-surrogate-in-name", raw(header.replace(b'"a"', b'"\\ud800"'))
    yield "json-raw-control-in-name", raw(header.replace(b'"a"', b'"\x01"'))
    yield "json-bad-escape-in-name", raw(header.replace(b'"a"', b'"\\x41"'))
    yield "json-trailing-garbage", raw(header.rstrip() + b"garbage")
    yield "json-trailing-nul", raw(header.rstrip() + b"\0\0\0\0")
    yield "json-two-objects", raw(header.rstrip() + b"{}")
    yield "json-trailing-comma", raw(header.rstrip()[:-1] + b",}")
    yield "json-comment", raw(b"{/* hello */" + header[1:])
    yield "json-single-quotes", raw(header.replace(b'"', b"'"))
    yield "json-unclosed", raw(header.rstrip()[:-1])
    yield "json-nesting-10000", raw(b'{"a":' + deep + b"]" * 10_000 + b"}", b"")
    yield "json-nesting-10000-unclosed", raw(b'{"a":' + deep, b"")
    yield "json-nesting-10000-objects", raw(b'{"a":' * 10_000, b"")
    yield "json-nesting-in-shape", one_text(shape="[" * 1000 + "4" + "]" * 1000)

    yield "name-twice", raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                            '"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}')
    yield "name-twice-by-escape", raw('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
                                      '"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}')
    yield "name-twice-identical", raw('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
                                      '"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}')
    yield "metadata-twice", raw('{"__metadata__":{"k":"1"},"__metadata__":{"k":"2"},'
                                '"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}')
    yield "key-twice-dtype", raw('{"a":{"dtype":"I32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}')
    yield "key-twice-shape", raw('{"a":{"dtype":"F32","shape":[2,2],"shape":[4],"data_offsets":[0,16]}}')
    yield "key-twice-data-offsets", raw('{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8],"data_offsets":[0,16]}}')
    yield "key-twice-in-metadata", raw('{"__metadata__":{"k":"1","k":"2"},'
                                       '"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}')
    yield "key-unknown", one(strides=[1])

    yield "tensor-null", raw('{"a":null}', b"")
    yield "tensor-number", raw('{"a":7}', b"")
    yield "tensor-array", raw('{"a":["F32",[4],[0,16]]}')
    yield "tensor-empty-object", raw('{"a":{}}', b"")

    yield "dtype-missing", one(dtype=None)
    yield "dtype-unknown", one(dtype="F33")
    yield "dtype-lower-case", one(dtype="f32")
    yield "dtype-empty", one(dtype="")
    yield "dtype-number", one(dtype=32)
    yield "dtype-null", one_text(dtype="null")

    yield "shape-missing", one(shape=None)
    yield "shape-number", one(shape=4)
    yield "shape-string", one(shape="4")
    yield "shape-null", one_text(shape="null")
    yield "shape-of-strings", one(shape=["4"])
    yield "shape-negative", one(shape=[-4])
    yield "shape-two-negatives", one(shape=[-2, -2])
    yield "shape-minus-zero", raw('{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', b"")
    yield "shape-float", one_text(shape="[4.0]")
    yield "shape-fraction", one_text(shape="[4.5]")
    yield "shape-exponent", one_text(shape="[4e0]")
    yield "shape-leading-zero", one_text(shape="[04]")
    yield "shape-2-pow-64", one(shape=[1 << 64])
    yield "shape-10-pow-400", one_text(shape="[1" + "0" * 400 + "]")
    yield "shape-nan", one_text(shape="[NaN]")
    yield "shape-product-overflows-u64", one(shape=[1 << 32, 1 << 32])
    yield "shape-product-overflows-to-4", one(shape=[(1 << 63) + 2, 2])
    yield "shape-bytes-overflow", one(shape=[1 << 62])
    yield "shape-product-overflows-times-0", one(shape=[1 << 63, 1 << 63, 0], data=b"", data_offsets=[0, 0])
    yield "shape-rank-1001", one(shape=[1] * 1000 + [4])
    yield "shape-too-small", one(shape=[3])
    yield "shape-too-large", one(shape=[5])
    yield "shape-0-with-data", one(shape=[0])
    yield "shape-4-without-data", one(data=b"", data_offsets=[0, 0])
    yield "shape-scalar-with-4", one(shape=[])

    yield "offsets-missing", one(data_offsets=None)
    yield "offsets-one", one(data_offsets=[16])
    yield "offsets-three", one(data_offsets=[0, 16, 16])
    yield "offsets-empty", one(data_offsets=[])
    yield "offsets-number", one(data_offsets=0)
    yield "offsets-object", one(data_offsets={"begin": 0, "end": 16})
    yield "offsets-float", one_text(offsets="[0.0,16.0]")
    yield "offsets-negative", one(data_offsets=[-16, 0])
    yield "offsets-begin-after-end", one(data_offsets=[16, 0])
    yield "offsets-end-beyond-file", one(data_offsets=[0, 20], shape=[5])
    yield "offsets-end-2-pow-63", one(data_offsets=[0, 1 << 63], shape=[1 << 61])
    yield "offsets-end-2-pow-64-minus-1", one(data_offsets=[0, (1 << 64) - 1], dtype="U8", shape=[(1 << 64) - 1])
    yield "offsets-end-2-pow-64", one(data_offsets=[0, 1 << 64])
    yield "offsets-wrap", one(data_offsets=[(1 << 64) - 16, (1 << 64) - 1], dtype="U8", shape=[15])
    yield "offsets-first-not-0", one(data_offsets=[4, 16], shape=[3])
    yield "offsets-leave-hole", safetensors({"a": entry("F32", [1], 0, 4), "b": entry("F32", [2], 8, 16)}, DATA)
    yield "offsets-overlap", safetensors({"a": entry("F32", [3], 0, 12), "b": entry("F32", [2], 8, 16)}, DATA)
    yield "offsets-same-range-twice", safetensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [4], 0, 16)}, DATA)
    yield "offsets-nested", safetensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [1], 4, 8)}, DATA)
    yield "offsets-empty-tensor-inside-other", safetensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [0], 8, 8)},
                                                           DATA)
    yield "offsets-empty-tensor-beyond-end", safetensors({"a": entry("F32", [4], 0, 16), "b": entry("F32", [0], 32, 32)},
                                                         DATA)
    yield "float4-odd-count", one(dtype="F4", shape=[3], data=b"\x21\x03", data_offsets=[0, 2])
    yield "float6-not-whole-bytes", one(dtype="F6_E2M3", shape=[5], data=b"abcd", data_offsets=[0, 4])

    yield "metadata-array", raw('{"__metadata__":[]}', b"")
    yield "metadata-string", raw('{"__metadata__":"pt"}', b"")
    yield "metadata-null", raw('{"__metadata__":null}', b"")
    yield "metadata-value-number", raw('{"__metadata__":{"k":1}}', b"")
    yield "metadata-value-object", raw('{"__metadata__":{"k":{}}}', b"")
    yield "metadata-value-null", raw('{"__metadata__":{"k":null}}', b"")

    yield "data-cut", good[:-1]
    yield "data-missing", good[:-16]
    yield "data-one-byte-more", good + b"\0"
    yield "data-two-files", good + good
    yield "header-cut", good[:40]
    yield "no-tensors-with-data", raw("{}", DATA)


def shards():
    """Two good shards, by name."""
    return {
        "one.safetensors": by_hand([("a", "F32", [2], f32(1, 2))]),
        "two.safetensors": by_hand([("b", "F32", [2], f32(3, 4))]),
    }


def index(weight_map, **more):
    """The text of an index."""
    return json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map, **more})


def indexes():
    """(name, text or bytes of the index, shards) of every bad index."""
    good = {"a": "one.safetensors", "b": "two.safetensors"}
    both = shards()
    for name, data in foreign(index(good).encode()):
        yield name, data, both
    # A shard of which only the pointer was fetched.
    yield "file-is-git-lfs-pointer", index(good), {**both, "two.safetensors": dict(foreign(b""))["file-git-lfs-pointer"]}
    yield "not-json", "weights, please", both
    yield "empty-file", "", both
    yield "array", "[]", both
    yield "invalid-utf-8", index(good).encode().replace(b'"a"', b'"\xff"'), both
    yield "truncated", index(good)[:-5], both
    yield "nesting-10000", '{"weight_map":' + "[" * 10_000, both
    yield "weight-map-missing", json.dumps({"metadata": {"total_size": 16}}), both
    yield "weight-map-empty", index({}), both
    yield "weight-map-array", index([["a", "one.safetensors"]]), both
    yield "weight-map-null", index(None), both
    yield "weight-map-twice", '{"weight_map":{"a":"one.safetensors"},"weight_map":{"b":"two.safetensors"}}', both
    yield "value-number", index({**good, "a": 1}), both
    yield "value-null", index({**good, "a": None}), both
    yield "value-array", index({**good, "a": ["one.safetensors"]}), both
    yield "value-empty", index({**good, "a": ""}), both
    yield "value-dot", index({**good, "a": "."}), both
    yield "value-nul", index({**good, "a": "one.safetensors\0.txt"}), both
    yield "value-backslash", index({**good, "a": "..\\one.safetensors"}), both
    yield "name-twice", '{"weight_map":{"a":"one.safetensors","a":"two.safetensors","b":"two.safetensors"}}', both
    yield "file-missing", index({**good, "c": "three.safetensors"}), both
    yield "file-in-parent-folder", index({**good, "a": "../escape.safetensors"}), both
    yield "file-in-parent-folder-by-detour", index({**good, "a": "sub/../../escape.safetensors"}), both
    yield "file-absolute", index({**good, "a": "/escape.safetensors"}), both
    yield "file-is-folder", index({**good, "a": "folder"}), {**both, "folder/file.txt": b"text\n"}
    yield "file-is-index", index({**good, "a": "model.safetensors.index.json"}), both
    yield "file-is-not-safetensors", index(good), {**both, "one.safetensors": b"garbage, not a shard at all"}
    yield "file-is-damaged", index(good), {**both, "one.safetensors": both["one.safetensors"][:-1]}
    yield "tensor-in-other-shard", index({"a": "two.safetensors", "b": "one.safetensors"}), both
    yield "tensor-in-no-shard", index({**good, "c": "one.safetensors"}), both
    yield "tensor-in-two-shards", index(good), {**both, "two.safetensors": by_hand(
        [("a", "F32", [2], f32(7, 8)), ("b", "F32", [2], f32(3, 4))])}
    yield "tensor-not-in-index", index(good), {**both, "two.safetensors": by_hand(
        [("b", "F32", [2], f32(3, 4)), ("c", "F32", [1], f32(5))])}


def make(out):
    """Writes every file."""
    for name, data in files():
        # Odd, and yet right: the format's own reader takes them too.
        folder = "models/odd-" if name in ("key-unknown", "metadata-null") else "bad/safetensors/"
        out.write(f"{folder}{name}.safetensors", data, "hand", name.replace("-", " "))
    bait = by_hand([("a", "F32", [2], f32(666, 666))])
    out.write("bad/index/escape.safetensors", bait, "hand", "bait outside the folders: its values may appear nowhere")
    for name, text, files_beside in indexes():
        # transformers loads tensors that the index does not name.
        folder = f"models/{name}" if name == "tensor-not-in-index" else f"bad/index/{name}"
        data = text if isinstance(text, bytes) else text.encode()
        out.write(f"{folder}/model.safetensors.index.json", data, "hand", f"index: {name.replace('-', ' ')}")
        for shard, content in files_beside.items():
            out.write(f"{folder}/{shard}", content, "hand", "goes with the index beside it")
