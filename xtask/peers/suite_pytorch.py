"""torch's own files: every fixture is to us what torch.load gives, and every file that we write torch takes in every way."""

import json
import pickle

import numpy as np
import torch

import bits
import models
import pickles
import torch_files
from common import (EXIT_AMBIGUOUS, EXIT_CANNOT_REPRESENT, EXIT_UNSUPPORTED, OURS_TO_THEIRS, ROUND_TRIP, TESTDATA,
                    THEIRS_TO_OURS, check, told)

PROGRAM = "torch"
SUFFIXES = (".bin", ".ckpt", ".pkl", ".pt", ".pt2")
# Where the state dict lies in a fixture that is more than one.
WITHIN = {"training.pt": ["model"], "training-legacy.pt": ["model"], "lightning.ckpt": ["state_dict"],
          "megatron.pt": ["model"], "omegaconf.ckpt": ["state_dict"], "objects.pt": ["state_dict"], "numpy.pt": ["state_dict"],
          "nested-five-deep.pt": ["a", "b", 0, "c", 0, "state_dict"]}
PREFIXES = {"lightning.ckpt": "model.", "prefix-module.pt": "module.", "prefix-orig-mod.pt": "module._orig_mod."}
OPTIMIZER = "_optimizer"
IN_TORCH = [name for name, row in bits.TYPES.items() if row[2]]
IN_SAFETENSORS = {name for name, row in bits.TYPES.items() if row[0]}


def run(judge):
    """All cases."""
    torch.set_num_threads(1)
    for path in sorted((TESTDATA / "models").iterdir()):
        if path.suffix in SUFFIXES:
            fixture(judge, path)
    fixture_of_shards(judge)
    every_dtype(judge)
    from_other_formats(judge)
    ties(judge)
    view_bytes(judge)
    metadata(judge)
    sharded(judge)
    casting(judge)
    several(judge)
    optimizer(judge)
    more_than_arrays(judge)
    nothing_runs(judge)
    if judge.full:
        beyond_4_gib(judge)


def contents(path):
    """The tensors that a fixture holds for torch, under the names that we give them."""
    if path.suffix == ".pt2":
        return pickles.tensors(torch.export.load(path).state_dict)
    if path.suffix == ".pkl":
        return pickles.tensors(pickle.loads(path.read_bytes()))
    value = torch.jit.load(path).state_dict() if path.name == "torchscript.pt" else pickles.load(path)
    for step in WITHIN.get(path.name, []):
        value = value[step]
    prefix = PREFIXES.get(path.name, "")
    check(all(name.startswith(prefix) for name in value), f"{path.name} has names without {prefix}")
    found = pickles.tensors({name.removeprefix(prefix): tensor for name, tensor in value.items()})
    return {name: tensor for name, tensor in found.items() if not name.startswith(OPTIMIZER)}


def fixture(judge, path):
    """A fixture is listed as torch sees it, its values come through, and our own torch file holds the same."""
    with judge.case(f"fixture {path.name}", PROGRAM, ROUND_TRIP) as case:
        expected = contents(path)
        into_safetensors(case, path, expected)
        case.same(expected, pickles.tensors(pickles.safe(case.convert(path, "out.bin"))), "as .bin")
        case.opened()
        pickles.check_file(case, case.path("out.bin"), expected)


def into_safetensors(case, source, expected):
    """The values by way of a safetensors file and a parser that is nobody's; refused if it lacks a type."""
    if {tensor.dtype for tensor in expected.values()} <= IN_SAFETENSORS:
        case.same(expected, bits.raw_safetensors(case.convert(source, "out.safetensors"))[0], "as safetensors")
        case.opened()
    else:
        case.refused(source, "refused.safetensors", EXIT_CANNOT_REPRESENT)


