"""numpy with ml_dtypes: arrays and archives both ways, byte by byte the same as numpy's own where that can be."""

import io
import itertools
import zipfile

import ml_dtypes
import numpy as np

import bits
import models
import theirs
from common import (EXIT_CANNOT_REPRESENT, EXIT_UNSUPPORTED, OURS_TO_THEIRS, ROUND_TRIP, TESTDATA, THEIRS_TO_OURS, check,
                    told)
from suite_safetensors import save as save_safetensors

PROGRAM = "numpy"
NATIVE = [bits.FROM_NUMPY[np.dtype(code)] for code in models.NUMPY_CODES]
IN_BOTH = [name for name in NATIVE if name != "c128"]  # safetensors has no C128
FOREIGN = ["bf16", *bits.FLOAT8]
VOID = {2: "|V2", 1: "|V1"}
# What np.load will not take: np.save names float8_e5m2 '<f1', which numpy then refuses. It can only be written as numpy
# writes its fellows, '<V1'.
UNLOADABLE = "f8_e5m2"
# What the user says about void arrays that do not say it themselves.
VOID_OPTION = {1: "--void1", 2: "--void2"}
VOID_MEANT = {1: "f8_e4m3", 2: "bf16"}


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
    like = array.view(ml_dtypes.float8_e4m3fn) if tensor.dtype == UNLOADABLE else array
    return [saved(array.view(VOID[array.dtype.itemsize])), saved(like)]


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
    """A file with one tensor becomes the very npy file that np.save writes, and np.load takes it, mapped too.

    npy has no room for a note, so the writer may decline types that numpy does not know; what it declares must be right.
    """
    with judge.case("npy is what np.save writes", PROGRAM, OURS_TO_THEIRS) as case:
        declared = judge.writes("npy")
        check(declared >= set(NATIVE), f"npy is not written for {sorted(set(NATIVE) - declared)}")
        for number, (name, tensor) in enumerate((models.every_dtype([*IN_BOTH, *FOREIGN]) | models.shapes()).items()):
            source = save_safetensors(case.path(f"{number}.safetensors"), {"w": tensor}, None)
            if tensor.dtype not in declared:
                case.refused(source, f"{number}.npy", EXIT_CANNOT_REPRESENT)
                continue
            target = case.convert(source, f"{number}.npy")
            same_file(case, name, tensor, target.read_bytes())
            case.same({name: tensor}, {name: theirs.read_npy(target, tensor.dtype)})
    if not declared & set(FOREIGN):
        judge.not_judged("bf16 and float8 as npy: read, not written")
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
    """'<V1' may be any type of one byte: we refuse to guess, or carry the bytes as they are; told the type, we know it."""
    source = case.path("in.npz")
    np.savez(source, w=array)
    for target in (case.path("out.npz"), case.path("out.safetensors")):
        result = judge.run("convert", source, target)
        if result.returncode:
            check(result.returncode in (EXIT_UNSUPPORTED, EXIT_CANNOT_REPRESENT), f"exit {result.returncode}: {told(result)}")
            check(not target.exists(), "refused, and written all the same")
            case.note(f"{target.suffix[1:]} refused with exit {result.returncode}")
        else:
            (found,) = (np.load(target) if target.suffix == ".npz" else bits.raw_safetensors(target)[0]).values()
            data = found.data if isinstance(found, bits.Tensor) else found.tobytes()
            check(data == tensor.data, f"{target.suffix[1:]}: the bytes changed")
            case.note(f"{target.suffix[1:]} written unasked")
    expected = {"w": tensor}
    told_type = (VOID_OPTION[array.dtype.itemsize], tensor.dtype)
    target = case.convert(source, "told.safetensors", *told_type)
    case.same(expected, theirs.read_safetensors(target))
    case.same(expected, theirs.read_npz(case.convert(source, "told.npz", *told_type), {"w": tensor.dtype}))
    case.opened(2)


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
    written = judge.writes("npy")
    for path in sorted([*folder.glob("*.npz"), *folder.glob("*.npy")]):
        if path.stem in ("e5m2", "float8-e5m2"):
            judge.not_judged(f"{path.name}: numpy cannot load what np.save wrote for float8_e5m2; the case "
                             "np.savez float8_e5m2 compares it with the array in memory")
            continue
        with judge.case(f"fixture {path.name}", PROGRAM, ROUND_TRIP) as case:
            expected = contents(path)
            kinds = {kind for _, _, kind in expected.values()}
            # Void bytes are bytes to numpy, whatever we are told that they hold.
            options = [word for width, option in VOID_OPTION.items() if f"|V{width}" in kinds
                       for word in (option, VOID_MEANT[width])]
            if path.suffix == ".npy" and any(f"|V{width}" in kinds and VOID_MEANT[width] not in written for width in VOID_MEANT):
                case.refused(path, "out.npy", EXIT_CANNOT_REPRESENT, *options)
                target = case.convert(path, "out.npz", *options)
                expected = {path.stem: next(iter(expected.values()))}
            else:
                target = case.convert(path, f"out{path.suffix}", *options)
            if target.suffix == ".npz":
                theirs.check_zip(target)
            found = contents(target)
            check(found.keys() == expected.keys(), f"names became {sorted(found)[:5]}, expected {sorted(expected)[:5]}")
            for name, value in expected.items():
                check(found[name] == value, f"{name!r} changed")
                case.values += len(value[1])
            case.opened(2)


def contents(path):
    """Shapes, bytes and kinds by name as numpy loads them; entries that are no arrays left out."""
    loaded = np.load(path)
    if isinstance(loaded, np.ndarray):
        return {"": plain(loaded, path)}
    with loaded:
        return {name: plain(loaded[name], path) for name in loaded.files if isinstance(loaded[name], np.ndarray)}


def plain(array, path):
    """Shape, row-major little-endian bytes, and numpy's name of the type, whatever its order was."""
    if array.dtype.kind == "V":
        # numpy drops the byte order of void types, so it must come from the file: "'>V2'" is big-endian bf16.
        swapped = array.view(">u2").astype("<u2") if b"'>V2'" in path.read_bytes()[:128] else array
        return array.shape, swapped.tobytes(), array.dtype.str
    return array.shape, bits.of_numpy(array).data, array.dtype.newbyteorder("<").str


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
