"""gguf-py and llama.cpp's gguf_init_from_file: files they write are read, files we write they load, every value kept."""

import builtins
import json
import logging
import os
import types

os.environ["TQDM_DISABLE"] = "1"  # read when a program of gguf is imported

import gguf
import numpy as np
from gguf.scripts import gguf_convert_endian

import bits
import ggml
import gguf_types
import models
import torch_files
from common import EXIT_CANNOT_REPRESENT, OURS_TO_THEIRS, ROUND_TRIP, TESTDATA, THEIRS_TO_OURS, check

PROGRAM = "gguf"
LLAMA = "xllamacpp"
SCALARS = ["f32", "f16", "bf16", "f64", "i8", "i16", "i32", "i64"]
KINDS = {name: gguf.GGUFValueType(number) for number, (name, _) in ggml.VALUE_TYPES.items()}
# Both are no floats: gguf takes their bytes as they are.
BYTES = {"bf16": gguf.GGMLQuantizationType.BF16}
# gguf 0.19 has no q2_0, and 40 bytes for a block of q8_1 that has 36 in ggml.
OF_GGML = "blocks-of-ggml.gguf"


def blocks():
    """Every block type that gguf knows, random bits: two rows of two blocks."""
    generator = models.generator("gguf blocks")
    made = {}
    for kind, (elements, size) in gguf.GGML_QUANT_SIZES.items():
        if elements > 1 and kind.name != "Q8_1":
            data = generator.integers(0, 256, size=4 * size, dtype=np.uint8).tobytes()
            made[f"{kind.name}.weight"] = bits.Tensor(kind.name.lower(), (2, 2 * elements), data)
    return made


def values():
    """(key, our type, value) of every type, and lists of each."""
    yield "general.name", "text", "größe 🦙"
    for name, value in (("u8", 255), ("i8", -128), ("u16", 65535), ("i16", -32768), ("u32", 1 << 31), ("i32", -(1 << 31)),
                        ("u64", (1 << 64) - 1), ("i64", -1), ("f32", 1e-6), ("f64", 1e300), ("bool", True)):
        yield f"test.{name}", name, value
        yield f"test.list.{name}", f"[{name}]", [value, value]
    yield "test.nan", "f32", float("nan")
    yield "tokenizer.ggml.tokens", "[text]", [f"token {i}" for i in range(5000)]
    yield "tokenizer.ggml.scores", "[f32]", [float(-i) for i in range(5000)]


def save(path, tensors, entries=(), **how):
    """Writes a file, or a split set, by gguf."""
    writer = gguf.GGUFWriter(path, "llama", **how)
    for key, name, value in entries:
        inner = KINDS[name.strip("[]")]
        if name.startswith("["):
            writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY, sub_type=inner)
        else:
            writer.add_key_value(key, value, inner)
    for name, tensor in tensors.items():
        if tensor.dtype in bits.TYPES and tensor.dtype not in BYTES:
            writer.add_tensor(name, bits.to_numpy(tensor))
        else:
            kind = gguf.GGMLQuantizationType[tensor.dtype.upper()]
            data = np.frombuffer(tensor.data, np.uint8).reshape(gguf.quant_shape_to_byte_shape(tensor.shape, kind))
            writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def names():
    """Tensors under every name of a model that ggml has room for."""
    return {name: tensor for name, tensor in models.names().items() if len(name.encode()) < 64 and "\0" not in name
            and tensor.dtype in SCALARS}


def shapes():
    """Shapes of at most four dimensions and of ggml's types."""
    return {name: t for name, t in models.shapes().items() if len(t.shape) <= 4 and t.dtype in SCALARS}


def sources():
    """(name, tensors, entries) of files written by gguf on the spot."""
    scalars = models.every_dtype(SCALARS)
    yield "scalar types", scalars, ()
    yield "block types", blocks(), ()
    yield "values", {"w": models.random("f32", (3,))}, tuple(values())
    yield "shapes", shapes(), ()
    yield "names", names(), ()
    yield "checkpoint", {name: t for name, t in models.checkpoint().items() if t.dtype in SCALARS}, tuple(values())
    yield "no tensors", {}, tuple(values())


