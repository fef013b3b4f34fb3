"""Damaged and hostile npy and npz files. Each name says what is wrong, and nothing else is."""

import struct

from rawfiles import Member, deflate, foreign, npy, zip_file

DATA = struct.pack("<4f", 1, 2, 3, 4)
COMMAND = "touch pwned"
PICKLE = f"cposix\nsystem\n(S'{COMMAND}'\ntR.".encode()  # protocol 0: posix.system(COMMAND)
U64 = (1 << 64) - 1


def array(descr="<f4", shape=(4,), data=DATA, **how):
    """A good array of four f32, or not quite."""
    return npy(descr, shape, data, **how)


def header(text, data=DATA, **how):
    """An npy file with this header text."""
    return npy(None, None, data, header=text, **how)


def key(descr="'<f4'", fortran="False", shape="(4,)"):
    """A header with the text of each value."""
    return header(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}")


def npy_files():
    """(name, bytes) of every bad npy file."""
    good = array()
    yield "file-empty", b""
    yield from foreign(good)
    yield "file-magic-only", good[:6]
    yield "file-cut-in-version", good[:7]
    yield "file-cut-in-length", good[:9]
    yield "file-cut-in-header", good[:40]
    yield "file-header-only", good[:-16]
    yield "magic-wrong", b"\x93NUMPX" + good[6:]
    yield "magic-without-first-byte", good[1:]
    yield "version-0", array(version=(0, 0))
    yield "version-4", array(version=(4, 0))
    yield "version-9", array(version=(9, 0))
    yield "version-1-1", array(version=(1, 1))
    yield "header-length-0", array(header_length=0)
    yield "header-length-beyond-file", array(header_length=60_000)
    yield "header-length-2-pow-32-minus-1", array(version=(2, 0), header_length=0xFFFFFFFF)
    yield "header-length-one-short", array(header_length=116)
    yield "header-empty", header("")
    yield "header-not-literal", header("hello")
    yield "header-list", header("['<f4', False, (4,)]")
    yield "header-none", header("None")
    yield "header-number", header("42")
    yield "header-json", header('{"descr": "<f4", "fortran_order": false, "shape": [4]}')
    yield "header-unclosed", header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), ")
    yield "header-unclosed-string", header("{'descr': '<f4")
    yield "header-two-dicts", header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }{}")
    yield "header-garbage-after", header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), } garbage")
    yield "header-nul", header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }\0")
    yield "header-invalid-utf-8", header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (4,), '\xff': 0}",
                                         version=(3, 0))
    yield "header-not-python", header("{'descr': '<f4', 'fortran_order': False, 'shape': (4;), }")
    yield "header-nesting-10000", key(shape="(" * 10_000 + "4" + ",)" * 10_000)
    yield "header-nesting-10000-unclosed", key(shape="(" * 10_000)
    yield "header-minus-10000", key(shape="(" + "-" * 10_000 + "4,)")
    yield "header-runs-code", header(f"__import__('os').system('{COMMAND}')")
    yield "header-runs-code-in-shape", key(shape=f"(__import__('os').system('{COMMAND}') or 4,)")
    yield "header-runs-code-in-descr", key(descr=f"str(__import__('os').system('{COMMAND}'))")
    yield "header-product", key(shape="(2*2,)")
    yield "header-power", key(shape="(9**9**9,)")
    yield "header-lambda", key(shape="(lambda: 4,)")
    yield "header-comprehension", key(shape="tuple(4 for _ in [0])")
    yield "header-f-string", key(descr="f'<f4'")
    yield "header-bytes-for-descr", key(descr="b'<f4'")

    yield "key-descr-missing", header("{'fortran_order': False, 'shape': (4,), }")
    yield "key-fortran-order-missing", header("{'descr': '<f4', 'shape': (4,), }")
    yield "key-shape-missing", header("{'descr': '<f4', 'fortran_order': False, }")
    yield "key-extra", header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'more': 1}")
    yield "key-twice", header("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'shape': (4,), }")
    yield "key-upper-case", header("{'Descr': '<f4', 'fortran_order': False, 'shape': (4,), }")
    yield "key-number", header("{1: '<f4', 'fortran_order': False, 'shape': (4,), }")
    yield "fortran-order-number", key(fortran="1")
    yield "fortran-order-string", key(fortran="'False'")
    yield "fortran-order-none", key(fortran="None")
    yield "fortran-order-lower-case", key(fortran="false")

    yield "shape-number", key(shape="(4)")
    yield "shape-list", key(shape="[4]")
    yield "shape-string", key(shape="'4'")
    yield "shape-none", key(shape="None")
    yield "shape-of-none", key(shape="(None,)")
    yield "shape-of-strings", key(shape="('4',)")
    yield "shape-of-tuples", key(shape="((4,),)")
    yield "shape-float", key(shape="(4.0,)")
    yield "shape-true", key(shape="(True, 4)")
    yield "shape-hexadecimal", key(shape="(0x4,)")
    yield "shape-leading-zero", key(shape="(04,)")
    yield "shape-negative", key(shape="(-4,)")
    yield "shape-two-negatives", key(shape="(-2, -2)")
    yield "shape-2-pow-63", array(shape=(1 << 63,))
    yield "shape-2-pow-64", array(shape=(1 << 64,))
    yield "shape-10-pow-400", array(shape=(10**400,))
    yield "shape-product-overflows-u64", array(shape=(1 << 32, 1 << 32))
    yield "shape-product-overflows-to-4", array(shape=((1 << 63) + 2, 2))
    yield "shape-bytes-overflow", array(shape=(1 << 62,))
    yield "shape-product-overflows-times-0", array(shape=(1 << 63, 1 << 63, 0), data=b"")
    yield "shape-4-tib", array(shape=(1 << 40,))
    yield "shape-rank-65", array(shape=(1,) * 64 + (4,))
    yield "shape-rank-1000", array(shape=(1,) * 999 + (4,))
    yield "shape-too-large", array(shape=(5,))
    yield "shape-too-small", array(shape=(3,))
    yield "shape-0-with-data", array(shape=(0,))
    yield "data-one-byte-short", good[:-1]
    yield "data-one-byte-more", good + b"\0"
    yield "data-two-arrays", good + good

    yield "descr-empty", array("")
    yield "descr-number", key(descr="4")
    yield "descr-none", key(descr="None")
    yield "descr-unknown-letter", array("<x4")
    yield "descr-size-3", array("<f3")
    yield "descr-size-huge", array("<f99999999999999999999")
    yield "descr-size-negative", array("<f-4")
    yield "descr-order-wrong", array("!f4")
    yield "descr-blank", array(" <f4")
    yield "descr-i16", array("<i16", (1,))
    yield "descr-object", array("|O", (1,), PICKLE)
    yield "descr-object-8", array("<O8", (1,), PICKLE)
    yield "descr-object-in-structure", key(descr="[('a', '|O')]")
    yield "descr-long-double", array("<f16", (1,))
    yield "descr-complex-long-double", array("<c32", (1,), DATA * 2)
    yield "descr-datetime", array("<M8[ns]", (2,))
    yield "descr-timedelta", array("<m8[D]", (2,))
    yield "descr-string", array("|S4", (4,))
    yield "descr-unicode", array("<U2", (2,))
    yield "descr-void-0", array("|V0", (4,), b"")
    yield "descr-void-3", array("|V3", (4,), DATA[:12])
    yield "descr-void-16", array("|V16", (1,))
    yield "descr-structure", array([("a", "<f4"), ("b", "<i4")], (2,))
    yield "descr-structure-short-form", array("<f4,<i4", (2,))
    yield "descr-structure-nested", key(descr="[('a', [('b', '<f4')])]")
    yield "descr-structure-empty", key(descr="[]")
    yield "descr-subarray", key(descr="('<f4', (2,))")
    yield "descr-subarray-in-structure", key(descr="[('a', '<f4', (2,))]")
    yield "descr-dict", key(descr="{'names': ['a'], 'formats': ['<f4']}")


