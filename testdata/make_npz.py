"""Good npz and npy files: every dtype, byte order, memory order, header version and kind of zip entry."""

import io
import zipfile

import ml_dtypes
import numpy as np
from numpy.lib import format as npy_format

from make_safetensors import names, rng, specials
from rawfiles import Member, npy, zip_file

CODES = "? b B h H i I q Q e f d F D".split()


def array(code, order="<"):
    """Random values and extremes of one type, 3 by 4, in the given byte order."""
    dtype = np.dtype(code)
    generator = rng(f"npz {code}")
    if code == "?":
        values = generator.integers(0, 2, 12).astype(dtype)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = generator.integers(info.min, info.max, size=12, dtype=dtype, endpoint=True)
        values[:2] = info.min, info.max
    elif dtype.kind == "f":
        values = generator.standard_normal(12).astype(dtype)
        values[:2] = -0.0, np.nan
    else:
        values = (generator.standard_normal(12) + 1j * generator.standard_normal(12)).astype(dtype)
    return values.astype(dtype.newbyteorder(order)).reshape(3, 4)


def every_code(order="<", fortran=False):
    """One array of each type, under a name that says which."""
    out = {code if code != "?" else "bool": array(code, order) for code in CODES}
    if fortran:
        out = {name: np.asfortranarray(value) for name, value in out.items()}
    return {{"b": "int8", "B": "uint8", "h": "int16", "H": "uint16", "i": "int32", "I": "uint32", "q": "int64",
             "Q": "uint64", "e": "float16", "f": "float32", "d": "float64", "F": "complex64",
             "D": "complex128"}.get(name, name): value for name, value in out.items()}


def savez(arrays, compressed=False):
    """What np.savez or np.savez_compressed writes. Neither puts a clock into the file."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def save(value, version=None):
    """What np.save writes; with `version`, numpy's write_array in that header version."""
    buffer = io.BytesIO()
    if version is None:
        np.save(buffer, value)
    else:
        npy_format.write_array(buffer, value, version=version)
    return buffer.getvalue()


def zipped(members, **how):
    """A zip file by Python's zipfile from (name, bytes, options of open)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **how) as archive:
        for name, data, options in members:
            with archive.open(zipfile.ZipInfo(name), "w", **options) as file:
                file.write(data)
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """A stream that cannot seek, which makes zipfile write data descriptors."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


def streamed(arrays):
    """What np.savez_compressed writes into a pipe: sizes and CRCs follow the data."""
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            with archive.open(zipfile.ZipInfo(name + ".npy"), "w") as file:
                npy_format.write_array(file, value)
    return bytes(pipe.data)


def float8():
    """All codes of the float8 types of ml_dtypes, and bf16."""
    codes = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = {"bfloat16": rng("npz bf16").standard_normal((5, 7)).astype(ml_dtypes.bfloat16)}
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float8_e3m4", "float8_e4m3",
                 "float8_e4m3b11fnuz"):
        out[name] = codes.view(getattr(ml_dtypes, name))
    return out


