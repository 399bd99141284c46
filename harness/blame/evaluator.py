"""Evaluate an ONNX file with ``onnx.reference``, with the operators of :mod:`harness.blame.operators` in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import FunctionProto, ModelProto
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from harness.blame.evaluated_model import function_with_float64, sort_nodes, to_float64, with_float64
from harness.blame.operators.conversions import CONVERSION_OPERATORS
from harness.blame.operators.microsoft_fused import MICROSOFT_FUSED_OPERATORS
from harness.blame.operators.microsoft_quantized import MICROSOFT_QUANTIZED_OPERATORS
from harness.blame.operators.normalization import NORMALIZATION_OPERATORS
from harness.blame.operators.pooling import POOLING_OPERATORS
from harness.blame.operators.recurrent import RECURRENT_OPERATORS
from harness.blame.operators.resizing import RESIZING_OPERATORS
from harness.blame.operators.sampling import SAMPLING_OPERATORS

Array = NDArray[Any]
Answer = Mapping[str, Array]

OPERATORS: tuple[type[OpRun], ...] = (
    *CONVERSION_OPERATORS,
    *MICROSOFT_FUSED_OPERATORS,
    *MICROSOFT_QUANTIZED_OPERATORS,
    *NORMALIZATION_OPERATORS,
    *POOLING_OPERATORS,
    *RECURRENT_OPERATORS,
    *RESIZING_OPERATORS,
    *SAMPLING_OPERATORS,
)
"""For ``new_ops`` of :class:`onnx.reference.ReferenceEvaluator`."""


class FileDtypesEvaluator(ReferenceEvaluator):
    """An evaluator that takes harness's operators in subgraphs and functions too, where onnx takes its own."""

    def __init__(self, proto: Any, *positional: Any, **named: Any) -> None:
        super().__init__(proto, *positional, **{**named, "new_ops": list(OPERATORS)})


class Float64Evaluator(FileDtypesEvaluator):
    """As above, for models in float64: an operator that ONNX defines by a function does not cast to float32 in it."""

    def __init__(self, proto: Any, *positional: Any, **named: Any) -> None:
        wide = function_with_float64(proto) if isinstance(proto, FunctionProto) else proto
        super().__init__(wide, *positional, **named)


def evaluate(path: Path, inputs: Answer) -> dict[str, Array]:
    """The graph's outputs by name, with every floating tensor in float64.

    Raises what the evaluator raises for an operator that it does not know.
    """
    return evaluate_model(onnx.load(str(path)), inputs)


def evaluate_model(model: ModelProto, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate`, for a model in memory, which is left as it is."""
    copy = with_float64(model)
    return _outputs(Float64Evaluator, copy, {name: to_float64(values) for name, values in inputs.items()})


def evaluate_all(path: Path, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate`, for every value that a node of the graph computes, in the order of computation."""
    model = onnx.load(str(path))
    if model.functions:
        model = inline_local_functions(model)
    named = {name for node in model.graph.node for name in node.output if name}
    sort_nodes(model)
    evaluator = Float64Evaluator(with_float64(model))
    with np.errstate(all="ignore"):
        values = evaluator.run(None, {name: to_float64(array) for name, array in inputs.items()}, intermediate=True)
    computed = [name for node in model.graph.node for name in node.output if name in named]
    return {name: np.asarray(values[name]) for name in computed}


def evaluate_in_file_dtypes(path: Path, inputs: Answer) -> dict[str, Array]:
    """As :func:`evaluate`, in the file's own dtypes, with every rounding that the graph itself asks for."""
    return _outputs(FileDtypesEvaluator, onnx.load(str(path)), inputs)


def _outputs(evaluator: type[ReferenceEvaluator], model: ModelProto, inputs: Answer) -> dict[str, Array]:
    sort_nodes(model)
    with np.errstate(all="ignore"):
        outputs = evaluator(model).run(None, dict(inputs))
    return dict(zip((output.name for output in model.graph.output), outputs, strict=True))
