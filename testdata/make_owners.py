"""bad/OWNERS.md: what the programs that own the formats say about each bad file.

Where an owner takes a file and we do not, we are stricter on purpose; where it refuses and we do not, we should ask why.
"""

import subprocess
import sys
import tempfile

JUDGE = """
import io, resource, sys, warnings
import ml_dtypes, numpy as np
from safetensors import deserialize
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
warnings.simplefilter("ignore")

def take(path):
    data = open(path, "rb").read()
    if path.endswith(".safetensors"):
        return len(deserialize(data))
    value = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(value, np.ndarray):
        return 1
    with value:
        return len([value[name] for name in value.files])

for path in sys.stdin.read().splitlines():
    try:
        print("takes it, reads", take(path))
    except BaseException as error:
        print("refuses:", type(error).__name__)
"""


# A file each in a process of its own: a crash is an answer too. What takes torch minutes is not asked about.
JUDGE_TORCH = """
import os, signal, sys, warnings
import torch
warnings.simplefilter("ignore")

def take(path):
    value = torch.load(path, weights_only=True, map_location="cpu")
    return len(value) if isinstance(value, dict) else type(value).__name__

for path in sys.stdin.read().splitlines():
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(60)
        try:
            print("takes it, reads", take(path))
        except BaseException as error:
            print("refuses:", type(error).__name__)
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print("ends by signal", status)
"""
# By its path, so that what lies in other files is looked at too.
JUDGE_ONNX = """
import sys
import onnx

for path in sys.stdin.read().splitlines():
    try:
        onnx.checker.check_model(path, full_check=True)
        print("takes it, reads", len(onnx.load(path).graph.initializer))
    except BaseException as error:
        print("refuses:", type(error).__name__)
"""
# llama.cpp's loader reads the header by this function, then looks whether each tensor lies in the file. A process each.
JUDGE_GGUF = """
import ctypes, os, resource, signal, sys
from pathlib import Path
import xllamacpp
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))

class Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]

def function(name, result, *arguments):
    found = getattr(library, name)
    found.restype, found.argtypes = result, arguments
    return found

load = function("gguf_init_from_file", ctypes.c_void_p, ctypes.c_char_p, Params)
count = function("gguf_get_n_tensors", ctypes.c_int64, ctypes.c_void_p)
start = function("gguf_get_data_offset", ctypes.c_size_t, ctypes.c_void_p)
offset = function("gguf_get_tensor_offset", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int64)
size = function("gguf_get_tensor_size", ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int64)

def take(path):
    context = load(path.encode(), Params(True, None))
    if not context:
        return "refuses it"
    ends = [start(context) + offset(context, i) + size(context, i) for i in range(count(context))]
    if max(ends, default=0) > os.path.getsize(path):
        return "refuses its data"
    return f"takes it, reads {len(ends)}"

for path in sys.stdin.read().splitlines():
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(60)
        print(take(path))
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        print("ends by signal", status)
"""
# Arrays in the restored document, wherever they are.
JUDGE_FLAX = """
import sys
import numpy as np
from flax import serialization

def count(value):
    if isinstance(value, (dict, list)):
        return sum(map(count, value.values() if isinstance(value, dict) else value))
    return int(isinstance(value, (np.ndarray, np.generic)))

for path in sys.stdin.read().splitlines():
    try:
        print("takes it, reads", count(serialization.msgpack_restore(open(path, "rb").read())))
    except BaseException as error:
        print("refuses:", type(error).__name__)
"""
NOT_ASKED = ("flood-", "global-name-1-mib", "laughs-", "nesting-")


def ask(out, judge, names):
    """What a judge says about each file, in a folder where nothing lies."""
    paths = "\n".join(str(out.path(name).resolve()) for name in names)
    with tempfile.TemporaryDirectory() as empty:
        answer = subprocess.run([sys.executable, "-c", judge], input=paths, cwd=empty, text=True, check=True,
                                stdout=subprocess.PIPE).stdout.splitlines()
    assert len(answer) == len(names), (len(answer), len(names))
    return dict(zip(names, answer))


def make(out):
    """Asks safetensors, numpy, torch, onnx, llama.cpp and flax about every bad file written so far, and writes the page."""
    bad = sorted(n for n in out.origins if n.startswith("bad/") and not n.startswith(("bad/index/", "bad/hf/")))
    verdicts = ask(out, JUDGE, [n for n in bad if n.endswith((".safetensors", ".npy", ".npz"))])
    of_torch = [n for n in bad if n.startswith("bad/pytorch/")]
    asked = [n for n in of_torch if not n.removeprefix("bad/pytorch/").startswith(NOT_ASKED)]
    verdicts.update(dict.fromkeys(of_torch, "not asked: it would take minutes"))
    verdicts.update(ask(out, JUDGE_TORCH, asked))
    verdicts.update(ask(out, JUDGE_ONNX, [n for n in bad if n.endswith(".onnx")]))
    verdicts.update(ask(out, JUDGE_GGUF, [n for n in bad if n.startswith("bad/gguf/")]))
    verdicts.update(ask(out, JUDGE_FLAX, [n for n in bad if n.startswith("bad/msgpack/")]))
    lines = ["# What the owners say about these files", "",
             "Made by `make.py`: safetensors.deserialize for safetensors, np.load with allow_pickle=False for npy and npz,",
             "torch.load with weights_only=True for torch's files, onnx.checker.check_model with full_check=True and onnx.load",
             "for ONNX models, llama.cpp's gguf_init_from_file for GGUF, of a set each part for itself,",
             "flax.serialization.msgpack_restore for msgpack.", "",
             "| file | owner |", "|---|---|"]
    lines += [f"| {name.removeprefix('bad/')} | {verdicts[name]} |" for name in sorted(verdicts)]
    out.write("bad/OWNERS.md", ("\n".join(lines) + "\n").encode(), "make_owners.py", "the owners' verdicts")
