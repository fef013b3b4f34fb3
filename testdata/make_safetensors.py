"""Good safetensors files: every dtype, shape, name and metadata that the format allows."""

import json
import struct

import ml_dtypes
import numpy as np
import torch
from huggingface_hub import save_torch_state_dict
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

from rawfiles import entry, safetensors

SEED = 20261123


def rng(salt):
    """A generator that depends on nothing but `salt`."""
    return np.random.default_rng([SEED, *salt.encode()])


def bits(dtype, values):
    """An array whose elements have these bit patterns."""
    dtype = np.dtype(dtype)
    return np.array(values, dtype=f"<u{dtype.itemsize}").view(dtype)


def by_hand(tensors, metadata=None, order=None, **how):
    """A file with the given (name, dtype, shape, bytes); `order` is the order of names in the header."""
    entries, data = {}, b""
    for name, dtype, shape, raw in tensors:
        entries[name] = entry(dtype, shape, len(data), len(data) + len(raw))
        data += raw
    header = {} if metadata is None else {"__metadata__": metadata}
    header.update({name: entries[name] for name in order or entries})
    return safetensors(header, data, **how)


def integers():
    """Extremes and random values of each integer type, bool, and the real types that numpy has."""
    generator = rng("integers")
    out = {"bool": np.array([[True, False, True], [False, False, True]])}
    for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
        info = np.iinfo(kind)
        values = generator.integers(info.min, info.max, size=10, dtype=kind, endpoint=True)
        out[kind] = np.concatenate([np.array([info.min, info.max], kind), values]).reshape(3, 4)
    for kind in ("float16", "float32", "float64"):
        out[kind] = generator.standard_normal((3, 4)).astype(kind)
    return out


def specials():
    """NaN payloads, negative zero, subnormals, infinities and extremes."""
    f16 = [0x7C01, 0x7DFF, 0x7E00, 0x7FFF, 0xFC01, 0xFE00, 0xFFFF, 0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400,
           0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x3C00]
    bf16 = [0x7F81, 0x7FBF, 0x7FC0, 0x7FFF, 0xFF81, 0xFFC0, 0xFFFF, 0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080,
            0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x3F80]
    f32 = [0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FC12345, 0x7FFFFFFF, 0xFF800001, 0xFFC00000, 0xFFFFFFFF, 0, 1 << 31,
           1, 0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x3F800000]
    f64 = [0x7FF0000000000001, 0x7FF7FFFFFFFFFFFF, 0x7FF8000000000000, 0x7FF8000012345678, 0x7FFFFFFFFFFFFFFF,
           0xFFF0000000000001, 0xFFF8000000000000, 0xFFFFFFFFFFFFFFFF, 0, 1 << 63, 1, 0x8000000000000001,
           0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF, 0xFFEFFFFFFFFFFFFF, 0x7FF0000000000000,
           0xFFF0000000000000, 0x3FF0000000000000]
    return {"f16": bits(np.float16, f16), "bf16": bits(ml_dtypes.bfloat16, bf16), "f32": bits(np.float32, f32),
            "f64": bits(np.float64, f64)}


def float8():
    """All 256 codes of each float8 type that safetensors has."""
    codes = torch.arange(256, dtype=torch.uint8)
    names = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
    return {name: codes.reshape(16, 16).clone().view(getattr(torch, name)) for name in names}


def tiny_llama():
    """The state dict of a four-layer llama: matrices bf16, norms f32, names and order as transformers has them."""
    torch.manual_seed(SEED)
    hidden, inner, vocabulary, kv = 32, 64, 128, 16

    def matrix(rows, columns):
        return (torch.randn(rows, columns) * 0.02).to(torch.bfloat16)

    def norm():
        return 1 + torch.randn(hidden) * 0.1

    out = {"model.embed_tokens.weight": matrix(vocabulary, hidden)}
    for layer in range(4):
        prefix = f"model.layers.{layer}"
        for name, rows in (("q_proj", hidden), ("k_proj", kv), ("v_proj", kv), ("o_proj", hidden)):
            out[f"{prefix}.self_attn.{name}.weight"] = matrix(rows, hidden)
        out[f"{prefix}.mlp.gate_proj.weight"] = matrix(inner, hidden)
        out[f"{prefix}.mlp.up_proj.weight"] = matrix(inner, hidden)
        out[f"{prefix}.mlp.down_proj.weight"] = matrix(hidden, inner)
        out[f"{prefix}.input_layernorm.weight"] = norm()
        out[f"{prefix}.post_attention_layernorm.weight"] = norm()
    out["model.norm.weight"] = norm()
    out["lm_head.weight"] = matrix(vocabulary, hidden)
    return out


