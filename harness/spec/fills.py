"""How a spec says what a tensor is filled with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from harness.spec.case import Fill, FillKind
from harness.spec.compact import shown
from harness.spec.nearest import suggestion
from harness.spec.strict import objection

FILLS: tuple[str, ...] = get_args(FillKind)
EXAMPLES = {
    "uniform": "{uniform: [0, 1]}",
    "integers": "{integers: [0, 9]}",
    "full": "{full: 0.5}",
    "choice": "{choice: [0, 1]}",
}
BARE_FILLS = ("normal", "arange", "ones", "zeros")

PAIR_SCHEMA = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_NUMBER = {"type": ["number", "boolean"]}
_PARAMETERS = {
    "uniform": PAIR_SCHEMA,
    "integers": PAIR_SCHEMA,
    "full": _NUMBER,
    "choice": {"type": "array", "items": _NUMBER, "minItems": 1},
}
FILL_SCHEMA = {
    "anyOf": [
        {"enum": list(BARE_FILLS)},
        *(
            {"type": "object", "properties": {name: given}, "required": [name], "additionalProperties": False}
            for name, given in _PARAMETERS.items()
        ),
    ]
}


def fill(value: Any) -> Fill:
    """``ones``, ``{uniform: [low, high]}``, ``{full: v}`` and so on, as a :class:`Fill`."""
    if isinstance(value, str):
        if value in BARE_FILLS:
            return Fill(value)  # type: ignore[arg-type]  # one of the kinds
        right = f"write {EXAMPLES[value]}" if value in EXAMPLES else suggestion(value, FILLS, _one_of(FILLS))
        raise objection(f"{shown(value)} is not a fill", right)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise objection(f"{shown(value)} is not a fill", f"name one: {', '.join(FILLS)}")
    kind, given = next(iter(value.items()))
    if kind in {"uniform", "integers"}:
        low, high = pair(given, whole=kind == "integers")
        if not (math.isfinite(low) and math.isfinite(high)):
            raise objection(f"{shown(given)} is not finite", "write two finite numbers, low then high")
        return Fill(kind, (low, high))
    if kind == "full":
        return Fill("full", (_number(given),))
    if kind == "choice":
        if not isinstance(given, list) or not given:
            raise objection(f"{shown(given)} is nothing to choose from", "write {choice: [v, ...]}")
        return Fill("choice", tuple(_number(each) for each in given))
    right = f"write it bare: {kind}" if kind in BARE_FILLS else suggestion(str(kind), FILLS, _one_of(FILLS))
    raise objection(f"{shown(kind)} is not a fill with parameters", right)


def pair(value: Any, *, whole: bool = False) -> tuple[float, float]:
    """``[low, high]`` with low <= high, neither of them NaN."""
    if not isinstance(value, list) or len(value) != 2:
        raise objection(f"{shown(value)} is not a range", "write [low, high]")
    low, high = (_number(each) for each in value)
    if whole and not (isinstance(low, int) and isinstance(high, int)):
        raise objection(f"{shown(value)} are not whole numbers", "write [low, high] without fractions")
    if not low <= high:
        raise objection(f"{shown(value)} is empty", "low must not be above high")
    return low, high


def _number(value: Any) -> float:
    """A number or a boolean, as it is written: an integer stays one."""
    if isinstance(value, int | float):
        return value
    raise objection(f"{shown(value)} is not a number", "write one, such as 0.5, .nan or .inf")


def _one_of(words: tuple[str, ...]) -> str:
    return f"one of {', '.join(words)}"
