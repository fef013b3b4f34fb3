"""llama-quantize's own function: each preset gives each tensor the same type and the same bytes, and the file the same values."""

from pathlib import Path

import gguf
import numpy as np

import ggml
import llama_quantize
import models
from common import OURS_TO_THEIRS, check

# It comes as an npm package of 100 MB, and quantizes dozens of models.
FULL_ONLY = True

PROGRAM = "node-llama-cpp"
PURE = ("q8_0", "q2_k", "q3_k_m", "q4_k_m", "q5_k_m", "iq4_xs", "tq2_0")


def run(judge):
    """All cases."""
    library = None
    judge.versions[PROGRAM] = llama_quantize.VERSION
    with judge.case("installed", PROGRAM, OURS_TO_THEIRS) as case:
        library = llama_quantize.load(Path(judge.folder).parents[1] / "npm")
        case.opened()
        case.values += 1
    if library is None:
        return
    for name, how in MODELS.items():
        with judge.case(f"presets of {name}", PROGRAM, OURS_TO_THEIRS) as case:
            source = written(case.path("in.gguf"), name, **how)
            for preset in llama_quantize.PRESETS:
                compared(case, library, source, preset)
        with judge.case(f"pure presets of {name}", PROGRAM, OURS_TO_THEIRS) as case:
            source = written(case.path("in.gguf"), name, **how)
            for preset in PURE:
                compared(case, library, source, preset, is_pure=True)


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


def compared(case, library, source, preset, is_pure=False):
    """Types and bytes of every tensor, and every value: the order is ours."""
    theirs = case.path("theirs.gguf")
    llama_quantize.quantize(library, source, theirs, preset, is_pure=is_pure)
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
