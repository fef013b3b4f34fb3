"""numpy with ml_dtypes: arrays and archives both ways, byte by byte the same as numpy's own where that can be."""

import io
import itertools
import zipfile

import numpy as np

import bits
import models
import theirs
from common import (EXIT_CANNOT_REPRESENT, EXIT_UNSUPPORTED, OURS_TO_THEIRS, ROUND_TRIP, TESTDATA, THEIRS_TO_OURS, check)
from suite_safetensors import save as save_safetensors

PROGRAM = "numpy"
NATIVE = [bits.FROM_NUMPY[np.dtype(code)] for code in models.NUMPY_CODES]
IN_BOTH = [name for name in NATIVE if name != "c128"]  # safetensors has no C128
FOREIGN = ["bf16", *bits.FLOAT8]
VOID = {2: "|V2", 1: "|V1"}
# What np.load will not take: np.save names float8_e5m2 '<f1', which numpy then refuses.
UNLOADABLE = "f8_e5m2"


def run(judge):
    """All cases."""
    arrays(judge)
    archives(judge)
    into_archives(judge)
    member_bytes(judge)
    single_arrays(judge)
    single_arrays_read(judge)
    void_from_numpy(judge)
    resaved(judge)
    fixtures(judge)
    if judge.full:
        beyond_4_gib(judge)


def types_of(tensors):
    """Each tensor's type."""
    return {name: tensor.dtype for name, tensor in tensors.items()}


def same_through_safetensors(case, source, tensors):
    """The values that we read from `source`, by way of a safetensors file and a parser that is nobody's."""
    case.same(tensors, bits.raw_safetensors(case.convert(source, "out.safetensors"))[0], "as safetensors")


def arrays(judge):
    """np.save in every type, byte order and memory order."""
    for order, memory in itertools.product("<>", "CF"):
        with judge.case(f"np.save {'little' if order == '<' else 'big'} endian, {memory} order", PROGRAM,
                        THEIRS_TO_OURS) as case:
            for code in models.NUMPY_CODES:
                array = models.numpy_array(code, order, memory)
                expected = bits.of_numpy(array)
                source = case.path(f"{expected.dtype}.npy")
                np.save(source, array)
                listed = judge.inspect(source)
                check([(t.dtype, t.shape, t.bytes) for t in listed] == [(expected.dtype, expected.shape, array.nbytes)],
                      f"{source.name} listed as {listed}")
                if expected.dtype in IN_BOTH:
                    (found,) = bits.raw_safetensors(case.convert(source, f"{expected.dtype}.safetensors"))[0].values()
                else:
                    found = theirs.read_npy(case.convert(source, f"out-{source.name}"))
                case.same({code: expected}, {code: found})
                case.opened()


def archives(judge):
    """np.savez and np.savez_compressed in every type, byte order and memory order, and views of larger arrays."""
    for writer, order, memory in itertools.product((np.savez, np.savez_compressed), "<>", "CF"):
        sources = {f"{code}.x": models.numpy_array(code, order, memory) for code in models.NUMPY_CODES}
        name = f"np.{writer.__name__} {'little' if order == '<' else 'big'} endian, {memory} order"
        with judge.case(name, PROGRAM, THEIRS_TO_OURS) as case:
            read_archive(case, writer, sources)
    base = bits.to_numpy(models.random("f32", (6, 8)))
    views = {"base": base, "transposed": base.T, "sliced": base[1:5:2, ::3], "reversed": base[::-1],
             "expanded": np.broadcast_to(base[0], (3, 8)), "fortran": np.asfortranarray(base), "scalar": base[0, 0]}
    for writer in (np.savez, np.savez_compressed):
        for name, sources in (("views", views), ("shapes", to_arrays(models.shapes())), ("names", to_arrays(models.names()))):
            with judge.case(f"np.{writer.__name__} {name}", PROGRAM, THEIRS_TO_OURS) as case:
                read_archive(case, writer, sources)
    with judge.case("np.savez without arrays", PROGRAM, THEIRS_TO_OURS) as case:
        read_archive(case, np.savez, {})


