"""torch.onnx.export: the names and axes of weights that both exporters lose are those of the state dict again, or said to be lost."""

import contextlib
import io
import json
import logging

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

import hub
from common import SEED, THEIRS_TO_OURS, check, told

EXPORTERS = {True: "onnxscript", False: "torch"}
SLICE = ("bert", "llama")
NAMES = (*SLICE, "llama tied", "gpt2", "t5", "qwen2")


def run(judge):
    """All cases."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for dynamo in (True, False):
        parts(judge, dynamo)
    for name, kind, config in hub.configs():
        if name not in (NAMES if judge.full else SLICE):
            continue
        config._attn_implementation = "eager"
        model = hub.build(kind, config)
        for dynamo in (True, False):
            for fixed in (False, True) if judge.full else (False,):
                exported(judge, name, model, dynamo, fixed)
        if name == "bert":
            bare(judge, name, model)
            cast(judge, name, model)
        if name == "llama":
            unnamed(judge, name, model)
            for merged in (False, True):
                branches(judge, name, model, merged)


class Logits(torch.nn.Module):
    """A model as a function from tokens to logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, tokens):
        """Logits."""
        config = self.model.config
        more = {"decoder_input_ids": tokens} if config.is_encoder_decoder else {}
        if config.model_type != "bert":
            more |= {"use_cache": False, "attention_mask": torch.ones_like(tokens)}
        return self.model(input_ids=tokens, **more).logits


class Multiplies(torch.nn.Module):
    """What looks like linear layers and is none: two weights in one module, and one that is computed first."""

    def __init__(self, factor):
        super().__init__()
        self.one, self.other = (torch.nn.Parameter(torch.randn(8, 8)) for _ in range(2))
        self.factor = factor

    def forward(self, x):
        """Both products."""
        linear = torch.nn.functional.linear
        return linear(x, self.one * self.factor) + linear(x, self.other)


