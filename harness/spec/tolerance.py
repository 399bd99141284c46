"""How far an output may be from its reference: the four rules a spec can name, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Exact:
    """Equal values; -0.0 equals 0.0, NaN stands where NaN stands."""

    def __str__(self) -> str:
        return "exact"


@dataclass(frozen=True, slots=True)
class Ulp:
    """At most ``n`` representable numbers apart, in the output's own dtype."""

    n: int

    def __str__(self) -> str:
        return f"{self.n} ulp"


@dataclass(frozen=True, slots=True)
class Close:
    """``|actual - expected| <= atol + rtol * |expected|``, as :func:`numpy.isclose`."""

    rtol: float
    atol: float

    def __str__(self) -> str:
        return f"rtol {self.rtol:g} + atol {self.atol:g}"


@dataclass(frozen=True, slots=True)
class Scaled:
    """At most ``n * eps * (the sum of the magnitudes of the terms that were added up)``.

    ``eps`` is the machine epsilon of the output's dtype. This is the forward error of a sum
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 4.2); under
    cancellation it stays meaningful where ULP does not.
    """

    n: float

    def __str__(self) -> str:
        return f"{self.n:g} eps of the terms' magnitudes"


Rule = Exact | Ulp | Close | Scaled


@dataclass(frozen=True, slots=True)
class Tolerance:
    """One rule for every output, with exceptions by output index."""

    rule: Rule
    by_output: Mapping[int, Rule] = field(default_factory=dict)

    def for_output(self, index: int) -> Rule:
        """The rule that output ``index`` is held to."""
        return self.by_output.get(index, self.rule)
