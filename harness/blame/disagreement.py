"""A disagreement with everything known about it, and the bounds within which an answer counts as right.

:func:`undecidable_reason` names graphs whose answer no evaluation can decide, so that no hop is blamed for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from harness.compare.calibrated import without_calibration
from harness.compare.metrics.similarity import root_mean_square
from harness.compare.numbers import same_bits
from harness.compare.verdict import Comparison, compare, compare_with_reference
from harness.data_files.onnx_files import all_nodes
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.spec.language.tolerances import (
    Calibrated,
    Close,
    Cosine,
    Decisions,
    Exact,
    OneRule,
    Scaled,
    Sqnr,
    Tolerance,
    Ulp,
)
from harness.spec.targets import Target

Array = NDArray[Any]
Answer = Mapping[str, Array]

MAX_ERROR_RATIO = 2.0
"""An answer is as accurate as another if its error is at most this many times the other's."""

RANDOM_OPERATORS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
QUANTIZING_OPERATORS = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinear")
"""Beginnings of the names of operators that round to a grid: a last bit before them can change a value by a whole step.
"""


@dataclass(frozen=True)
class Disagreement:
    """A target's answer that disagrees with its reference, and what is needed to find the cause.

    ``meets_expectations`` tells for any answer whether it meets the spec's ``expect``. ``eager`` gives eager torch's
    answer to other inputs, or None if it refuses them. ``whose`` is what evidence calls the reference.
    """

    target: Target
    artifact: Artifact
    reference: Reference
    answer: Answer
    tolerance: Tolerance
    meets_expectations: Callable[[Answer], bool] = lambda _answer: True
    eager: Callable[[Answer], Answer | None] | None = None
    whose: str = "eager torch"

    @cached_property
    def expected(self) -> Answer:
        """The float64 reference in the outputs' own dtypes; eager torch's answer if there is no float64 reference."""
        if self.reference.float64 is None:
            return self.reference.eager
        dtypes = {name: values.dtype for name, values in self.reference.eager.items()}
        with np.errstate(over="ignore"):
            return {name: values.astype(dtypes[name]) for name, values in self.reference.float64.items()}

    def is_right(self, answer: Answer) -> bool:
        """True if ``answer`` agrees with :attr:`expected` and meets the spec's expectations."""
        return self.problem(answer) is None

    def problem(self, answer: Answer) -> str | None:
        """What is wrong with ``answer``; None if it is right."""
        answer = self._comparable(answer)
        comparison = self._judge(answer)
        if not comparison.passed:
            return comparison.message
        return None if self.meets_expectations(answer) else "it does not meet the spec's expectations"

    def _judge(self, answer: Answer) -> Comparison:
        if self.tolerance.has(Calibrated):
            return compare_with_reference(answer, self.reference, self.tolerance)
        return self.compare(answer, self.expected)

    def differ(self, first: Answer, second: Answer) -> bool:
        """True if two answers differ by more than the tolerance itself, without an additional rounding."""
        return not self._compare(first, second, self.tolerance).passed

    def compare(self, actual: Answer, expected: Answer) -> Comparison:
        """Compare two answers, with one more rounding than the tolerance allows."""
        tolerance = with_one_more_rounding(self.tolerance)
        return self._compare(actual, expected, tolerance)

    def _comparable(self, answer: Answer) -> Answer:
        """``answer`` in the dtypes of the reference, where the file gives 16-bit ones."""
        return self.reference.comparable_part(answer) if self.reference.narrow else answer

    def _compare(self, actual: Answer, expected: Answer, tolerance: Tolerance) -> Comparison:
        actual, expected = self._comparable(actual), self._comparable(expected)
        magnitudes, undefined = self.reference.magnitudes, self.reference.undefined
        shapes = _shapes(self.reference.eager)
        if not magnitudes or not shapes == _shapes(actual) == _shapes(expected):
            tolerance, magnitudes, undefined = _without_magnitudes(tolerance), (), ()
        if tolerance.has(Calibrated):
            tolerance = without_calibration(tolerance, self.reference)
        return compare(actual, expected, tolerance, magnitudes=magnitudes, undefined=undefined)


def _shapes(answer: Answer) -> list[tuple[str, tuple[int, ...]]]:
    """The names and shapes of the outputs: magnitudes and masks fit no other, and two wrong answers may share one."""
    return [(name, values.shape) for name, values in answer.items()]


def _without_magnitudes(tolerance: Tolerance) -> Tolerance:
    """A plain relative rule in place of ``Scaled``, for magnitudes that are unknown or have another shape."""
    plain = Close(1e-5, 1e-6)
    return tolerance.map(lambda rule: plain if isinstance(rule, Scaled) else rule)


def with_one_more_rounding(tolerance: Tolerance) -> Tolerance:
    """``tolerance`` with room for one more rounding, because the float64 reference was rounded to the dtype too."""
    return tolerance.map(_rule_with_one_more_rounding)


def _rule_with_one_more_rounding(rule: OneRule) -> OneRule:
    match rule:
        case Exact():
            return Ulp(2)
        case Ulp(n):
            return Ulp(n + 2)
        case Close(rtol, atol):
            return replace(rule, rtol=2 * rtol, atol=2 * atol)
        case Scaled(n):
            return Scaled(n + 1)
        case Calibrated() | Sqnr() | Cosine() | Decisions():
            return rule