def member(name=b"a.npy", data=None, **how):
    """A good entry, or not quite."""
    return Member(name, array() if data is None else data, **how)


def zip64_extra(*values):
    """The extra field that holds 64-bit sizes and offset."""
    return struct.pack("<HH", 1, 8 * len(values)) + struct.pack(f"<{len(values)}Q", *values)


def overlapping():
    """Two entries that are each right, the second inside the payload of the first."""
    inner = zip_file([member(b"b.npy")], cut_eocd=True)
    inner_local = inner[:30 + 5 + len(array())]
    outer = npy("|u1", (len(inner_local),), inner_local)
    at = 30 + 5 + len(outer) - len(inner_local)
    good = zip_file([Member(b"a.npy", outer), member(b"b.npy")])
    # The second local header is not where the directory points, but inside the first entry.
    second = 30 + 5 + len(outer)
    cut = good[:second] + good[second + 30 + 5 + len(array()):]
    start = second
    directory = bytearray(cut[start:])
    struct.pack_into("<I", directory, 46 + 5 + 42, at)
    struct.pack_into("<I", directory, len(directory) - 22 + 16, start)
    return cut[:start] + bytes(directory)


def same_local_header():
    """Two directory records under one name each, pointing at one local header."""
    data = bytearray(zip_file([member(b"a.npy"), member(b"b.npy")]))
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, second + 42, 0)
    return bytes(data)


