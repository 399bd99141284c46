"""How a spec says how far an output may be from its reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.spec.case import CaseTolerance
from harness.spec.compact import shown
from harness.spec.strict import objection
from harness.spec.tolerance import Close, Exact, Rule, Scaled, Ulp

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