def fixture_of_shards(judge):
    """Shards by huggingface_hub, through their index and through any one of them."""
    folder = TESTDATA / "models/sharded-torch"
    shards = sorted(folder.glob("*.bin"))
    expected = {name: tensor for shard in shards for name, tensor in pickles.tensors(pickles.safe(shard)).items()}
    for path in [folder / "pytorch_model.bin.index.json", *shards]:
        with judge.case(f"fixture sharded-torch/{path.name}", "huggingface_hub", THEIRS_TO_OURS) as case:
            check(len(shards) > 1, "one shard only")
            case.listed(path, expected)
            into_safetensors(case, path, expected)


def every_dtype(judge):
    """What torch.save writes on the spot, in both forms and every type, is listed rightly and comes through."""
    state = {}
    for name in IN_TORCH:
        # Bytes of the same number of elements, whatever the type's name.
        dtype = getattr(torch, bits.TYPES[name][2])
        raw = models.random("u8", (3, 4 * dtype.itemsize), name).data
        state[name] = torch.frombuffer(bytearray(b & 1 for b in raw) if name == "bool" else bytearray(raw),
                                       dtype=torch.uint8).view(dtype).reshape(3, 4)
    expected = pickles.tensors(state)
    bags = {"every dtype": state, "shapes": torches(models.shapes()), "names": torches(models.names()),
            "checkpoint": torches(models.checkpoint())}
    for name, bag in bags.items():
        for form in ({}, {"_use_new_zipfile_serialization": False}):
            with judge.case(f"torch.save {name}{', legacy' if form else ''}", PROGRAM, THEIRS_TO_OURS) as case:
                source = pickles.save(case.path("in.pt"), bag, **form)
                expected = pickles.tensors(bag)
                case.listed(source, expected)
                pickles.check_file(case, case.convert(source, "out.bin"), expected)
    with judge.case("every dtype that is in both, to safetensors", PROGRAM, THEIRS_TO_OURS) as case:
        both = {name: tensor for name, tensor in state.items() if name in IN_SAFETENSORS}
        into_safetensors(case, pickles.save(case.path("in.pt"), both), pickles.tensors(both))


def torches(tensors):
    """torch tensors by name."""
    return {name: bits.to_torch(tensor) for name, tensor in tensors.items()}


def from_other_formats(judge):
    """safetensors and npz become torch files."""
    known = [name for name in IN_TORCH if name in IN_SAFETENSORS]
    bags = {"every dtype": models.every_dtype(known), "shapes": models.shapes("bf16"), "names": models.names(),
            "checkpoint": models.checkpoint(), "no tensors": {}}
    for name, tensors in bags.items():
        for suffix in ("bin", "pt"):
            with judge.case(f"safetensors to .{suffix}, {name}", PROGRAM, OURS_TO_THEIRS) as case:
                source = torch_files.save(case.path("in.safetensors"), tensors)
                pickles.check_file(case, case.convert(source, f"out.{suffix}"), tensors)
        with judge.case(f"safetensors to .bin to safetensors, {name}", PROGRAM, ROUND_TRIP) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            target = case.convert(case.convert(source, "middle.bin"), "out.safetensors")
            case.same(tensors, bits.raw_safetensors(target)[0])
            case.opened()
    with judge.case("npz to .bin", PROGRAM, OURS_TO_THEIRS) as case:
        arrays = {code.replace("?", "bool"): models.numpy_array(code, order, memory)
                  for code, order, memory in zip(models.NUMPY_CODES, "<>" * 7, "CCFF" * 4)}
        np.savez(case.path("in.npz"), **arrays)
        expected = {name: bits.of_numpy(array) for name, array in arrays.items()}
        pickles.check_file(case, case.convert(case.path("in.npz"), "out.bin"), expected)


