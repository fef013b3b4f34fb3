"""onnx and onnxruntime: graphs that take other weights, models that point into safetensors files, quantized storage."""

import contextlib
import io
import json
import logging

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from safetensors.torch import save_file

import bits
import hub
from common import EXIT_CANNOT_REPRESENT, EXIT_UNSUPPORTED, OURS_TO_THEIRS, SEED, THEIRS_TO_OURS, check
from suite_onnx import ONNX, RUNTIME, Logits, answers, equal

EXIT_USAGE = 2
WIDE, ROWS, OUT = 64, 48, 10  # widths of layers and rows of the embedding


def run(judge):
    """All cases."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    onnxruntime.set_default_logger_severity(4)
    reweighted(judge)
    linked(judge)
    unlinkable(judge)
    for name, quantize in QUANTIZERS.items():
        quantized(judge, name, quantize)
    operators(judge)


class Net(torch.nn.Module):
    """Weights of every kind that quantizers touch: an embedding, matrices, a convolution, a norm."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = torch.nn.Embedding(ROWS, WIDE)
        self.first = torch.nn.Linear(WIDE, ROWS)
        self.conv = torch.nn.Conv1d(ROWS, ROWS, 1)
        self.norm = torch.nn.LayerNorm(ROWS)
        self.second = torch.nn.Linear(ROWS, OUT)
        for parameter in self.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)

    def forward(self, tokens):
        """Numbers for tokens."""
        hidden = torch.relu(self.first(self.embed(tokens)))
        return self.second(self.norm(self.conv(hidden.transpose(1, 2)).transpose(1, 2)))


def tokens():
    """An input of the network."""
    return torch.randint(0, ROWS, (2, 7), generator=torch.Generator().manual_seed(SEED))


def export(model, path, dynamo=True, **how):
    """A graph in which weights keep their names and their axes, unless it is optimized or made by tracing."""
    how = {"optimize": False, "verbose": False, "external_data": False} | how if dynamo else how
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(model, (tokens(),), str(path), dynamo=dynamo, input_names=["tokens"], output_names=["logits"], **how)
    return path


def feeds():
    """The input by its name."""
    return {"tokens": tokens().numpy()}


def logits(model):
    """What torch computes."""
    with torch.no_grad():
        return [model(tokens()).numpy()]


def givers(case, tensors):
    """(path, options, tolerance) of the same weights as other programs keep them."""
    save_file(tensors, case.path("w.safetensors"))
    yield case.path("w.safetensors"), 1e-5
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, case.path("half.safetensors"))
    yield case.path("half.safetensors"), 2e-1
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    optimizer = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"params": [0]}]}
    torch.save({"state_dict": wrapped, "optimizer": optimizer, "epoch": 3}, case.path("w.ckpt"))
    yield case.path("w.ckpt"), 1e-5
    np.savez(case.path("w.npz"), **{name: tensor.numpy() for name, tensor in tensors.items()})
    yield case.path("w.npz"), 1e-5
    yield case.convert(case.path("w.safetensors"), "w.gguf", "--allow", "name"), 1e-5


