"""The result of a walk through an exported graph, as plain data, and the tests whether a value differs.

:class:`Walk` is the result. :func:`computed_difference`, :func:`float64_difference` and
:func:`elementwise_difference` compare one value with its reference and tell rounding from real differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.verdict import compare
from harness.spec.language.tolerances import Close, Exact, Rule, Tolerance, Ulp

Array = NDArray[Any]

ROUNDING_SHARE: Mapping[str, float] = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 2e-5, "float64": 1e-7}
"""The largest error that rounding can cause, as a share of the largest magnitude in the same tensor.

The error of a long sum is proportional to its terms, however small the sum itself is, so no bound relative to the
element holds. The terms are not known here; the largest sum in the same tensor indicates their order.
"""

FOLDING_SHARE: Mapping[str, float] = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 1e-5}
"""The float64 error of a correctly exported graph with folded weights, as a share of the largest magnitude.

The weights of a convolution and its batch normalization were rounded to the dtype of the file when they were folded,
and every value behind them differs for that reason.
"""

EXACT_SHARE = 1e-5
"""The same without folded weights, also as a share of the element itself."""

ZERO_SHARE = 1e-12
"""The float64 error of a sum that should be zero, as a share of the largest magnitude."""


@dataclass(frozen=True, slots=True)
class Walk:
    """The first nodes at which a graph diverges.

    ``kernel`` is the first node that computes something else than the graph defines, ``module`` the first whose value
    differs from that of torch's own module; None if there is none. ``nodes`` were checked. ``matched`` of ``modules``
    calls of torch's leaf modules were found in the graph; a file that was not exported here has none. ``note`` says
    what could not be checked.
    """

    nodes: int
    kernel: Divergence | None
    module: Divergence | None
    matched: int
    modules: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first node with a wrong output.

    ``difference`` says by how much. ``module`` is the torch module that the node was exported for, and ``siblings`` are
    all nodes of that module, if there are several. ``rounding`` is True if the difference is only rounding.
    ``matched_by`` says how the node was matched with torch; None if it was compared with the float64 evaluation.
    """

    node: Node
    value: str
    difference: str
    module: str | None
    siblings: tuple[Node, ...] = ()
    rounding: bool = False
    matched_by: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One node in words: ``attributes`` as ``name=value``, ``inputs`` with their value or their dtype and shape."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        attributes = f" [{', '.join(self.attributes)}]" if self.attributes else ""
        return f"{self.op_type}({', '.join(self.inputs)}){attributes} -> {', '.join(self.outputs)}"


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a leaf module: its path in the model, its class, and its outputs."""

    path: str
    class_name: str
    outputs: tuple[Array, ...]

    def __str__(self) -> str:
        return f"{self.path} ({self.class_name})" if self.path else self.class_name


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """``description`` says how a value differs; ``rounding`` is True if that is only rounding."""

    description: str
    rounding: bool


def computed_difference(name: str, actual: Array, expected: Array) -> ValueDifference | None:
    """How a value in the graph's own dtypes differs from ``expected``; None if the bits are the same."""
    if actual.dtype != expected.dtype and expected.dtype.kind == "f":
        with np.errstate(all="ignore"):
            expected = expected.astype(actual.dtype)
    share = ROUNDING_SHARE.get(actual.dtype.name)
    rule = Exact() if share is None else _share_of_largest(expected, share)
    if (problem := _problem(name, actual, expected, rule)) is not None:
        return ValueDifference(problem, rounding=False)
    if (problem := _problem(name, actual, expected, Ulp(0))) is not None:
        return ValueDifference(problem, rounding=True)
    return None


def float64_difference(name: str, actual: Array, expected: Array, share: float = EXACT_SHARE) -> ValueDifference | None:
    """How a value that both sides computed in float64 differs by more than ``share`` of the largest; else None."""
    floating = expected.dtype.kind == "f"
    problem = _problem(name, actual, expected, _share_of_largest(expected, share) if floating else Exact())
    return None if problem is None else ValueDifference(problem, rounding=False)


def elementwise_difference(name: str, actual: Array, expected: Array) -> ValueDifference | None:
    """As :func:`float64_difference`, relative to each element, so that wrong small elements are found too."""
    rule = Close(EXACT_SHARE, ZERO_SHARE * _largest(expected)) if expected.dtype.kind == "f" else Exact()
    problem = _problem(name, actual, expected, rule)
    return None if problem is None else ValueDifference(problem, rounding=False)


def _share_of_largest(expected: Array, share: float) -> Rule:
    return Close(0.0, share * _largest(expected))


def _largest(values: Array) -> float:
    magnitudes = np.abs(values.astype(np.float64))
    return float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0))


def _problem(name: str, actual: Array, expected: Array, rule: Rule) -> str | None:
    comparison = compare({name: actual}, {name: expected}, Tolerance(rule))
    return None if comparison.passed else comparison.message
