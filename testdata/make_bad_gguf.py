"""Damaged and hostile GGUF files. Each name says what is wrong, and nothing else is."""

import struct

from rawfiles import foreign
from rawgguf import BLOCKS, I32, LIST, TEXT, U8, U16, U32, U64, Builder, Raw, Tensor

LITTLE, BIG = Builder(), Builder(big=True)
ARCH = (b"general.architecture", TEXT, b"llama")
DATA = struct.pack("<6f", *range(6))
I8 = 24
ALIGNMENT = b"general.alignment"


def tensor(name=b"w", dims=(3, 2), kind=0, data=DATA, **how):
    """A good tensor, or not quite."""
    return Tensor(name, dims, kind, data, **how)


def of(*tensors, entries=(ARCH,), **how):
    """A file of these tensors."""
    return LITTLE.file(list(entries), list(tensors), **how)


def entry(*value, key=b"k"):
    """A file with this entry and a good tensor."""
    return of(tensor(), entries=[ARCH, (key, *value)])


def raw(code, *numbers, key=b"k"):
    """A file with an entry of these bytes."""
    return entry(Raw(struct.pack("<" + code, *numbers)), key=key)


def counts(n_tensors, n_entries=0):
    """A header that claims these numbers."""
    return struct.pack("<4sIQQ", b"GGUF", 3, n_tensors, n_entries)


def files():
    """(name, bytes) of every bad file."""
    good = of(tensor())
    yield "file-empty", b""
    yield from foreign(good)
    yield "file-magic-only", good[:4]
    yield "file-cut-in-version", good[:6]
    yield "file-cut-in-counts", good[:20]
    yield "file-cut-in-key", good[:40]
    yield "file-cut-in-tensors", good[:90]
    yield "file-header-only", good[: -32]
    yield "file-cut-in-data", good[: -10]
    yield "magic-lower-case", b"gguf" + good[4:]
    yield "magic-reversed", b"FUGG" + good[4:]
    for version in (0, 1, 4, 0xFFFFFFFF):
        yield f"version-{version}", of(tensor(), version=version)
    yield "version-1-big-endian", BIG.file([ARCH], [tensor()], version=1)
    yield "version-3-big-endian-rest-little", good[:4] + good[4:8][::-1] + good[8:]

    yield "tensors-2-pow-60", counts(1 << 60)
    yield "tensors-2-pow-63", counts(1 << 63)
    yield "tensors-2-pow-64-minus-1", counts((1 << 64) - 1)
    yield "tensors-one-more", of(tensor(), n_tensors=2)
    yield "entries-2-pow-60", counts(0, 1 << 60)
    yield "entries-2-pow-64-minus-1", counts(0, (1 << 64) - 1)
    yield "entries-one-more", of(tensor(), n_entries=2)

    yield "key-empty", entry(U8, 1, key=b"")
    yield "key-twice", of(tensor(), entries=[ARCH, (b"k", U8, 1), (b"k", U8, 1)])
    yield "key-not-utf-8", entry(U8, 1, key=b"k\xff")
    yield "key-past-file", counts(0, 1) + struct.pack("<Q", 1 << 40) + b"key" + b"\0" * 16
    yield "key-2-pow-64-minus-1", counts(0, 1) + struct.pack("<Q", (1 << 64) - 1) + b"key" + b"\0" * 16
    yield "key-100-kib", entry(U8, 1, key=b"k" * 100 * 1024)
    yield "value-type-13", raw("II", 13, 0)
    yield "value-type-2-pow-32-minus-1", raw("II", 0xFFFFFFFF, 0)
    yield "text-past-file", raw("IQ", TEXT, 1 << 20)
    yield "text-2-pow-63", raw("IQ", TEXT, 1 << 63)
    yield "text-2-pow-64-minus-1", raw("IQ", TEXT, (1 << 64) - 1)
    yield "list-past-file", raw("IIQ", LIST, U8, 1 << 20)
    yield "list-2-pow-61-of-u64", raw("IIQ", LIST, U64, 1 << 61)
    yield "list-2-pow-64-minus-1", raw("IIQ", LIST, U8, (1 << 64) - 1)
    yield "list-of-texts-2-pow-60", raw("IIQ", LIST, TEXT, 1 << 60)
    yield "list-of-texts-past-file", raw("IIQQ", LIST, TEXT, 1, 1 << 40)
    yield "list-of-lists", raw("IIQIQ", LIST, LIST, 1, U8, 0)
    yield "list-of-type-13", raw("IIQ", LIST, 13, 0)

    for alignment in (0, 3, 48, 0xFFFFFFFF):
        yield f"alignment-{alignment}", entry(U32, alignment, key=ALIGNMENT)
    yield "alignment-i32", entry(I32, 32, key=ALIGNMENT)
    yield "alignment-u64", entry(U64, 32, key=ALIGNMENT)
    yield "alignment-text", entry(TEXT, b"32", key=ALIGNMENT)
    yield "alignment-list", entry(LIST, (U32, [32]), key=ALIGNMENT)
    yield "alignment-2-pow-31-data-past-file", entry(U32, 1 << 31, key=ALIGNMENT)

    yield "name-64-bytes", of(tensor(b"n" * 64))
    yield "name-past-file", counts(1) + struct.pack("<Q", 1 << 40) + b"\0" * 24
    yield "name-twice", of(tensor(), tensor())
    yield "name-not-utf-8", of(tensor(b"\xff"))
    yield "dims-5", of(tensor(dims=(3, 2, 1, 1, 1)))
    yield "dims-2-pow-32-minus-1", of(tensor(n_dims=0xFFFFFFFF))
    yield "dim-2-pow-63", of(tensor(dims=(1 << 63,)))
    yield "dim-2-pow-64-minus-1", of(tensor(dims=((1 << 64) - 1, 2)))
    yield "dims-product-2-pow-64", of(tensor(dims=(1 << 32, 1 << 32)))
    yield "dims-product-overflows-to-6", of(tensor(dims=((1 << 63) + 3, 2)))
    yield "dims-product-overflows-times-0", of(tensor(dims=(1 << 40, 1 << 40, 0), data=b""))
    yield "dims-bytes-overflow", of(tensor(dims=(1 << 62,)))
    yield "dims-padding-overflows", of(tensor(dims=((1 << 62) - 1,)), tensor(b"v", dims=((1 << 62) - 1,)))
    yield "dims-4-tib", of(tensor(dims=(1 << 40,)))
    yield "dims-too-large", of(tensor(dims=(4, 7)))
    for kind in (4, 5, 31, 33, 36, 38, 43, 0xFFFFFFFF):
        yield f"type-{kind}", of(tensor(kind=kind))
    yield "row-of-half-a-block", of(tensor(dims=(16, 2), kind=BLOCKS["q4_0"][0], data=b"\0" * 18))
    yield "row-of-one-in-a-block", of(tensor(dims=(), kind=BLOCKS["q8_0"][0], data=b"\0" * 34))
    yield "big-endian-iq2-xxs", BIG.file([ARCH], [Tensor(b"w", (256,), BLOCKS["iq2_xxs"][0], b"\0" * 66)])

    yield "offset-first-not-0", of(tensor(at=32))
    yield "offset-gap", of(tensor(), tensor(b"v", at=64))
    yield "offset-overlap", of(tensor(), tensor(b"v", at=0))
    yield "offset-not-aligned", of(tensor(), tensor(b"v", at=24))
    yield "offset-2-pow-63", of(tensor(), tensor(b"v", at=1 << 63))
    yield "offset-2-pow-64-minus-1", of(tensor(), tensor(b"v", at=(1 << 64) - 1))
    yield "offsets-swapped", of(tensor(at=32), tensor(b"v", at=0))


