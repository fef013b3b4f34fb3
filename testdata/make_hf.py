"""Folders of models, as transformers and its trainer leave them: good ones, and ones in which one thing is wrong."""

import json

import numpy as np
import torch
from safetensors.numpy import save as save_numpy
from safetensors.torch import save as save_torch

from make_bad_safetensors import index
from make_safetensors import by_hand, f32, rng
from make_torch import save
from rawtorch import (APPENDS, BUILD, EMPTY_LIST, EMPTY_TUPLE, MARK, NEWOBJ, NONE, TRUE, archive, call, legacy, mapping,
                      named, number, pickled, text)

# As Python's json writes it, which is not everybody's JSON; the keys that a conversion may change stand among others.
CONFIG = """{
  "architectures": ["ToyForCausalLM"],
  "attention_bias": false,
  "dtype": "float32",
  "model_type": "toy",
  "rope_parameters": {"rope_theta": 10000.0, "factor": Infinity},
  "text_config": { "torch_dtype" : "float32", "hidden_size": 8 },
  "threshold": NaN,
  "tie_word_embeddings": %s,
  "größe": 1.10
}
"""
WEIGHTS = [("embed_tokens.weight", "F32", [2, 2], f32(1, 2, 3, 4)), ("norm.weight", "F32", [2], f32(5, 6))]


def training_args(command=None):
    """The pickle of a trainer's arguments; `command` is in a call that must not be made."""
    fields = [
        (text("output_dir"), text("out")),
        (text("learning_rate"), b"G" + bytes.fromhex("3f0a36e2eb1c432d")),
        (text("eval_strategy"), call("transformers.trainer_utils", "IntervalStrategy", text("steps"))),
        (text("lr_scheduler_kwargs"), NONE),
        (text("fp16"), TRUE),
        (text("distributed_state"), call("datetime", "timedelta", number(0), number(1800), number(0))),
        (text("report_to"), EMPTY_LIST + MARK + text("tensorboard") + text("größe") + APPENDS),
        (text("dtype"), named("torch", "float16")),
    ]
    if command is not None:
        fields.append((text("evil"), call("os", "system", text(command))))
    class_ = named("transformers.training_args", "TrainingArguments")
    return pickled(class_ + EMPTY_TUPLE + NEWOBJ + mapping(*fields) + BUILD)


def good():
    """(folder, file, bytes, made by, what) of every file of every good folder."""
    plain = by_hand(WEIGHTS, {"format": "pt"})
    yield "hf-plain", "config.json", (CONFIG % "false").encode(), "hand", "NaN, Infinity, and types that follow a cast"
    yield "hf-plain", "model.safetensors", plain, "hand", "the weights"
    yield "hf-plain", "tokenizer.json", b'{"version": "1.0", "model": {"vocab": {"\xc3\xa9": 0}}}', "hand", "a file of the model"
    yield "hf-plain", "chat_template.jinja", b"{{ messages }}\r\n", "hand", "a file of the model"
    yield "hf-plain", "added_tokens.json", b"", "hand", "a file of the model without a byte"
    yield "hf-plain", "modeling_toy.py", b"raise SystemExit('this is never run')\n", "hand", "a file of the model"
    yield "hf-plain", "1_Pooling/config.json", b'{"pooling": "mean"}\n', "hand", "a file of the model in a folder"
    yield "hf-plain", "2_Dense/model.safetensors", save_numpy({"linear.weight": np.ones((2, 2), np.float32)}), \
        "safetensors.numpy.save", "weights that belong to a module, carried as a file"
    yield "hf-plain", ".gitattributes", b"# no rules\n", "hand", "a file of the repository"
    yield "hf-plain", "training_args.bin", archive(training_args("touch evil"), {}), "hand", "becomes training_args.json"
    yield "hf-plain", "optimizer.pt", b"moments", "hand", "state of the training"
    yield "hf-plain", "pytorch_model.bin", b"not looked at", "hand", "a second set of weights"
    yield "hf-plain", "onnx/model.onnx", b"graph", "hand", "the model for another program"
    yield "hf-plain", "onnx/config.json", b"{}", "hand", "the model for another program"

    first, second = by_hand(WEIGHTS[:1]), by_hand(WEIGHTS[1:])
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    weight_map = {"embed_tokens.weight": names[0], "norm.weight": names[1]}
    yield "hf-sharded", "config.json", b'{"model_type": "toy"}', "hand", "a config that names no type"
    yield "hf-sharded", "model.safetensors.index.json", index(weight_map).encode(), "hand", "the index of the weights"
    yield "hf-sharded", names[0], first, "hand", "a shard"
    yield "hf-sharded", names[1], second, "hand", "a shard"
    yield "hf-sharded", "model-00003-of-00003.safetensors", first, "hand", "a shard of an earlier set"
    stale = index({"embed_tokens.weight": "pytorch_model-00001-of-00001.bin"}).encode()
    yield "hf-sharded", "pytorch_model.bin.index.json", stale, "hand", "the index of a set that is gone"

    embedding = torch.from_numpy(rng("hf").standard_normal((4, 2)).astype(np.float32))
    tied = {"embed_tokens.weight": embedding, "norm.weight": torch.ones(2), "lm_head.weight": embedding}
    yield "hf-tied", "config.json", (CONFIG % "true").encode(), "hand", "a config that ties the head to the embedding"
    yield "hf-tied", "pytorch_model.bin", save(tied), "torch.save", "a head and an embedding of one storage"
    yield "hf-tied", "training_args.bin", legacy(training_args(), {}), "hand", "the same as a legacy stream"

    quantized = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}, "dtype": "bfloat16"}
    codes = torch.arange(8, dtype=torch.uint8).reshape(2, 4).view(torch.float8_e4m3fn)
    tensors = {"w.weight": codes, "w.weight_scale_inv": torch.ones(1, 1), "norm.weight": torch.ones(2, dtype=torch.bfloat16)}
    yield "hf-fp8", "config.json", json.dumps(quantized).encode(), "hand", "a checkpoint quantized in its own way"
    yield "hf-fp8", "model.safetensors", save_torch(tensors), "safetensors.torch.save", "fp8 with scales"

    yield "hf-variant", "config.json", b"{}", "hand", "a folder with weights of one variant"
    yield "hf-variant", "model.fp16.safetensors", plain, "hand", "weights of an unusual name, taken and named"