def f32(*values):
    """Little-endian f32 bytes."""
    return struct.pack(f"<{len(values)}f", *values)


def sharded(out):
    """Three shards with an index, planned and written by huggingface_hub."""
    folder = out.path("models/sharded")
    folder.mkdir(parents=True)
    save_torch_state_dict(tiny_llama(), folder, max_shard_size="40KB")
    made = sorted(path.name for path in folder.iterdir())
    assert sum(name.endswith(".safetensors") for name in made) == 3, made
    for name in made:
        out.claim(f"models/sharded/{name}", "tiny-llama in three shards, by huggingface_hub.save_torch_state_dict")


def sharded_by_hand(out):
    """Shards with names of their own and an index that says no more than it must."""
    shards = {
        "part-b.safetensors": [("b", "F32", [2], f32(1, 2)), ("d", "F32", [1], f32(4))],
        "part-a.safetensors": [("a", "F32", [2], f32(5, 6)), ("c", "I8", [3], b"\x01\x02\xff")],
    }
    what = "two shards, odd names, an index in another order, total_size wrong, which nobody checks"
    for name, tensors in shards.items():
        out.write(f"models/sharded-odd/{name}", by_hand(tensors), "hand", what)
    weight_map = {"a": "part-a.safetensors", "b": "part-b.safetensors", "c": "part-a.safetensors",
                  "d": "part-b.safetensors"}
    text = json.dumps({"metadata": {"total_size": 17}, "weight_map": weight_map})
    out.write("models/sharded-odd/model.safetensors.index.json", text.encode(), "hand", what)


def names():
    """Names that are legal and unkind, all distinct."""
    return ["weight", "größe.weight", "groß/klein", "重み.0", "вес", "وزن", "🦙.ears", "é", "e\u0301", "with space",
            " leading", "trailing ", 'quote".weight', "back\\slash", "tab\there", "line\nbreak", "\u0001control",
            "\u2028separator", "a.b.c.d.e", "x.npy", "%s%n", "{brace}", "$HOME", "-dash", "0", "nul\u0000inside"]


