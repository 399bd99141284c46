"""The default tolerance of a recorded network: how far the file's own rounding alone can take an output.

The tolerance of ONNX's backend tests, rtol 1e-3 + atol 1e-7, is made for single operators. In a network it is too
narrow for small values beside large ones, and too wide for the others: half precision passes. What rounding does to a
network can be measured. The file is evaluated twice on the recorded inputs, in float64 and in its own dtypes, with
every rounding that it asks for. A file in 16 bits whose outputs are wider is evaluated in float32 instead, unless it is
a variant: its own rounding would also pass a converted copy in the place of the model that was recorded. A target may
differ from the recorded values by :data:`FACTOR` times the largest difference between the two. A target that is within
the smallest such tolerance needs no evaluation. An output that is a sigmoid is allowed what its kernels are known to be
off by (:data:`harness.compare.calibrated.FUNCTION_ERRORS`).

The factor was measured on six networks of PyPI packages (nudenet 3.4, ddddocr 1.5, rapidocr 1.4, basic-pitch 0.4,
magika), recorded from ONNX Runtime without optimization. ONNX Runtime, OpenVINO and tract differ from that by 0.04 to
8.6 times the file's own error; the same models with weights rounded to float16, by at least 47 times. 20 is the
geometric middle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from harness.blame.disagreement import quantizes, undecidable_reason
from harness.blame.evaluated_model import HALF_TYPES
from harness.blame.evaluator import (
    evaluate,
    evaluate_in_file_dtypes,
    evaluate_in_float32,
    limited_work,
    not_believed_reason,
)
from harness.blame.file_runs import error_summary
from harness.compare.calibrated import FEW_VALUES, FUNCTION_ERRORS, HALF_FACTOR, LARGEST_ROUNDING, WORST_RATIO
from harness.compare.numbers import number_format
from harness.data_files.onnx_files import all_nodes
from harness.exporters import Artifact
from harness.spec.language.tolerances import Calibrated, Close, OneRule, Tolerance, map_rule

Array = NDArray[Any]

FACTOR = 20.0
WORST_FACTOR_IN_HALF, HALF_BYTES = WORST_RATIO * Calibrated().m * HALF_FACTOR, 2
"""For outputs of 16 bits: what the calibrated rule allows at the worst value. 20 would hide weights that are off."""
MOVES = frozenset({"Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose outputs are values of their first input."""

SUMS_OF_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN", "Attention"})
MIN_SUMS = 2
"""A file with this many nodes of :data:`SUMS_OF_PRODUCTS` is a network: the rounding of one is the input of another."""

MAX_MULTIPLICATIONS = 10**10
"""Multiplications of one evaluation, which takes about a second for each 10**9 of them on one core."""

MAX_BYTES = 2**31
"""Bytes of all values of one evaluation, which are all in memory at its end."""


def is_network(path: Path) -> bool:
    """True if the file at ``path`` chains sums of products."""
    model = onnx.load(str(path), load_external_data=False)
    nodes = (node for part in (model.graph, *model.functions) for node in all_nodes(part.node))
    return sum(node.op_type in SUMS_OF_PRODUCTS for node in nodes) >= MIN_SUMS


def output_functions(path: Path) -> tuple[str, ...]:
    """For each output of the file, the operator of :data:`FUNCTION_ERRORS` that gives all of its values; else empty."""
    graph = onnx.load(str(path), load_external_data=False).graph
    producers = {name: node for node in graph.node for name in node.output}

    def function(name: str) -> str:
        node = producers.get(name)
        while node is not None and node.op_type in MOVES and node.domain in {"", "ai.onnx"}:
            node = producers.get(node.input[0])
        if node is None or node.domain not in {"", "ai.onnx"}:
            return ""
        if node.op_type == "Concat":
            joined = {function(each) for each in node.input}
            return joined.pop() if len(joined) == 1 else ""
        return node.op_type if node.op_type in FUNCTION_ERRORS else ""

    return tuple(function(output.name) for output in graph.output)