def bad():
    """(folder, {file: bytes}, what) of every bad folder."""
    weights = {"model.safetensors": by_hand(WEIGHTS)}
    config = {"config.json": b"{}"}
    yield "config-not-json", {**weights, "config.json": b"model_type: toy"}, "YAML"
    yield "config-empty", {**weights, "config.json": b""}, "a config without a byte"
    yield "config-array", {**weights, "config.json": b"[]"}, "a config that is no object"
    yield "config-cut", {**weights, "config.json": CONFIG.encode()[:100]}, "a config that ends too early"
    yield "config-byte-order-mark", {**weights, "config.json": b"\xef\xbb\xbf{}"}, "Python refuses it too"
    yield "config-not-utf-8", {**weights, "config.json": b'{"a": "\xff"}'}, "a config in another encoding"
    yield "config-nesting-10000", {**weights, "config.json": b'{"a":' * 10_000 + b"1" + b"}" * 10_000}, "nesting"
    yield "config-names-absent-weights", {**weights, "config.json": b'{"transformers_weights": "x.safetensors"}'}, \
        "weights by a name that is not there"
    yield "config-names-weights-outside", {**weights, "config.json": b'{"transformers_weights": "../../index/escape.safetensors"}'}, \
        "weights outside of the folder"
    yield "weights-none", {**config, "tokenizer.json": b"{}"}, "no weights"
    yield "weights-of-others", {**config, "tf_model.h5": b"\x89HDF"}, "weights that there is no reader for"
    yield "weights-cut", {**config, "model.safetensors": by_hand(WEIGHTS)[:-1]}, "weights that end too early"
    yield "weights-git-lfs-pointer", {**config, "model.safetensors": b"version https://git-lfs.github.com/spec/v1\n"
                                      b"oid sha256:00\nsize 9\n"}, "a pointer to the weights"
    yield "weights-two-sets", {**config, "a.safetensors": by_hand(WEIGHTS), "b.safetensors": by_hand(WEIGHTS)}, \
        "two sets of unusual names"
    yield "index-names-missing-shard", {**config, "model.safetensors.index.json": index({"a": "gone.safetensors"}).encode()}, \
        "a shard that is not there"
    yield "index-leads-out", {**config, "model.safetensors.index.json": index({"a": "../../index/escape.safetensors"}).encode()}, \
        "a shard outside of the folder"
    yield "shard-without-others", {**config, "model-00001-of-00002.safetensors": by_hand(WEIGHTS)}, "one of two shards"
    deep = pickled(b"".join([EMPTY_LIST] * 2000) + b"a" * 1999)
    yield "arguments-nested", {**config, **weights, "training_args.bin": deep}, "arguments too deep for text, named"
    wide = pickled(EMPTY_LIST + b"".join(b"q" + bytes([at]) + b"0](h" + bytes([at]) + b"h" + bytes([at]) + b"e"
                                        for at in range(60)))
    yield "arguments-laughing", {**config, **weights, "training_args.bin": wide}, "arguments shared 2^60 times, named"
    yield "arguments-cut", {**config, **weights, "training_args.bin": training_args()[:-20]}, "arguments cut short, named"


def make(out):
    """Writes every file."""
    for folder, name, data, by, what in good():
        out.write(f"models/{folder}/{name}", data, by, what)
    for folder, files, what in bad():
        for name, data in files.items():
            out.write(f"bad/hf/{folder}/{name}", data, "hand", what)