def make(out):
    """Writes every file."""
    numpy_file = "safetensors.numpy.save"
    torch_file = "safetensors.torch.save"

    def put(name, data, by, what):
        out.write(f"models/{name}.safetensors", data, by, what)

    put("tiny-llama", save_torch(tiny_llama(), metadata={"format": "pt"}), torch_file,
        "a four-layer llama state dict, bf16 with f32 norms; the README's example")
    put("dtypes-numpy", save_numpy(integers()), numpy_file, "every dtype that numpy and safetensors share, but complex")
    put("dtype-bf16", save_torch({"w": torch.from_numpy(rng("bf16").standard_normal((5, 7))).to(torch.bfloat16)}),
        torch_file, "bf16")
    put("dtypes-float8", save_torch(float8()), torch_file, "all codes of F8_E4M3, E5M2, E4M3FNUZ, E5M2FNUZ and E8M0")
    put("dtype-complex", save_numpy({"c64": (np.arange(6) + 1j * np.arange(6, 0, -1)).astype("c8").reshape(2, 3)}),
        numpy_file, "C64")
    f4 = torch.arange(256, dtype=torch.uint8).reshape(16, 16).view(torch.float4_e2m1fn_x2)
    put("dtype-float4", save_torch({"f4": f4}), torch_file, "F4, two elements a byte, all bytes")
    packed = rng("float6").integers(0, 256, 12, np.uint8).tobytes()
    put("dtypes-float6", by_hand([("e2m3", "F6_E2M3", [4, 4], packed), ("e3m2", "F6_E3M2", [16], packed[::-1])]),
        "hand", "F6_E2M3 and F6_E3M2, four elements in three bytes")
    put("float-specials", save_numpy(specials()), numpy_file,
        "NaN payloads, signaling NaNs, negative zero, subnormals, infinities")
    put("bool-odd-bytes", by_hand([("b", "BOOL", [4], b"\x00\x01\x02\xff")]), "hand", "truth values that are not 0 or 1")

    put("scalar", save_numpy({"step": np.array(7, np.int64), "scale": np.array(0.5, np.float32)}), numpy_file,
        "0-d tensors")
    put("one-element", save_numpy({"w": np.full((1, 1), 3.5, np.float32), "b": np.full((1,), -0.0, np.float16)}),
        numpy_file, "one element each")
    put("empty-tensors", save_numpy({
        "a": np.zeros((0,), np.float32), "b": np.zeros((0, 3), np.float16), "c": np.zeros((3, 0), np.int8),
        "d": np.zeros((2, 0, 3), np.float64), "e": np.zeros((0, 0), np.bool_), "full": np.ones(2, np.float32)}),
        numpy_file, "several shapes with zeros, and one that is not empty")
    put("rank-8", save_numpy({"w": rng("rank8").standard_normal((2, 1, 3, 1, 2, 1, 2, 2)).astype(np.float32)}),
        numpy_file, "eight dimensions")
    put("rank-64", save_numpy({"w": np.arange(4, dtype=np.int16).reshape((1,) * 31 + (2,) + (1,) * 31 + (2,))}),
        numpy_file, "64 dimensions, as many as numpy has")
    put("no-tensors", save_numpy({}), numpy_file, "no tensors")
    put("no-tensors-metadata", save_numpy({}, {"about": "nothing"}), numpy_file, "no tensors, but metadata")

    put("names", save_numpy({name: np.array([i], np.int32) for i, name in enumerate(names())}), numpy_file,
        "names beyond ASCII, with quotes, blanks, controls, and two that differ by normalization only")
    put("name-500-bytes", save_numpy({"n" * 250 + "é" * 125: np.arange(3, dtype=np.float32)}), numpy_file,
        "a name of 500 bytes")
    put("name-empty", by_hand([("", "U8", [2], b"\x01\x02")]), "hand", "the empty name")
    put("names-case-variants", save_numpy({"W": np.ones(2, np.float32), "w": np.zeros(2, np.float32)}), numpy_file,
        "two names that differ by case only")
    paths = ("../up", "/absolute", "a/../b", "a/b", "a//b", "a\\b", ".", "..", "C:/drive", "a/")
    put("names-like-paths", save_numpy({name: np.array([i], np.uint8) for i, name in enumerate(paths)}), numpy_file,
        "tensor names that would be dangerous as paths")
    put("names-nested", save_numpy({"a": np.ones(1, np.float32), "a.b": np.ones(2, np.float32)}), numpy_file,
        "a name that is a prefix of another")

    metadata = {"format": "pt", "license": "MIT", "größe": "klein 🦙", "empty": "", "json": json.dumps({"a": [1, 2]}),
                "long": "x" * 1000, "line": "one\ntwo\t\"three\""}
    put("metadata-several", by_hand([("w", "F32", [2], f32(1, 2))], metadata), "hand",
        "__metadata__, several keys; safetensors itself writes them in another order each time")
    put("metadata-format-np", save_numpy({"w": np.ones(2, np.float32)}, {"format": "np"}), numpy_file,
        "__metadata__ that says format: np")
    put("metadata-empty", by_hand([("w", "F32", [2], f32(1, 2))], {}), "hand", "an empty __metadata__")
    put("metadata-absent", save_numpy({"w": np.ones(2, np.float32)}), numpy_file, "no __metadata__")
    put("metadata-last", safetensors({"w": entry("F32", [1], 0, 4), "__metadata__": {"k": "v"}}, f32(1)), "hand",
        "__metadata__ after the tensors")

    three = [("first", "F32", [2], f32(1, 2)), ("second", "F16", [2], b"\x00\x3c\x00\x40"), ("third", "U8", [3], b"abc")]
    put("header-other-order", by_hand(three, order=["third", "first", "second"]), "hand",
        "header order differs from data order")
    put("header-unpadded", by_hand([("w", "F32", [2], f32(1, 2))], pad=False), "hand",
        "a header whose length is not a multiple of 8")
    put("data-unaligned", by_hand([("a", "U8", [3], b"abc"), ("b", "F32", [2], f32(1, 2)), ("c", "F64", [1], b"\0" * 8)]),
        "hand", "data that is not aligned to its type")
    style = ('{ "\\u00e9\\ud83e\\udd99\\/x" : {\n\t"data_offsets" : [ 0 , 8 ],\r\n "shape":[2 ] , "dtype":"F\\u0033\\u0032"'
             '} }   \n ').encode()
    put("header-json-style", safetensors(style, f32(1, 2)), "hand",
        "escapes, surrogate pairs, white space and key order that JSON allows")

    embedding = rng("tied").standard_normal((8, 4)).astype(np.float32)
    put("tied", save_numpy({"model.embed_tokens.weight": embedding, "model.norm.weight": np.ones(4, np.float32),
                            "lm_head.weight": embedding.copy()}, {"format": "pt"}), numpy_file,
        "two equal tensors, lm_head and embedding")
    sharded(out)
    sharded_by_hand(out)