def to_arrays(tensors):
    """numpy arrays by name."""
    return {name: bits.to_numpy(tensor) for name, tensor in tensors.items()}


def read_archive(case, writer, sources):
    """What numpy wrote is listed rightly and comes through, to safetensors where it can, and to numpy again."""
    source = case.path("in.npz")
    writer(source, **sources)
    tensors = {name: bits.of_numpy(array) for name, array in sources.items()}
    case.listed(source, tensors)
    case.same(tensors, theirs.read_npz(case.convert(source, "out.npz"), types_of(tensors)), "as npz")
    case.opened()
    if any(tensor.dtype == "c128" for tensor in tensors.values()):
        case.refused(source, "refused.safetensors", EXIT_CANNOT_REPRESENT)
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.dtype != "c128"}
        source = case.path("in-both.npz")
        writer(source, **{name: sources[name] for name in tensors})
    same_through_safetensors(case, source, tensors)


def into_archives(judge):
    """safetensors files become archives that numpy loads; types it does not know become void and come back through us."""
    bags = {"native dtypes": models.every_dtype(IN_BOTH), "bf16 and float8": models.every_dtype(FOREIGN),
            "shapes": models.shapes(), "shapes bf16": models.shapes("bf16"), "names": models.names(),
            "checkpoint": models.checkpoint(), "no tensors": {}}
    for name, tensors in bags.items():
        with judge.case(f"safetensors to npz, {name}", PROGRAM, OURS_TO_THEIRS) as case:
            target = case.convert(save_safetensors(case.path("in.safetensors"), tensors, None), "out.npz")
            case.same(tensors, theirs.read_npz(target, types_of(tensors)))
            case.opened()
        with judge.case(f"safetensors to npz to safetensors, {name}", PROGRAM, ROUND_TRIP) as case:
            archive = case.convert(save_safetensors(case.path("in.safetensors"), tensors, None), "out.npz")
            case.listed(archive, tensors)
            same_through_safetensors(case, archive, tensors)


def saved(array):
    """The bytes that np.save writes."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def as_numpy_saves(tensor):
    """The bytes np.save may write for a tensor: the ml_dtypes array and the void array are both numpy's own."""
    array = bits.to_numpy(tensor)
    if tensor.dtype not in FOREIGN:
        return [saved(array)]
    forms = [saved(array.view(VOID[array.dtype.itemsize]))]
    if tensor.dtype != UNLOADABLE:
        forms.append(saved(array))
    return forms


def member_bytes(judge):
    """Each entry of our archive holds the very bytes that np.save writes."""
    tensors = models.every_dtype([*IN_BOTH, *FOREIGN]) | models.shapes()
    with judge.case("entries of npz are what np.save writes", PROGRAM, OURS_TO_THEIRS) as case:
        target = case.convert(save_safetensors(case.path("in.safetensors"), tensors, None), "out.npz")
        with zipfile.ZipFile(target) as archive:
            for name, tensor in tensors.items():
                same_file(case, name, tensor, archive.read(name + ".npy"))


def same_file(case, name, tensor, found):
    """An npy file is byte by byte one that numpy writes."""
    forms = as_numpy_saves(tensor)
    if found not in forms:
        check(False, f"{name} [{tensor.dtype}]: ours begins {found[:128]!r}, numpy's {forms[-1][:128]!r}")
    case.opened()
    case.values += tensor.count