@lru_cache(maxsize=256)
def _functions_of(path: Path, _digest: str) -> tuple[str, ...]:
    return output_functions(path)


def with_functions(tolerance: Tolerance, artifact: Artifact) -> Tolerance:
    """``tolerance`` of the outputs of an ONNX file, with the functions that give them in its calibrated rules."""
    if artifact.format != "onnx" or not tolerance.has(Calibrated):
        return tolerance
    by_output = dict(tolerance.by_output)
    for index, name in enumerate(_functions_of(artifact.path, artifact.digest)):
        if name:
            by_output[index] = map_rule(partial(_with_function, name), tolerance.for_output(index))
    return replace(tolerance, by_output=by_output)


def _with_function(name: str, rule: OneRule) -> OneRule:
    return replace(rule, function=name) if isinstance(rule, Calibrated) else rule


def reason_against(path: Path) -> str | None:
    """Why the rounding of the file at ``path`` says nothing; None if it does."""
    if reason := undecidable_reason(path) or not_believed_reason(path):
        return reason
    return "the file quantizes: a difference in the last bit can become a whole step" if quantizes(path) else None


def own_rounding(path: Path, inputs: Mapping[str, Array], *, is_variant: bool = False) -> Mapping[str, Close] | str:
    """The tolerance of each output of a network that has one, by name; else why the file cannot be evaluated.

    ``is_variant`` is True if the data was recorded with another file, of which this one may be a conversion.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    of_outputs = {output.type.tensor_type.elem_type for output in graph.output}
    in_half = not HALF_TYPES.isdisjoint(
        of_outputs | ({each.data_type for each in graph.initializer} if is_variant else set())
    )
    try:
        with limited_work(MAX_MULTIPLICATIONS, MAX_BYTES):
            float64 = evaluate(path, inputs)
            own = (evaluate_in_file_dtypes if in_half else evaluate_in_float32)(path, inputs)
    except Exception as error:  # noqa: BLE001 - without an evaluation the tolerance of the backend tests applies
        return f"the file could not be evaluated: {error_summary(error)}"
    functions = dict(zip(float64, output_functions(path), strict=True))
    factor = WORST_FACTOR_IN_HALF if in_half else FACTOR
    derived = {
        name: _derived(np.asarray(own[name]), np.asarray(values), factor, FUNCTION_ERRORS.get(functions[name], 0.0))
        for name, values in float64.items()
    }
    return {name: rule for name, rule in derived.items() if rule is not None}


def smallest_tolerance(values: Array) -> Close | None:
    """The tolerance of an output with these ``values`` whose own error is no larger than one rounding.

    None for an output that is not rounded, or that has no finite value.
    """
    output_format = number_format(values.dtype)
    if output_format is None or values.dtype.name not in LARGEST_ROUNDING:
        return None
    finite = np.abs(values[np.isfinite(values.astype(np.float64))].astype(np.float64))
    if not finite.size:
        return None
    few = max(1.0, math.sqrt(FEW_VALUES / finite.size))
    factor = FACTOR if values.dtype.itemsize > HALF_BYTES else WORST_FACTOR_IN_HALF
    return Close(0.0, factor * few * max(output_format.eps * float(finite.max()) / 2, output_format.smallest))


def _derived(own: Array, float64: Array, factor: float, least: float) -> Close | None:
    """The tolerance of an output with these two evaluations, ``least`` or more; None if they differ by too much."""
    smallest = smallest_tolerance(own)
    if smallest is None or own.shape != float64.shape:
        return None
    finite = np.isfinite(own.astype(np.float64))
    if not (finite == np.isfinite(float64)).all():
        return None
    expected = float64[finite].astype(np.float64)
    worst = float(np.abs(own[finite].astype(np.float64) - expected).max())
    if worst > LARGEST_ROUNDING[own.dtype.name] * float(np.abs(expected).max()):
        return None
    few = max(1.0, math.sqrt(FEW_VALUES / expected.size))
    return Close(0.0, max(smallest.atol, factor * few * worst, least))