def run(judge):
    """All cases."""
    logging.disable()
    judge.not_judged("q2_0 and q8_1 by gguf: 0.19 lacks the one and has another size than ggml for the other; llama.cpp loads both")
    judge.not_judged("big-endian blocks beyond the eight types that gguf_convert_endian turns: compared with a twin made by "
                     "hand from ggml's structs")
    for name, tensors, entries in sources():
        theirs_to_ours(judge, name, tensors, entries)
        ours_to_theirs(judge, name, tensors, entries)
    for path in sorted((TESTDATA / "models").glob("*.gguf")):
        fixture(judge, path)
    split_fixture(judge)
    byte_orders(judge)
    big_endian_fixture(judge)
    split_by_them(judge)
    split_by_us(judge)
    from_others(judge)
    edited(judge)
    refused(judge)
    gguf_types.run(judge)


def listed(case, path, tensors, expected):
    """`inspect` shows exactly these tensors and values."""
    case.listed(path, tensors)
    result = case.judge.run("inspect", path, "--json")
    answer = json.loads(result.stdout)
    kinds = answer["metadata_types"]
    found = {key: (kinds[key], ggml.packed(kinds[key], value)) for key, value in answer["metadata"].items()}
    case.values += ggml.same_values(expected, found, "inspect")


def theirs_to_ours(judge, name, tensors, entries):
    """A file by gguf is listed rightly, and its values come through."""
    with judge.case(name, PROGRAM, THEIRS_TO_OURS) as case:
        source = save(case.path("in.gguf"), tensors, entries)
        listed(case, source, tensors, ggml.by_gguf(source)[1])
        if all(tensor.dtype in bits.TYPES for tensor in tensors.values()):
            found, _ = bits.raw_safetensors(case.convert(source, "out.safetensors"))
            case.same(tensors, found)


def judged(case, target, tensors, expected):
    """Our file is what both programs say it should be: tensors, values with types, in their order."""
    found, entries = ggml.by_gguf(target)
    case.same(tensors, found, "gguf")
    case.values += ggml.same_values(expected, entries, "gguf")
    case.opened()


def loaded(case, target, tensors, expected):
    """The same by llama.cpp, which loads the data too."""
    found, entries = ggml.by_llama(target)
    case.same(ggml.four(tensors), found, "llama.cpp")
    case.values += ggml.same_values(expected, entries, "llama.cpp")
    case.opened()


def ours_to_theirs(judge, name, tensors, entries):
    """Our copy is the same to both programs."""
    for program, look in ((PROGRAM, judged), (LLAMA, loaded)):
        with judge.case(name, program, OURS_TO_THEIRS) as case:
            source = save(case.path("in.gguf"), tensors, entries)
            look(case, case.convert(source, "out.gguf"), tensors, with_version(ggml.by_gguf(source)[1], tensors))


def with_version(entries, tensors):
    """The entries that our copy has: of a file with blocks that does not number their meaning, one more."""
    is_block = any(tensor.dtype not in bits.TYPES for tensor in tensors.values())
    if is_block and "general.quantization_version" not in entries:
        return entries | {"general.quantization_version": ("u32", [b"\2\0\0\0"])}
    return entries


def fixture(judge, path):
    """A fixture, rewritten by us, is to both programs what the original is."""
    big = path.read_bytes()[4:8] == b"\0\0\0\3"
    for program, read, look in ((PROGRAM, ggml.by_gguf, judged), (LLAMA, ggml.by_llama, loaded)):
        # llama.cpp on this machine reads no big-endian file, and no data without its padding.
        if program == PROGRAM and path.name == OF_GGML or program == LLAMA and (big or path.name == "unpadded.gguf"):
            continue
        # gguf reads these, and leaves their bytes as they are.
        if big and path.name.startswith("blocks"):
            continue
        with judge.case(f"fixture {path.name}", program, ROUND_TRIP) as case:
            tensors, entries = read(path)
            case.listed(path, ggml.by_gguf(path)[0] if program == PROGRAM else plain(judge, path))
            look(case, case.convert(path, "out.gguf"), tensors, with_version(entries, tensors))


