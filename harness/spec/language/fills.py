"""How a spec says what a tensor is filled with.

A tensor's description -> its values, the same bits on every platform.

Random values are made from the raw words of PCG64, whose stream NumPy promises to keep, and exact
or correctly rounded arithmetic; NumPy's own distributions may change with its version and with the
machine's logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness.spec.language.case import Fill, FillKind, TensorSpec
from harness.spec.quoting import shown, suggestion
from harness.spec.yaml.strict import objection

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


Array = NDArray[Any]

TERMS = 12
DRAWN = 1 << 16
GRID = 2.0**-53
INTEGER_SPREAD = 8.0


def array(spec: TensorSpec, shape: Sequence[int] | None = None) -> Array:
    """The values of ``spec`` in C order, in its dtype and shape; a new array at each call.

    ``normal`` in an integer dtype is rounded after scaling by 8 (and without sign where the dtype has
    none); in ``bool`` each is as likely as the other. The layout is not applied here.
    ``shape`` is the parameter's, for a weight that ``takes_shape``; else it is not looked at.
    """
    dtype = dtype_of(spec.dtype)
    if spec.values is not None:
        return _literal(spec.values, dtype).reshape(spec.shape)
    fill = spec.fill or Fill("normal")
    if spec.takes_shape and shape is None:
        raise ValueError(f"{spec.label} takes the shape of its parameter, and none is given")
    filled = tuple(shape or ()) if spec.takes_shape else spec.shape
    return _FILLS[fill.kind](fill, prod(filled), dtype, np.random.PCG64(spec.seed)).reshape(filled)


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype by torch's name."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    return np.dtype(name)


def _literal(values: Any, dtype: np.dtype[Any]) -> Array:
    """Integers directly, floats through float64, so that neither loses a bit that the dtype could hold."""
    if dtype.kind in "iub":
        return np.array(values, dtype=dtype)
    return np.array(values, dtype=np.float64).astype(dtype)


def _unit(count: int, bits: np.random.PCG64) -> Array:
    """Uniform in [0, 1), on the grid."""
    return _steps(count, bits) * GRID


def _steps(count: int, bits: np.random.PCG64) -> Array:
    """The same in steps of the grid, as integers that float64 holds."""
    steps: Array = _raw(count, bits) >> np.uint64(11)
    return steps


def _raw(count: int, bits: np.random.PCG64) -> Array:
    words: Array = bits.random_raw(count)
    return words


def _normal(_: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    """Irwin-Hall: the sum of twelve uniforms less six has mean 0 and variance 1, and needs no logarithm."""
    if dtype.kind == "b":
        return (_raw(count, bits) & np.uint64(1)).astype(dtype)
    # Summed in steps of the grid that uniforms lie on, so that they need not be scaled each by itself.
    total = np.full(count, -TERMS / 2 / GRID)
    # Of few elements many terms are drawn at once, of many as much as the caches hold: the same stream either way.
    drawn = min(TERMS, max(1, DRAWN // max(count, 1)))
    for left in range(TERMS, 0, -drawn):
        for begin in range(0, count, DRAWN):
            block = total[begin : begin + DRAWN]
            for term in _steps(min(left, drawn) * len(block), bits).reshape(-1, len(block)):
                block += term
    total *= GRID
    if dtype.kind in "iu":
        total = np.rint(INTEGER_SPREAD * total)
        total = np.abs(total) if dtype.kind == "u" else total
    return total.astype(dtype)


def _uniform(fill: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    low, high = fill.parameters
    unit = _unit(count, bits)
    # As a weighted mean: the width of the range may be beyond float64 where its ends are not.
    return np.clip(low * (1.0 - unit) + high * unit, low, high).astype(dtype)


def _integers(fill: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    low, high = (int(each) for each in fill.parameters)
    drawn, width = _raw(count, bits), high - low + 1
    if width < 2**64:
        drawn %= np.uint64(width)
    return (low + drawn.astype(np.int64)).astype(dtype)


def _arange(_: Fill, count: int, dtype: np.dtype[Any], __: np.random.PCG64) -> Array:
    return np.arange(count).astype(dtype)


def _choice(fill: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    return _literal(fill.parameters, dtype)[_raw(count, bits) % np.uint64(len(fill.parameters))]


def _constant(fill: Fill, count: int, dtype: np.dtype[Any], _: np.random.PCG64) -> Array:
    value = {"ones": 1, "zeros": 0}.get(fill.kind) if not fill.parameters else fill.parameters[0]
    return np.repeat(_literal([value], dtype), count)


_FILLS: Mapping[FillKind, Callable[[Fill, int, np.dtype[Any], np.random.PCG64], Array]] = {
    "normal": _normal,
    "uniform": _uniform,
    "integers": _integers,
    "arange": _arange,
    "choice": _choice,
    "ones": _constant,
    "zeros": _constant,
    "full": _constant,
}