class Parts(torch.nn.Module):
    """What exporters name in their own ways: lists in lists, a module that is called twice, layers that are none."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.seq = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Sequential(nn.ReLU(), nn.Linear(8, 8, bias=False)))
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(2)) for _ in range(2))
        self.again, self.again_2 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.plain, self.scaled = Multiplies(1), Multiplies(3)
        self.attention, self.lstm = nn.MultiheadAttention(8, 2, batch_first=True), nn.LSTM(8, 8, batch_first=True)
        self.conv = nn.Conv1d(8, 8, 1)

    def forward(self, x):
        """All of them, one after the other."""
        x = self.again(self.seq(x))
        for layers in self.layers:
            for layer in layers:
                x = x + layer(x)
        x = self.scaled(self.plain(self.again_2(self.again(x))))
        x = x + self.attention(x, x, x)[0]
        return self.conv(self.lstm(x)[0].transpose(1, 2))


def parts(judge, dynamo):
    """Of a model of odd parts no weight is mistaken for another."""
    with judge.case(f"odd parts by torch.onnx.export, dynamo={dynamo}", EXPORTERS[dynamo], THEIRS_TO_OURS) as case:
        torch.manual_seed(SEED)
        model = Parts().eval()
        source = case.path("in.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(model, (torch.randn(2, 3, 8),), str(source), dynamo=dynamo,
                              **({"verbose": False} if dynamo else {"opset_version": 17}))
        expected = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
        n_restored, n_nameless = restored(case, source, expected, whole=False)
        # Six of lists and two that are called again or alike; of four products by no layer, notes tell two.
        check(n_restored == (10 if dynamo else 8), f"{n_restored} restored, {n_nameless} not")


def export(model, path, dynamo, fixed=True, length=7):
    """Exports a model; unless its lengths are fixed, what is looked up by position is not folded away."""
    tokens = torch.randint(0, hub.VOCABULARY, (2, length), generator=torch.Generator().manual_seed(SEED))
    more = {"verbose": False} if dynamo else {"opset_version": 17}
    if not fixed:
        axes = {0: "batch", 1: "sequence"}
        more |= {"dynamic_shapes": ({n: torch.export.Dim.DYNAMIC for n in axes},)} if dynamo else {"dynamic_axes": {"tokens": axes}}
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(Logits(model).eval(), (tokens,), str(path), dynamo=dynamo, input_names=["tokens"],
                          output_names=["logits"], **more)
    return path


def state(model):
    """The state dict of the module that is exported, as arrays."""
    return {name: tensor.numpy() for name, tensor in Logits(model).state_dict().items()}


def weights(path):
    """Every tensor of floats of a graph, in inner graphs too, by the name that it has there, each name once for each graph."""
    found = []

    def graph(proto):
        for tensor in proto.initializer:
            found.append((tensor.name, tensor))
        for node in proto.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    graph(attribute.g)
                elif node.op_type == "Constant" and attribute.name == "value":
                    found.append((node.output[0], attribute.t))

    graph(onnx.load(path).graph)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return [(name, numpy_helper.to_array(tensor)) for name, tensor in found if tensor.data_type in floats]


def same(one, other):
    """Whether two arrays are equal bit by bit."""
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def turned(array):
    """An array and its transpose."""
    return (array, np.ascontiguousarray(array.T)) if array.ndim == 2 else (array,)


def restored(case, source, expected, *options, whole=True):
    """Converts a graph, and compares with the state dict: right by name and value, or said to be nameless.

    Returns how many weights had lost their names and have them again, and how many are nameless."""
    judge = case.judge
    target = case.path("out.safetensors")
    result = judge.run("convert", source, target, "--json", "--verify", "--force", *options)
    check(result.returncode == 0, f"exit {result.returncode}: {told(result)}")
    report = json.loads(result.stdout)
    nameless = set(report["nameless"])
    found = load_file(target)
    there = weights(source)
    before = {item.name for item in judge.inspect(source)}
    for name, array in found.items():
        if name in expected:
            check(same(expected[name], array), f"{name} has another value")
        elif name not in nameless and array.dtype.kind == "f":
            check(name in before, f"a name from nowhere: {name}")
            alike = [key for key, value in expected.items() if value.ndim > 1 and any(same(value, way) for way in turned(array))]
            check(not alike, f"{name} is {alike} and nobody says that its name is lost")
    for name in nameless:
        check(name in found and name not in expected, f"{name} is nameless and is not there, or has a name")
    gone = []
    for name, value in expected.items():
        is_found = any(key in expected and same(value, array) for key, array in found.items())
        is_said = any(same(way, found[key]) for key in nameless for way in turned(value))
        if not (name in found or is_found or is_said):
            gone.append(name)
    # An exporter that is told a length computes with the weight, and keeps the result.
    kept = [name for name in gone if any(same(expected[name], way) for _, array in there for way in turned(array))]
    check(not kept, f"gone without a word: {kept[:5]}")
    check(not (gone and whole), f"the exporter left out {gone[:5]}")
    lost = {name for name in expected if name in found and name not in before}
    case.values += sum(found[name].size for name in expected if name in found)
    case.opened()
    case.note(f"{len(expected) - len(gone)} weights of {len(expected)}, {len(lost)} names restored, {len(nameless)} not")
    return len(lost), len(nameless)


def exported(judge, name, model, dynamo, fixed):
    """Every weight of a model as torch exports it has its name again."""
    length = "fixed length" if fixed else "any length"
    with judge.case(f"{name} by torch.onnx.export, dynamo={dynamo}, {length}", EXPORTERS[dynamo], THEIRS_TO_OURS) as case:
        source = export(model, case.path("in.onnx"), dynamo, fixed)
        n_restored, n_nameless = restored(case, source, state(model), whole=not fixed)
        n_linear = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
        # One that is tied to an embedding may be found under that.
        check(n_restored >= n_linear - 1 and n_nameless == 0, f"{n_restored} of {n_linear} restored, {n_nameless} not")
        again = case.convert(source, "same.onnx")
        check([(key, array.tobytes()) for key, array in weights(again)] == [(key, array.tobytes()) for key, array in weights(source)],
              "the graph's own names are not what they were")
        result = judge.run("verify", case.path("out.safetensors"), "--against", source)
        check(result.returncode == 0, f"verify --against: {told(result)}")


def stripped(source, target):
    """A graph whose nodes have neither names nor notes, as older exporters and optimizers leave it."""
    model = onnx.load(source)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
        del node.metadata_props[:]
    onnx.save(model, target)
    return target


def bare(judge, name, model):
    """Where nodes say nothing, biases do; one that is another module's too is not believed."""
    with judge.case(f"{name} without names of nodes", "onnx", THEIRS_TO_OURS) as case:
        source = export(model, case.path("in.onnx"), False, False)
        n_restored, n_nameless = restored(case, stripped(source, case.path("bare.onnx")), state(model))
        check((n_restored, n_nameless) == (13, 1), f"{n_restored} restored, {n_nameless} not")


