"""safetensors and huggingface_hub: files they write are read, files we write are taken, every dtype, names and metadata."""

import json
import stat

import numpy as np
from safetensors.numpy import load_file, save_file

import bits
import models
import theirs
from common import OURS_TO_THEIRS, ROUND_TRIP, TESTDATA, THEIRS_TO_OURS, check

PROGRAM = "safetensors"
SAVED_BY_NUMPY = [name for name, row in bits.TYPES.items() if row[0] and row[1]]
LOADED_BY_NUMPY = [name for name in SAVED_BY_NUMPY if not name.startswith("f8_")]  # 0.8.0 stumbles over float8 here
METADATA = {"format": "pt", "license": "MIT", "größe": "klein 🦙", "empty": "", "text": "one\ntwo \"three\""}


def sources():
    """(name, tensors, metadata) of files written by safetensors on the spot."""
    yield "every dtype", models.every_dtype(SAVED_BY_NUMPY), None
    yield "shapes", models.shapes(), None
    yield "names", models.names(), None
    yield "metadata", {"w": models.random("f32", (3,))}, METADATA
    yield "metadata without format", {"w": models.random("f32", (3,))}, {"license": "MIT"}
    yield "checkpoint", models.checkpoint(), {"format": "pt"}
    yield "no tensors", {}, {"about": "nothing"}


def run(judge):
    """All cases."""
    for name, tensors, metadata in sources():
        theirs_to_ours(judge, name, tensors, metadata)
        ours_to_theirs(judge, name, tensors, metadata)
    folders = sorted(config.parent for config in (TESTDATA / "models").glob("*/config.json"))
    for path in sorted((TESTDATA / "models").rglob("*.safetensors")):
        if not any(path.is_relative_to(folder) for folder in folders):
            fixture(judge, path)
    for folder in folders:
        fixture_folder(judge, folder)
    from_numpy(judge)
    sharded_by_us(judge)
    sharded_by_them(judge)


def save(path, tensors, metadata):
    """Writes a file with safetensors."""
    save_file({name: bits.to_numpy(tensor) for name, tensor in tensors.items()}, path, metadata)
    return path


def theirs_to_ours(judge, name, tensors, metadata):
    """A file by safetensors is listed rightly, and its values come through."""
    with judge.case(name, PROGRAM, THEIRS_TO_OURS) as case:
        source = save(case.path("in.safetensors"), tensors, metadata)
        case.listed(source, tensors)
        found, _ = bits.raw_safetensors(case.convert(source, "out.safetensors"))
        case.same(tensors, found)


def ours_to_theirs(judge, name, tensors, metadata):
    """Our copy is taken by safetensors, metadata included, in all the ways that it reads."""
    with judge.case(name, PROGRAM, OURS_TO_THEIRS) as case:
        source = save(case.path("in.safetensors"), tensors, metadata)
        target = case.convert(source, "out.safetensors")
        case.same(tensors, theirs.read_safetensors(target))
        case.opened()
        kept = theirs.metadata(target)
        lost = {key: value for key, value in (metadata or {}).items() if kept.get(key) != value}
        check(not lost, f"metadata lost or changed: {lost}")
        check(kept.get("format") == "pt", f"metadata says format {kept.get('format')!r}")
        mode = stat.S_IMODE(target.stat().st_mode)
        check(mode == 0o644, f"mode {mode:o} under umask 022")
        if all(tensor.dtype in LOADED_BY_NUMPY for tensor in tensors.values()):
            for backend in ("mmap", "pread"):
                loaded = load_file(target, backend=backend)
                case.same(tensors, {key: bits.of_numpy(value) for key, value in loaded.items()}, backend)
                case.opened()


def fixture(judge, path):
    """A fixture, rewritten by us, is to safetensors what the original is: the types no library writes are here."""
    name = str(path.relative_to(TESTDATA / "models"))
    with judge.case(f"fixture {name}", PROGRAM, ROUND_TRIP) as case:
        index = path.with_name("model.safetensors.index.json")
        # Any shard stands for its set.
        expected = theirs.read_sharded(index)[0] if index.exists() else theirs.read_safetensors(path)
        case.listed(path, expected)
        case.same(expected, theirs.read_safetensors(case.convert(path, "out.safetensors")))
        case.opened(2)


