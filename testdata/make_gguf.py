"""Good GGUF files: every type of value and of element, both versions and byte orders, alignments, split sets."""

import numpy as np
from gguf import GGUFEndian, GGUFValueType, GGUFWriter, GGMLQuantizationType

from make_safetensors import rng, specials
from rawgguf import BLOCKS, F32, I32, LIST, TEXT, U16, U32, Builder, Tensor, swap_blocks

KINDS = {kind.name: kind for kind in GGUFValueType}


def values():
    """(key, type of value, type of items, value) of every kind there is."""
    yield "general.name", "STRING", None, "größe 🦙 \"quoted\"\n"
    for key, kind, value in (("u8", "UINT8", 255), ("i8", "INT8", -128), ("u16", "UINT16", 65535), ("i16", "INT16", -32768),
                             ("u32", "UINT32", 1 << 31), ("i32", "INT32", -(1 << 31)), ("f32", "FLOAT32", 1e-6),
                             ("bool", "BOOL", True), ("no", "BOOL", False), ("u64", "UINT64", (1 << 64) - 1),
                             ("i64", "INT64", -1), ("f64", "FLOAT64", 1e300), ("nan", "FLOAT32", float("nan"))):
        yield f"test.{key}", kind, None, value
        if key not in ("no", "nan"):
            yield f"test.list.{key}", "ARRAY", kind, [value, value, not value if kind == "BOOL" else 1]
    yield "tokenizer.ggml.tokens", "ARRAY", "STRING", ["<s>", "", "größe", " ", "\u2581the"]
    yield "tokenizer.ggml.scores", "ARRAY", "FLOAT32", [0.0, -1.5, float("-inf"), 3.25, -0.0]


def put_values(writer, chosen):
    """Adds values by gguf."""
    for key, kind, inner, value in chosen:
        writer.add_key_value(key, value, KINDS[kind], sub_type=KINDS.get(inner))


def matrices():
    """One tensor of each scalar type that numpy and ggml share, one to four dimensions."""
    generator = rng("gguf")
    out = {}
    for rank, kind in enumerate(("float32", "float16", "float64", "int8", "int16", "int32", "int64")):
        shape = (3, 5, 2, 4)[: rank % 4 + 1]
        if kind.startswith("f"):
            out[f"{kind}.weight"] = generator.standard_normal(shape).astype(kind)
        else:
            info = np.iinfo(kind)
            out[f"{kind}.weight"] = generator.integers(info.min, info.max, size=shape, dtype=kind, endpoint=True)
    return out


def by_gguf(out, name, what, fill, **how):
    """One file, or a split set in a folder of its own, by gguf's writer."""
    path = out.path(f"models/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama", **how)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made = [path] if path.exists() else sorted(path.parent.iterdir())
    for file in made:
        out.claim(f"models/{file.relative_to(out.path('models'))}", what, "gguf.GGUFWriter")


def add_tensors(writer, tensors):
    """Adds numpy arrays."""
    for name, value in tensors.items():
        writer.add_tensor(name, value)


def random_blocks(name, rows=2, blocks=2):
    """Blocks of any bits."""
    return rng(f"gguf {name}").integers(0, 256, size=rows * blocks * BLOCKS[name][2], dtype=np.uint8).tobytes()


def blocks(names, big=False):
    """A tensor of 2 rows of 2 blocks for each type."""
    made = []
    for name in names:
        number, elements, _, _ = BLOCKS[name]
        data = random_blocks(name)
        made.append(Tensor(f"{name}.weight".encode(), (2 * elements, 2), number, swap_blocks(data, name) if big else data))
    return made


