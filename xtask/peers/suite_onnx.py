"""onnx and onnxruntime: models they write are read, models we write are checked in full, hold the same weights and compute the same."""

import contextlib
import io
import logging

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import AttributeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

import bits
import hub
import models
from common import OURS_TO_THEIRS, ROUND_TRIP, SEED, TESTDATA, THEIRS_TO_OURS, check

ONNX, RUNTIME, EXPORTER = "onnx", "onnxruntime", "onnxscript"
SAVED = [name for name, row in bits.TYPES.items() if row[0] and row[1]]
NUMBERS = {"f32": 1, "u8": 2, "i8": 3, "u16": 4, "i16": 5, "i32": 6, "i64": 7, "bool": 9, "f16": 10, "f64": 11, "u32": 12,
           "u64": 13, "c64": 14, "c128": 15, "bf16": 16, "f8_e4m3": 17, "f8_e4m3fnuz": 18, "f8_e5m2": 19,
           "f8_e5m2fnuz": 20, "u4": 21, "i4": 22, "f4_e2m1": 23, "f8_e8m0": 24, "u2": 25, "i2": 26}
NAMES = {number: name for name, number in NUMBERS.items()}
METADATA = {"license": "MIT", "größe": "klein 🦙", "empty": ""}
OUTSIDE = ("--external-data", "--external-threshold", "0")
EVERYWHERE = ("--rename", "^(.*)$=ours/$1")
# Masks hold the lowest number of f32, which no smaller type has.
MASKS = {"where*": "where", "*Constant*": "Constant"}  # pattern, and what is in the names that it matches
TOLERANCE = {"f16": 2e-2, "bf16": 1e-1}


