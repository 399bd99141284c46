"""A minimal model and a minimal tensor in ONNX's protobuf format."""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper


@cache
def model() -> bytes:
    """Return the model ``x + w``."""
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


@cache
def tensor() -> bytes:
    """Return the numbers 0 to 5 in the shape 2x3."""
    return bytes(numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3)).SerializeToString())
