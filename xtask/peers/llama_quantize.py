"""llama-quantize's own function, from the libraries that npm has."""

import ctypes
import os
import subprocess
import sys

import ggml
from common import check

PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
VERSION = PACKAGE.rpartition("@")[2]
PRESETS = {"f32": 0, "f16": 1, "bf16": 32, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q8_0": 7, "q2_k": 10, "q3_k_s": 11,
           "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25,
           "iq4_xs": 30, "tq1_0": 36, "tq2_0": 37, "mxfp4_moe": 38}
TIMEOUT = 600


class _Params(ctypes.Structure):
    _fields_ = [("threads", ctypes.c_int32), ("file_type", ctypes.c_int), ("output", ctypes.c_int),
                ("embedding", ctypes.c_int)] + [
        (name, ctypes.c_bool) for name in ("requantize", "with_output", "only_copy", "pure", "keep_split", "dry_run")] + [
        (name, ctypes.c_void_p) for name in ("matrix", "entries", "types", "pruned")] + [("most", ctypes.c_size_t)]


def load(folder):
    """The library, fetched by npm into `folder` if it is not there."""
    libraries = folder / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"
    if not libraries.is_dir():
        print(f"installing {PACKAGE} by npm", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "install", "--ignore-scripts", "--no-save", "--prefix", folder, PACKAGE],
                              capture_output=True, text=True, timeout=TIMEOUT, check=False)
        check(done.returncode == 0, f"npm install: {done.stderr[-500:]}")
    for name in ("libggml-base.so*", "libggml.*so*"):
        ctypes.CDLL(str(next(libraries.glob(name))), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(next(libraries.glob("libllama.*so*"))))
    library.llama_log_set(ggml.silent, None)
    library.llama_model_quantize_default_params.restype = _Params
    return library


def quantize(library, source, output, preset, threads=1, is_pure=False):
    """Writes `source` to `output` in the types of a preset."""
    params = library.llama_model_quantize_default_params()
    params.threads, params.file_type, params.pure = threads, PRESETS[preset], is_pure
    failed = library.llama_model_quantize(os.fsencode(source), os.fsencode(output), ctypes.byref(params))
    check(not failed, f"{preset}: llama.cpp refuses the model")