def part(no, count, tensors, total, *, more=(), names=("split.no", "split.count", "split.tensors.count")):
    """One part of a set; `names` are those of its entries that it has."""
    entries = [(b"split.no", U16, no), (b"split.count", U16, count), (b"split.tensors.count", I32, total)]
    chosen = [e for e in entries if e[0].decode() in names]
    return LITTLE.file([*([ARCH] if no == 0 else []), *chosen, *more], tensors)


def sets():
    """(folder, {file: bytes}) of sets that are not whole, or not sets."""
    a, b, c = (tensor(name) for name in (b"a", b"b", b"c"))
    one, two, three = (f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3))
    whole = {one: part(0, 3, [a], 3), two: part(1, 3, [b], 3), three: part(2, 3, [c], 3)}
    yield "part-missing", {one: whole[one], three: whole[three]}
    yield "part-first-missing", {two: whole[two], three: whole[three]}
    yield "part-of-another-set", {**whole, three: part(2, 3, [c], 4)}
    yield "part-of-more", {**whole, three: part(2, 4, [c], 3)}
    yield "part-under-the-name-of-another", {one: whole[one], two: whole[three], three: whole[two]}
    yield "part-is-no-gguf", {**whole, two: b"{}"}
    yield "part-is-cut", {**whole, two: whole[two][:-20]}
    yield "part-has-a-tensor-of-another", {**whole, three: part(2, 3, [b], 3)}
    yield "part-has-a-tensor-more", {**whole, three: part(2, 3, [c, tensor(b"d")], 3)}
    yield "part-without-number", {one: part(0, 3, [a], 3, names=("split.count", "split.tensors.count"))}
    yield "part-without-sum", {one: part(0, 3, [a], 3, names=("split.no", "split.count"))}
    yield "part-not-named-so", {"m.gguf": whole[one]}
    yield "part-named-of-other-count", {"m-00001-of-00002.gguf": whole[one]}
    yield "part-count-u32", {one: part(0, 3, [a], 3, names=("split.no",), more=[(b"split.count", U32, 3)])}
    yield "part-sum-negative", {name: part(i, 2, [(a, b)[i]], -2) for i, name in enumerate(
        ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"))}


def make(out):
    """Writes every file."""
    for name, data in files():
        out.write(f"bad/gguf/{name}.gguf", data, "hand", name.replace("-", " "))
    for folder, members in sets():
        for name, data in members.items():
            out.write(f"bad/gguf/{folder}/{name}", data, "hand", folder.replace("-", " "))
