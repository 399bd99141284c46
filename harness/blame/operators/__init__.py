"""Operators in NumPy, in place of those that ``onnx.reference`` gets wrong or does not have, one family a file.

Each computes in float64 and rounds its outputs to the dtype of its input once, so that it serves the evaluation in
float64 and the one in the dtypes of a file. None shares code with a runtime. This file has what they share: attributes
by the opset that the graph imports, and wide arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto
from onnx.defs import SchemaError, get_schema
from onnx.reference.op_run import OpRun

from harness.blame.evaluated_model import FLOATS
from harness.data_files.onnx_files import with_ml_dtypes

Array = NDArray[Any]

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

_NO_ATTRIBUTES = SimpleNamespace(attributes={})
"""In place of a schema that onnx does not have, so that it does not take one of the same name in another domain."""


class Operator(OpRun):
    """An operator whose attributes have the defaults of the opset that the graph imports.

    ``onnx.reference`` gives every operator the defaults of the newest opset. A subclass implements ``compute``, which
    takes the inputs by position and the attributes by name, with floats as Python floats. Attributes without a value
    are left out, so that ``compute`` says the default of its own.
    """

    def __init__(self, onnx_node: NodeProto, run_params: dict[str, Any]) -> None:
        super().__init__(onnx_node, run_params, _schema(onnx_node, run_params["opsets"]))
        self.opset: int = run_params["opsets"].get(onnx_node.domain, 1)

    def compute(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        """The outputs."""
        raise NotImplementedError

    def _run(self, *inputs: Any, **attributes: Any) -> tuple[Any, ...]:
        present = {name: _plain(value) for name, value in attributes.items() if value is not None}
        arrays = [with_ml_dtypes(value) if isinstance(value, np.ndarray) else value for value in inputs]
        outputs = self.compute(*arrays, **present)
        return tuple(outputs[: len(self.onnx_node.output)])


def wide(values: Array) -> Array:
    """``values`` in float64 if they are floating, else in the integers or booleans they are."""
    return values.astype(np.float64) if values.dtype.name in FLOATS else values


def in_domains(operator: type[Operator], *domains: str) -> tuple[type[Operator], ...]:
    """The same operator under each of ``domains``."""
    return tuple(type(operator.__name__, (operator,), {"op_domain": domain}) for domain in domains)


def _schema(node: NodeProto, opsets: Mapping[str, int]) -> Any:
    if node.domain == MICROSOFT:
        return _NO_ATTRIBUTES  # onnxruntime may have registered its schemas in this process, or not
    try:
        return get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except SchemaError:
        return _NO_ATTRIBUTES


def _plain(value: Any) -> Any:
    if isinstance(value, np.float32):
        return float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