def ties(judge):
    """Tied tensors share a storage in our file and take its room once; equal ones that were not tied do not."""
    base = torch.arange(3000.0).reshape(50, 60)
    for name, state, is_tied in (("tied", {"a": base, "b": base, "c": base.clone()}, True),
                                 ("equal and untied", {"a": base, "b": base.clone()}, False)):
        for form in ({}, {"_use_new_zipfile_serialization": False}):
            with judge.case(f"{name}{', legacy' if form else ''}", PROGRAM, ROUND_TRIP) as case:
                target = case.convert(pickles.save(case.path("in.pt"), state, **form), "out.bin")
                pickles.check_file(case, target, pickles.tensors(state))
                loaded = pickles.safe(target)
                shares = loaded["a"].data_ptr() == loaded["b"].data_ptr()
                check(shares == is_tied, "no longer tied" if is_tied else "tied, and was not")
                n_storages = len({tensor.untyped_storage().data_ptr() for tensor in loaded.values()})
                check(n_storages == 2, f"{n_storages} storages")
                check(target.stat().st_size < 2 * base.nbytes + 8192, f"{target.stat().st_size} bytes for two storages")


def view_bytes(judge):
    """A view writes its own bytes and no more, and bears its values, wherever it lay."""
    flat = torch.arange(1 << 20, dtype=torch.float32)
    square = flat.reshape(1024, 1024)
    states = {"small view of a large storage": {"w": flat[500:512].reshape(3, 4)},
              "many views of one buffer": {f"w{i}": flat[i * 100:(i + 1) * 100].reshape(10, 10) for i in range(20)},
              "rows and columns": {"rows": square[3:5], "columns": square[:, 7:9], "both": square[::500, ::300]},
              "transposed": {"w": square[:9, :7].t(), "last": flat[:48].reshape(2, 3, 2, 4).permute(3, 1, 0, 2)},
              "expanded": {"w": flat[:6].expand(5, 6), "one": flat[3].expand(4, 4)}}
    for name, state in states.items():
        with judge.case(f"views: {name}", PROGRAM, ROUND_TRIP) as case:
            expected = pickles.tensors(state)
            source = pickles.save(case.path("in.pt"), state)
            into_safetensors(case, source, expected)
            target = case.convert(source, "out.bin")
            pickles.check_file(case, target, expected)
            own = sum(len(tensor.data) for tensor in expected.values())
            check(target.stat().st_size < own + 4096 + 512 * len(state), f"{target.stat().st_size} bytes for {own}")


def metadata(judge):
    """`_metadata` of a state dict stays, so that modules with versions load as they were."""
    for name in ("state-dict.pt", "state-dict-legacy.pt"):
        with judge.case(f"_metadata of {name}", PROGRAM, ROUND_TRIP) as case:
            source = TESTDATA / "models" / name
            before = pickles.load(source)
            after = pickles.safe(case.convert(source, "out.bin"))
            kept = getattr(after, "_metadata", None)
            check(kept == before._metadata, f"_metadata became {kept}")  # pylint: disable=protected-access
            check(list(after) == list(before), "the order of names changed")
            case.same(pickles.tensors(before), pickles.tensors(after))
            case.opened()


def sharded(judge):
    """Our shards are those that huggingface_hub would plan, under its names, with its index."""
    from huggingface_hub import split_torch_state_dict_into_shards

    tensors = models.checkpoint()
    for size in ("2KB", "4KB", "1MB"):
        with judge.case(f"shards of {size}", "huggingface_hub", OURS_TO_THEIRS) as case:
            source = torch_files.save(case.path("in.safetensors"), tensors)
            state = torches({name: tensors[name] for name in bits.raw_safetensors(source)[0]})
            plan = split_torch_state_dict_into_shards(state, max_shard_size=size, filename_pattern="pytorch_model{suffix}.bin")
            case.convert(source, "out/pytorch_model.bin", "--shard-size", size)
            made = sorted(path.name for path in case.path("out").iterdir())
            index = [] if not plan.is_sharded else ["pytorch_model.bin.index.json"]
            check(made == sorted([*plan.filename_to_tensors, *index]), f"written: {made}")
            found = {}
            for shard, names in plan.filename_to_tensors.items():
                pickles.check_file(case, case.path(f"out/{shard}"), {name: tensors[name] for name in names})
                found.update(pickles.tensors(pickles.safe(case.path(f"out/{shard}"))))
            case.same(tensors, found)
            if index:
                document = json.loads(case.path(f"out/{index[0]}").read_text(encoding="utf-8"))
                check(document["weight_map"] == plan.tensor_to_filename, "tensors are not where huggingface_hub puts them")
                check(document["metadata"]["total_size"] == plan.metadata["total_size"], f"metadata {document['metadata']}")


