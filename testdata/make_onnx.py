"""Good ONNX files: every element type in every form, tensors wherever they can stand, data in other files, graphs."""

import hashlib
import struct

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

import rawonnx
from make_safetensors import rng

T = TensorProto
# Number of the type, numpy's type, number of the field of typed elements.
TYPES = {
    "float": (T.FLOAT, np.float32, 4), "uint8": (T.UINT8, np.uint8, 5), "int8": (T.INT8, np.int8, 5),
    "uint16": (T.UINT16, np.uint16, 5), "int16": (T.INT16, np.int16, 5), "int32": (T.INT32, np.int32, 5),
    "int64": (T.INT64, np.int64, 7), "bool": (T.BOOL, np.bool_, 5), "float16": (T.FLOAT16, np.float16, 5),
    "double": (T.DOUBLE, np.float64, 10), "uint32": (T.UINT32, np.uint32, 11), "uint64": (T.UINT64, np.uint64, 11),
    "complex64": (T.COMPLEX64, np.complex64, 4), "complex128": (T.COMPLEX128, np.complex128, 10),
    "bfloat16": (T.BFLOAT16, ml_dtypes.bfloat16, 5), "float8e4m3fn": (T.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn, 5),
    "float8e4m3fnuz": (T.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz, 5),
    "float8e5m2": (T.FLOAT8E5M2, ml_dtypes.float8_e5m2, 5),
    "float8e5m2fnuz": (T.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz, 5),
    "float8e8m0": (T.FLOAT8E8M0, ml_dtypes.float8_e8m0fnu, 5), "uint4": (T.UINT4, ml_dtypes.uint4, 5),
    "int4": (T.INT4, ml_dtypes.int4, 5), "float4e2m1": (T.FLOAT4E2M1, ml_dtypes.float4_e2m1fn, 5),
    "uint2": (T.UINT2, ml_dtypes.uint2, 5), "int2": (T.INT2, ml_dtypes.int2, 5),
}
BITS = {"uint4": 4, "int4": 4, "float4e2m1": 4, "uint2": 2, "int2": 2}
REAL = ("float", "float16", "double", "complex64", "complex128")
NEWEST = {"ir": 13, "opset": 25}


