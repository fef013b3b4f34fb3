"""llama-quantize's own function: each preset gives each tensor the same type and the same bytes, and the file the same values."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np

import ggml
import models
from common import OURS_TO_THEIRS, check

# It comes as an npm package of 100 MB, and quantizes dozens of models.
FULL_ONLY = True

PROGRAM = "node-llama-cpp"
PACKAGE = "@node-llama-cpp/linux-x64@3.22.1"
PRESETS = {"f32": 0, "f16": 1, "bf16": 32, "q4_0": 2, "q4_1": 3, "q5_0": 8, "q5_1": 9, "q8_0": 7, "q2_k": 10, "q3_k_s": 11,
           "q3_k_m": 12, "q3_k_l": 13, "q4_k_s": 14, "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "iq4_nl": 25,
           "iq4_xs": 30, "tq1_0": 36, "tq2_0": 37, "mxfp4_moe": 38}
PURE = ("q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "iq4_xs", "tq2_0")
TIMEOUT = 600


class _Params(ctypes.Structure):
    _fields_ = [("threads", ctypes.c_int32), ("file_type", ctypes.c_int), ("output", ctypes.c_int),
                ("embedding", ctypes.c_int)] + [
        (name, ctypes.c_bool) for name in ("requantize", "with_output", "only_copy", "pure", "keep_split", "dry_run")] + [
        (name, ctypes.c_void_p) for name in ("matrix", "entries", "types", "pruned")] + [("most", ctypes.c_size_t)]


def run(judge):
    """All cases."""
    library = None
    judge.versions[PROGRAM] = PACKAGE.rpartition("@")[2]
    with judge.case("installed", PROGRAM, OURS_TO_THEIRS) as case:
        library = install(judge)
        case.opened()
        case.values += 1
    if library is None:
        return
    for name, how in MODELS.items():
        with judge.case(f"presets of {name}", PROGRAM, OURS_TO_THEIRS) as case:
            source = written(case.path("in.gguf"), name, **how)
            for preset, number in PRESETS.items():
                compared(case, library, source, preset, number)
        with judge.case(f"pure presets of {name}", PROGRAM, OURS_TO_THEIRS) as case:
            source = written(case.path("in.gguf"), name, **how)
            for preset in PURE:
                compared(case, library, source, preset, PRESETS[preset], is_pure=True)


def install(judge):
    """The library, fetched by npm next to the other work if it is not there."""
    folder = Path(judge.folder).parents[1] / "npm"
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


def layer(idx, row, wide, experts):
    """Matrices of one layer, two rows each: the mixtures go by names and rows alone."""
    block = f"blk.{idx}"
    yield f"{block}.attn_norm.weight", (row,)
    for part in ("q", "k", "v", "output"):
        yield f"{block}.attn_{part}.weight", (2, row)
    if experts:
        yield f"{block}.ffn_gate_inp.weight", (experts, row)
        yield f"{block}.ffn_gate_exps.weight", (experts, 2, row)
        yield f"{block}.ffn_up_exps.weight", (experts, 2, row)
        yield f"{block}.ffn_down_exps.weight", (experts, 2, wide)
    else:
        yield f"{block}.ffn_gate.weight", (2, row)
        yield f"{block}.ffn_up.weight", (2, row)
        yield f"{block}.ffn_down.weight", (2, wide)


MODELS = {
    "20 layers": {"heads_kv": 16},
    "GQA 8, tied": {"heads_kv": 2, "tied": True},
    "8 experts": {"heads_kv": 2, "experts": 8},
    "rows of 320": {"heads_kv": 4, "row": 320, "wide": 352},
    "rows of 40": {"heads_kv": 4, "row": 40, "wide": 72},
    "falcon": {"heads_kv": 1, "architecture": "falcon"},
}


def written(path, name, architecture="llama", layers=20, heads=16, heads_kv=16, experts=0, row=256, wide=512, tied=False):
    """A model of f32 by gguf."""
    generator = models.generator(f"presets {name}")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_context_length(512)
    writer.add_embedding_length(row)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(3)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    tensors = [("token_embd.weight", (3, row)), ("output_norm.weight", (row,))]
    tensors += [] if tied else [("output.weight", (3, row))]
    tensors += [tensor for idx in range(layers) for tensor in layer(idx, row, wide, experts)]
    for tensor, shape in tensors:
        writer.add_tensor(tensor, np.float32(generator.standard_normal(shape) * 0.02))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def compared(case, library, source, preset, number, is_pure=False):
    """Types and bytes of every tensor, and every value: the order is ours."""
    theirs = case.path("theirs.gguf")
    params = library.llama_model_quantize_default_params()
    params.threads, params.file_type, params.pure = 1, number, is_pure
    failed = library.llama_model_quantize(os.fsencode(source), os.fsencode(theirs), ctypes.byref(params))
    check(not failed, f"{preset}: llama.cpp refuses the model")
    ours = case.convert(source, f"{preset}.gguf", "--quantize", preset, *["--pure"][:is_pure])
    (expected, entries), (found, said) = ggml.by_gguf(theirs), ggml.by_gguf(ours)
    wrong = [f"{name}: {expected[name].dtype} became {found[name].dtype}" for name in expected
             if expected[name].dtype != found[name].dtype]
    check(not wrong, f"{preset}: {'; '.join(wrong[:5])}")
    case.same(expected, found, preset)
    ggml.same_values(dict(sorted(entries.items())), dict(sorted(said.items())), preset)
    case.opened()
    for path in (theirs, ours):
        path.unlink()
