"""Torch checkpoints as training programs leave them: weights among optimizer states, settings and foreign objects."""

import argparse
import datetime
import enum
import logging
import pathlib
import pickle
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import torch

from make_torch import SAVE, legacy, matrix, save, small
from make_safetensors import SEED

# Programs that are not here. Their classes exist while a file is made and under no other name.
FOREIGN = {}


def foreign(module, name, base=object, **body):
    """A class `name` of a module that nobody has installed."""
    parts = module.split(".")
    for i in range(len(parts)):
        path = ".".join(parts[: i + 1])
        if path not in sys.modules:
            FOREIGN[path] = sys.modules[path] = types.ModuleType(path)
    made = type(name, (base,), {"__module__": module, "__qualname__": name, **body})
    setattr(sys.modules[module], name, made)
    return made


def forget():
    """Removes the modules again."""
    for path in FOREIGN:
        del sys.modules[path]
    FOREIGN.clear()


def member(module, name, values, choice):
    """A member of a foreign enum."""
    made = enum.Enum(name, values, module=module, qualname=name)
    setattr(sys.modules[module], name, made)
    return made[choice]


def instance(kind, **state):
    """An object of a class, made without calling it."""
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


def network():
    """A small model with a norm, whose state dict has buffers and _metadata."""
    torch.manual_seed(SEED)
    return torch.nn.Sequential(OrderedDict(
        [("embed", torch.nn.Linear(4, 6)), ("norm", torch.nn.BatchNorm1d(6)), ("head", torch.nn.Linear(6, 2))]))


