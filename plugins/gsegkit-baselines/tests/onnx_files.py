"""Small ONNX files: honest ones and hostile ones."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def bright(channels=1, sigmoid=True, size=("h", "w"), domain="", op="Conv", inputs=3):
    """A convolution that answers where photographs are bright: `channels` logits, or probabilities."""
    weight = np.zeros((channels, inputs, 3, 3), np.float32)
    weight[-1, :, 1, 1] = 2.0
    nodes = [
        helper.make_node(
            op, ["photo", "weight"], ["raw"], domain=domain, **({"pads": [1, 1, 1, 1]} if op == "Conv" else {})
        )
    ]
    nodes += [helper.make_node("Sigmoid", ["raw"], ["mask"])] if sigmoid else []
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["n", inputs, *size])],
        [helper.make_tensor_value_info("mask" if sigmoid else "raw", TensorProto.FLOAT, ["n", channels, *size])],
        [numpy_helper.from_array(weight, "weight")],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def with_external_data():
    """A file whose weight lies in another file."""
    model = bright()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model


def with_external_constant():
    """The same in the attribute of a node inside a branch."""
    model = bright()
    inner = with_external_data().graph.initializer[0]
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=inner)], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["photo"], ["other"], then_branch=branch, else_branch=branch))
    return model


def save(model, path):
    onnx.save_model(model, str(path))
    return path
