"""How far an output may be from its reference: the four rules a spec can name, as data.

How a spec says how far an output may be from its reference.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.spec.quoting import shown
from harness.spec.yaml.strict import objection


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


@dataclass(frozen=True, slots=True)
class CaseTolerance:
    """What the spec says about tolerance; ``rule`` is None where the layer's default holds."""

    rule: Rule | None = None
    by_output: Mapping[int, Rule] = field(default_factory=dict)


RULES = "write exact, {ulp: n}, {rtol: r, atol: a} or {scaled: n}"

_BOUND = {"type": "number", "minimum": 0}
_KEYS = {"ulp": {"type": "integer", "minimum": 0}, "scaled": _BOUND, "rtol": _BOUND, "atol": _BOUND}
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


def tolerance(value: Any) -> CaseTolerance:
    """``exact``, ``{ulp: n}``, ``{rtol: r, atol: a}``, ``{scaled: n}``, each also under ``by_output``."""
    if not isinstance(value, Mapping):
        return CaseTolerance(_rule(value))
    rest = {key: item for key, item in value.items() if key != "by_output"}
    by_output = value.get("by_output", {})
    if not isinstance(by_output, Mapping) or not all(_is_index(key) for key in by_output):
        raise objection(f"by_output: {shown(by_output)}", "write rules by the output's number: {0: exact}")
    if not rest and not by_output:
        raise objection(f"{shown(value)} names no rule", RULES)
    return CaseTolerance(_rule(rest) if rest else None, {key: _rule(item) for key, item in by_output.items()})


def _rule(value: Any) -> Rule:
    match value:
        case "exact":
            return Exact()
        case {"ulp": n, **rest} if not rest:
            if not isinstance(n, int) or isinstance(n, bool) or n < 0:
                raise objection(f"ulp: {shown(n)} is not a count", "write a whole number, at least 0")
            return Ulp(n)
        case {"scaled": n, **rest} if not rest:
            return Scaled(_bound("scaled", n))
        case {"rtol": _, **rest} | {"atol": _, **rest} if not rest.keys() - {"rtol", "atol"}:
            return Close(_bound("rtol", value.get("rtol", 0)), _bound("atol", value.get("atol", 0)))
    raise objection(f"{shown(value)} is not a tolerance", RULES)


def _bound(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise objection(f"{name}: {shown(value)} is not a bound", "write a finite number, at least 0")
    return float(value)


def _is_index(key: Any) -> bool:
    return isinstance(key, int) and key >= 0