def single_arrays(judge):
    """A file with one tensor becomes the very npy file that np.save writes, and np.load takes it, mapped too."""
    with judge.case("npy is what np.save writes", PROGRAM, OURS_TO_THEIRS) as case:
        bags = models.every_dtype([*IN_BOTH, *FOREIGN]) | models.shapes()
        for number, (name, tensor) in enumerate(bags.items()):
            source = save_safetensors(case.path(f"{number}.safetensors"), {"w": tensor}, None)
            target = case.convert(source, f"{number}.npy")
            same_file(case, name, tensor, target.read_bytes())
            case.same({name: tensor}, {name: theirs.read_npy(target, tensor.dtype)})
    with judge.case("several tensors into one npy", PROGRAM, OURS_TO_THEIRS) as case:
        source = save_safetensors(case.path("in.safetensors"), models.every_dtype(["f32", "f16"]), None)
        case.refused(source, "out.npy", EXIT_CANNOT_REPRESENT)
    with judge.case("npy of Fortran order and big endian, rewritten", PROGRAM, OURS_TO_THEIRS) as case:
        for code in models.NUMPY_CODES:
            array = models.numpy_array(code, ">", "F")
            expected = bits.of_numpy(array)
            np.save(case.path(f"{expected.dtype}.npy"), array)
            target = case.convert(case.path(f"{expected.dtype}.npy"), f"out-{expected.dtype}.npy")
            case.same({code: expected}, {code: theirs.read_npy(target)})
            case.opened()


def single_arrays_read(judge):
    """npy in every header version that numpy writes."""
    with judge.case("header versions", PROGRAM, THEIRS_TO_OURS) as case:
        expected = models.random("f32", (3, 4))
        for version in ((1, 0), (2, 0), (3, 0)):
            source = case.path(f"{version[0]}.npy")
            with source.open("wb") as file:
                np.lib.format.write_array(file, bits.to_numpy(expected), version=version)
            (found,) = bits.raw_safetensors(case.convert(source, f"{version[0]}.safetensors"))[0].values()
            case.same({"w": expected}, {"w": found})
            case.opened()


def void_from_numpy(judge):
    """ml_dtypes arrays as np.savez writes them, which does not say which type of one byte they have."""
    for writer in (np.savez, np.savez_compressed):
        with judge.case(f"np.{writer.__name__} bf16", "ml_dtypes", THEIRS_TO_OURS) as case:
            tensors = {"w": models.random("bf16", (3, 5)), "v": models.random("bf16", ())}
            source = case.path("in.npz")
            writer(source, **to_arrays(tensors))
            case.listed(source, tensors)
            same_through_safetensors(case, source, tensors)
    with judge.case("np.savez float8_e5m2", "ml_dtypes", THEIRS_TO_OURS) as case:
        tensors = {"w": models.random(UNLOADABLE, (3, 5))}
        source = case.path("in.npz")
        np.savez(source, **to_arrays(tensors))
        case.listed(source, tensors)
        same_through_safetensors(case, source, tensors)
    for dtype in FOREIGN:
        if dtype not in ("bf16", UNLOADABLE):
            with judge.case(f"np.savez {dtype}, unmarked", "ml_dtypes", THEIRS_TO_OURS) as case:
                tensor = models.random(dtype, (3, 5))
                unmarked(judge, case, tensor, bits.to_numpy(tensor))
    with judge.case("np.savez bf16 loaded and saved again, unmarked", PROGRAM, THEIRS_TO_OURS) as case:
        tensor = models.random("bf16", (3, 5))
        unmarked(judge, case, tensor, bits.to_numpy(tensor).view("V2"))


def unmarked(judge, case, tensor, array):
    """'<V1' may be any type of one byte: we carry the bytes as they are, or refuse to guess; we never change them."""
    source = case.path("in.npz")
    np.savez(source, w=array)
    with np.load(case.convert(source, "out.npz")) as archive:
        check(archive["w"].tobytes() == tensor.data and archive["w"].shape == tensor.shape, "npz to npz changed the bytes")
    case.opened()
    case.values += tensor.count
    target = case.path("out.safetensors")
    result = judge.run("convert", source, target)
    if result.returncode:
        check(result.returncode in (EXIT_UNSUPPORTED, EXIT_CANNOT_REPRESENT), f"exit {result.returncode}")
        check(not target.exists(), "refused, and written all the same")
        case.note(f"safetensors refused with exit {result.returncode}")
    else:
        (found,) = bits.raw_safetensors(target)[0].values()
        check((found.dtype, found.data) in ((tensor.dtype, tensor.data), ("u8", tensor.data)), f"guessed {found.dtype}")
        case.note(f"carried to safetensors as {found.dtype}")