def reweighted(judge):
    """A graph with the weights of another model computes what that model computes."""
    with judge.case("weights of another model", RUNTIME, OURS_TO_THEIRS) as case:
        source, other = export(Net(SEED), case.path("in.onnx")), Net(SEED + 1).eval()
        expected = logits(other)
        for path, tolerance in givers(case, other.state_dict()):
            for options in ((), ("--dtype", "f32"), ("--external-data", "--external-threshold", "0")):
                target = case.convert(source, f"{path.stem}{path.suffix}.{len(options)}.onnx", "--weights", path, "--verify",
                                      "--strict", *options)
                onnx.checker.check_model(str(target), full_check=True)
                equal(case, expected, answers(target, feeds()), tolerance)
    with judge.case("weights of another graph", RUNTIME, OURS_TO_THEIRS) as case:
        source, other = export(Net(SEED), case.path("in.onnx")), export(Net(SEED + 1), case.path("other.onnx"))
        target = case.convert(source, "out.onnx", "--weights", other, "--verify", "--strict")
        equal(case, answers(other, feeds()), answers(target, feeds()))
    with judge.case("weights that do not fit", RUNTIME, OURS_TO_THEIRS) as case:
        source = export(Net(SEED), case.path("in.onnx"))
        tensors = Net(SEED + 1).state_dict()
        partly = {"embed.weight": tensors["embed.weight"], "unknown": torch.zeros(1)}
        save_file(partly, case.path("partly.safetensors"))
        case.refused(source, "strict.onnx", EXIT_CANNOT_REPRESENT, "--weights", case.path("partly.safetensors"), "--strict")
        result = judge.run("convert", source, case.path("out.onnx"), "--weights", case.path("partly.safetensors"), "--json")
        found = {loss["subject"] for loss in json.loads(result.stdout)["losses"] if loss["kind"] == "unmatched"}
        check(found == set(tensors) - {"embed.weight"} | {"unknown"}, f"unmatched: {sorted(found)}")
        save_file({"embed.weight": torch.zeros(WIDE, ROWS)}, case.path("shape.safetensors"))
        case.refused(source, "no.onnx", EXIT_CANNOT_REPRESENT, "--weights", case.path("shape.safetensors"))
        save_file({"other": torch.zeros(1)}, case.path("none.safetensors"))
        case.refused(source, "no.onnx", EXIT_CANNOT_REPRESENT, "--weights", case.path("none.safetensors"))
        case.values += len(found)
    for name, kind, config in hub.configs():
        if name not in (("bert", "gpt2", "llama") if judge.full else ("bert",)):
            continue
        with judge.case(f"weights of a {name} directory", RUNTIME, OURS_TO_THEIRS) as case:
            config._attn_implementation = "eager"
            first, second = hub.build(kind, config), hub.build(kind, config)
            with torch.no_grad():
                for parameter in second.parameters():
                    parameter *= 1.25
            second.save_pretrained(case.path("tuned"))
            wrapped = [Logits(model, False, name != "bert").eval() for model in (first, second)]
            source, expected = [export(model, case.path(f"{idx}.onnx")) for idx, model in enumerate(wrapped)]
            # The wrapper's own prefix is the graph's; an output whose names are the model's is what users have.
            bare = case.convert(source, "bare.onnx", "--rename", "^model[.](.*)$=$1")
            target = case.convert(bare, "out.onnx", "--weights", case.path("tuned"), "--verify")
            equal(case, answers(expected, {"tokens": tokens().numpy()}), answers(target, {"tokens": tokens().numpy()}))
            exporters(case, wrapped)


def exporters(case, models):
    """Weights that an exporter has renamed and turned over take those of the state dict, whichever exporter it was."""
    # Embeddings of positions that are constants are looked up by the optimizer, and no weights any more.
    with torch.no_grad():
        for (name, ours), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
            if "position" in name or "wpe" in name:
                theirs.copy_(ours)
    save_file({name: tensor.contiguous().clone() for name, tensor in models[1].state_dict().items()}, case.path("state.safetensors"))
    for dynamo in (True, False):
        how = {"optimize": True} if dynamo else {"dynamo": False, "opset_version": 17}
        first, second = [export(model, case.path(f"{dynamo} {idx}.onnx"), **how) for idx, model in enumerate(models)]
        target = case.convert(first, f"{dynamo} out.onnx", "--weights", case.path("state.safetensors"), "--verify")
        onnx.checker.check_model(str(target), full_check=True)
        equal(case, answers(second, {"tokens": tokens().numpy()}), answers(target, {"tokens": tokens().numpy()}))


