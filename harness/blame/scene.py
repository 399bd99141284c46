"""A disagreement, with all that is known of it before anybody is blamed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.room import with_room
from harness.compare.verdict import Comparison, compare
from harness.exporters import Artifact
from harness.model.answer import Reference
from harness.spec.target import Target
from harness.spec.tolerance import Close, Scaled, Tolerance

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scene:
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
        if self.reference.oracle is None:
            return self.reference.eager
        dtypes = {name: values.dtype for name, values in self.reference.eager.items()}
        with np.errstate(over="ignore"):
            return {name: values.astype(dtypes[name]) for name, values in self.reference.oracle.items()}

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