def make_npy(out):
    """Single arrays."""

    def put(name, data, by, what):
        out.write(f"models/{name}.npy", data, by, what)

    values = rng("npy").standard_normal((3, 5)).astype(np.float32)
    put("c-order", save(values), "np.save", "f32, C order")
    put("fortran-order", save(np.asfortranarray(values)), "np.save", "f32, Fortran order")
    put("fortran-order-rank-3", save(np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))), "np.save",
        "i16, Fortran order, three dimensions")
    put("transposed", save(values.T), "np.save", "the transpose of c-order.npy")
    put("sliced", save(values[::2, ::-1]), "np.save", "every second row of c-order.npy, columns backwards")
    put("big-endian", save(values.astype(">f4")), "np.save", "f32, big endian")
    put("big-endian-fortran", save(np.asfortranarray(values.astype(">c16"))), "np.save", "c128, big endian, Fortran order")
    for major in (1, 2, 3):
        put(f"version-{major}", save(np.arange(6, dtype=np.int32).reshape(2, 3), (major, 0)),
            "numpy.lib.format.write_array", f"header version {major}")
    put("scalar", save(np.array(2.5)), "np.save", "0-d")
    put("empty", save(np.zeros((0, 3), np.float32)), "np.save", "no elements")
    put("rank-8", save(np.arange(8, dtype=np.uint16).reshape(2, 1, 1, 2, 1, 1, 1, 2)), "np.save", "eight dimensions")
    put("rank-32", save(np.arange(4, dtype=np.uint8).reshape((1,) * 30 + (2, 2))), "np.save", "32 dimensions")
    put("specials-f32", save(specials()["f32"]), "np.save", "NaN payloads, negative zero, subnormals")
    put("specials-f16-big-endian", save(specials()["f16"].astype(">f2")), "np.save", "the same in f16, big endian")
    bf16 = specials()["bf16"]
    put("bfloat16", save(bf16), "np.save, ml_dtypes", "bf16 as numpy 2 names it: '<V2'")
    put("bfloat16-resaved", save(bf16.view("V2")), "np.save", "bf16 after np.load and np.save: '|V2'")
    codes = np.arange(256, dtype=np.uint8)
    put("bfloat16-big-endian", save(bf16.astype(bf16.dtype.newbyteorder(">"))), "np.save, ml_dtypes",
        "bf16, big endian: '>V2', which np.load reads as void and does not swap")
    put("float8-e4m3fn", save(codes.view(ml_dtypes.float8_e4m3fn)), "np.save, ml_dtypes",
        "f8_e4m3 as numpy 2 names it: '<V1'; any type of one byte looks so")
    put("float8-e5m2", save(codes.view(ml_dtypes.float8_e5m2)), "np.save, ml_dtypes",
        "f8_e5m2 as numpy 2 names it: '<f1', which np.load refuses")
    put("header-unaligned", npy("<f4", (2,), b"\0" * 8, align=1), "hand", "a header without padding")
    put("header-aligned-16", npy("<f4", (2,), b"\0" * 8, align=16), "hand", "padding as numpy before 1.14 wrote it")
    put("header-python-2", npy("<f4", (2, 3), b"\0" * 24,
        header="{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }"), "hand",
        "long integers as numpy on Python 2 wrote them")
    put("header-size-left-out", npy("<f", (2,), b"\0" * 8), "hand", "'<f', which numpy takes for '<f4'")
    put("header-style", npy("<f4", (2, 3), b"\0" * 24,
        header='{"shape":(2,\n3),"fortran_order" : False , "descr":"<f4"}'), "hand",
        "key order, quotes and white space that a Python literal allows")


