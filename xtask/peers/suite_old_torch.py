"""torch 1.13, which Debian 12 packages: our files load there, and its files load here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

import bits
import models
import pickles
import torch_files
from common import OURS_TO_THEIRS, TESTDATA, THEIRS_TO_OURS, check

# Installing it takes a minute, a network and root; `cargo xtask peers` leaves it out without --full.
FULL_ONLY = True

PROGRAM = "python3-torch"
PYTHON = "/usr/bin/python3"
SCRIPT = Path(__file__).with_name("old_torch.py")
KNOWN = "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64 c64".split()
FIXTURES = ("tied.pt", "state-dict.pt", "transposed.pt", "tiny-llama.bin", "python-2.pt", "tar.pt", "training.pt")
TIMEOUT = 1200


def run(judge):
    """All cases."""
    judge.versions[PROGRAM] = "not installed"
    with judge.case("installed", PROGRAM, THEIRS_TO_OURS) as case:
        judge.versions[PROGRAM] = install()
        case.opened()
    if judge.versions[PROGRAM] == "not installed":
        return
    theirs(judge)
    ours(judge)


def install():
    """Its version; installed by apt if it is not there."""
    version = old("-c", "import torch; print(torch.__version__)")
    if version.returncode:
        print("installing python3-torch and python3-numpy by apt, about a minute", file=sys.stderr, flush=True)
        for command in (("update",), ("install", "-y", "--no-install-recommends", "python3-torch", "python3-numpy")):
            done = subprocess.run(["apt-get", "-qq", *command], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                                  capture_output=True, text=True, timeout=TIMEOUT, check=False)
            check(done.returncode == 0, f"apt-get {command[0]}: {done.stderr[-500:]}")
        version = old("-c", "import torch; print(torch.__version__)")
    check(version.returncode == 0, f"{PYTHON} has no torch: {version.stderr[-500:]}")
    return version.stdout.strip()


def old(*arguments):
    """Runs the system's Python, which sees nothing of this environment."""
    return subprocess.run([PYTHON, "-I", *map(str, arguments)], cwd="/", capture_output=True, text=True, timeout=TIMEOUT,
                          check=False)


def asked(*arguments):
    """What the script beside this says: {file: (tensors, ties)}."""
    result = old(SCRIPT, *arguments)
    check(result.returncode == 0, f"old torch: {result.stderr[-600:]}")
    files = json.loads(result.stdout)["files"]
    return {name: ({key: bits.Tensor(bits.FROM_TORCH[dtype], tuple(shape), bytes.fromhex(data))
                    for key, (dtype, shape, data) in said["tensors"].items()}, said["ties"]) for name, said in files.items()}


def theirs(judge):
    """Files by the old torch, in both forms, listed, carried to safetensors and to a new .bin."""
    folder = judge.folder / "old"
    folder.mkdir()
    with judge.case("files of the old torch are made", PROGRAM, THEIRS_TO_OURS) as case:
        files = asked("save", folder)
        check(len(files) == len(list(folder.iterdir())), "files are missing")
        case.opened(len(files))
    for path in sorted(folder.iterdir()):
        with judge.case(f"old {path.name}", PROGRAM, THEIRS_TO_OURS) as case:
            expected, _ = files[path.name]
            case.listed(path, expected)
            both = all(tensor.dtype != "c128" for tensor in expected.values())
            if both:
                case.same(expected, bits.raw_safetensors(case.convert(path, "out.safetensors"))[0], "as safetensors")
            pickles.check_file(case, case.convert(path, "out.bin"), expected)


def ours(judge):
    """Our files from safetensors, new torch files and fixtures, as the old torch loads them, ties included."""
    base = torch.arange(24.0).reshape(4, 6)
    made = {"every dtype": models.every_dtype(KNOWN), "shapes": models.shapes(), "names": models.names(),
            "checkpoint": models.checkpoint()}
    for name, tensors in made.items():
        with judge.case(f"ours, {name}", PROGRAM, OURS_TO_THEIRS) as case:
            target = case.convert(torch_files.save(case.path("in.safetensors"), tensors), "out.bin")
            loads(case, target, tensors, [])
    with judge.case("ours, tied", PROGRAM, OURS_TO_THEIRS) as case:
        state = {"a": base, "b": base, "c": base.clone()}
        loads(case, case.convert(pickles.save(case.path("in.pt"), state), "out.bin"), pickles.tensors(state), [["a", "b"]])
    for name in FIXTURES:
        with judge.case(f"ours, of fixture {name}", PROGRAM, OURS_TO_THEIRS) as case:
            target = case.convert(TESTDATA / "models" / name, "out.bin")
            loads(case, target, pickles.tensors(pickles.safe(target)))


def loads(case, path, expected, ties=None):
    """The old torch takes a file, plainly and with weights_only, and finds in it what was expected."""
    ((found, shared),) = asked("load", path).values()
    case.opened()
    case.same(expected, found)
    check(ties is None or shared == ties, f"ties are {shared}, expected {ties}")
