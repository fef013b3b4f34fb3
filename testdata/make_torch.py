"""Good torch files: every container, dtype, view and name, each an obvious state dict."""

import io
import logging
import pickle
import pickletools
import struct
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
import torch.utils.serialization
from huggingface_hub import save_torch_state_dict

import rawtorch as raw
from make_safetensors import SEED, float8, names, rng, specials, tiny_llama
from rawfiles import Member, zip_file
from scripted import Scripted

SAVE = "torch.save"
HAND = "hand"
SPECIALS = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
UNSIGNED = ("uint16", "uint32", "uint64")


def save(obj, stem=None, **how):
    """What torch.save writes into a buffer; with `stem`, into a file of that name, which names the archive's root."""
    if stem is None:
        buffer = io.BytesIO()
        torch.save(obj, buffer, **how)
        return buffer.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / stem
        torch.save(obj, path, **how)
        return path.read_bytes()


class Anything:
    """Stands for whatever class a pickle names."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


class Storages(pickle.Unpickler):
    """Reads a pickle for its storages alone: (key, type) in order of first use."""

    def __init__(self, file):
        super().__init__(file)
        self.found = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        return type(name, (Anything,), {})

    def persistent_load(self, pid):
        self.found[pid[2]] = pid[1].__name__
        return Anything()


def renamed(data, start, keys):
    """One pickle of protocol 2 from `start`, its strings renamed, and where it ends."""
    out, last = [], None
    for opcode, argument, at in [*pickletools.genops(io.BytesIO(data[start:])), (None, None, None)]:
        if last:
            name, value, begin = last
            piece = data[start + begin:None if at is None else start + at]
            out.append(raw.text(keys[value]) if name == "BINUNICODE" and value in keys else
                       b"." if at is None else piece)
        last = opcode and (opcode.name, argument, at)
        end = start + at + 1 if at is not None else end
    return b"".join(out), end


def legacy(obj):
    """What torch.save writes in the legacy form, but for the keys of storages, which are addresses there."""
    data = save(obj, _use_new_zipfile_serialization=False)
    file = io.BytesIO(data)
    for _ in range(3):
        pickle.load(file)
    begin = file.tell()
    storages = Storages(file)
    storages.load()
    order = pickle.load(file)
    end = file.tell()
    blocks = {}
    for key in order:
        (numel,) = struct.unpack("<Q", file.read(8))
        blocks[key] = struct.pack("<Q", numel) + file.read(numel * raw.SIZES[storages.found[key]])
    assert not file.read()
    keys = {key: str(94_000_000_000_000 + 64 * (37 * i % 101)) for i, key in enumerate(storages.found)}
    tree, middle = renamed(data, begin, keys)
    # torch sorts the keys as text; which tensors come first is chance.
    order = sorted(order, key=keys.get)
    listed = pickle.dumps([keys[key] for key in order], protocol=2)
    assert middle < end
    return data[:begin] + tree + listed + b"".join(blocks[key] for key in order)


def of_kind(kind):
    """Random values and extremes of a type."""
    dtype = getattr(torch, kind)
    if dtype == torch.bool:
        return torch.tensor([[True, False, True], [False, False, True]])
    generator = rng(f"torch {kind}")
    if dtype.is_complex:
        return torch.from_numpy(generator.standard_normal(24).view("c16").reshape(3, 4)).to(dtype)
    if dtype.is_floating_point:
        return torch.from_numpy(generator.standard_normal((3, 4))).to(dtype)
    info = np.iinfo(kind)
    values = generator.integers(info.min, info.max, size=12, dtype=kind, endpoint=True)
    values[:2] = info.min, info.max
    return torch.from_numpy(values.reshape(3, 4))


def small():
    """A few tensors of several types."""
    return {"embed.weight": of_kind("bfloat16"), "norm.weight": of_kind("float32"), "mask": of_kind("bool"),
            "step": torch.tensor(7)}


def matrix(salt="matrix", rows=4, columns=6):
    """Random f32."""
    return torch.from_numpy(rng(salt).standard_normal((rows, columns)).astype(np.float32))


def torch_specials():
    """NaN payloads and other extremes in the float types, one complex among them, as torch tensors."""
    out = {}
    for name, array in specials().items():
        codes = torch.from_numpy(array.view(f"i{array.dtype.itemsize}"))
        out[name] = codes.view(SPECIALS[name])
    out["c64"] = out["f32"][:18].clone().view(torch.complex64)
    return out


def views():
    """(file, state dict, what) of everything that is not a plain tensor of its own storage."""
    base = matrix("base")
    yield "scalar", {"a": torch.tensor(2.5), "b": torch.tensor(True), "c": torch.tensor(-3, dtype=torch.int8)}, "0-d"
    yield "empty-tensors", {"a": torch.empty(0), "b": torch.empty(0, 3, dtype=torch.float16),
                            "c": torch.empty(3, 0, 2, dtype=torch.int8), "d": torch.ones(2)}, "shapes with zeros"
    yield "expanded", {"row": base[0].expand(5, 6), "one": torch.tensor(0.5).expand(3, 4),
                       "middle": base[:, None, :].expand(4, 3, 6)}, "stride 0"
    yield "transposed", {"t": base.t(), "channels_last": torch.arange(48.0).reshape(2, 2, 3, 4).contiguous(
        memory_format=torch.channels_last), "permuted": torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)}, \
        "transposed, channels last, permuted"
    yield "sliced", {"rows": base[1:3], "columns": base[:, 1:4], "steps": base[::2, ::3], "diagonal": base.diagonal(),
                     "one": base[2, 3]}, "slices of one storage: offsets and steps, overlapping"
    flat = torch.arange(4096, dtype=torch.float32)
    yield "small-view-of-large-storage", {"w": flat[100:106].reshape(2, 3)}, "24 bytes of 16 KiB"
    yield "views-disjoint", {"a": flat[:6].reshape(2, 3), "b": flat[6:16], "c": flat[16:24].reshape(4, 2)}, \
        "disjoint views of one flat buffer, as optimizers make them"
    yield "views-overlapping", {"whole": base, "part": base.flatten()[3:11], "unfolded": base[0].unfold(0, 3, 1)}, \
        "views that share bytes and are not ties"
    embedding = matrix("tied", 8, 4)
    yield "tied", OrderedDict({"model.embed_tokens.weight": embedding, "model.norm.weight": torch.ones(4),
                               "lm_head.weight": embedding}), "two names, one storage"
    yield "tied-parameters", OrderedDict({"a": torch.nn.Parameter(embedding), "b": embedding, "c": embedding.detach()}), \
        "a parameter, its tensor and a detached one of one storage"
    yield "equal-untied", OrderedDict({"model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()}), \
        "two equal tensors of two storages"
    plain, marked = torch.nn.Parameter(base), torch.nn.Parameter(base.clone(), requires_grad=False)
    marked.tensor_model_parallel, marked.partition_dim = True, 0
    yield "parameters", {"plain": plain, "marked": marked, "buffer": base[0].clone()}, \
        "parameters, one with attributes of its own"
    yield "specials", torch_specials(), "NaN payloads, negative zero, subnormals, infinities"
    pairs = of_kind("complex64")
    # torch saves no storage under two types, so the real tensors have their own.
    yield "conjugate", {"conj": pairs.conj(), "plain": pairs, "transposed": pairs.t().conj(),
                        "neg": pairs.clone().conj().imag}, "the conjugate and negative bits"
    yield "reinterpreted", {"codes": base.view(torch.int32)}, "f32 bytes saved as i32"
    yield "rank-8", {"w": torch.arange(24, dtype=torch.int16).reshape(2, 1, 3, 1, 2, 1, 2, 1)}, "eight dimensions"
    yield "names", {name: torch.tensor([i], dtype=torch.int32) for i, name in enumerate(names())}, \
        "names beyond ASCII, with quotes, blanks, controls"
    yield "name-500-bytes", {"n" * 250 + "é" * 125: torch.arange(3)}, "a name of 500 bytes"
    yield "name-empty", {"": torch.arange(3)}, "the empty name"
    yield "many", {f"layers.{i}.bias": torch.tensor([i]) for i in range(100)}, "100 tensors: memo numbers beyond 255"
    yield "no-tensors", {}, "an empty dict"


def dtypes(put):
    """Every type that torch can save and another format has."""
    kinds = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()
    put("dtypes.pt", save({kind: of_kind(kind) for kind in kinds}), SAVE, "every type with a storage class of its own, but complex")
    put("dtypes-legacy.pt", legacy({kind: of_kind(kind) for kind in kinds}), SAVE + ", storage keys renamed", "the same, legacy stream")
    put("dtypes-float8.pt", save(float8()), SAVE, "all codes of the float8 types, _rebuild_tensor_v3")
    put("dtypes-unsigned.pt", save({kind: of_kind(kind) for kind in UNSIGNED}), SAVE, "u16, u32, u64, _rebuild_tensor_v3")
    put("dtype-complex64.pt", save({"w": of_kind("complex64")}), SAVE, "c64")
    put("dtypes-complex.pt", save({kind: of_kind(kind) for kind in ("complex32", "complex64", "complex128")}), SAVE,
        "c32, c64, c128")
    f4 = torch.arange(256, dtype=torch.uint8).reshape(16, 16).view(torch.float4_e2m1fn_x2)
    put("dtype-float4.pt", save({"f4": f4}), SAVE, "float4_e2m1fn_x2, two elements a byte, all bytes")


class Tiny(torch.nn.Module):
    """A convolution, a norm with buffers, tied linear layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(SEED)
        self.conv = torch.nn.Conv1d(2, 3, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.head = torch.nn.Linear(3, 2)
        self.register_buffer("table", torch.arange(6).reshape(2, 3))

    def forward(self, x):
        """Something of each."""
        return self.head(self.norm(self.conv(x)).mean(-1)) + self.table.sum()


def without_paths(data):
    """A TorchScript archive whose debug records name no folder of the machine that made them."""
    entries = []
    for name, content in contents(data):
        if name.endswith(".debug_pkl"):
            texts = {arg for code, arg, _ in pickletools.genops(content) if code.name == "BINUNICODE" and arg.startswith("/")}
            content, _ = renamed(content, 0, {path: path.rsplit("/", 1)[1] for path in texts})
        if name.endswith("/serialization_id"):  # a hash of those paths too
            content = b"0" * 40
        entries.append(Member(name.encode(), content, deflate="/code/" in name))
    return zip_file(entries)


def modules(put):
    """What torch.nn, TorchScript and torch.export make."""
    model = Tiny().eval()
    put("state-dict.pt", save(model.state_dict(), "state-dict.pt"), SAVE, "a module's state dict with its _metadata")
    put("state-dict-legacy.pt", legacy(model.state_dict()), SAVE + ", storage keys renamed", "the same, legacy stream")
    buffer = io.BytesIO()
    scripted = Scripted(matrix("scripted", 3, 3), Scripted(matrix("scripted inside", 3, 3))).half()
    torch.jit.save(torch.jit.script(scripted), buffer)
    put("torchscript.pt", without_paths(buffer.getvalue()), "torch.jit.save, written again by hand",
        "TorchScript, the paths of its sources shortened")
    program = torch.export.export(model, (torch.ones(1, 2, 5),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    put("exported.pt2", buffer.getvalue(), "torch.export.save", "an exported program")


def rezipped(data, **how):
    """An archive written again by Python's zipfile."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", **how) as archive:
        for name in source.namelist():
            archive.writestr(zipfile.ZipInfo(name), source.read(name), how.get("compression"))
    return buffer.getvalue()


def big_endian(tensors):
    """The archive that a big-endian machine would have written: torch's, with every storage swapped."""
    buffer = io.BytesIO(save(tensors))
    order = list(tensors.values())
    with zipfile.ZipFile(buffer) as source:
        entries = []
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("/byteorder"):
                data = b"big"
            elif "/data/" in name:
                dtype = order[int(name.rsplit("/", 1)[1])].dtype
                width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
                data = np.frombuffer(data, f"V{width}").view(f"u{width}").byteswap().tobytes()
            entries.append(Member(name.encode(), data))
    return zip_file(entries)


def containers(put):
    """The same small state dict in every container."""
    plain = save(small())
    put("tiny-llama.bin", save(tiny_llama(), "pytorch_model.bin"), SAVE, "the state dict of tiny-llama.safetensors")
    put("legacy.pt", legacy(small()), SAVE + ", storage keys renamed", "a legacy stream")
    base = matrix("legacy views")
    put("legacy-views.pt", legacy(OrderedDict({"a": base, "b": base.t(), "c": base[1:, 2:], "tied": base})),
        SAVE + ", storage keys renamed", "a legacy stream with views and a tie")
    for protocol in (1, 3, 4, 5):
        put(f"protocol-{protocol}.pt", save(small(), pickle_protocol=protocol), SAVE, f"pickle protocol {protocol}")
    arrays = {"w": matrix("pickle").numpy(), "b": np.arange(3, dtype=">i2"), "t": matrix("pickle").numpy().T}
    for protocol in (2, 3, 4, 5):
        put(f"pickle-{protocol}.pkl", pickle.dumps(arrays, protocol=protocol), "pickle.dump",
            f"no torch: numpy arrays in a plain pickle, protocol {protocol}")
    put("root-of-file.pt", save(small(), "größe 1.pt"), SAVE, "a path beyond ASCII, for which torch calls the root archive")
    entries = [(name.split("/", 1)[1], data) for name, data in contents(plain)]
    put("root-odd.pt", zip_file([Member(f"größe 重み/{name}".encode(), data, flags=0x800) for name, data in entries]), HAND,
        "an archive root beyond ASCII")
    put("zipfile.pt", rezipped(plain), "zipfile", "written again by Python's zipfile: no alignment")
    put("deflated.pt", rezipped(plain, compression=zipfile.ZIP_DEFLATED), "zipfile", "deflated, which torch reads and maps as noise")
    torch.serialization.set_crc32_options(False)
    put("crc-0.pt", save(small()), SAVE, "CRCs that are all 0, as set_crc32_options(False) has them")
    torch.serialization.set_crc32_options(True)
    put("minimal.pt", raw.archive(raw.state(raw.tensor()), {"0": struct.pack("<4f", 1, 2, 3, 4)}, byteorder=None), HAND,
        "data.pkl, version and one record")
    put("entries-out-of-order.pt", zip_file([Member(f"archive/{name}".encode(), data) for name, data in entries[::-1]]), HAND,
        "data.pkl last, the records backwards")
    put("cuda.pt", raw.archive(raw.state(raw.tensor(raw.storage(location="cuda:3"))), {"0": struct.pack("<4f", 1, 2, 3, 4)}),
        HAND, "a storage of a GPU")
    with torch.utils.serialization.config.patch("save.storage_alignment", 4096):
        put("aligned-4096.pt", save(small()), SAVE, "records at multiples of 4096")
    wide = {kind: of_kind(kind) for kind in "bool int16 int32 int64 float16 bfloat16 float32 float64 complex64".split()}
    put("big-endian.pt", big_endian(wide), HAND, "as a big-endian machine writes: every storage swapped")
    data = {"1": struct.pack(">4f", 1, 2, 3, 4), "2": struct.pack(">2q", -5, 6)}
    tree = raw.state(("w", raw.tensor(raw.storage("1", more=[raw.NONE]))),
                     ("n", raw.tensor(raw.storage("2", "LongStorage", 2, more=[raw.NONE]), size=(2,))))
    put("big-endian-legacy.pt", raw.legacy(tree, {"1": (4, data["1"]), "2": (2, data["2"])}, little=False), HAND,
        "a legacy stream whose sys_info says big endian")


def contents(data):
    """(name, bytes) of an archive's entries."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        return [(name, source.read(name)) for name in source.namelist()]


def ancient(put):
    """Files of programs that are no longer at hand."""
    four, two = struct.pack("<4f", 1, 2, 3, 4), struct.pack("<2q", -5, 6)
    # Python 2: strings are SHORT_BINSTRING, the callable is _rebuild_tensor, locations and keys are strings too.
    old = {"words": raw.string, "more": [raw.NONE]}

    def rebuilt(place, *numbers):
        return raw.call("torch._utils", "_rebuild_tensor", place, *numbers)

    tree = raw.pickled(raw.mapping(
        (raw.string("fc.weight"), rebuilt(raw.storage("50331648", **old), raw.number(0), raw.ints((2, 2)), raw.ints((2, 1)))),
        (raw.string("steps"), rebuilt(raw.storage("50331712", "LongStorage", 2, **old), raw.number(0), raw.ints((2,)),
                                      raw.ints((1,)))), start=raw.HOOKS))
    put("python-2.pt", raw.legacy(tree, {"50331648": (4, four), "50331712": (2, two)}, words=raw.string), HAND,
        "a legacy stream as torch 0.3 on Python 2 wrote it: byte strings, _rebuild_tensor")
    view = [raw.row(raw.string("50331776"), raw.number(1), raw.number(2))]
    tree = raw.pickled(raw.mapping(
        (raw.string("whole"), rebuilt(raw.storage("50331648", **old), raw.number(0), raw.ints((4,)), raw.ints((1,)))),
        (raw.string("part"), rebuilt(raw.storage("50331648", words=raw.string, more=view), raw.number(0), raw.ints((2,)),
                                     raw.ints((1,))))))
    put("legacy-storage-view.pt", raw.legacy(tree, {"50331648": (4, four)}), HAND,
        "a legacy stream with a storage that is a view of another")
    refs = raw.mapping((raw.string("fc.weight"), raw.number(7) + raw.BINPERSID), (raw.string("steps"), raw.number(9) + raw.BINPERSID),
                       (raw.string("part"), raw.number(11) + raw.BINPERSID), start=raw.HOOKS)
    views_ = raw.EMPTY_LIST + raw.row(raw.number(5), raw.number(1), raw.number(1), raw.number(3)) + raw.APPEND
    entries = raw.tar(raw.pickled(refs), [(1, "FloatStorage", 4, four), (2, "LongStorage", 2, two)],
                      [(7, 1, "FloatTensor", (2, 2), (2, 1), 0), (9, 2, "LongTensor", (2,), (1,), 0),
                       (11, 5, "FloatTensor", (2,), (1,), 1)], views_)
    put("tar.pt", raw.tar_file(entries), HAND, "a tar of torch 0.1, a view of a storage among its tensors")


def sharded(out):
    """Three shards with an index, planned and written by huggingface_hub."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns of pickles
    folder = out.path("models/sharded-torch")
    folder.mkdir(parents=True)
    state = {name: tensor for name, tensor in tiny_llama().items() if "layers." not in name or "layers.0" in name}
    save_torch_state_dict(state, folder, max_shard_size="16KB", safe_serialization=False)
    made = sorted(path.name for path in folder.iterdir())
    assert sum(name.endswith(".bin") for name in made) == 3, made
    for name in made:
        out.claim(f"models/sharded-torch/{name}", "the first layer of tiny-llama in shards, by huggingface_hub.save_torch_state_dict")


def make(out):
    """Writes every file."""

    def put(name, data, by, what):
        out.write(f"models/{name}", data, by, what)

    for name, tensors, what in views():
        put(f"{name}.pt", save(tensors), SAVE, what)
    dtypes(put)
    modules(put)
    containers(put)
    ancient(put)
    sharded(out)
