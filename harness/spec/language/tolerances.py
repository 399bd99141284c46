"""How far an output may be from its reference: the five rules a spec can name, as data, and their parser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.spec.quoting import format_value
from harness.spec.yaml.strict import invalid_value


@dataclass(frozen=True, slots=True)
class Exact:
    """Equal values; -0.0 equals 0.0, and NaN equals NaN."""

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
    """At most ``n * eps * (sum of the magnitudes of the terms that are added)``.

    ``eps`` is the machine epsilon of the output's dtype. This is the forward error bound of a sum (Higham, Accuracy
    and Stability of Numerical Algorithms, 2nd ed., section 4.2). Under cancellation it stays meaningful, and ULP does
    not.
    """

    n: float

    def __str__(self) -> str:
        return f"{self.n:.4g} x eps x sum of magnitudes of terms"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """At most ``m`` times as far from the float64 reference as the reference's own run is.

    :mod:`harness.compare.calibrated` defines the rule and derives its numbers.
    """

    m: float = 3.0

    def __str__(self) -> str:
        return f"{self.m:g} x the reference's own error against float64"


Rule = Exact | Ulp | Close | Scaled | Calibrated


@dataclass(frozen=True, slots=True)
class Tolerance:
    """One rule for every output, with exceptions by output index."""

    rule: Rule
    by_output: Mapping[int, Rule] = field(default_factory=dict)

    def for_output(self, index: int) -> Rule:
        """The rule for output ``index``."""
        return self.by_output.get(index, self.rule)


@dataclass(frozen=True, slots=True)
class CaseTolerance:
    """The tolerance that the spec sets; ``rule`` is None if the layer's default applies."""

    rule: Rule | None = None
    by_output: Mapping[int, Rule] = field(default_factory=dict)


RULE_SYNTAX = "write exact, {ulp: n}, {rtol: r, atol: a}, {scaled: n} or {calibrated: m}"

_BOUND = {"type": "number", "minimum": 0}
_KEYS = {
    "ulp": {"type": "integer", "minimum": 0},
    "scaled": _BOUND,
    "calibrated": {"type": "number", "minimum": 1},
    "rtol": _BOUND,
    "atol": _BOUND,
}
_RULE = {"anyOf": [{"const": "exact"}, {"type": "object", "properties": _KEYS, "additionalProperties": False}]}
TOLERANCE_SCHEMA = {
    "anyOf": [
        {"const": "exact"},
        {
            "type": "object",
            "properties": {**_KEYS, "by_output": {"type": "object", "additionalProperties": _RULE}},
            "additionalProperties": False,
            "minProperties": 1,
        },
    ]
}


def parse_tolerance(value: Any) -> CaseTolerance:
    """A rule of :data:`RULE_SYNTAX`, also under ``by_output``, as data."""
    if not isinstance(value, Mapping):
        return CaseTolerance(_parse_rule(value))
    rest = {key: item for key, item in value.items() if key != "by_output"}
    by_output = value.get("by_output", {})
    if not isinstance(by_output, Mapping) or not all(_is_index(key) for key in by_output):
        raise invalid_value(f"by_output: {format_value(by_output)}", "write rules by output index: {0: exact}")
    if not rest and not by_output:
        raise invalid_value(f"{format_value(value)} names no rule", RULE_SYNTAX)
    by_index = {index: _parse_rule(rule) for index, rule in by_output.items()}
    return CaseTolerance(_parse_rule(rest) if rest else None, by_index)


def _parse_rule(value: Any) -> Rule:
    match value:
        case "exact":
            return Exact()
        case {"ulp": n, **rest} if not rest:
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise invalid_value(f"ulp: {format_value(n)} is not a count", "write a whole number, at least 0")
            return Ulp(n)
        case {"scaled": n, **rest} if not rest:
            return Scaled(_bound("scaled", n))
        case {"calibrated": m, **rest} if not rest:
            if _bound("calibrated", m) < 1:
                raise invalid_value(
                    f"calibrated: {format_value(m)} is below 1", "write a factor of at least 1, such as 3"
                )
            return Calibrated(float(m))
        case {"rtol": _, **rest} | {"atol": _, **rest} if not rest.keys() - {"rtol", "atol"}:
            return Close(_bound("rtol", value.get("rtol", 0)), _bound("atol", value.get("atol", 0)))
    raise invalid_value(f"{format_value(value)} is not a tolerance", RULE_SYNTAX)


def _bound(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise invalid_value(f"{name}: {format_value(value)} is not a bound", "write a finite number, at least 0")
    return float(value)


def _is_index(key: Any) -> bool:
    return isinstance(key, int) and key >= 0