def make_npz(out):
    """Archives."""

    def put(name, data, by, what):
        out.write(f"models/{name}.npz", data, by, what)

    put("numpy-le", savez(every_code("<")), "np.savez", "every dtype, little endian, C order")
    put("numpy-be", savez(every_code(">")), "np.savez", "every dtype, big endian, C order")
    put("numpy-le-fortran", savez(every_code("<", True)), "np.savez", "every dtype, little endian, Fortran order")
    put("numpy-be-fortran", savez(every_code(">", True)), "np.savez", "every dtype, big endian, Fortran order")
    put("numpy-deflated", savez(every_code("<"), True), "np.savez_compressed", "every dtype, deflated")
    put("numpy-be-fortran-deflated", savez(every_code(">", True), True), "np.savez_compressed",
        "every dtype, big endian, Fortran order, deflated")
    put("ml-dtypes", savez(float8()), "np.savez, ml_dtypes", "bf16 and float8, as '<V2' and '<V1'")
    put("ml-dtypes-deflated", savez(float8(), True), "np.savez_compressed, ml_dtypes", "the same, deflated")
    put("e5m2", savez({"w": np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e5m2)}), "np.savez, ml_dtypes",
        "float8_e5m2, as '<f1'")
    put("shapes", savez({"scalar": np.array(7, np.int64), "one": np.ones((1, 1), np.float32),
                         "empty": np.zeros((0,), np.float32), "empty-2": np.zeros((2, 0, 3), np.float64),
                         "rank8": np.arange(8, dtype=np.int32).reshape(1, 2, 1, 2, 1, 2, 1, 1),
                         "rank64": np.ones((1,) * 64, np.int8)}), "np.savez", "0-d, empty, one element, rank 8 and 64")
    base = rng("strided").standard_normal((6, 8)).astype(np.float32)
    put("strided", savez({"base": base, "transposed": base.T, "sliced": base[1:5:2, ::3], "reversed": base[::-1],
                          "expanded": np.broadcast_to(base[0], (3, 8)), "column": base[:, 2],
                          "moved": np.moveaxis(base.reshape(2, 3, 8), 0, 2)}), "np.savez", "views, as numpy saves them")
    safe = [name for name in names() if "\0" not in name]
    put("names", savez({name: np.array([i], np.int32) for i, name in enumerate(safe)}), "np.savez",
        "names beyond ASCII, with quotes, blanks, controls")
    put("name-500-bytes", savez({"n" * 250 + "é" * 125: np.arange(3, dtype=np.float32)}), "np.savez", "a long name")
    put("names-case-variants", savez({"W": np.ones(2, np.float32), "w": np.zeros(2, np.float32)}), "np.savez",
        "two names that differ by case only")
    put("folders", savez({"a/b": np.ones(2, np.float32), "a/c": np.zeros(2, np.float32), "d": np.ones(1, np.int8)}),
        "np.savez", "names with slashes")
    put("specials", savez({name: value for name, value in specials().items() if name != "bf16"}), "np.savez",
        "NaN payloads, negative zero, subnormals")
    put("unnamed", savez({"arr_0": np.ones(2), "arr_1": np.zeros((2, 2), np.int16)}), "np.savez",
        "arrays without names of their own")
    put("no-arrays", zipped([]), "zipfile", "an archive without entries")

    one = save(np.arange(4, dtype=np.float32))
    two = save(np.arange(6, dtype=np.int16).reshape(2, 3))
    put("zip64", zipped([("a.npy", one, {"force_zip64": True}), ("b.npy", two, {"force_zip64": True})]), "zipfile",
        "zip64 fields in every local header")
    put("zip32", zipped([("a.npy", one, {}), ("b.npy", two, {})]), "zipfile", "no zip64 fields")
    put("deflated-zip32", zipped([("a.npy", one, {}), ("b.npy", two, {})], compression=zipfile.ZIP_DEFLATED), "zipfile",
        "the same, deflated")
    put("data-descriptors", streamed({"a": np.arange(4, dtype=np.float32), "b": np.zeros((20, 20))}),
        "zipfile into a pipe", "sizes and CRCs after the data, deflated")
    put("suffix-missing", zipped([("a", one, {}), ("b.npy", two, {})]), "zipfile", "one entry without .npy")
    put("comment", zip_file([Member(b"a.npy", one)], comment=b"made by hand"), "hand", "an archive comment")
    put("extra-fields", zip_file([Member(b"a.npy", one, extra=b"UX\x04\x00abcd\x99\x99\x00\x00")]), "hand",
        "extra fields that nobody knows")
    put("entries-out-of-order", out_of_order(one, two), "hand", "the directory lists entries in another order than the data")
    put("gaps", zip_file([Member(b"a.npy", one), Member(b"b.npy", two)], between=b"unclaimed bytes"), "hand",
        "bytes between the last entry and the directory, as signed archives have them")
    put("with-directory", zip_file([Member(b"a/", b""), Member(b"a/b.npy", one)]), "hand", "an entry for a folder")
    put("with-text", zip_file([Member(b"notes.txt", b"not an array\n"), Member(b"a.npy", one)]), "hand",
        "an entry that is not an array")
    put("name-cp437", zip_file([Member(b"gr\x94\xe1e.npy", one)]), "hand", "a name in code page 437, as old zips have it")


def out_of_order(one, two):
    """Two entries whose directory records are swapped."""
    head = len(b"a.npy") + 30 + len(one)
    plain = zip_file([Member(b"a.npy", one), Member(b"b.npy", two)])
    start = head + 30 + len(b"b.npy") + len(two)
    size = 46 + len(b"a.npy")
    first, second, end = plain[start:start + size], plain[start + size:start + 2 * size], plain[start + 2 * size:]
    return plain[:start] + second + first + end


def make(out):
    """Writes every file."""
    make_npy(out)
    make_npz(out)
