"""Weights of f32 in one file as onnx saves it, around a graph of one node."""

import json
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)
model = onnx.ModelProto()
model.ir_version = 8
model.opset_import.add(version=17)
model.graph.name = "weights"
for name, shape in json.loads(sys.argv[2]).items():
    model.graph.initializer.append(numpy_helper.from_array(random.standard_normal(shape, dtype=np.float32), name))
model.graph.node.append(helper.make_node("Identity", ["x"], ["y"]))
for values, name in ((model.graph.input, "x"), (model.graph.output, "y")):
    values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
onnx.save(model, sys.argv[1])