def trained():
    """A model, its optimizer after a step, and its scheduler."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    scheduler.step()
    # Sums and quotients come out a little different from machine to machine; the state of this step does not.
    model.load_state_dict(network().state_dict())
    return model, optimizer, scheduler


def prefixed(state, prefix):
    """A state dict whose names all begin with `prefix`, as wrappers leave them."""
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def training():
    """What a training loop saves to go on later."""
    model, optimizer, scheduler = trained()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict(),
            "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 0}, "epoch": 3, "best": 0.25,
            "rng_state": torch.arange(64, dtype=torch.uint8),
            "cuda_rng_state": [torch.arange(16, dtype=torch.uint8)] * 2}


def lightning():
    """What a Lightning trainer saves, callbacks and hyperparameters included."""
    model, optimizer, scheduler = trained()
    checkpoint = foreign("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    settings = foreign("lightning_fabric.utilities.data", "AttributeDict", dict)
    return {
        "epoch": 2, "global_step": 10, "pytorch-lightning_version": "2.5.0",
        "state_dict": prefixed(model.state_dict(), "model."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3, "completed": 2}}}},
        "callbacks": {checkpoint: {"best_model_path": "epoch=2.ckpt", "best_model_score": torch.tensor(0.25)},
                      "EarlyStopping{'monitor': 'loss'}": {"wait_count": 0, "patience": 3}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [scheduler.state_dict()],
        "hparams_name": "config", "hyper_parameters": settings({"lr": 0.01, "layers": [4, 6, 2]}),
    }


def megatron():
    """What Megatron-LM saves on one rank: settings as argparse.Namespace with enums in it."""
    model, optimizer, _ = trained()
    foreign("megatron.core.transformer.enums", "AttnBackend")
    backend = member("megatron.core.transformer.enums", "AttnBackend", {"flash": 1, "fused": 2}, "fused")
    args = argparse.Namespace(hidden_size=6, num_layers=1, params_dtype=torch.bfloat16, backend=backend,
                              data_path=["a", "b"], seed=1234)
    return {"args": args, "checkpoint_version": 3.0, "iteration": 100,
            "model": OrderedDict(model.state_dict(), **{"_extra_state": None}), "optimizer": optimizer.state_dict(),
            "rng_state": [{"np_rng_state": ("MT19937", np.arange(8, dtype=np.uint32), 3, 0, 0.0), "torch_rng_state": None}]}


def omegaconf():
    """A checkpoint with an omegaconf settings tree, whose nodes refer to their parents: cycles."""
    config, listed, node = (foreign(f"omegaconf.{module}", name) for module, name in (
        ("dictconfig", "DictConfig"), ("listconfig", "ListConfig"), ("nodes", "AnyNode")))
    root = instance(config, _parent=None, _metadata=None)
    rate = instance(node, _val=0.01, _parent=root)
    sizes = instance(listed, _parent=root)
    sizes._content = [instance(node, _val=value, _parent=sizes) for value in (4, 6, 2)]
    root._content = {"lr": rate, "sizes": sizes}
    return {"cfg": root, "state_dict": network().state_dict()}


def objects():
    """Weights beside one object of everything that Python has."""
    config = foreign("some.package.config", "Config")
    looped = []
    looped.append(looped)
    counts = defaultdict(int, a=1)
    return {
        "state_dict": small(), "none": None, "true": True, "int": -5, "huge": 1 << 80, "negative huge": -(1 << 80),
        "very huge": 1 << 3000, "float": 0.1, "infinite": float("inf"), "not a number": float("nan"), "complex": 1 + 2j,
        "text": "größe 🦙", "surrogate": "\udcff", "bytes": b"\x00\xff", "bytearray": bytearray(b"abc"), "list": [1, [2, [3]]],
        "tuple": (1, (2,)), "set": {1}, "frozenset": frozenset({2}), "range": range(3), "slice": slice(1, None), "path":
        pathlib.PurePosixPath("a/b"), "date": datetime.datetime(2026, 1, 2, 3, 4, 5), "namespace": types.SimpleNamespace(a=1),
        "counter": Counter("aab"), "defaultdict": counts, "deque": deque([1, 2], 5), "dtype": torch.float16,
        "device": torch.device("cpu"), "size": torch.Size([1, 2]), "numpy scalar": np.float32(0.5),
        "numpy bool": np.bool_(True), "looped": looped, "function": torch.nn.functional.relu, "class": torch.nn.Linear,
        ("tuple", "key"): 1, 7: "int key", None: "none key", "object": instance(config, a=1, b=[2]),
    }


def nested():
    """(file, object, what) of checkpoints with one state dict in them."""
    yield "training.pt", training(), "model, Adam's state, scheduler, scaler, RNG states"
    yield "lightning.ckpt", lightning(), "as Lightning saves: names prefixed by model., callbacks under foreign classes"
    yield "megatron.pt", megatron(), "as Megatron-LM saves: argparse.Namespace, an enum, numpy arrays in the RNG state"
    yield "omegaconf.ckpt", omegaconf(), "beside an omegaconf tree, which has cycles"
    yield "objects.pt", objects(), "beside one object of everything that Python can pickle"
    yield "nested-five-deep.pt", {"a": {"b": [{"c": ({"state_dict": small()},)}], "note": "deep"}}, \
        "dicts, a list and a tuple around the state dict"
    yield "prefix-module.pt", prefixed(network().state_dict(), "module."), "module. before every name, as DDP leaves it"
    yield "prefix-orig-mod.pt", prefixed(network().state_dict(), "module._orig_mod."), "two wrappers' prefixes"
    yield "prefix-partial.pt", {**prefixed({"a": matrix()}, "module."), "b": matrix("b")}, \
        "module. before one name and not the other: no wrapper"
    yield "flat-optimizer.pt", flat_optimizer(), "optimizer state in flat names beside the weights"
    yield "with-numbers.pt", {**small(), "epoch": 3, "name": "run 1", "best": None, "lr": 0.1}, \
        "numbers and text among the tensors"
    yield "numpy.pt", {"state_dict": small(), "losses": np.arange(4.0), "best": np.float64(0.25),
                       "names": np.array(["a", "b"], dtype=object)}, "numpy scalars and arrays beside the state dict"
    yield "numpy-state-dict.pt", {"w": matrix().numpy(), "f": np.asfortranarray(matrix().numpy()), "b": np.arange(3, dtype=">f2"),
                                  "s": np.array(2.5)}, "numpy arrays instead of tensors"


def flat_optimizer():
    """Weights and `_optimizer…` tensors side by side."""
    state = dict(network().state_dict())
    moments = {f"_optimizer.state.{name}.exp_avg": torch.zeros_like(tensor) for name, tensor in state.items() if tensor.dim()}
    return {**state, **moments, "_optimizer.step": torch.tensor(10)}


class Bare(torch.nn.Module):
    """A module that is saved whole, class and all."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 2)