NUDGES = 3
"""How many times each input is moved by one unit in the last place, at random."""
MUCH = 1e3
"""A change by this many eps of the output's scale is more than rounding on the way through a network."""


def unstable_answer(disagreement: Disagreement) -> str | None:
    """That eager torch's own answer changes as much when its inputs change by one unit in the last place, else None.

    A chaotic map is so, and a step that many values stand on.
    """
    eager, answer = disagreement.reference.eager, disagreement.answer
    if _shapes(eager) != _shapes(answer) or any(values.dtype != answer[name].dtype for name, values in eager.items()):
        return None
    changes = _changes_by_nudges(disagreement)
    if changes is None:
        return None
    wrong = [name for name in eager if disagreement.differ({**eager, name: answer[name]}, eager)]
    errors = {name: absolute_errors(answer[name], eager[name]) for name in wrong}
    for name, error in errors.items():
        change, dtype = root_mean_square(changes[name]), eager[name].dtype
        eps = 2.0**-23 if dtype.kind in "iub" else float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
        if not MUCH * eps * root_mean_square(eager[name].astype(np.float64)) < change < np.inf:
            return None
        largest = MAX_ERROR_RATIO * changes[name].max()
        if root_mean_square(error) > MAX_ERROR_RATIO * change or error.max() > largest:
            return None
    if not wrong:
        return None
    return (
        f"{disagreement.whose}'s own answer changes by up to {changes[wrong[0]].max():.3g} when its inputs change by "
        f"one unit in the last place; the target's differs by up to {errors[wrong[0]].max():.3g}"
    )


def _changes_by_nudges(disagreement: Disagreement) -> dict[str, Array] | None:
    """The largest change of each value of eager torch's answer when its inputs move by one unit in the last place.

    None if it refuses the inputs, or if the answer is not one to the inputs alone.
    """
    eager, inputs = disagreement.reference.eager, disagreement.reference.inputs
    if disagreement.eager is None:
        return None
    again = disagreement.eager(inputs)
    if again is None or any(not same_bits(again[name], values) for name, values in eager.items()):
        return None
    changes = {name: np.zeros(values.shape) for name, values in eager.items()}
    random = np.random.default_rng(0)
    for _ in range(NUDGES):
        nudged = disagreement.eager({label: _nudged(values, random) for label, values in inputs.items()})
        if nudged is None or _shapes(nudged) != _shapes(eager):
            return None
        for name, values in eager.items():
            changes[name] = np.maximum(changes[name], absolute_errors(nudged[name], values))
    return changes


def _nudged(values: Array, random: np.random.Generator) -> Array:
    if values.dtype.name not in {"float32", "float64", "float16"}:
        return values
    towards = values.dtype.type(1) * random.choice([-np.inf, np.inf], values.shape)
    nudged: Array = np.nextafter(values, towards.astype(values.dtype))
    return nudged


def max_error(values: Array, expected: Array) -> float:
    """The largest absolute error; infinite if shapes, NaN or infinities do not agree."""
    return float(absolute_errors(values, expected).max(initial=0.0)) if values.shape == expected.shape else np.inf


def absolute_errors(values: Array, expected: Array) -> Array:
    """The absolute error of each value of two arrays of one shape; infinite where NaN or infinities do not agree."""
    actual64, expected64 = values.astype(np.float64), expected.astype(np.float64)
    equal = (actual64 == expected64) | (np.isnan(actual64) & np.isnan(expected64))
    with np.errstate(invalid="ignore"):
        errors = np.where(equal, 0.0, np.abs(actual64 - expected64))
    return np.nan_to_num(errors, nan=np.inf, posinf=np.inf)


def undecidable_reason(path: Path) -> str | None:
    """Why no evaluation can decide what the graph at ``path`` should answer; None if there is no reason."""
    nodes = _nodes_of_file(path)
    if random := sorted({node.op_type for node in nodes if _is_random(node)}):
        return f"the graph draws random numbers ({', '.join(random)}), which differ between implementations"
    if any(node.op_type == "MaxUnpool" and _has_input(node, 2) for node in nodes):
        # https://github.com/onnx/onnx/issues/2398
        return "ONNX does not define what MaxUnpool's output_shape means for its indices"
    return None


def quantizes(path: Path) -> bool:
    """True if the graph at ``path`` rounds values to a grid."""
    return model_quantizes(onnx.load(str(path), load_external_data=False))


def model_quantizes(model: ModelProto) -> bool:
    """As :func:`quantizes`, for a model in memory."""
    return any(node.op_type.startswith(QUANTIZING_OPERATORS) for node in _nodes_of(model))


def _nodes_of_file(path: Path) -> list[NodeProto]:
    return _nodes_of(onnx.load(str(path), load_external_data=False))


def _nodes_of(model: ModelProto) -> list[NodeProto]:
    return list(all_nodes(chain(model.graph.node, *(function.node for function in model.functions))))


def _is_random(node: NodeProto) -> bool:
    """Dropout counts if it has the input ``training_mode``, since its value is known only at run time."""
    return node.op_type in RANDOM_OPERATORS or (node.op_type == "Dropout" and _has_input(node, 2))


def _has_input(node: NodeProto, index: int) -> bool:
    return len(node.input) > index and bool(node.input[index])