def unnamed(judge, name, model):
    """Where nothing says anything, every weight is said to be nameless."""
    for dynamo in (True, False):
        with judge.case(f"{name} without names of nodes, dynamo={dynamo}", "onnx", THEIRS_TO_OURS) as case:
            source = export(model, case.path("in.onnx"), dynamo, False)
            n_restored, n_nameless = restored(case, stripped(source, case.path("bare.onnx")), state(model))
            check((n_restored, n_nameless) == (0, 15), f"{n_restored} restored, {n_nameless} not")


def cast(judge, name, model):
    """A graph that we have written in another type still shows what its weights were."""
    with judge.case(f"{name}, written by us as f16", "torch", THEIRS_TO_OURS) as case:
        source = export(model, case.path("in.onnx"), False, False)
        masks = [word for key, array in weights(source) if abs(array).max(initial=0) > 65504 for word in ("--keep-dtype", key)]
        half = case.convert(source, "half.onnx", "--dtype", "f16", *masks)
        expected = {key: value.astype(np.float16) for key, value in state(model).items()}
        n_restored, n_nameless = restored(case, half, expected)
        check(n_restored >= 14 and n_nameless == 0, f"{n_restored} restored, {n_nameless} not")


def branches(judge, name, model, merged):
    """The two graphs of a decoder under an If: each has copies of its own under names of its own, or they share them as
    optimum's merge has it."""
    manner = "shared as by a merge" if merged else "each with its own"
    with judge.case(f"{name} in two branches, weights {manner}", "onnx", THEIRS_TO_OURS) as case:
        one, other = (onnx.load(export(model, case.path(f"{length}.onnx"), False, length=length)) for length in (5, 1))
        shared = {}
        for proto in (one, other):
            for tensor in list(proto.graph.initializer) if merged else ():
                key = (tuple(tensor.dims), tensor.raw_data)
                if key not in shared:
                    shared[key] = onnx.TensorProto()
                    shared[key].CopyFrom(tensor)
                    shared[key].name = f"{tensor.name}_merged_0"
                for node in proto.graph.node:
                    node.input[:] = [shared[key].name if value == tensor.name else value for value in node.input]
            if merged:
                del proto.graph.initializer[:]
            del proto.graph.input[:]
            proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, None))
        node = helper.make_node("If", ["use_cache_branch"], ["logits"], "optimum::if", then_branch=other.graph, else_branch=one.graph)
        inputs = [helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]),
                  helper.make_tensor_value_info("tokens", TensorProto.INT64, [2, None])]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
        graph = helper.make_graph([node], "merged", inputs, outputs, list(shared.values()))
        source = case.path("merged.onnx")
        onnx.save(helper.make_model(graph, opset_imports=one.opset_import, ir_version=one.ir_version), source)
        n_restored, n_nameless = restored(case, source, state(model))
        check(n_restored >= 15 and n_nameless == 0, f"{n_restored} restored, {n_nameless} not")