def fixture_folder(judge, folder):
    """A folder, written as one file, holds what safetensors finds in the weights that transformers would take."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if not single.exists() and not index.exists():
        return
    with judge.case(f"fixture {folder.name}", PROGRAM, ROUND_TRIP) as case:
        expected = theirs.read_safetensors(single) if single.exists() else theirs.read_sharded(index)[0]
        case.listed(folder, expected)
        case.same(expected, theirs.read_safetensors(case.convert(folder, "out.safetensors")))
        case.opened(2)


def from_numpy(judge):
    """An archive by numpy becomes a file that safetensors loads."""
    names = [name for name in LOADED_BY_NUMPY if name != "bf16"]
    tensors = models.every_dtype(names) | models.shapes() | models.names()
    with judge.case("npz to safetensors", PROGRAM, OURS_TO_THEIRS) as case:
        source = case.path("in.npz")
        np.savez(source, **{name: bits.to_numpy(tensor) for name, tensor in tensors.items()})
        target = case.convert(source, "out.safetensors")
        loaded = load_file(target)
        case.same(tensors, {key: bits.of_numpy(value) for key, value in loaded.items()})
        case.opened()
        check(theirs.metadata(target).get("format") == "pt", "metadata without format: pt")


def sharded_by_us(judge):
    """Our shards are those that huggingface_hub would plan, under its names, and every one is taken."""
    from huggingface_hub import split_torch_state_dict_into_shards

    import torch_files

    tensors = models.checkpoint()
    for size in ("2KB", "4KB", "10KB", "1MB"):
        with judge.case(f"shards of {size}", "huggingface_hub", OURS_TO_THEIRS) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            order = list(bits.raw_safetensors(source)[0])
            state = {name: bits.to_torch(tensors[name]) for name in order}
            plan = split_torch_state_dict_into_shards(state, max_shard_size=size,
                                                      filename_pattern="model{suffix}.safetensors")
            case.convert(source, "out/model.safetensors", "--shard-size", size)
            made = sorted(path.name for path in case.path("out").iterdir())
            if not plan.is_sharded:
                check(made == ["model.safetensors"], f"one shard planned, written: {made}")
                case.same(tensors, theirs.read_safetensors(case.path("out/model.safetensors")))
                case.opened()
                continue
            index = case.path("out/model.safetensors.index.json")
            check(made == sorted([*plan.filename_to_tensors, index.name]), f"written: {made}")
            found, shards = theirs.read_sharded(index)
            case.same(tensors, found)
            case.opened(len(shards))
            document = json.loads(index.read_text(encoding="utf-8"))
            check(document["weight_map"] == plan.tensor_to_filename, "tensors are not where huggingface_hub puts them")
            check(document["metadata"]["total_size"] == plan.metadata["total_size"], f"metadata {document['metadata']}")


def sharded_by_them(judge):
    """Shards by huggingface_hub are read through their index, and through any one of them."""
    from huggingface_hub import save_torch_state_dict

    tensors = models.checkpoint()
    with judge.case("sharded checkpoint", "huggingface_hub", THEIRS_TO_OURS) as case:
        folder = case.path("in")
        folder.mkdir()
        save_torch_state_dict({name: bits.to_torch(tensor) for name, tensor in tensors.items()}, folder,
                              max_shard_size="3KB")
        shards = sorted(folder.glob("*.safetensors"))
        check(len(shards) > 2, "the source is not sharded")
        index = folder / "model.safetensors.index.json"
        case.listed(index, tensors)
        case.same(tensors, bits.raw_safetensors(case.convert(index, "out.safetensors"))[0], "through the index")
        case.same(tensors, bits.raw_safetensors(case.convert(shards[1], "two.safetensors"))[0], "through a shard")
        found = theirs.read_npz(case.convert(index, "out.npz"), {name: tensor.dtype for name, tensor in tensors.items()})
        case.same(tensors, found, "into npz")
        case.opened(3)
