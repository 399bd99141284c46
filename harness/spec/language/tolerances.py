"""How far an output may be from its reference: the rules a spec can name, as data, and their parser."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.spec.quoting import format_value, suggestion
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

    :mod:`harness.compare.calibrated` defines the rule and derives its numbers. ``precision`` names the dtype that the
    reference is run in, for a file that computes in a lower precision than its outputs have; None for their own dtype.
    ``function`` is the operator that gives the output, if kernels approximate it to an absolute error; else empty.
    """

    m: float = 3.0
    precision: str | None = None
    function: str = ""

    def __str__(self) -> str:
        run = "own error" if self.precision is None else f"own error in {self.precision}"
        least = f", or the error of a {self.function} kernel" if self.function else ""
        return f"{self.m:g} x the reference's {run} against float64{least}"


@dataclass(frozen=True, slots=True)
class Sqnr:
    """At least ``decibels`` of signal to quantization noise: ``10 log10(sum of squares / sum of squared errors)``.

    ``because`` says where a bound comes from that the spec does not name. If ``pooled``, the rule is about all samples
    of a case together, and no single one passes or fails under it.
    """

    decibels: float
    because: str = ""
    pooled: bool = False

    def __str__(self) -> str:
        because = f" ({self.because})" if self.because else ""
        return f"SQNR of at least {self.decibels:.4g} dB{_over(self)}{because}"


@dataclass(frozen=True, slots=True)
class Cosine:
    """A cosine of at least ``least`` between the output and its reference as vectors; it does not see a factor."""

    least: float

    def __str__(self) -> str:
        return f"cosine of at least {self.least:g}"


DecisionKind = Literal["argmax", "argmin", "sign", "value"]


@dataclass(frozen=True, slots=True)
class Decisions:
    """At least a share ``at_least`` of the decisions that an output stands for are the reference's.

    ``argmax`` and ``argmin`` decide along ``axis``; ``sign`` decides at each value whether it is above zero; ``value``
    takes each value as a decision, such as a label. :mod:`harness.compare.decisions` counts them. If ``pooled``, the
    share is that of all samples of a case.
    """

    by: DecisionKind = "argmax"
    axis: int = -1
    at_least: float = 1.0
    pooled: bool = False

    def __str__(self) -> str:
        along = f" along axis {self.axis}" if self.by in {"argmax", "argmin"} else ""
        return f"at least {100 * self.at_least:g} % of the decisions by {self.by}{along}{_over(self)}"


def _over(rule: Sqnr | Decisions) -> str:
    return " over all samples" if rule.pooled else ""


def pooled(rule: OneRule) -> OneRule:
    """``rule`` over all samples of a case together, if it is one that adds up."""
    return replace(rule, pooled=True) if isinstance(rule, Sqnr | Decisions) else rule


OneRule = Exact | Ulp | Close | Scaled | Calibrated | Sqnr | Cosine | Decisions
"""A rule of its own, which is not a list."""


@dataclass(frozen=True, slots=True)
class AllOf:
    """Several rules, all of which must hold."""

    rules: tuple[OneRule, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.rules))


Rule = OneRule | AllOf


def rules_of(rule: Rule | None) -> tuple[OneRule, ...]:
    """The rules that ``rule`` is made of: itself, or those of its list; none for None."""
    return () if rule is None else rule.rules if isinstance(rule, AllOf) else (rule,)


def map_rule(change: Callable[[OneRule], OneRule], rule: Rule) -> Rule:
    """``rule`` with ``change`` applied to it, or to each rule of its list."""
    return AllOf(tuple(map(change, rule.rules))) if isinstance(rule, AllOf) else change(rule)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """One rule for every output, with exceptions by output index."""

    rule: Rule
    by_output: Mapping[int, Rule] = field(default_factory=dict)

    def for_output(self, index: int) -> Rule:
        """The rule for output ``index``."""
        return self.by_output.get(index, self.rule)

    def map(self, change: Callable[[OneRule], OneRule]) -> Tolerance:
        """The tolerance with ``change`` applied to each rule."""
        by_output = {index: map_rule(change, rule) for index, rule in self.by_output.items()}
        return Tolerance(map_rule(change, self.rule), by_output)

    def has(self, kind: type[OneRule]) -> bool:
        """True if a rule of this kind applies to an output."""
        rules = (each for rule in (self.rule, *self.by_output.values()) for each in rules_of(rule))
        return any(isinstance(each, kind) for each in rules)


@dataclass(frozen=True, slots=True)
class CaseTolerance:
    """The tolerance that the spec sets; ``rule`` is None if the layer's default applies."""

    rule: Rule | None = None
    by_output: Mapping[int, Rule] = field(default_factory=dict)

    def has(self, kind: type[OneRule]) -> bool:
        """True if the spec names a rule of this kind."""
        rules = (each for rule in (self.rule, *self.by_output.values()) for each in rules_of(rule))
        return any(isinstance(each, kind) for each in rules)