def packed_bytes(kind, shape):
    """Random elements of a type as raw data holds them."""
    generator = rng(f"onnx {kind}")
    count = int(np.prod(shape))
    if kind == "bool":
        return generator.integers(0, 2, count, dtype=np.uint8).tobytes()
    if kind in BITS:
        codes = generator.integers(0, 1 << BITS[kind], count)
        out = bytearray(-(-count * BITS[kind] // 8))
        for at, code in enumerate(codes):
            out[at * BITS[kind] // 8] |= int(code) << (at * BITS[kind] % 8)
        return bytes(out)
    width = np.dtype(TYPES[kind][1]).itemsize
    if kind in REAL:
        n_parts = 2 if kind.startswith("complex") else 1
        return generator.standard_normal(count * n_parts).astype(f"<f{width // n_parts}").tobytes()
    return generator.integers(0, 256, count * width, dtype=np.uint8).tobytes()


def values(kind, raw):
    """What stands in the typed field for raw data: numbers or bit patterns."""
    number, dtype, field = TYPES[kind]
    if field in (4, 10):
        return np.frombuffer(raw, "<f4" if field == 4 else "<f8").tolist()
    if kind in BITS:
        return list(raw)
    width = np.dtype(dtype).itemsize
    sign = "i" if kind.startswith("int") else "u"
    return np.frombuffer(raw, f"<{sign}{width}").tolist()


def shape_of(kind):
    """An odd number of elements where several share a byte."""
    return (3, 3) if kind in BITS else (2, 3)


def typed(kind, packed):
    """The body of a tensor whose elements are in the field of its type, packed or one by one."""
    number, _, field = TYPES[kind]
    shape = shape_of(kind)
    one = {4: rawonnx.f32, 10: rawonnx.f64}.get(field, rawonnx.num)
    numbers = values(kind, packed_bytes(kind, shape))
    fields = b"".join(one(field, value) for value in numbers)
    if packed:
        skip = len(rawonnx.tag(field, 0))
        fields = rawonnx.sub(field, b"".join(one(field, value)[skip:] for value in numbers))
    return rawonnx.tensor(fields, name=kind, dims=shape, kind=number)


def dtypes_raw():
    """Every type in raw data, written by onnx."""
    tensors = []
    for kind, (number, _, _) in TYPES.items():
        shape = shape_of(kind)
        tensors.append(T(dims=shape, data_type=number, name=kind, raw_data=packed_bytes(kind, shape)))
    graph = helper.make_graph([], "dtypes", [], [], initializer=tensors)
    return finished(graph, ir=13, opset=25)


def finished(graph, ir=8, opset=17, functions=(), metadata=(), domains=()):
    """A model by onnx, checked by it, whose graph stands last: a file that is cut elsewhere is a whole one too."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    whole = helper.make_model(graph, ir_version=ir, opset_imports=imports, functions=list(functions),
                              producer_name="make_onnx")
    helper.set_model_props(whole, dict(metadata))
    onnx.checker.check_model(whole, full_check=True)
    tail = onnx.ModelProto()
    tail.graph.CopyFrom(whole.graph)
    whole.ClearField("graph")
    return whole.SerializeToString() + tail.SerializeToString()


def shapes():
    """No elements, one, many dimensions of one, a field of dimensions that is packed."""
    floats = lambda n: rawonnx.sub(9, struct.pack(f"<{n}f", *range(n)))
    scalar = rawonnx.tensor(floats(1), name="scalar", dims=())
    empty = rawonnx.tensor(name="empty", dims=(0, 5))
    empty_raw = rawonnx.tensor(rawonnx.sub(9, b""), name="empty raw", dims=(2, 0))
    ones = rawonnx.tensor(floats(2), name="ones", dims=(1, 1, 2, 1, 1, 1, 1, 1, 1))
    dims = rawonnx.sub(1, rawonnx.varint(2), rawonnx.varint(3))
    packed = dims + rawonnx.num(2, 1) + floats(6) + rawonnx.sub(8, "packed dims")
    # Fields in another order than any program writes them, and elements in two pieces.
    pieces = (rawonnx.sub(8, "pieces") + rawonnx.sub(4, struct.pack("<f", 1)) + rawonnx.num(2, 1)
              + rawonnx.f32(4, 2) + rawonnx.f32(4, 3) + rawonnx.num(1, 3))
    unkind = rawonnx.tensor(floats(1), name="größe 重み 🦙/\"quoted\"", dims=(1,))
    return rawonnx.initializers(scalar, empty, empty_raw, ones, packed, pieces, unkind)


def value(name, kind=T.FLOAT, shape=None):
    """An input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def array(name, kind, shape, seed=""):
    """A tensor of random floats."""
    data = rng(f"onnx {name}{seed}").standard_normal(shape).astype(np.float32)
    return onnx.numpy_helper.from_array(data, name)


def constants():
    """Constant in every form, and an argument that is no weight."""
    make = lambda output, **how: helper.make_node("Constant", [], [output], name=f"make {output}", **how)
    nodes = [
        make("tensor", value=array("inner", T.FLOAT, (2, 2))),
        make("float", value_float=1.5),
        make("floats", value_floats=[0.5, -2.0, 3.25]),
        make("int", value_int=-7),
        make("ints", value_ints=[2, 2, -1, 1 << 40]),
        make("text", value_string="hello"),
        make("texts", value_strings=["a", "b", "c"]),
        helper.make_node("Add", ["tensor", "float"], ["sum"]),
        helper.make_node("ConstantOfShape", ["shape"], ["filled"],
                         value=helper.make_tensor("fill", T.FLOAT, [1], [2.0])),
        helper.make_node("Identity", ["floats"], ["out floats"]),
        helper.make_node("Identity", ["ints"], ["out ints"]),
        helper.make_node("Identity", ["int"], ["out int"]),
    ]
    shape = helper.make_tensor("shape", T.INT64, [2], [2, 2])
    outputs = [value("sum", shape=[2, 2]), value("filled", shape=[2, 2]), value("out floats", shape=[3]),
               value("out ints", T.INT64, [4]), value("out int", T.INT64, [])]
    return finished(helper.make_graph(nodes, "constants", [], outputs, initializer=[shape]))


def branch(name, *seeds):
    """A graph of a branch: an initializer and a constant, both of names that the other branch uses too."""
    nodes = [helper.make_node("Constant", [], ["c"], value=array("", T.FLOAT, (3,), seeds[0])),
             helper.make_node("Add", ["w", "c"], ["wc"]),
             helper.make_node("Add", ["wc", "outer"], [f"{name} out"])]
    return helper.make_graph(nodes, name, [], [value(f"{name} out", shape=[3])], initializer=[array("w", T.FLOAT, (3,), name)])


def subgraphs():
    """Weights in the branches of an If, under names that both use, and one around them that both take."""
    choose = helper.make_node("If", ["condition"], ["out"], name="choose", then_branch=branch("then", "a"),
                              else_branch=branch("else", "b"))
    graph = helper.make_graph([choose], "main", [value("condition", T.BOOL, [])], [value("out", shape=[3])],
                              initializer=[array("outer", T.FLOAT, (3,))])
    return finished(graph)


def functions():
    """Two functions with constants of one name."""
    made = []
    for name in ("scale", "shift"):
        nodes = [helper.make_node("Constant", [], ["by"], value=array("by", T.FLOAT, (3,), name)),
                 helper.make_node("Mul" if name == "scale" else "Add", ["x", "by"], ["y"])]
        made.append(helper.make_function("own", name, ["x"], ["y"], nodes, [helper.make_opsetid("", 17)]))
    nodes = [helper.make_node("scale", ["x"], ["scaled"], domain="own"),
             helper.make_node("shift", ["scaled"], ["y"], domain="own")]
    graph = helper.make_graph(nodes, "main", [value("x", shape=[3])], [value("y", shape=[3])])
    return finished(graph, functions=made, domains=["own"])


def sparse():
    """A sparse initializer and a sparse constant."""
    def part(name, numbers, indices, dims):
        parts = (helper.make_tensor(name, T.FLOAT, [len(numbers)], numbers),
                 helper.make_tensor(f"{name} at", T.INT64, np.shape(indices), np.ravel(indices)))
        return helper.make_sparse_tensor(*parts, dims)

    constant = helper.make_node("Constant", [], ["c"], sparse_value=part("", [5.0, 6.0], [[0, 1], [2, 2]], [3, 3]))
    graph = helper.make_graph([constant], "main", [], [], sparse_initializer=[part("s", [1.0, 2.0, 3.0], [0, 4, 8], [3, 3])])
    return finished(graph)


def texts():
    """A tensor of texts beside one of numbers."""
    words = helper.make_tensor("words", T.STRING, [3], [b"one", "größe".encode(), b""])
    return finished(helper.make_graph([], "main", [], [], initializer=[words, array("w", T.FLOAT, (2,))]))


def mlp_graph(inputs=()):
    """Two layers, with notes of every kind around them."""
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], name="/fc1/Gemm", transB=1),
        helper.make_node("Relu", ["h"], ["a"], name="/Relu", doc_string="a line\nof notes"),
        helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], name="/fc2/Gemm", transB=1),
    ]
    weights = [array("fc1.weight", T.FLOAT, (8, 4)), array("fc1.bias", T.FLOAT, (8,)),
               array("fc2.weight", T.FLOAT, (3, 8)), array("fc2.bias", T.FLOAT, (3,))]
    own = [value(name, shape=list(weight.dims)) for name, weight in zip(inputs, weights)]
    return helper.make_graph(nodes, "mlp", [value("x", shape=["batch", 4]), *own], [value("y", shape=["batch", 3])],
                             initializer=weights, value_info=[value("h", shape=["batch", 8])])