def make_written(out):
    """What gguf itself writes."""

    def metadata(writer):
        put_values(writer, values())
        writer.add_tensor("token_embd.weight", np.arange(6, dtype=np.float32).reshape(2, 3))

    by_gguf(out, "values.gguf", "every type of value and of list", metadata)
    by_gguf(out, "types.gguf", "every scalar type that numpy has, one to four dimensions",
            lambda writer: add_tensors(writer, matrices()))
    bf16 = specials()["bf16"].view(np.uint8)
    by_gguf(out, "bf16.gguf", "bf16 specials", lambda writer: writer.add_tensor(
        "specials", bf16, raw_dtype=GGMLQuantizationType.BF16))

    def big(writer):
        put_values(writer, values())
        add_tensors(writer, matrices())

    by_gguf(out, "big-endian.gguf", "every type of value and the scalar types, big endian", big, endianess=GGUFEndian.BIG)
    for alignment in (8, 64):

        def aligned(writer, alignment=alignment):
            writer.add_custom_alignment(alignment)
            add_tensors(writer, matrices())

        by_gguf(out, f"alignment-{alignment}.gguf", f"tensors at multiples of {alignment}", aligned)

    def split(writer):
        put_values(writer, list(values())[:6])
        writer.add_tokenizer_model("gpt2")
        add_tensors(writer, matrices())

    by_gguf(out, "split-gguf/tiny.gguf", "a set of three parts", split, split_max_tensors=3)
    by_gguf(out, "no-tensors.gguf", "a vocabulary and nothing else",
            lambda writer: writer.add_token_list([f"token {i}" for i in range(300)]))


def make_by_hand(out):
    """What gguf does not write."""
    little, big = Builder(), Builder(big=True)

    def put(name, data, what):
        out.write(f"models/{name}.gguf", data, "hand", what)

    floats = np.arange(6, dtype="<f4").tobytes()
    arch = (b"general.architecture", TEXT, b"llama")
    quantized = (b"general.quantization_version", U32, 2)
    weight = Tensor(b"w", (3, 2), 0, floats)
    put("version-2", little.file([arch, (b"a", U32, 7)], [weight], version=2), "version 2, as of August 2023")
    known = [name for name in BLOCKS if name not in ("q2_0", "q8_1")]
    put("blocks", little.file([arch, quantized], blocks(known)), "the block types of gguf 0.19, random bits")
    put("blocks-of-ggml", little.file([arch, quantized], blocks(["q2_0", "q8_1"])),
        "a block type that gguf 0.19 does not know, and one that it gives another size than ggml")
    ordered = [name for name in BLOCKS if BLOCKS[name][3] is not None]
    put("blocks-big-endian", big.file([arch, quantized], blocks(ordered, big=True)),
        "every block type that has a big-endian form: the numbers in its structs reversed")
    put("blocks-unnumbered", little.file([arch], blocks(["q8_0"])), "blocks without general.quantization_version")
    empty = [Tensor(b"none", (0,), 0, b""), Tensor(b"no rows", (4, 0), 1, b""), Tensor(b"no columns", (0, 3), 8, b""),
             weight, Tensor(b"behind", (2, 0, 2), 26, b"")]
    put("empty-tensors-ggml", little.file([arch], empty), "tensors without elements, before, between and behind")
    put("scalar-ggml", little.file([arch], [Tensor(b"s", (), 0, b"\0\0\x80\x3f"), Tensor(b"one", (1, 1, 1, 1), 24, b"\x05")]),
        "no dimension, and four of extent 1")
    names = ("n" * 63, "größe.重み", "", "a b\n", "W", "w")
    put("names-ggml", little.file([arch], [Tensor(name.encode(), (1,), 24, bytes([i])) for i, name in enumerate(names)]),
        "a name of 63 bytes, an empty one, and odd ones")
    put("unpadded", little.file([arch], [weight], pad_last=False), "no padding behind the last tensor")
    put("unpadded-header", little.file([arch], pad_header=False), "no tensors, no padding")
    put("odd-bytes-behind", little.file([arch], [weight]) + b"more", "bytes behind the padding, which ggml does not look at")
    put("odd-text-not-utf-8", little.file([arch, (b"raw", TEXT, b"\xff\xfe"), (b"raws", LIST, (TEXT, [b"a", b"\x80"]))],
                                          [weight]), "texts that are not UTF-8, which ggml takes")
    put("odd-merged", little.file([arch, (b"split.no", U16, 0), (b"split.count", U16, 0), (b"split.tensors.count", I32, 1),
                                   (b"list", LIST, (F32, []))], [weight]), "what llama-gguf-split --merge leaves, an empty list")


def make(out):
    """Writes every file."""
    make_written(out)
    make_by_hand(out)