def linked(judge):
    """A model that points into safetensors files is checked in full, loads, and computes the same."""
    with judge.case("points into safetensors", RUNTIME, OURS_TO_THEIRS) as case:
        source, other = export(Net(SEED), case.path("in.onnx")), Net(SEED + 1).eval()
        tensors = other.state_dict()
        case.path("below").mkdir()
        save_file(tensors, case.path("w.safetensors"))
        save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, case.path("below/half.safetensors"))
        case.convert(case.path("w.safetensors"), "w.safetensors.index.json", "--shard-size", "10kB")
        for path, tolerance in (("w.safetensors", 1e-5), ("below/half.safetensors", 2e-1), ("w.safetensors.index.json", 1e-5)):
            target = case.convert(source, f"{case.path(path).stem}.onnx", "--weights", case.path(path), "--link", "--verify", "--strict")
            check(target.stat().st_size < 60_000, f"{target.stat().st_size} bytes, so weights were copied")
            onnx.checker.check_model(str(target), full_check=True)
            equal(case, logits(other), answers(target, feeds()), tolerance)
            entries = [{entry.key: entry.value for entry in tensor.external_data}
                       for tensor in onnx.load(target, load_external_data=False).graph.initializer if tensor.external_data]
            check(len(entries) == len(tensors), f"{len(entries)} tensors of {len(tensors)} point elsewhere")
            check(all(set(entry) == {"location", "offset", "length"} for entry in entries), f"entries are {entries[0]}")
            back, _ = bits.raw_safetensors(case.convert(target, "back.safetensors", "--force"))
            given, _ = bits.raw_safetensors(case.convert(case.path(path), "given.safetensors", "--force"))
            case.same(given, {name: back[name] for name in given})
    with judge.case("a bag that points into safetensors", ONNX, OURS_TO_THEIRS) as case:
        tensors = Net(SEED).state_dict()
        save_file(tensors, case.path("w.safetensors"))
        target = case.convert(case.path("w.safetensors"), "out.onnx", "--link", "--verify")
        onnx.checker.check_model(str(target), full_check=True)
        found = {proto.name: numpy_helper.to_array(proto) for proto in onnx.load(target).graph.initializer}
        check({name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
              == {name: array.tobytes() for name, array in found.items()}, "onnx sees other values")
        check(target.stat().st_size < 2000, "weights were copied")
        case.opened()
        case.values += sum(array.size for array in found.values())


def unlinkable(judge):
    """Files that onnx or onnxruntime refuses to follow are refused before anything is written."""
    with judge.case("files that nothing may point into", ONNX, OURS_TO_THEIRS) as case:
        save_file({"w": torch.zeros(64)}, case.path("w.safetensors"))
        case.path("below").mkdir()
        case.refused(case.path("w.safetensors"), "below/out.onnx", EXIT_USAGE, "--link")
        case.path("hard.safetensors").hardlink_to(case.path("w.safetensors"))
        case.refused(case.path("hard.safetensors"), "out.onnx", EXIT_USAGE, "--link")
        case.path("hard.safetensors").unlink()
        case.path("below/soft.safetensors").symlink_to(case.path("w.safetensors"))
        case.refused(case.path("below/soft.safetensors"), "below/out.onnx", EXIT_USAGE, "--link")
        case.values += 3


def dynamic(source, target):
    """Integers with scales computed on the way."""
    quantization.quantize_dynamic(source, target, per_channel=True)


class Calibration(quantization.CalibrationDataReader):
    """A few inputs."""

    def __init__(self):
        self.left = iter([feeds()] * 2)

    def get_next(self):
        """The next input."""
        return next(self.left, None)


def static(form, per_channel, kind):
    """Integers with scales from a calibration."""
    def quantize(source, target):
        quantization.quantize_static(source, target, Calibration(), quant_format=form, per_channel=per_channel,
                                     weight_type=kind, activation_type=UINT8 if kind == UINT8 else INT8)
    return quantize


def blocks(form, bits_, size, symmetric):
    """A few bits in blocks."""
    def quantize(source, target):
        config = DefaultWeightOnlyQuantConfig(block_size=size, is_symmetric=symmetric, quant_format=form, bits=bits_)
        quantizer = MatMulNBitsQuantizer(onnx.load(source), algo_config=config)
        quantizer.process()
        onnx.save(quantizer.model.model, target)
    return quantize


QOPERATOR, QDQ = quantization.QuantFormat.QOperator, quantization.QuantFormat.QDQ
INT8, UINT8 = quantization.QuantType.QInt8, quantization.QuantType.QUInt8
QUANTIZERS = {
    "dynamic": dynamic,
    "static QDQ per tensor": static(QDQ, False, INT8),
    "static QDQ per channel": static(QDQ, True, INT8),
    "static operators": static(QOPERATOR, False, UINT8),
    "4 bits, blocks of 16": blocks(QOPERATOR, 4, 16, True),
    "4 bits, blocks of 32 with zero points": blocks(QOPERATOR, 4, 32, False),
    "8 bits, blocks of 32": blocks(QOPERATOR, 8, 32, False),
    "4 bits QDQ, blocks of 16": blocks(QDQ, 4, 16, False),
}


def quantized(judge, name, quantize):
    """What a quantizer of onnxruntime makes is described, carried with its graph, and never taken for plain integers."""
    with judge.case(f"quantized, {name}", RUNTIME, THEIRS_TO_OURS) as case:
        plain, source = export(Net(SEED), case.path("plain.onnx"), optimize=True), case.path("in.onnx")
        quantize(str(plain), str(source))
        model = onnx.load(source)
        expected = answers(source, feeds())
        equal(case, expected, answers(case.convert(source, "same.onnx", "--verify", "--strict"), feeds()))
        listed = json.loads(judge.run("inspect", source, "--json").stdout)["tensors"]
        codes = {tensor["name"]: tensor["codes"] for tensor in listed if "codes" in tensor}
        wanted = codes_of(model)
        check(set(codes) == set(wanted), f"codes are {sorted(codes)}, not {sorted(wanted)}")
        wrong = [key for key, value in codes.items() if value["operator"] not in wanted[key]]
        check(not wrong, f"operators of {wrong}")
        case.refused(source, "no.safetensors", EXIT_CANNOT_REPRESENT)
        if all(tensor["dtype"] != "u4" for tensor in listed):  # which safetensors has not
            raw, _ = bits.raw_safetensors(case.convert(source, "raw.safetensors", "--allow", "dtype"))
            check(set(raw) >= set(wanted), "codes were left out")
        case.refused(source, "half.onnx", EXIT_UNSUPPORTED, "--dtype", "f16")
        unknown = [key for key, value in codes.items() if value["groups"] == "unknown"]
        if unknown:
            case.refused(source, "no.safetensors", EXIT_UNSUPPORTED, "--dtype", "f32")
        options = [word for key in unknown for word in ("--keep-dtype", key)]
        target = case.convert(source, "numbers.safetensors", "--dtype", "f32", "--allow", "dtype", "--verify", *options)
        numbers, _ = bits.raw_safetensors(target)
        same_numbers(case, model, {key: value for key, value in codes.items() if key not in unknown}, numbers)


def codes_of(model):
    """Initializers that quantizing operators take, by name, with the operators; through what only moves them."""
    at = {"DequantizeLinear": (0,), "QLinearMatMul": (0, 3), "QLinearConv": (3, 8), "MatMulInteger": (0, 1), "ConvInteger": (1,),
          "QGemm": (0, 3, 6), "MatMulNBits": (1,), "MatMulIntegerToFloat": (1,), "DynamicQuantizeMatMul": (1,)}
    integers = {proto.name for proto in model.graph.initializer
                if proto.data_type not in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL)}
    made_by = {output: node for node in model.graph.node for output in node.output}
    found = {}
    for node in model.graph.node:
        for position in at.get(node.op_type, ()):
            name = node.input[position] if position < len(node.input) else ""
            while name in made_by and made_by[name].op_type in ("Gather", "Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze"):
                name = made_by[name].input[0]
            if name in integers:
                found.setdefault(name, set()).add(node.op_type)
    return found


