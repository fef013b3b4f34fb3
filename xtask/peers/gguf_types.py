"""GGUF in several types: of one run, in a folder, and blocks with scales beside them."""

import json

import gguf
import numpy as np

import bits
import ggml
import models
from common import OURS_TO_THEIRS, THEIRS_TO_OURS, check

PROGRAM = "gguf"
LLAMA = "xllamacpp"
# Each with llama.cpp's number, which general.file_type holds.
TYPES = {"q8_0": 7, "q4_k_m": 15, "bf16": 32}
SHAPES = {"token_embd.weight": (5, 512), "output_norm.weight": (512,), "blk.0.attn_v.weight": (4, 512),
          "blk.0.ffn_down.weight": (3, 256)}


def run(judge):
    """All cases."""
    several(judge)
    in_folder(judge)
    scales(judge)


def written(path):
    """A small model of f32 by gguf."""
    generator = models.generator("several types")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("A small Model")
    for name, shape in SHAPES.items():
        writer.add_tensor(name, np.float32(generator.standard_normal(shape)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def several(judge):
    """Each of several outputs is the file of a run of its own, and opens."""
    for program, look in ((PROGRAM, ggml.by_gguf), (LLAMA, ggml.by_llama)):
        with judge.case("several types of one run", program, OURS_TO_THEIRS) as case:
            source = written(case.path("in.gguf"))
            case.convert(source, "m-{type}.gguf", "--quantize", ",".join(TYPES), "--verify")
            for name, number in TYPES.items():
                made = case.path(f"m-{name}.gguf")
                alone = case.convert(source, f"alone-{name}.gguf", "--quantize", name)
                check(made.read_bytes() == alone.read_bytes(), f"{name}: not what a run of its own writes")
                found, values = look(made)
                check(set(found) == set(SHAPES), f"{name}: {sorted(found)}")
                check(values["general.file_type"] == ("u32", [bytes((number, 0, 0, 0))]), f"{name}: {values}")
                case.values += len(found)
                case.opened()


def in_folder(judge):
    """A folder gets files that are called as llama.cpp's converter calls its own."""
    with judge.case("names in a folder", PROGRAM, OURS_TO_THEIRS) as case:
        source, folder = written(case.path("in.gguf")), case.path("folder")
        result = case.judge.run("convert", source, f"{folder}/", "--to", "gguf", "--quantize", ",".join(TYPES))
        check(result.returncode == 0, result.stderr.decode())
        names = sorted(path.name for path in folder.iterdir())
        expected = sorted(f"A-small-Model-{name.upper()}.gguf" for name in TYPES)
        check(names == expected, f"{names} instead of {expected}")
        for name in names:
            case.values += len(ggml.by_gguf(folder / name)[0])
            case.opened()


def scales(judge):
    """What is made of blocks of nvfp4 has the scales beside them in it, bit by bit."""
    kind = gguf.GGMLQuantizationType.NVFP4
    with judge.case("scales of nvfp4", PROGRAM, THEIRS_TO_OURS) as case:
        generator = models.generator("scales of nvfp4")
        path = case.path("in.gguf")
        writer = gguf.GGUFWriter(path, "llama")
        expected = {}
        for name, shape, n_scales in (("up", (4, 128), 1), ("down_exps", (3, 2, 64), 3)):
            scale = np.float32(generator.standard_normal(n_scales))
            blocks = generator.integers(0, 256, size=gguf.quant_shape_to_byte_shape(shape, kind), dtype=np.uint8)
            writer.add_tensor(f"blk.0.{name}.weight", blocks, raw_dtype=kind)
            writer.add_tensor(f"blk.0.{name}.scale", scale)
            values = gguf.quants.dequantize(blocks, kind).reshape(shape)
            factors = scale.reshape((n_scales,) + (1,) * (len(shape) - 1))
            expected[f"blk.0.{name}.weight"] = np.float32(values * factors)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        for threads in ("1", "3"):
            target = case.convert(path, f"out-{threads}.safetensors", "--dtype", "f32", "--threads", threads)
            found, _ = bits.raw_safetensors(target)
            check(set(found) == set(expected), f"written: {sorted(found)}")
            for name, values in expected.items():
                got = np.frombuffer(found[name].data, np.float32).reshape(values.shape)
                check(np.array_equal(got, values, equal_nan=True), f"{name}: {got} instead of {values}")
                case.values += values.size
            case.opened()
        told = json.loads(case.judge.run("convert", path, case.path("dry.safetensors"), "--dtype", "f32", "--dry-run",
                                         "--json").stdout)
        named = [loss["subject"] for loss in told["losses"] if loss["kind"] == "tensor"]
        check(named == ["blk.0.up.scale", "blk.0.down_exps.scale"], f"told of {named}")