def plain(judge, path):
    """The tensors of a file with the shapes that we see; llama.cpp gives each four dimensions."""
    shapes = {item.name: item.shape for item in judge.inspect(path)}
    found = ggml.by_llama(path)[0]
    return {name: bits.Tensor(t.dtype, shapes.get(name, t.shape), t.data) for name, t in found.items()}


def split_fixture(judge):
    """The set of testdata through any part is what its parts are to gguf."""
    parts = sorted((TESTDATA / "models/split-gguf").glob("*.gguf"))
    tensors = {name: tensor for part in parts for name, tensor in ggml.by_gguf(part)[0].items()}
    for part in parts:
        with judge.case(f"fixture split-gguf/{part.name}", PROGRAM, ROUND_TRIP) as case:
            expected = without_split(ggml.by_gguf(parts[0])[1])
            listed(case, part, tensors, expected)
            judged(case, case.convert(part, "out.gguf"), tensors, expected)


def without_split(entries):
    """Entries but those that speak of a set."""
    return {key: value for key, value in entries.items() if not key.startswith("split.")}


def byte_orders(judge):
    """A file turned by gguf's own script is the same model; so is one that gguf writes big-endian."""
    known = {kind.name.lower() for kind in gguf_convert_endian.byteswap_tensors}
    tensors = {name: tensor for name, tensor in blocks().items() if tensor.dtype in known}
    tensors |= models.every_dtype(["f32", "f16", "bf16"])
    with judge.case("turned by gguf_convert_endian", PROGRAM, THEIRS_TO_OURS) as case:
        source = save(case.path("in.gguf"), tensors, tuple(values())[:12])
        expected = ggml.by_gguf(source)[1]
        turn(source)
        check(source.read_bytes()[4:8] == b"\0\0\0\3", "the script did nothing")
        listed(case, source, tensors, expected)
        judged(case, case.convert(source, "out.gguf"), tensors, with_version(expected, tensors))
    with judge.case("big-endian by GGUFWriter", PROGRAM, THEIRS_TO_OURS) as case:
        tensors = models.every_dtype([name for name in SCALARS if name not in BYTES])
        source = save(case.path("in.gguf"), tensors, tuple(values()), endianess=gguf.GGUFEndian.BIG)
        expected = ggml.by_gguf(source)[1]
        listed(case, source, tensors, expected)
        found, _ = bits.raw_safetensors(case.convert(source, "out.safetensors"))
        case.same(tensors, found)


def big_endian_fixture(judge):
    """The blocks of testdata in their big-endian form, carried by us, are to llama.cpp those in the other form."""
    place = TESTDATA / "models"
    with judge.case("fixture blocks-big-endian.gguf", LLAMA, ROUND_TRIP) as case:
        tensors, entries = ggml.by_llama(place / "blocks.gguf")
        tensors |= ggml.by_llama(place / OF_GGML)[0]
        target = case.convert(place / "blocks-big-endian.gguf", "out.gguf")
        found = ggml.by_llama(target)[0]
        check(set(tensors) - set(found) == {"iq2_xxs.weight"}, f"{set(tensors) - set(found)} are not there")
        loaded(case, target, {name: tensors[name] for name in found}, entries)


def turn(path):
    """Runs gguf's script on a file, in place; it wants to be sure."""
    ask = builtins.input
    builtins.input = lambda *_: "YES"
    try:
        reader = gguf.GGUFReader(path, "r+")
        gguf_convert_endian.convert_byteorder(reader, types.SimpleNamespace(order="big", dry_run=False))
        reader.data.flush()
    finally:
        builtins.input = ask


def checkpoint():
    """A checkpoint whose tensors are multiples of 32 bytes: so all plan alike, padding or not."""
    generator = models.generator("gguf split")
    return {f"blk.{i}.{name}.weight": bits.Tensor("f32", (rows, 16), generator.standard_normal((rows, 16)).astype("<f4").tobytes())
            for i in range(6) for name, rows in (("attn_q", 16), ("attn_norm", 1), ("ffn_up", 40))}