def same_numbers(case, model, codes, numbers):
    """Codes became what onnxruntime makes of them."""
    initializers = {proto.name: proto for proto in model.graph.initializer}
    for name, told in codes.items():
        nodes = [node for node in model.graph.node if name in node.input and node.op_type == told["operator"]]
        found = np.frombuffer(numbers[name].data, np.float32).reshape(numbers[name].shape)
        if told["groups"] == "packed":
            expected = matrix(nodes[0], initializers)
        else:
            used = [name, told["scale"], *([told["zero_point"]] if told["zero_point"] else [])]
            expected = dequantized([initializers[key] for key in used], told)
        check(found.shape == expected.shape and np.array_equal(found, expected), f"{name} is {found.shape}, and differs")
        case.values += found.size


def dequantized(protos, told):
    """What `DequantizeLinear` makes of codes."""
    attributes = {key: told[key] for key in ("axis", "block_size") if key in told}
    squeezed = []
    for proto in protos[1:]:
        array = numpy_helper.to_array(proto)
        squeezed.append(numpy_helper.from_array(array.reshape(()) if told["groups"] == "tensor" else array, proto.name))
    node = helper.make_node("DequantizeLinear", [proto.name for proto in protos], ["y"], **attributes)
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
                              [protos[0], *squeezed])
    return computed(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), {})


def matrix(node, initializers):
    """What `MatMulNBits` multiplies by, as what it makes of the unit matrix, exactly: one product of each sum is not 0."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    rows, columns = attributes["N"], attributes["K"]
    attributes.pop("accuracy_level", None)
    alone = helper.make_node(node.op_type, ["x", *node.input[1:]], ["y"], domain=node.domain, **attributes)
    graph = helper.make_graph([alone], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [columns, columns])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [columns, rows])],
                              [initializers[name] for name in node.input[1:] if name])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return computed(helper.make_model(graph, opset_imports=opsets, ir_version=10), {"x": np.eye(columns, dtype=np.float32)}).T


def computed(model, inputs):
    """The one output of a model in memory."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def operators(judge):
    """Operators that no quantizer here writes."""
    with judge.case("GatherBlockQuantized", RUNTIME, THEIRS_TO_OURS) as case:
        generator = np.random.default_rng(SEED)
        codes = generator.integers(0, 256, (6, 16), dtype=np.uint8)
        scales = generator.standard_normal((6, 2)).astype(np.float32)
        zeros = generator.integers(0, 256, (6, 1), dtype=np.uint8)
        node = helper.make_node("GatherBlockQuantized", ["data", "x", "scales", "zeros"], ["y"], domain="com.microsoft",
                                bits=4, block_size=16, gather_axis=0, quantize_axis=1)
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.INT64, [6])],
                                  [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6, 32])],
                                  [numpy_helper.from_array(array, name)
                                   for array, name in ((codes, "data"), (scales, "scales"), (zeros, "zeros"))])
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        source = case.path("in.onnx")
        onnx.save(model, source)
        expected = computed(model, {"x": np.arange(6)})
        numbers, _ = bits.raw_safetensors(case.convert(source, "out.safetensors", "--dtype", "f32", "--verify"))
        found = np.frombuffer(numbers["data"].data, np.float32).reshape(numbers["data"].shape)
        check(list(numbers) == ["data"] and np.array_equal(found, expected), f"{list(numbers)}: {found.shape} differs")
        case.opened()
        case.values += found.size