def casting(judge):
    """--dtype gives what torch's own cast gives, integers are left alone, and ties stay ties."""
    with judge.case("--dtype bf16", PROGRAM, ROUND_TRIP) as case:
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(30, 20, generator=generator)
        state = {"a": base, "tied": base, "t": base.t(), "step": torch.tensor(3), "half": base.half()}
        target = case.convert(pickles.save(case.path("in.pt"), state), "out.bin", "--dtype", "bf16")
        expected = {name: tensor if name == "step" else tensor.to(torch.bfloat16) for name, tensor in state.items()}
        pickles.check_file(case, target, pickles.tensors(expected))
        loaded = pickles.safe(target)
        check(loaded["a"].data_ptr() == loaded["tied"].data_ptr(), "no longer tied")


def several(judge):
    """Several candidates are told with their names, and --select takes one."""
    chosen = {"several-model-and-ema": "ema", "several-state-dict-and-ema": "state_dict_ema",
              "several-generator-discriminator": "discriminator"}
    for name, choice in chosen.items():
        with judge.case(f"--select {choice} of {name}", PROGRAM, THEIRS_TO_OURS) as case:
            source = TESTDATA / f"bad/pytorch/{name}.pt"
            value = pickles.load(source)
            case.refused(source, "refused.safetensors", EXIT_AMBIGUOUS)
            said = told(judge.run("convert", source, case.path("refused.safetensors")))
            names = [key for key, part in value.items() if isinstance(part, dict)]
            check(all(key in said for key in names), f"candidates are {names}, but it says: {said}")
            target = case.convert(source, "out.safetensors", "--select", choice)
            case.same(pickles.tensors(value[choice]), bits.raw_safetensors(target)[0])
            case.opened()


def optimizer(judge):
    """--keep-optimizer keeps Adam's state for torch.optim to load; without it, and elsewhere, it is dropped and named."""
    for name in ("training.pt", "training-legacy.pt"):
        with judge.case(f"--keep-optimizer of {name}", PROGRAM, ROUND_TRIP) as case:
            source = TESTDATA / "models" / name
            before = pickles.load(source)
            after = torch.load(case.convert(source, "out.pt", "--keep-optimizer"), weights_only=False)
            check(isinstance(after, dict) and "optimizer" in after, f"holds {sorted(map(str, after))[:8]}")
            check(after["optimizer"]["param_groups"] == before["optimizer"]["param_groups"], "param_groups changed")
            case.same(flat(before["optimizer"]["state"]), flat(after["optimizer"]["state"]), "optimizer")
            case.same(pickles.tensors(before["model"]), pickles.tensors(after["model"]), "model")
            plain = judge.run("convert", source, case.path("plain.bin"))
            check(plain.returncode == 0 and b"optimizer" in plain.stdout + plain.stderr, f"not named: {told(plain)}")
            case.opened()


def flat(state):
    """The tensors of an optimizer's state by parameter and name."""
    return pickles.tensors({f"{number}.{key}": value for number, part in state.items() for key, value in part.items()})


