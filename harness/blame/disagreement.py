"""How far an answer may be from the truth, when it is asked which of several answers is the right one.

What no evaluation of a graph can settle, so that nobody can be blamed for another answer.

A disagreement, with all that is known of it before anybody is blamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from harness.compare.verdict import Comparison, compare
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp
from harness.spec.targets import Target

Array = NDArray[Any]

AS_NEAR = 2.0
"""An answer is as near to the truth as another if it is at most so many times as far."""


def with_room(tolerance: Tolerance) -> Tolerance:
    """``tolerance`` with room for one rounding more: the truth in float64 was rounded too."""
    return Tolerance(_with_room(tolerance.rule), {at: _with_room(rule) for at, rule in tolerance.by_output.items()})


def distance(values: Array, truth: Array) -> float:
    """The largest absolute error; infinite where shapes, NaN or infinities do not agree."""
    return float(apart(values, truth).max(initial=0.0)) if values.shape == truth.shape else np.inf


def apart(values: Array, truth: Array) -> Array:
    """The absolute error of each element of two arrays of one shape; infinite where NaN or infinities do not agree."""
    wide, exact = values.astype(np.float64), truth.astype(np.float64)
    same = (wide == exact) | (np.isnan(wide) & np.isnan(exact))
    with np.errstate(invalid="ignore"):
        errors = np.where(same, 0.0, np.abs(wide - exact))
    return np.nan_to_num(errors, nan=np.inf, posinf=np.inf)


def _with_room(rule: Rule) -> Rule:
    match rule:
        case Exact():
            return Ulp(2)
        case Ulp(n):
            return Ulp(n + 2)
        case Close(rtol, atol):
            return replace(rule, rtol=2 * rtol, atol=2 * atol)
        case Scaled(n):
            return Scaled(n + 1)


DRAWING = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def unsettled(path: Path) -> str | None:
    """Why nobody can be blamed for what the graph at ``path`` answers; None where there is no reason."""
    model = onnx.load(str(path), load_external_data=False)
    nodes = list(_nodes(chain(model.graph.node, *(function.node for function in model.functions))))
    if drawn := sorted({node.op_type for node in nodes if _draws(node)}):
        return f"the graph draws random numbers ({', '.join(drawn)}): no two implementations draw the same"
    if any(node.op_type == "MaxUnpool" and _has_input(node, 2) for node in nodes):
        # https://github.com/onnx/onnx/issues/2398
        return "ONNX leaves open what MaxUnpool's output_shape means for its indices"
    return None


def _draws(node: NodeProto) -> bool:
    """Dropout counts where it is told whether it trains: whether it does is known only as it runs."""
    return node.op_type in DRAWING or (node.op_type == "Dropout" and _has_input(node, 2))


def _has_input(node: NodeProto, index: int) -> bool:
    return len(node.input) > index and bool(node.input[index])


def _nodes(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """The nodes, and those of every graph inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A disagreement: what was asked, what eager and the definition say, what the target answered, by what rule.

    ``meets_expectations`` says of any answer whether it is what the spec says under ``expect``.
    """

    target: Target
    artifact: Artifact
    reference: Reference
    answer: Mapping[str, Array]
    tolerance: Tolerance
    meets_expectations: Callable[[Mapping[str, Array]], bool] = lambda _answer: True

    def is_right(self, answer: Mapping[str, Array]) -> bool:
        """True where ``answer`` agrees with the truth and is what the spec expects."""
        return self.compare(answer, self.truth).passed and self.meets_expectations(answer)

    def differ(self, one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
        """True where two answers are further apart than the rule itself lets them be, without any room."""
        return not self._compare(one, other, self.tolerance).passed

    @property
    def inputs(self) -> Mapping[str, Array]:
        """What the target was given."""
        return self.reference.inputs

    @property
    def truth(self) -> Mapping[str, Array]:
        """The definition's answer in the outputs' own dtypes; eager torch's where there is no definition."""
        if self.reference.float64 is None:
            return self.reference.eager
        dtypes = {name: values.dtype for name, values in self.reference.eager.items()}
        with np.errstate(over="ignore"):
            return {name: values.astype(dtypes[name]) for name, values in self.reference.float64.items()}

    def compare(self, actual: Mapping[str, Array], expected: Mapping[str, Array]) -> Comparison:
        """Hold one answer against another, leaving room for one rounding more than the rule does."""
        return self._compare(actual, expected, with_room(self.tolerance))

    def _compare(self, actual: Mapping[str, Array], expected: Mapping[str, Array], tolerance: Tolerance) -> Comparison:
        known = self.reference
        if not known.magnitudes or not (_has_form_of(known.eager, actual) and _has_form_of(known.eager, expected)):
            return compare(actual, expected, _without_magnitudes(tolerance))
        return compare(actual, expected, tolerance, magnitudes=known.magnitudes, undefined=known.undefined)


def _has_form_of(known: Mapping[str, Array], answer: Mapping[str, Array]) -> bool:
    """Whether what is known of each element can be said of ``answer``; two wrong answers may share another shape."""
    return [(name, values.shape) for name, values in known.items()] == [
        (name, values.shape) for name, values in answer.items()
    ]


def _without_magnitudes(tolerance: Tolerance) -> Tolerance:
    """Where the terms' magnitudes are not known, or not of this shape: a plain relative rule instead."""
    plain = Close(1e-5, 1e-6)
    rules = {at: plain if isinstance(rule, Scaled) else rule for at, rule in tolerance.by_output.items()}
    return Tolerance(plain if isinstance(tolerance.rule, Scaled) else tolerance.rule, rules)
