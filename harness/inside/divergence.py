"""Whether a value of a graph is off, and whether that is more than rounding.

What a walk through an exported graph finds and is held against, as plain data.
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

OF_THE_LARGEST: Mapping[str, float] = {"float16": 1e-2, "bfloat16": 6e-2, "float32": 2e-5, "float64": 1e-7}
"""What rounding may come to, of the largest magnitude of the same value.

A long sum is off by a part of its terms, however small it comes out, so that no bound relative to the element itself
holds. The terms are not known here; the largest sum beside it tells their order.
"""

WRITTEN = 1e-5
"""What a rightly written graph may be off in float64, of the largest magnitude and then of the element itself: folded
weights, such as those of a convolution and its batch normalization, were rounded to float32 when they were folded."""

ZERO = 1e-12
"""What a sum that comes out as zero may be off in float64, of the largest magnitude."""


@dataclass(frozen=True, slots=True)
class ValueDifference:
    """``how`` it is off, in words; ``rounding`` is True where that is no more than rounding."""

    how: str
    rounding: bool


def computed_off(name: str, actual: Array, expected: Array) -> ValueDifference | None:
    """How what was computed in the graph's own dtypes is off ``expected``; None where it is the same bit by bit."""
    if actual.dtype != expected.dtype and expected.dtype.kind == "f":
        with np.errstate(all="ignore"):
            expected = expected.astype(actual.dtype)
    share = OF_THE_LARGEST.get(actual.dtype.name)
    rule = Exact() if share is None else _of_the_largest(expected, share)
    if (wrong := _wrong(name, actual, expected, rule)) is not None:
        return ValueDifference(wrong, rounding=False)
    if (wrong := _wrong(name, actual, expected, Ulp(0))) is not None:
        return ValueDifference(wrong, rounding=True)
    return None


def written_off(name: str, actual: Array, expected: Array) -> ValueDifference | None:
    """How what both sides computed in float64 is off, where that cannot come from folded weights."""
    floating = expected.dtype.kind == "f"
    wrong = _wrong(name, actual, expected, _of_the_largest(expected, WRITTEN) if floating else Exact())
    return None if wrong is None else ValueDifference(wrong, rounding=False)


def element_off(name: str, actual: Array, expected: Array) -> ValueDifference | None:
    """As :func:`written_off`, with each element held by its own magnitude: what is small beside the largest is seen."""
    rule = Close(WRITTEN, ZERO * _largest(expected)) if expected.dtype.kind == "f" else Exact()
    wrong = _wrong(name, actual, expected, rule)
    return None if wrong is None else ValueDifference(wrong, rounding=False)


def _of_the_largest(expected: Array, share: float) -> Rule:
    return Close(0.0, share * _largest(expected))


def _largest(values: Array) -> float:
    magnitudes = np.abs(values.astype(np.float64))
    return float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0))


def _wrong(name: str, actual: Array, expected: Array, rule: Rule) -> str | None:
    found = compare({name: actual}, {name: expected}, Tolerance(rule))
    return None if found.passed else found.message


@dataclass(frozen=True, slots=True)
class Node:
    """One node in words: ``attributes`` as ``name=value``, ``inputs`` with what is known of them."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]

    def __str__(self) -> str:
        attributes = f" [{', '.join(self.attributes)}]" if self.attributes else ""
        return f"{self.op_type}({', '.join(self.inputs)}){attributes} -> {', '.join(self.outputs)}"


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first node whose output is not what it should be.

    ``difference`` says by how much. ``module`` is the torch module that the node was written for, and ``siblings`` are
    the nodes that it was written as, where there are several. ``rounding`` is True where the difference is no more
    than rounding. ``how`` says what the pairing with torch rests on, None where the node is held against float64.
    """

    node: Node
    value: str
    difference: str
    module: str | None
    siblings: tuple[Node, ...] = ()
    rounding: bool = False
    how: str | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """Where the graph first leaves the right path.

    ``kernel`` is the first node that computes something else than its graph says, ``module`` the first that gives
    something else than torch's own module; None where there is none.
    ``nodes`` were looked at; ``matched`` of ``modules`` calls of torch's leaf modules were found in the graph;
    a file that was not exported here has none.
    ``note`` says what could not be looked at.
    """

    nodes: int
    kernel: Divergence | None
    module: Divergence | None
    matched: int
    modules: int
    note: str | None = None


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a leaf module: its path in the model, its class, and its outputs."""

    path: str
    kind: str
    outputs: tuple[Array, ...]

    def __str__(self) -> str:
        return f"{self.path} ({self.kind})" if self.path else self.kind