def zip64_end(entries=1, size=None, offset=None, locator_at=None, record=True):
    """An archive whose end record defers to a zip64 end record."""
    plain = zip_file([member()])
    start = plain.index(b"PK\x01\x02")
    directory = plain[start:-22]
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, entries, entries,
                        len(directory) if size is None else size, start if offset is None else offset)
    at = start + len(directory)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at if locator_at is None else locator_at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return plain[:at] + (end64 if record else b"") + locator + end


def npz_files():
    """(name, bytes) of every bad npz file."""
    good = zip_file([member()])
    two = [member(b"a.npy"), member(b"b.npy")]
    whole = zip_file(two)
    zeros = npy("|u1", (3_000_000,), bytes(3_000_000))

    yield from foreign(whole)
    yield "file-cut-in-directory", whole[:-40]
    yield "file-cut-one-byte", whole[:-1]
    yield "file-local-header-only", good[:30]
    yield "file-two-archives", good + whole
    yield "file-trailing-byte", good + b"\0"
    yield "file-trailing-text", good + b"trailing text\n" * 10
    yield "file-prepended-bytes", zip_file([member()], before=b"#!/bin/sh\nexit 0\n")
    yield "file-comment-longer-than-file", good[:-2] + b"\xff\xff"

    yield "file-comment-like-end-record", zip_file([member()], comment=b"PK\x05\x06" + b"\0" * 30)

    yield "end-missing", zip_file([member()], cut_eocd=True)
    yield "end-count-0", zip_file(two, eocd={"entries": 0, "entries_here": 0})
    yield "end-count-1-of-2", zip_file(two, eocd={"entries": 1, "entries_here": 1})
    yield "end-count-3-of-2", zip_file(two, eocd={"entries": 3, "entries_here": 3})
    yield "end-count-65534", zip_file(two, eocd={"entries": 65534, "entries_here": 65534})
    yield "end-counts-disagree", zip_file(two, eocd={"entries": 2, "entries_here": 1})
    yield "end-disk-1", zip_file(two, eocd={"disk": 1})
    yield "end-directory-on-disk-1", zip_file(two, eocd={"directory_disk": 1})
    yield "end-size-0", zip_file(two, eocd={"size": 0})
    yield "end-size-too-small", zip_file(two, eocd={"size": 51})
    yield "end-size-beyond-file", zip_file(two, eocd={"size": 100_000})
    yield "end-offset-0", zip_file(two, eocd={"offset": 0})
    yield "end-offset-beyond-file", zip_file(two, eocd={"offset": 100_000})
    yield "end-offset-one-off", zip_file(two, eocd={"offset": zip_file(two).index(b"PK\x01\x02") + 1})
    yield "zip64-locator-missing", zip_file([member()], eocd={"entries": 0xFFFF, "entries_here": 0xFFFF,
                                                              "size": 0xFFFFFFFF, "offset": 0xFFFFFFFF})
    yield "zip64-end-missing", zip64_end(record=False)
    yield "zip64-locator-beyond-file", zip64_end(locator_at=1 << 62)
    yield "zip64-locator-2-pow-64-minus-1", zip64_end(locator_at=U64)
    yield "zip64-count-2-pow-64-minus-1", zip64_end(entries=U64)
    yield "zip64-count-2", zip64_end(entries=2)
    yield "zip64-size-2-pow-64-minus-1", zip64_end(size=U64)
    yield "zip64-offset-2-pow-64-minus-1", zip64_end(offset=U64)

    yield "entry-twice", zip_file([member(), member()])
    yield "entry-twice-other-values", zip_file([member(), member(data=array(data=DATA[::-1]))])
    yield "entry-twice-with-and-without-suffix", zip_file([member(), member(b"a")])
    yield "entry-twice-with-suffix-in-capitals", zip_file([member(), member(b"a.NPY")])
    yield "entries-overlap", overlapping()
    yield "entries-share-local-header", same_local_header()
    yield "entry-offset-beyond-file", zip_file([member(central={"offset": 100_000})])
    yield "entry-offset-not-a-header", zip_file([member(central={"offset": 5})])
    yield "entry-offset-in-directory", zip_file([member(central={"offset": good.index(b"PK\x01\x02")})])
    yield "entry-size-beyond-file", zip_file([member(local={"packed": 10_000, "size": 10_000},
                                                     central={"packed": 10_000, "size": 10_000})])
    yield "entry-size-into-directory", zip_file([member(local={"packed": 160, "size": 160},
                                                        central={"packed": 160, "size": 160})])
    yield "entry-name-beyond-directory", patch(good, good.index(b"PK\x01\x02") + 28, b"\xff\xff")
    yield "entry-extra-beyond-directory", patch(good, good.index(b"PK\x01\x02") + 30, b"\xff\xff")
    yield "entry-comment-beyond-directory", patch(good, good.index(b"PK\x01\x02") + 32, b"\xff\xff")
    yield "entry-signature-wrong", patch(good, good.index(b"PK\x01\x02"), b"PK\x01\x03")
    yield "entry-encrypted", zip_file([member(flags=1)])
    yield "entry-strongly-encrypted", zip_file([member(flags=65)])
    yield "entry-patched-data", zip_file([member(flags=32)])
    for method, name in ((1, "shrink"), (9, "deflate64"), (12, "bzip2"), (14, "lzma"), (93, "zstd"), (99, "aes"),
                         (65535, "65535")):
        yield f"entry-method-{name}", zip_file([member(local={"method": method}, central={"method": method})])
    yield "entry-stored-but-sizes-differ", zip_file([member(local={"size": 100}, central={"size": 100})])

    yield "local-name-differs", zip_file([member(local={"name": b"b.npy"})])
    yield "local-name-longer", zip_file([member(local={"name": b"a.npy.npy"})])
    yield "local-size-differs", zip_file([member(local={"size": 100})])
    yield "local-packed-size-differs", zip_file([member(local={"packed": 100})])
    yield "local-method-differs", zip_file([member(local={"method": 8})])
    yield "local-crc-differs", zip_file([member(local={"crc": 1})])
    yield "local-flag-encrypted", zip_file([member(local={"flags": 1})])
    yield "local-name-beyond-file", patch(good, 26, b"\xff\xff")
    yield "local-extra-beyond-file", patch(good, 28, b"\xff\xff")
    yield "local-signature-wrong", patch(good, 0, b"PK\x03\x05")

    yield "crc-wrong-stored", zip_file([member(local={"crc": 1}, central={"crc": 1})])
    yield "crc-wrong-deflated", zip_file([member(deflate=True, local={"crc": 1}, central={"crc": 1})])
    yield "crc-zero", zip_file([member(local={"crc": 0}, central={"crc": 0})])
    yield "data-flipped-bit", zip_file([member(body=array()[:-1] + bytes([array()[-1] ^ 1]))])
    yield "deflate-flipped-bit", zip_file([member(deflate=True, body=flip(deflate(array()), 60))])

    packed = deflate(array())
    yield "deflate-cut", zip_file([member(deflate=True, body=packed[:-4])])
    yield "deflate-empty", zip_file([member(deflate=True, body=b"")])
    yield "deflate-garbage", zip_file([member(deflate=True, body=bytes(range(7, 107)))])
    yield "deflate-reserved-block-type", zip_file([member(deflate=True, body=b"\x07" + packed)])
    yield "deflate-distance-too-far", zip_file([member(deflate=True, body=bytes.fromhex("630010060000"))])
    yield "deflate-no-final-block", zip_file([member(deflate=True, body=bytes([packed[0] & 0xFE]) + packed[1:])])
    yield "deflate-stored-block-lengths", zip_file([member(deflate=True, body=b"\x01\x05\x00\x05\x00hello")])
    yield "deflate-trailing-bytes", zip_file([member(deflate=True, body=packed + b"trailing")])
    yield "deflate-too-short", zip_file([member(deflate=True, body=deflate(array()[:-4]))])
    yield "deflate-too-long", zip_file([member(deflate=True, body=deflate(array() + b"more"))])
    yield "deflate-zlib-header", zip_file([member(deflate=True, body=b"\x78\xda" + packed + b"\0\0\0\0")])

    honest = {"deflate": True, "body": deflate(zeros)}
    yield "bomb-claims-144-bytes", zip_file([member(**honest)])
    yield "bomb-array-smaller-than-entry", zip_file([Member(b"a.npy", array() + bytes(3_000_000), deflate=True)])
    huge = 1 << 40
    many = npy("|u1", (huge,), b"", align=64)
    sizes = {"size": 0xFFFFFFFF, "extra": zip64_extra(huge + len(many))}
    yield "bomb-claims-1-tib", zip_file([Member(b"a.npy", many, deflate=True, local=sizes | {
        "packed": 0xFFFFFFFF, "extra": zip64_extra(huge + len(many), len(deflate(many)))}, central=sizes)])
    yield "bomb-empty-blocks", zip_file([member(deflate=True, body=b"\x00\x00\x00\xff\xff" * 600 + packed)])

    yield "zip64-extra-too-short", zip_file([member(central={"size": 0xFFFFFFFF, "extra": b"\x01\x00\x04\x00abcd"})])
    yield "zip64-extra-missing", zip_file([member(central={"size": 0xFFFFFFFF})])
    yield "zip64-extra-twice", zip_file([member(central={
        "size": 0xFFFFFFFF, "extra": zip64_extra(len(array())) + zip64_extra(7)})])
    yield "zip64-size-overflow", zip_file([member(central={
        "size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": zip64_extra(U64, U64)})])
    yield "zip64-offset-overflow", zip_file([member(central={"offset": 0xFFFFFFFF, "extra": zip64_extra(U64 - 10)})])
    yield "extra-longer-than-its-field", zip_file([member(extra=b"\x99\x99\xff\x00abcd")])

    for name, raw in (("parent-folder", b"../a.npy"), ("parent-folder-inside", b"a/../../b.npy"),
                      ("absolute", b"/a.npy"), ("drive", b"C:\\a.npy"), ("backslash-parent", b"..\\a.npy"),
                      ("nul", b"a\0b.npy"), ("empty", b""), ("suffix-only", b".npy")):
        yield f"name-{name}", zip_file([member(raw)])
    yield "name-invalid-utf-8", zip_file([member(b"\xff\xfe.npy", flags=0x800)])
    yield "name-overlong-utf-8", zip_file([member(b"\xc0\xaf.npy", flags=0x800)])

    yield "member-npy-magic-wrong", zip_file([member(data=b"hello, world")])
    yield "member-npy-empty", zip_file([member(data=b"")])
    yield "member-npy-data-too-short", zip_file([member(data=array()[:-4])])
    yield "member-npy-data-too-long", zip_file([member(data=array() + b"more")])
    yield "member-npy-shape-overflow", zip_file([member(data=array(shape=(1 << 32, 1 << 32)))])
    yield "member-npy-object", zip_file([member(data=array("|O", (1,), PICKLE))])
    yield "member-npy-object-deflated", zip_file([member(data=array("|O", (1,), PICKLE), deflate=True)])
    yield "member-npy-runs-code", zip_file([member(data=header(f"__import__('os').system('{COMMAND}')"))])
    yield "member-second-is-bad", zip_file([member(), member(b"b.npy", data=array(shape=(5,)))])
    yield "member-is-zip", zip_file([member(data=good)])
    yield "member-is-pickle", zip_file([Member(b"data.pkl", PICKLE)])


def flip(data, at):
    """The data with one bit flipped."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]


def patch(data, at, new):
    """The data with `new` written over it."""
    return data[:at] + new + data[at + len(new):]


# Odd, and yet right: they are read like any other file.
ODD = {
    "bomb-empty-blocks", "entry-twice-with-suffix-in-capitals", "member-is-pickle", "name-absolute",
    "name-backslash-parent", "name-drive", "name-empty", "name-parent-folder", "name-parent-folder-inside",
    "name-suffix-only",
}


def make(out):
    """Writes every file."""
    for kind, files in (("npy", npy_files()), ("npz", npz_files())):
        for name, data in files:
            folder = "models/odd-" if name in ODD else f"bad/{kind}/"
            out.write(f"{folder}{name}.{kind}", data, "hand", name.replace("-", " "))
