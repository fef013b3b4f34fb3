"""Random models with a seed, as plain tensors that every program can be given."""

import numpy as np

import bits
from common import SEED

NUMPY_CODES = "? b B h H i I q Q e f d F D".split()


def generator(salt):
    """Random numbers that depend on `salt` alone."""
    return np.random.default_rng([SEED, *salt.encode()])


def random(dtype, shape, salt=""):
    """A tensor of random bit patterns, NaN payloads and all; truth values are 0 and 1."""
    size = np.dtype(bits.TYPES[dtype][1]).itemsize
    count = int(np.prod(shape, dtype=np.int64))
    high = 2 if dtype == "bool" else 256
    raw = generator(f"{salt} {dtype} {shape}").integers(0, high, size=count * size, dtype=np.uint8)
    return bits.Tensor(dtype, tuple(shape), raw.tobytes())


def every_dtype(names):
    """One random matrix of each type."""
    return {f"{name}.weight": random(name, (3, 5)) for name in names}


def shapes(dtype="f32"):
    """0-d, empty, one element and many dimensions."""
    all_shapes = [(), (1,), (1, 1), (0,), (0, 3), (3, 0), (2, 0, 3), (5,), (2, 1, 3, 1, 2, 1, 2, 2), (1,) * 32]
    return {"x".join(map(str, shape)) or "scalar": random(dtype, shape) for shape in all_shapes}


def names():
    """Names that are legal and unkind."""
    unkind = ["weight", "größe.weight", "groß/klein", "重み.0", "🦙.ears", "é", "e\u0301", "with space", "x.npy", "0",
              'quote".weight', "a.b", "a.b.c", "W", "w", "n" * 250 + "é" * 125]
    return {name: random("i32", (2,), name) for name in unkind}


def checkpoint():
    """Something like a small model: matrices in bf16, norms in f32, a counter."""
    out = {"embed.weight": random("bf16", (64, 16))}
    for layer in range(3):
        out[f"layers.{layer}.attn.weight"] = random("bf16", (16, 16), str(layer))
        out[f"layers.{layer}.mlp.weight"] = random("bf16", (40, 16), str(layer))
        out[f"layers.{layer}.norm.weight"] = random("f32", (16,), str(layer))
    out["step"] = random("i64", ())
    return out


def numpy_array(code, order="<", memory="C"):
    """A numpy array of one type in any byte and memory order."""
    dtype = np.dtype(code)
    tensor = random(bits.FROM_NUMPY[dtype], (3, 4, 2), f"numpy {code}")
    array = bits.to_numpy(tensor)
    swapped = array if order == "<" else array.byteswap().view(dtype.newbyteorder(">"))
    return np.asarray(swapped, order=memory)