def run(judge):
    """All cases."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    onnxruntime.set_default_logger_severity(4)
    theirs(judge)
    for name, tensors, metadata in sources():
        bag(judge, name, tensors, metadata)
    found = sorted((TESTDATA / "models").rglob("*.onnx"))
    for path in (path for path in found if path.relative_to(TESTDATA / "models").parts[0].startswith("onnx-")):
        fixture(judge, path)
    pieces(judge)
    checksum(judge)
    cached(judge)
    for name, kind, config in hub.configs():
        if name in ("bert", "gpt2", "llama", "t5"):
            for dynamo in (True, False):
                exported(judge, name, kind, config, dynamo)


def weights(path):
    """Every tensor of a model as onnx sees it, in the order of the file: initializers and constants, in graphs of any depth."""
    found = []

    def tensor(proto, name):
        if proto.data_type != TensorProto.STRING:
            array = np.ascontiguousarray(numpy_helper.to_array(proto))
            found.append((name, proto.data_type, tuple(proto.dims), array.tobytes()))

    def sparse(proto, name):
        tensor(proto.values, f"{name}.values")
        tensor(proto.indices, f"{name}.indices")

    def nodes(all_nodes):
        for node in all_nodes:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    graph(attribute.g)
                elif node.op_type == "Constant" and attribute.name == "value":
                    tensor(attribute.t, node.output[0])
                elif node.op_type == "Constant" and attribute.name == "sparse_value":
                    sparse(attribute.sparse_tensor, node.output[0])
                elif node.op_type == "Constant" and not attribute.name.startswith("value_string"):
                    value = np.array(helper.get_attribute_value(attribute))
                    tensor(numpy_helper.from_array(value.astype(np.float32 if value.dtype.kind == "f" else np.int64)),
                           node.output[0])

    def graph(proto):
        nodes(proto.node)
        for initializer in proto.initializer:
            tensor(initializer, initializer.name)
        for initializer in proto.sparse_initializer:
            sparse(initializer, initializer.values.name)

    model = onnx.load(path)
    graph(model.graph)
    for function in model.functions:
        nodes(function.node)
    return found


def checked(case, path):
    """The checker takes it, by its path and in full."""
    onnx.checker.check_model(str(path), full_check=True)
    case.opened()
    return weights(path)


def same(case, expected, found):
    """Types, shapes and values are the same, in the same order; so are names unless they are left out."""
    check(len(expected) == len(found), f"{len(found)} tensors of {len(expected)}")
    wrong = [name for (name, *rest), (_, *other) in zip(expected, found) if rest != other]
    check(not wrong, f"other values: {wrong[:5]}")
    case.values += sum(int(np.prod(shape)) for _, _, shape, _ in found)


def answers(path, feeds):
    """What onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def feeds_of(path):
    """Inputs for a model, seeded; nothing if it has no output."""
    model = onnx.load(path)
    if not model.graph.output:
        return None
    generator = np.random.default_rng(SEED)
    known = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in known:
            shape = [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            numbers = np.array(generator.standard_normal(shape))
            feeds[value.name] = np.array(numbers > 0) if dtype == np.bool_ else numbers.astype(dtype)
    return feeds


def equal(case, expected, found, tolerance=0.0):
    """Outputs are the same, bit by bit or nearly."""
    check(len(expected) == len(found), "another number of outputs")
    for one, other in zip(expected, found):
        worst = np.max(np.abs(one.astype(np.float64) - other.astype(np.float64)), initial=0.0)
        check(one.shape == other.shape and worst <= tolerance, f"outputs differ by {worst}")
        case.values += other.size
    case.opened()


def theirs(judge):
    """Tensors by onnx's own helpers, raw and in typed fields, come through."""
    for raw in (True, False):
        with judge.case(f"every type by onnx, {'raw' if raw else 'typed'}", ONNX, THEIRS_TO_OURS) as case:
            tensors = models.every_dtype([name for name in SAVED if name != "c128"])
            protos = []
            for name, tensor in tensors.items():
                array = bits.to_numpy(tensor)
                proto = numpy_helper.from_array(array, name)
                if not raw and tensor.dtype not in ("f16", "bf16") and not tensor.dtype.startswith("f8"):
                    proto = helper.make_tensor(name, NUMBERS[tensor.dtype], tensor.shape, array.flatten().tolist())
                protos.append(proto)
            model = helper.make_model(helper.make_graph([], "g", [], [], protos))
            source = case.path("in.onnx")
            onnx.save(model, source)
            case.listed(source, tensors)
            found, _ = bits.raw_safetensors(case.convert(source, "out.safetensors"))
            case.same(tensors, found)


def varint(value):
    """A number as protobuf packs it."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def pieces(judge):
    """Repeated numbers may be packed in several pieces, and stand unpacked between them."""
    with judge.case("numbers in several pieces", ONNX, THEIRS_TO_OURS) as case:
        values = [0, -1, 127, 128, -(1 << 40), 1 << 62, 5, 300]
        packed = lambda numbers: (lambda data: b"\x3a" + varint(len(data)) + data)(b"".join(map(varint, numbers)))
        alone = lambda numbers: b"".join(b"\x38" + varint(number) for number in numbers)
        ways = {"two": packed(values[:3]) + packed(values[3:]), "apart": packed(values[:2]) + packed([]) + packed(values[2:]),
                "mixed": packed(values[:5]) + alone(values[5:]), "behind": alone(values[:3]) + packed(values[3:6]) + packed(values[6:])}
        protos = []
        for name, data in ways.items():
            shell = TensorProto(name=name, data_type=TensorProto.INT64, dims=[len(values)])
            protos.append(shell.SerializeToString() + data)
        graph = helper.make_graph([], "g", [], []).SerializeToString()
        graph += b"".join(b"\x2a" + varint(len(proto)) + proto for proto in protos)
        source = case.path("in.onnx")
        source.write_bytes(b"\x08\x08\x42\x02\x10\x11\x3a" + varint(len(graph)) + graph)
        expected = {proto.name: bits.of_numpy(numpy_helper.to_array(proto)) for proto in onnx.load(source).graph.initializer}
        check(all(list(np.frombuffer(tensor.data, np.int64)) == values for tensor in expected.values()), "onnx sees others")
        found, _ = bits.raw_safetensors(case.convert(source, "out.safetensors", "--verify"))
        case.same(expected, found)
        case.opened()


def sources():
    """(name, tensors, metadata) of files without a graph."""
    yield "every dtype", models.every_dtype(SAVED), None
    yield "shapes", models.shapes(), None
    yield "names", models.names(), None
    yield "metadata", {"w": models.random("f32", (3,))}, METADATA
    yield "checkpoint", models.checkpoint(), None


def bag(judge, name, tensors, metadata):
    """Weights alone become a file that onnx checks and loads, in one file and with data beside it."""
    for options, manner in (((), "one file"), (OUTSIDE, "data beside"), (("--shard-size", "2kB"), "data in files")):
        with judge.case(f"{name}, {manner}", ONNX, OURS_TO_THEIRS) as case:
            source = case.path("in.safetensors")
            save_file({key: bits.to_numpy(tensor) for key, tensor in tensors.items()}, source, metadata)
            target = case.convert(source, "out.onnx", *options)
            found = {name: bits.Tensor(NAMES[number], shape, data) for name, number, shape, data in checked(case, target)}
            case.same(tensors, found)
            kept = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
            check(all(kept.get(key) == value for key, value in (metadata or {}).items()), f"metadata became {kept}")
            back, _ = bits.raw_safetensors(case.convert(target, "back.safetensors"))
            case.same(tensors, back)


def fixture(judge, path):
    """A fixture written anew, with data beside it and under other names, is to onnx and onnxruntime what it was."""
    name = str(path.relative_to(TESTDATA / "models"))
    expected = weights(path)
    feeds = feeds_of(path)
    with judge.case(f"fixture {name}", ONNX, ROUND_TRIP) as case:
        for idx, options in enumerate(((), OUTSIDE, EVERYWHERE)):
            same(case, expected, checked(case, case.convert(path, f"{idx}.onnx", *options)))
    if feeds is not None:
        with judge.case(f"fixture {name}", RUNTIME, ROUND_TRIP) as case:
            before = answers(path, feeds)
            for idx, options in enumerate(((), OUTSIDE, EVERYWHERE)):
                equal(case, before, answers(case.convert(path, f"{idx}.onnx", *options), feeds))


def checksum(judge):
    """A data file of another SHA-1 than onnx's helper states is found by verify."""
    with judge.case("stated checksum", ONNX, THEIRS_TO_OURS) as case:
        folder = case.path("model")
        folder.mkdir()
        source = TESTDATA / "models/onnx-external"
        for name in ("model.onnx", "weights.data", "whole.data", "sub/weights.data"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes((source / name).read_bytes())
        check(judge.run("verify", folder / "model.onnx").returncode == 0, "it was right, and verify fails")
        data = bytearray((folder / "weights.data").read_bytes())
        data[17] ^= 1  # between two tensors
        (folder / "weights.data").write_bytes(data)
        check(judge.run("verify", folder / "model.onnx").returncode == 1, "verify did not notice")
        case.opened(2)
        case.values += 1


def cached(judge):
    """A model and its data as the hub's cache lays them out, links into blobs, which onnxruntime takes too."""
    with judge.case("the hub's cache, data beside", RUNTIME, THEIRS_TO_OURS) as case:
        plain = case.path("plain")
        source = case.convert(TESTDATA / "models/onnx-mlp.onnx", "plain/model.onnx", *OUTSIDE)
        snapshot = hub.cached(plain, case.path("cache"))
        feeds = feeds_of(source)
        expected = weights(source)
        equal(case, answers(source, feeds), answers(snapshot / "model.onnx", feeds))
        same(case, expected, checked(case, case.convert(snapshot / "model.onnx", "out.onnx")))


class Logits(torch.nn.Module):
    """A model as a function from tokens to logits."""

    def __init__(self, model, is_both, is_causal):
        super().__init__()
        self.model, self.is_both, self.is_causal = model, is_both, is_causal

    def forward(self, tokens):
        """Logits."""
        more = {"decoder_input_ids": tokens} if self.is_both else {}
        if self.is_causal:
            more |= {"use_cache": False, "attention_mask": torch.ones_like(tokens)}
        return self.model(input_ids=tokens, **more).logits


def exported(judge, name, kind, config, dynamo):
    """A model as torch exports it computes the same after us: as it is, moved, renamed, and nearly the same when cast."""
    program = EXPORTER if dynamo else RUNTIME
    with judge.case(f"{name} by torch.onnx.export, dynamo={dynamo}", program, THEIRS_TO_OURS) as case:
        config._attn_implementation = "eager"
        model = Logits(hub.build(kind, config), name == "t5", name != "bert").eval()
        tokens = torch.randint(0, hub.VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(SEED))
        source = case.path("in.onnx")
        more = {"verbose": False} if dynamo else {"opset_version": 17}
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(model, (tokens,), str(source), dynamo=dynamo, input_names=["tokens"],
                              output_names=["logits"], **more)
        feeds = {"tokens": tokens.numpy()}
        before, expected = answers(source, feeds), weights(source)
        for idx, options in enumerate(((), ("--external-data",), OUTSIDE, EVERYWHERE)):
            target = case.convert(source, f"{idx}.onnx", "--verify", *options)
            same(case, expected, checked(case, target))
            equal(case, before, answers(target, feeds))
        kept = [pattern for pattern, part in MASKS.items() if any(part in key for key, *_ in expected)]
        options = [word for pattern in kept for word in ("--keep-dtype", pattern)]
        for dtype, tolerance in TOLERANCE.items():
            target = case.convert(source, f"{dtype}.onnx", "--verify", "--dtype", dtype, *options)
            onnx.checker.check_model(str(target), full_check=True)
            equal(case, before, answers(target, feeds), tolerance)