def resaved(judge):
    """Our archive, loaded and saved again by numpy, is still read; a void array then has no byte order ('|V2')."""
    tensors = models.every_dtype(IN_BOTH) | models.shapes()
    with judge.case("our npz, saved again by numpy", PROGRAM, ROUND_TRIP) as case:
        ours = case.convert(save_safetensors(case.path("in.safetensors"), tensors, None), "ours.npz")
        with np.load(ours) as archive:
            np.savez_compressed(case.path("again.npz"), **dict(archive))
        case.opened()
        same_through_safetensors(case, case.path("again.npz"), tensors)


def fixtures(judge):
    """Every good fixture of these formats, rewritten by us, is to numpy what the original is."""
    folder = TESTDATA / "models"
    for path in sorted([*folder.glob("*.npz"), *folder.glob("*.npy")]):
        if path.stem in ("e5m2", "float8-e5m2"):
            continue  # numpy cannot load these originals; void_from_numpy has the case
        with judge.case(f"fixture {path.name}", PROGRAM, ROUND_TRIP) as case:
            expected = contents(path)
            target = case.convert(path, f"out{path.suffix}")
            if path.suffix == ".npz":
                theirs.check_zip(target)
            found = contents(target)
            check(found.keys() == expected.keys(), f"names became {sorted(found)[:5]}, expected {sorted(expected)[:5]}")
            for name, (shape, data) in expected.items():
                check(found[name] == (shape, data), f"{name!r} changed")
                case.values += len(data)
            case.opened(2)


def contents(path):
    """Names, shapes and row-major little-endian bytes as numpy loads them; entries that are no arrays left out."""
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return {"": plain(loaded)}
    with loaded:
        return {name: plain(loaded[name]) for name in loaded.files if isinstance(loaded[name], np.ndarray)}


def plain(array):
    """Shape and bytes of an array, void or not."""
    return array.shape, (array.tobytes() if array.dtype.kind == "V" else bits.of_numpy(array).data)


def beyond_4_gib(judge):
    """An archive with one entry over 4 GiB, zeros with marks where they may go wrong."""
    import struct

    rows, row = 4_300, 1 << 20
    marks = {0: 1, (1 << 31) - 1: 2, (1 << 32) - 200: 3, 1 << 32: 4, rows * row - 1: 5}
    header = b'{"big":{"dtype":"U8","shape":[%d,%d],"data_offsets":[0,%d]},"small":{"dtype":"U8","shape":[2],' \
             b'"data_offsets":[%d,%d]}}' % (rows, row, rows * row, rows * row, rows * row + 2)
    with judge.case("npz over 4 GiB", PROGRAM, OURS_TO_THEIRS) as case:
        source = case.path("in.safetensors")
        with source.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            start = file.tell()
            file.truncate(start + rows * row + 2)
            for at, mark in marks.items():
                file.seek(start + at)
                file.write(bytes([mark]))
            file.seek(start + rows * row)
            file.write(b"\x07\x08")
        target = case.convert(source, "out.npz")
        theirs.check_zip(target)
        with np.load(target) as archive:
            check(archive["small"].tobytes() == b"\x07\x08", "the entry behind the big one changed")
            big = archive["big"].reshape(-1)
            check(np.count_nonzero(big) == len(marks), "zeros changed")
            check({at: int(big[at]) for at in marks} == marks, "marks changed")
        case.opened()
        case.values += rows * row
        again = case.convert(target, "again.safetensors")
        result = judge.run("diff", source, again)
        check(result.returncode == 0, f"diff: exit {result.returncode}")