def split_by_them(judge):
    """Any part of a set by gguf stands for the set."""
    with judge.case("split set", PROGRAM, THEIRS_TO_OURS) as case:
        folder = case.path("in")
        folder.mkdir()
        tensors = checkpoint()
        save(folder / "m.gguf", tensors, tuple(values()), split_max_size=5000)
        parts = sorted(folder.iterdir())
        check(len(parts) > 2, "the source is not split")
        expected = without_split(ggml.by_gguf(parts[0])[1])
        for part in parts:
            listed(case, part, tensors, expected)
        judged(case, case.convert(parts[1], "out.gguf"), tensors, expected)


def split_by_us(judge):
    """Our parts are those that gguf would make, under its names, and both programs load each."""
    tensors = checkpoint()
    for size in (3000, 5000, 20_000):
        with judge.case(f"parts of {size}", PROGRAM, OURS_TO_THEIRS) as case:
            source = save(case.path("in.gguf"), tensors, tuple(values()))
            folder, theirs = case.path("ours"), case.path("theirs")
            theirs.mkdir()
            case.convert(source, "ours/m.gguf", "--shard-size", str(size))
            save(theirs / "m.gguf", tensors, tuple(values()), split_max_size=size)
            made, planned = (sorted(path.name for path in place.iterdir()) for place in (folder, theirs))
            check(made == planned, f"written {made}, gguf plans {planned}")
            for name in made:
                found, expected = ggml.by_gguf(folder / name), ggml.by_gguf(theirs / name)
                case.same(expected[0], found[0], name)
                case.values += ggml.same_values(expected[1], found[1], name)
                case.opened()
                loaded(case, folder / name, *expected)


def from_others(judge):
    """A bag of tensors from another format is loaded by both, its text kept, and the report says what it cannot do."""
    tensors = {name: t for name, t in models.checkpoint().items() if t.dtype in SCALARS} | names()
    for program, look in ((PROGRAM, judged), (LLAMA, loaded)):
        with judge.case("safetensors to gguf", program, OURS_TO_THEIRS) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            order = bits.raw_safetensors(source)[0]
            target = case.path("out.gguf")
            result = case.judge.run("convert", source, target, "--json")
            check(result.returncode == 0, "not converted")
            notes = json.loads(result.stdout)["notes"]
            check(any("llama.cpp will not run it" in note for note in notes), f"notes: {notes}")
            look(case, target, {name: tensors[name] for name in order}, {"format": ("text", [b"pt"])})


def edited(judge):
    """`edit` changes what it is told to, types kept, and nothing else."""
    tensors = checkpoint()
    template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    for program, look in ((PROGRAM, judged), (LLAMA, loaded)):
        with judge.case("edit", program, OURS_TO_THEIRS) as case:
            source = save(case.path("m.gguf"), tensors, tuple(values()))
            expected = ggml.by_gguf(source)[1]
            case.path("template").write_text(template, encoding="utf-8")
            case.path("tokens").write_text(json.dumps(["a", "größe", ""]), encoding="utf-8")
            result = case.judge.run("edit", source, "--set", "test.u16=7", "--set", "general.name=other", "--set", "new:u32=5",
                                    "--set-file", f"tokenizer.chat_template={case.path('template')}",
                                    "--set-file", f"tokenizer.ggml.tokens={case.path('tokens')}", "--remove", "test.nan")
            check(result.returncode == 0, result.stderr.decode())
            expected["test.u16"] = ("u16", [b"\7\0"])
            expected["general.name"] = ("text", [b"other"])
            expected["tokenizer.ggml.tokens"] = ("[text]", ["a".encode(), "größe".encode(), b""])
            del expected["test.nan"]
            expected |= {"new": ("u32", [b"\5\0\0\0"]), "tokenizer.chat_template": ("text", [template.encode()])}
            look(case, source, tensors, expected)


def refused(judge):
    """What ggml does not have is refused with all names."""
    with judge.case("types that ggml lacks", PROGRAM, OURS_TO_THEIRS) as case:
        tensors = models.every_dtype(["f32", "u8", "bool", "c64", "u16"])
        source = torch_files.save(case.path("in.safetensors"), tensors)
        case.refused(source, "out.gguf", EXIT_CANNOT_REPRESENT)
        text = case.judge.run("convert", source, case.path("out.gguf")).stderr.decode()
        missing = [name for name, t in tensors.items() if t.dtype not in SCALARS and name not in text]
        check(not missing, f"{missing} are not named: {text}")
        case.values += 1
