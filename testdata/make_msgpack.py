"""Good msgpack files: what flax saves of every type of value and array, and what it reads although it does not write it."""

from collections import namedtuple

import jax
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
from flax import serialization

from make_npz import every_code, float8
from make_safetensors import rng, specials

Moments = namedtuple("Moments", "count mu nu")


def layer(name, *shape):
    """A dense layer as flax names it: kernel and bias."""
    generator = rng(f"msgpack {name}")
    return {"kernel": generator.standard_normal(shape).astype(np.float32),
            "bias": generator.standard_normal(shape[-1]).astype(np.float32)}


def model():
    """Parameters of a small network, nested as modules are."""
    return {"encoder": {"Dense_0": layer("0", 4, 3), "Dense_1": layer("1", 3, 3)}, "head": layer("head", 3, 2)}


def halves():
    """The same network in bf16."""
    return jax.tree_util.tree_map(lambda array: array.astype(ml_dtypes.bfloat16), model())


def training():
    """A state of training: parameters, statistics of batches, Adam's moments, a counter."""
    moments = Moments(jnp.asarray(7, jnp.int32), model(), model())
    return {"step": jnp.asarray(7, jnp.int32), "params": model(), "opt_state": (moments, {}),
            "batch_stats": {"BatchNorm_0": {"mean": np.zeros(3, np.float32), "var": np.ones(3, np.float32)}}}


def values():
    """Everything beside arrays that a document can hold."""
    return {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "none": None, "yes": True, "no": False,
            "ints": [0, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, (1 << 64) - 1,
                     -1, -32, -33, -128, -129, -32768, -32769, -(1 << 31), -(1 << 31) - 1, -(1 << 63)],
            "floats": [0.0, -0.0, 1e300, float("inf"), float("nan")], "complex": 1.5 - 2j, "bytes": b"\0\xff",
            "texts": ["", "größe 🦙", "n" * 31, "n" * 32, "n" * 256], "list": [1, ["two", [3.0]]], "empty": {}, "nothing": [],
            "half": np.float16(0.5), "scalar": np.float32(2.5), "big": np.uint64((1 << 64) - 1), "phase": np.complex64(1 - 1j),
            "inner": {"x": np.arange(3, dtype=np.int8), "deep": {"er": {"y": np.array(3.5)}}}}


def chunked(limit):
    """Arrays in parts of `limit` bytes, which flax writes where one has more than 1 GiB."""
    usual, serialization.MAX_CHUNK_SIZE = serialization.MAX_CHUNK_SIZE, limit
    try:
        return serialization.msgpack_serialize({
            "large": np.arange(35, dtype=np.float32).reshape(5, 7), "small": np.arange(3, dtype=np.int16),
            "inner": {"wide": np.arange(12, dtype=np.complex128), "half": np.arange(30).astype(ml_dtypes.bfloat16)}})
    finally:
        serialization.MAX_CHUNK_SIZE = usual


def make(out):
    """Writes all of them."""

    def put(name, data, what, by="flax.serialization.to_bytes"):
        out.write(f"models/flax-{name}.msgpack", data, by, what)

    put("params", serialization.to_bytes({"params": model()}), "parameters of a small network")
    put("bare", serialization.to_bytes(model()), "the same without a name around them")
    put("bf16", serialization.to_bytes(halves()), "the same in bf16")
    put("training", serialization.to_bytes(training()), "a state of training: tuples and named tuples are dictionaries")
    put("dtypes", serialization.to_bytes(every_code()), "every type of numpy")
    put("ml-dtypes", serialization.to_bytes({**float8(), "float8_e5m2": np.arange(256, dtype=np.uint8).view(
        ml_dtypes.float8_e5m2)}), "all codes of the float8 types of ml_dtypes, and bf16")
    put("specials", serialization.to_bytes(specials()), "NaN payloads, negative zero, subnormals")
    put("shapes", serialization.to_bytes({
        "scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32), "none": np.zeros(0, np.int8),
        "one": np.ones((1, 1), np.float16), "eight": np.arange(8, dtype=np.uint16).reshape(2, 1, 1, 2, 1, 1, 1, 2),
        "strided": np.arange(24, dtype=np.int32).reshape(4, 6)[::2, ::-1], "transposed": np.arange(6.0).reshape(2, 3).T}),
        "0-d, empty, eight dimensions, and views, which are written in C order")
    put("values", serialization.msgpack_serialize(values()), "every type of value beside arrays",
        "flax.serialization.msgpack_serialize")
    put("chunked", chunked(64), "arrays in parts of 64 bytes", "flax.serialization.msgpack_serialize")
    put("chunked-odd", chunked(1), "arrays in parts of one element", "flax.serialization.msgpack_serialize")
    put("array", serialization.msgpack_serialize(np.arange(6, dtype=np.float32).reshape(2, 3)), "one array and nothing else",
        "flax.serialization.msgpack_serialize")
    put("array-chunked", chunked_alone(), "one array in parts", "flax.serialization.msgpack_serialize")
    put("names", serialization.to_bytes({"größe": {"weight": np.ones(1, np.float32)}, "a b": {"": np.ones(2, np.int8)},
                                         "a.b": np.ones(3, np.int8), "": {"c": np.ones(4, np.int8)}, "重み": np.ones(1)}),
        "keys that are legal and unkind")
    packed = serialization._msgpack_ext_pack  # pylint: disable=protected-access
    put("keys", msgpack.packb({"w": np.ones((2, 2), np.float32), 1: np.ones(1, np.float32), -2: {True: np.ones(2, np.int8), None: np.ones(3, np.int8)},
                               2.5: np.ones(1, np.int16), b"raw": np.ones(1)}, default=packed),
        "keys that are numbers, bytes and nothing, which msgpack_restore takes", "msgpack.packb")
    put("parts-in-list", msgpack.packb({"w": np.ones(2, np.float32), "list": [
        {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": np.ones(2, np.int8)}}]}, default=packed),
        "what looks like parts of an array, but lies in a list, where flax does not look", "msgpack.packb")
    put("extensions", msgpack.packb({"w": np.ones(2, np.float32), "time": msgpack.Timestamp(1, 2),
                                     "own": msgpack.ExtType(42, b"abc")}, default=packed),
        "a time and an extension of nobody", "msgpack.packb")
    put("single-floats", msgpack.packb({"w": np.ones(2, np.float32), "f": 0.1}, default=packed, use_single_float=True),
        "a number in four bytes, which flax reads and does not write", "msgpack.packb")
    put("long-forms", LONG, "lengths in more bytes than they need", "hand")


# {"w": f32 [2]}: dictionary, key and extension in their longest forms, the shape in eight bytes, the type as bytes.
LONG = (b"\xdf\0\0\0\1\xdb\0\0\0\1w\xc9\0\0\0\x2a\1\xdd\0\0\0\3\xdc\0\1\xcf\0\0\0\0\0\0\0\2\xc6\0\0\0\7float32"
        + b"\xc6\0\0\0\x08" + np.array([1.5, -2], np.float32).tobytes())


def chunked_alone():
    """An array in parts that is the whole document."""
    usual, serialization.MAX_CHUNK_SIZE = serialization.MAX_CHUNK_SIZE, 8
    try:
        return serialization.msgpack_serialize(np.arange(6, dtype=np.float32).reshape(2, 3))
    finally:
        serialization.MAX_CHUNK_SIZE = usual