def more_than_arrays(judge):
    """Quantized and sparse tensors and DTensors are refused with a reason, or their parts are what torch says."""
    parts = {"quantized-per-tensor": lambda t: {t.int_repr()}, "quantized-per-channel": lambda t: {t.int_repr()},
             "sparse-coo": lambda t: {t.values()}, "sparse-csr": lambda t: {t.values()}, "sparse-bsr": lambda t: {t.values()}}
    for name, part_of in parts.items():
        with judge.case(f"parts of {name}", PROGRAM, THEIRS_TO_OURS) as case:
            source = TESTDATA / f"bad/pytorch/{name}.pt"
            wanted = [bits.of_torch(part) for part in part_of(pickles.load(source)["w"])]
            refused_or(case, source, wanted)
    for name in ("dtensor-rank-0-of-1", "dtensor-rank-1-of-2"):
        with judge.case(f"parts of {name}", PROGRAM, THEIRS_TO_OURS) as case:
            source = TESTDATA / f"bad/pytorch/{name}.pt"
            import torch.distributed.tensor  # noqa: F401, pylint: disable=unused-import
            state = torch.load(source, weights_only=False)
            refused_or(case, source, [bits.of_torch(state["copy"].to_local()), bits.of_torch(state["w"].to_local())])


def refused_or(case, source, wanted):
    """A refusal that says what it does not take, or an output in which every wanted tensor is found."""
    target = case.path("out.safetensors")
    result = case.judge.run("convert", source, target)
    if result.returncode:
        check(result.returncode in (EXIT_UNSUPPORTED, EXIT_CANNOT_REPRESENT), f"exit {result.returncode}: {told(result)}")
        case.note(f"refused: {told(result)}")
    else:
        found = bits.raw_safetensors(target)[0]
        for part in wanted:
            check(part in found.values(), f"no tensor is {part.dtype}{part.shape}; there are {sorted(found)}")
            case.values += part.count
    case.opened()


def nothing_runs(judge):
    """Files that name things which would leave a mark: none is left, whatever is asked of us."""
    with judge.case("nothing named in a pickle is run", PROGRAM, THEIRS_TO_OURS) as case:
        sources = sorted((TESTDATA / "bad/pytorch").glob("runs-*[!e]"))
        sources = [path for path in sources if path.suffix in (".pt", ".bin")]
        check(len(sources) > 20, f"only {len(sources)} files")
        for source in sources:
            for command in (("inspect", source), ("inspect", source, "--json"), ("verify", source),
                            ("convert", source, case.path("out.safetensors"), "--force"),
                            ("convert", source, case.path("out.bin"), "--force")):
                result = judge.run(*command)
                check(result.returncode >= 0 and result.returncode != 101, f"{source.name}: {command[0]}: {told(result)}")
            case.opened()
        marks = [*judge.folder.rglob("pwned"), *TESTDATA.rglob("pwned")]
        check(not marks, f"something ran: {marks}")


def beyond_4_gib(judge):
    """A file with one record over 4 GiB and one behind it, zeros with marks where they may go wrong."""
    rows, row = 4_300, 1 << 20
    marks = {0: 1, (1 << 31) - 1: 2, (1 << 32) - 200: 3, 1 << 32: 4, rows * row - 1: 5}
    with judge.case("file over 4 GiB", PROGRAM, ROUND_TRIP) as case:
        big = torch.zeros(rows * row, dtype=torch.uint8)
        for at, mark in marks.items():
            big[at] = mark
        source = pickles.save(case.path("in.bin"), {"big": big.reshape(rows, row), "small": torch.tensor([7, 8])})
        del big
        target = case.convert(source, "out.bin")
        check(target.stat().st_size < rows * row + 8192, f"{target.stat().st_size} bytes")
        loaded = pickles.safe(target, mmap=True)
        check(loaded["small"].tolist() == [7, 8], "the tensor behind the big one changed")
        found = loaded["big"].reshape(-1)
        check(int(torch.count_nonzero(found)) == len(marks), "zeros changed")
        check({at: int(found[at]) for at in marks} == marks, "marks changed")
        case.opened()
        case.values += rows * row
        result = judge.run("diff", source, target)
        check(result.returncode == 0, f"diff: exit {result.returncode}")
