"""torch's own files as torch sees them: what a state dict in one holds, and whether one that we wrote is sound."""

import os
import pickle
import shutil
import stat
import subprocess
import types
import zipfile

import numpy as np
import torch
import torch.utils.serialization
from torch._subclasses.fake_tensor import FakeTensorMode

import bits
from common import check

ALIGNMENT = 64


class Stub(dict):
    """Stands for a class of a program that is not here."""

    def __init__(self, *args):
        super().__init__()

    def __setstate__(self, state):
        pass


class Lenient(pickle.Unpickler):
    """Unpickles files of ours, made a moment ago or lying in testdata; classes that are not here become stubs."""

    def find_class(self, module, name):
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (Stub,), {"__module__": module})


LENIENT = types.ModuleType("lenient")
LENIENT.__dict__.update(pickle.__dict__, Unpickler=Lenient, load=lambda file, **how: Lenient(file, **how).load())


def load(path):
    """Everything in a file of ours, code and all: only for files whose maker we are."""
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=LENIENT)


def tensors(state):
    """The tensors and arrays among the values of a dict."""
    out = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            out[name] = bits.of_torch(value)
        elif isinstance(value, np.ndarray):
            out[name] = bits.of_numpy(value)
    return out


def safe(path, **how):
    """The state dict in a file by torch.load as a careful user calls it."""
    return torch.load(path, weights_only=True, **how)


def check_file(case, path, expected):
    """torch takes our file in every way that it has, and finds the same in it; so does whoever reads zips."""
    mode = stat.S_IMODE(path.stat().st_mode)
    check(mode == 0o644, f"mode {mode:o} under umask 022")
    loaded = safe(path)
    case.same(expected, tensors(loaded), "plain")
    # A parameter stays what it was; what is none wants no gradient.
    plain = (value for value in loaded.values() if isinstance(value, torch.Tensor) and not isinstance(value, torch.nn.Parameter))
    check(not any(value.requires_grad for value in plain), "a tensor requires grad")
    case.same(expected, tensors(safe(path, mmap=True)), "mmap")
    wanted = {name: (tensor.dtype, tensor.shape) for name, tensor in expected.items()}
    for name, value in safe(path, map_location="meta").items():
        if not isinstance(value, torch.Tensor):
            continue
        check(value.is_meta, f"meta: {name!r} has data")
        seen = bits.of_torch(torch.empty_like(value, device="cpu"))
        check((seen.dtype, seen.shape) == wanted.pop(name), f"meta: {name!r} is {seen.dtype}{seen.shape}")
    check(not wanted, f"meta: {sorted(wanted)[:3]} missing")
    os.environ["TORCH_SERIALIZATION_DEBUG"] = "1"
    try:
        with torch.utils.serialization.config.patch("load.calculate_storage_offsets", True):
            case.same(expected, tensors(safe(path, mmap=True)), "calculated offsets")
    finally:
        del os.environ["TORCH_SERIALIZATION_DEBUG"]
    check_offsets(path, loaded)
    check_zip(path)
    case.opened()


def check_offsets(path, loaded):
    """Where torch believes each storage to lie without reading the file, it does."""
    with FakeTensorMode():
        fake = safe(path)
    with path.open("rb") as file:
        for name, value in fake.items():
            if not isinstance(value, torch.Tensor) or not loaded[name].untyped_storage().nbytes():
                continue
            at = value.untyped_storage()._checkpoint_offset  # pylint: disable=protected-access
            check(at % ALIGNMENT == 0, f"{name!r} lies at {at}, which is not aligned")
            file.seek(at)
            data = bytes(loaded[name].untyped_storage())
            check(file.read(len(data)) == data, f"{name!r} does not lie where torch expects it, at {at}")


def check_zip(path):
    """Python's zipfile and, where it is installed, unzip find every CRC right."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        check(damaged is None, f"zipfile.testzip: {damaged}")
        names = archive.namelist()
        check(len(set(names)) == len(names), "zipfile sees a name twice")
        check(len({name.split("/")[0] for name in names}) == 1, f"several roots: {names[:5]}")
        for info in archive.infolist():
            check(info.compress_type == zipfile.ZIP_STORED, f"{info.filename} is not stored")
        versions = [archive.read(name) for name in names if name.count("/") == 1 and name.endswith("/version")]
        check(versions == [b"3\n"], f"version {versions}")
    if shutil.which("unzip"):
        result = subprocess.run(["unzip", "-tqq", path], capture_output=True, check=False)
        check(result.returncode == 0, f"unzip -t: {result.stdout[-300:]!r} {result.stderr[-300:]!r}")


def save(path, state, **how):
    """Writes a file with torch.save; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path, **how)
    return path