def several():
    """(file, object, what) of what holds no state dict, or more than one, or tensors that are more than arrays."""
    torch.manual_seed(SEED)
    base = matrix()
    weights = network().state_dict()
    yield "several-model-and-ema", {"model": weights, "ema": {name: tensor.clone() for name, tensor in weights.items()}}, \
        "two candidates: model and ema"
    yield "several-state-dict-and-ema", {"state_dict": weights, "state_dict_ema": OrderedDict(weights), "epoch": 1}, \
        "two candidates that share their storages"
    yield "several-generator-discriminator", {"generator": network().state_dict(), "discriminator": small(), "step": 5}, \
        "two candidates: generator and discriminator"
    yield "several-list-of-models", [network().state_dict(), small()], "two candidates in a list"
    yield "no-weights-optimizer-only", {"optimizer": trained()[1].state_dict()}, "optimizer state alone"
    yield "no-weights-numbers-only", {"epoch": 1, "name": "run"}, "no tensors at all"
    yield "no-weights-none", None, "None"
    yield "top-level-tensor", base, "a tensor without a name"
    yield "top-level-list", [base, base[0].clone()], "tensors without names"
    yield "names-numbers", {0: base, 1: base.clone()}, "names that are numbers"
    yield "names-tuples", {("a", 0): base}, "a name that is a tuple"
    yield "names-number-and-its-text", {0: base, "0": base.clone()}, "names that become the same as text"
    yield "names-surrogate", {"\udcff": base}, "a name that is no UTF-8"
    yield "names-path-and-nested", {"a.b": base, "a": {"b": base.clone()}}, "names that become the same when joined"
    yield "prefix-collision", {"module.a": base, "module._orig_mod.a": base.clone()}, "names that collide once stripped"
    yield "whole-module", Bare(), "a module saved whole: its class is named, its tensors lie in __dict__"
    yield "quantized-per-tensor", {"w": torch.quantize_per_tensor(base, 0.1, 3, torch.quint8)}, "_rebuild_qtensor"
    yield "quantized-per-channel", {"w": torch.quantize_per_channel(
        base, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.arange(4), 0, torch.qint8)}, "_rebuild_qtensor"
    yield "sparse-coo", {"w": base.relu().to_sparse()}, "_rebuild_sparse_tensor"
    yield "sparse-csr", {"w": base.relu().to_sparse_csr()}, "_rebuild_sparse_tensor"
    yield "sparse-bsr", {"w": base.relu().to_sparse_bsr((2, 2))}, "_rebuild_sparse_tensor"
    yield "nested-tensor", {"w": torch.nested.nested_tensor([base[0], base[1, :3]])}, "_rebuild_nested_tensor"
    yield "meta", {"w": torch.empty(3, 4, device="meta"), "b": base}, "a tensor without data"
    yield "dtype-bits8", {"w": torch.arange(4, dtype=torch.uint8).view(torch.bits8)}, "a type without a meaning"


def dtensors():
    """(name, object, what) of state dicts sharded over two ranks, seen from each, and over one."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.testing._internal.distributed.fake_pg import FakeStore

    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)  # it warns of torch.compile
    for world, ranks in ((1, (0,)), (2, (0, 1))):
        for rank in ranks:
            torch.distributed.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
            mesh = DeviceMesh("cpu", list(range(world)))
            local = matrix("dtensor", 7, 3).chunk(world)[rank].clone()  # torch cannot save one that begins elsewhere
            state = {"w": DTensor.from_local(local, mesh, [Shard(0)], shape=(7, 3), stride=(3, 1)),
                     "copy": DTensor.from_local(matrix("copy", 2, 2), mesh, [Replicate()]), "plain": torch.arange(3)}
            yield f"dtensor-rank-{rank}-of-{world}", state, f"DTensors, rank {rank} of {world}"
            torch.distributed.destroy_process_group()


def arguments():
    """A training_args.bin as transformers' Trainer leaves it, of classes under its names."""
    kind = foreign("transformers_like.training_args", "TrainingArguments")
    foreign("transformers_like.trainer_utils", "IntervalStrategy")
    strategy = member("transformers_like.trainer_utils", "IntervalStrategy", {"NO": "no", "STEPS": "steps"}, "STEPS")
    return instance(kind, output_dir="out", learning_rate=5e-5, save_strategy=strategy, seed=42, fp16=False, report_to=[])


def make(out):
    """Writes every file."""
    for name, obj, what in nested():
        out.write(f"models/{name}", save(obj), SAVE, what)
    out.write("models/training-legacy.pt", legacy(training()), SAVE + ", storage keys renamed", "training.pt as a legacy stream")
    for name, obj, what in several():
        out.write(f"bad/pytorch/{name}.pt", save(obj), SAVE, what)
    for name, obj, what in dtensors():
        out.write(f"bad/pytorch/{name}.pt", save(obj), SAVE, what)
    out.write("bad/pytorch/protocol-0.pt", save(small(), pickle_protocol=0), SAVE,
              "persistent ids as text, which torch cannot load again")
    for protocol in (0, 1):
        data = pickle.dumps({"w": matrix("pickle").numpy()}, protocol=protocol)
        out.write(f"bad/pytorch/pickle-protocol-{protocol}.pkl", data, "pickle.dump",
                  "numpy arrays in a plain pickle, which begins with nothing that tells")
    out.write("bad/pytorch/no-weights-training_args.bin", save(arguments()), SAVE, "settings, no tensors")
    forget()