RULE_SYNTAX = (
    "write exact, {ulp: n}, {rtol: r, atol: a}, {scaled: n}, {calibrated: m}, {sqnr: dB}, {cosine: c}, "
    "{decisions: {by: argmax, axis: -1, at_least: 0.999}}, or a list of these"
)
DECISION_KINDS: tuple[DecisionKind, ...] = ("argmax", "argmin", "sign", "value")

_BOUND = {"type": "number", "minimum": 0}
_KEYS = {
    "ulp": {"type": "integer", "minimum": 0},
    "scaled": _BOUND,
    "calibrated": {"type": "number", "minimum": 1},
    "rtol": _BOUND,
    "atol": _BOUND,
    "sqnr": {"type": "number"},
    "cosine": {"type": "number", "minimum": -1, "maximum": 1},
    "decisions": {
        "type": "object",
        "properties": {
            "by": {"enum": list(DECISION_KINDS)},
            "axis": {"type": "integer"},
            "at_least": {"type": "number", "minimum": 0, "maximum": 1},
        },
        "additionalProperties": False,
    },
}
_ONE_RULE = {"anyOf": [{"const": "exact"}, {"type": "object", "properties": _KEYS, "additionalProperties": False}]}
_LIST = {"type": "array", "items": _ONE_RULE, "minItems": 1}
_RULE = {"anyOf": [*_ONE_RULE["anyOf"], _LIST]}
TOLERANCE_SCHEMA = {
    "anyOf": [
        {"const": "exact"},
        _LIST,
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


def written_rule(rule: Rule) -> Any:
    """``rule`` in the syntax of a spec."""
    match rule:
        case AllOf(rules):
            return [written_rule(each) for each in rules]
        case Sqnr(decibels, _):
            return {"sqnr": decibels}
        case Cosine(least):
            return {"cosine": least}
        case Decisions(by, axis, at_least):
            return {"decisions": {"by": by, "axis": axis, "at_least": at_least}}
        case Exact():
            return "exact"
        case Ulp(n):
            return {"ulp": n}
        case Scaled(n):
            return {"scaled": n}
        case Calibrated(m):
            return {"calibrated": m}
        case Close(rtol, atol):
            return {"rtol": rtol, "atol": atol}


def _parse_rule(value: Any) -> Rule:
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise invalid_value("[] names no rule", RULE_SYNTAX)
        rules = tuple(_parse_one_rule(item) for item in value)
        return AllOf(rules) if len(rules) > 1 else rules[0]
    return _parse_one_rule(value)


def _parse_one_rule(value: Any) -> OneRule:
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
    return _parse_whole_output_rule(value)


def _parse_whole_output_rule(value: Any) -> OneRule:
    match value:
        case {"sqnr": decibels, **rest} if not rest:
            return Sqnr(_number("sqnr", decibels, -math.inf, math.inf, "write a ratio in decibels, such as 35"))
        case {"cosine": least, **rest} if not rest:
            return Cosine(_number("cosine", least, -1, 1, "write a number of at most 1, such as 0.999"))
        case {"decisions": Mapping() as decisions, **rest} if not rest:
            return _parse_decisions(decisions)
    if value in [*_KEYS]:
        written = next(rule for rule in re.findall(r"{(?:[^{}]|{.*?})*}", RULE_SYNTAX) if f"{value}:" in rule)
        raise invalid_value(f"{value} alone is not a tolerance", f"write {written}")
    unknown = [str(key) for key in value if key not in _KEYS] if isinstance(value, Mapping) else [str(value)]
    # Where no key is misspelt, rules that do not go together are, or a value is of the wrong kind.
    remedy = suggestion(unknown[0], [*_KEYS, "exact"], RULE_SYNTAX) if len(unknown) == 1 else RULE_SYNTAX
    raise invalid_value(f"{format_value(value)} is not a tolerance", remedy)


def _parse_decisions(value: Mapping[Any, Any]) -> Decisions:
    if unknown := [key for key in value if key not in {"by", "axis", "at_least"}]:
        raise invalid_value(f"decisions: no key {format_value(unknown[0])}", "write by, axis and at_least")
    by, axis = value.get("by", "argmax"), value.get("axis", -1)
    if by not in DECISION_KINDS:
        raise invalid_value(f"decisions: by: {format_value(by)} is unknown", f"write {', '.join(DECISION_KINDS)}")
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise invalid_value(f"decisions: axis: {format_value(axis)} is not an axis", "write a whole number, such as -1")
    least = _number("decisions: at_least", value.get("at_least", 1.0), 0, 1, "write a share, such as 0.999")
    return Decisions(by, axis, least)


def _number(name: str, value: Any, low: float, high: float, fix: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:
        raise invalid_value(f"{name}: {format_value(value)} is out of range", fix)
    return float(value)


def _bound(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise invalid_value(f"{name}: {format_value(value)} is not a bound", "write a finite number, at least 0")
    return float(value)


def _is_index(key: Any) -> bool:
    return isinstance(key, int) and key >= 0