def mlp():
    """The graph with metadata, annotations and fields that no version of onnx has."""
    graph = mlp_graph()
    note = graph.quantization_annotation.add()
    note.tensor_name = "fc1.weight"
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="fc1.bias")
    graph.initializer[0].doc_string = "the first"
    whole = finished(graph, metadata={"author": "Ada", "größe": "klein", "empty": ""})
    unknown = rawonnx.sub(999, "kept") + rawonnx.num(1000, 7) + rawonnx.f32(1001, 1.0) + rawonnx.f64(1002, 1.0)
    at = whole.rindex(rawonnx.tag(7, 2), 0, whole.index(b"/fc1/Gemm"))
    return whole[:at] + unknown + whole[at:]


def old():
    """IR version 3, which wants every initializer among the inputs."""
    names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    return finished(mlp_graph(names), ir=3, opset=9)


def external(out):
    """Elements in files beside the model and in a folder: with and without offset and length, two names for one range."""
    floats = lambda n, at: struct.pack(f"<{n}f", *(at + i / 4 for i in range(n)))
    plain, deep = floats(4, 0) + b"\xee" * 3 + floats(6, 10), floats(2, 100)
    sha1 = hashlib.sha1(plain).hexdigest()
    place = lambda **how: rawonnx.external("weights.data", checksum=sha1, **how)
    tensors = [
        rawonnx.tensor(place(offset=0, length=16), name="first", dims=(4,)),
        rawonnx.tensor(place(offset=19, length=24), name="second", dims=(2, 3)),
        rawonnx.tensor(place(offset=19, length=24), name="tied", dims=(2, 3)),
        rawonnx.tensor(rawonnx.external("whole.data"), name="whole", dims=(2,)),
        rawonnx.tensor(rawonnx.external("sub/weights.data", length=8), name="deep", dims=(2,)),
        rawonnx.tensor(rawonnx.sub(9, floats(1, 9)), name="inside", dims=(1,)),
        rawonnx.tensor(place(offset=0, length=0), name="empty", dims=(0,)),
    ]
    folder = "models/onnx-external"
    out.write(f"{folder}/model.onnx", rawonnx.initializers(*tensors), "hand", "elements in files beside it")
    out.write(f"{folder}/weights.data", plain, "hand", "goes with the model beside it")
    out.write(f"{folder}/whole.data", floats(2, 50), "hand", "goes with the model beside it")
    out.write(f"{folder}/sub/weights.data", deep, "hand", "goes with the model above it")


def make(out):
    """Writes every file."""
    by = "onnx"
    out.write("models/onnx-dtypes-raw.onnx", dtypes_raw(), by, "every element type, raw")
    for packed in (True, False):
        name = "packed" if packed else "unpacked"
        data = rawonnx.initializers(*(typed(kind, packed) for kind in TYPES), **NEWEST)
        out.write(f"models/onnx-dtypes-{name}.onnx", data, "hand", f"every element type in its own field, {name}")
    out.write("models/onnx-shapes.onnx", shapes(), "hand", "empty tensors, scalars, odd orders of fields")
    out.write("models/onnx-constants.onnx", constants(), by, "constants in every form")
    out.write("models/onnx-subgraphs.onnx", subgraphs(), by, "weights in branches, names used twice")
    out.write("models/onnx-functions.onnx", functions(), by, "weights in functions, names used twice")
    out.write("models/onnx-sparse.onnx", sparse(), by, "sparse tensors")
    out.write("models/onnx-texts.onnx", texts(), by, "a tensor of texts")
    out.write("models/onnx-mlp.onnx", mlp(), by, "a graph with metadata, annotations and unknown fields")
    out.write("models/onnx-ir3.onnx", old(), by, "initializers among the inputs")
    external(out)
