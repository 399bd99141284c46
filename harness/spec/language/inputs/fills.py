"""Fills: how a spec names one, and the array it makes, with the same bits on every platform.

Random values are made from the raw words of PCG64, whose stream NumPy promises to keep, with exact or correctly rounded
arithmetic. NumPy's own distributions may change with its version and with the machine's logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from harness.data_files import pick, stored_arrays
from harness.spec.language.case import Fill, FillKind, TensorSpec
from harness.spec.quoting import format_value, suggestion
from harness.spec.yaml.strict import invalid_value

Array = NDArray[Any]

FILLS: tuple[str, ...] = get_args(FillKind)
EXAMPLES = {
    "uniform": "{uniform: [0, 1]}",
    "integers": "{integers: [0, 9]}",
    "full": "{full: 0.5}",
    "choice": "{choice: [0, 1]}",
}
BARE_FILLS = ("normal", "arange", "ones", "zeros")

RANGE_SCHEMA = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_NUMBER_SCHEMA = {"type": ["number", "boolean"]}
_PARAMETER_SCHEMAS = {
    "uniform": RANGE_SCHEMA,
    "integers": RANGE_SCHEMA,
    "full": _NUMBER_SCHEMA,
    "choice": {"type": "array", "items": _NUMBER_SCHEMA, "minItems": 1},
}
FILL_SCHEMA = {
    "anyOf": [
        {"enum": list(BARE_FILLS)},
        *(
            {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}
            for name, schema in _PARAMETER_SCHEMAS.items()
        ),
    ]
}

IRWIN_HALL_TERMS = 12
BLOCK_SIZE = 1 << 16
GRID_STEP = 2.0**-53
INTEGER_SCALE = 8.0


def array(spec: TensorSpec, shape: Sequence[int] | None = None) -> Array:
    """The values of ``spec`` in C order, in its dtype and shape; a new array at each call.

    ``normal`` in an integer dtype is rounded after scaling by 8 (and made non-negative if the dtype is unsigned); in
    ``bool``, both values are equally likely. The layout is not applied here. ``shape`` is the shape of the parameter,
    for a weight that ``takes_shape``; it is ignored otherwise. Raises
    :class:`harness.errors.UsageError` if the values are in a file that cannot be read any more.
    """
    dtype = dtype_of(spec.dtype)
    if spec.source is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # as torch converts
            path = Path(spec.source.path)
            return pick(stored_arrays(path), spec.source.key, path).read().astype(dtype, copy=False)
    if spec.values is not None:
        return _literal(spec.values, dtype).reshape(spec.shape)
    fill = spec.fill or Fill("normal")
    if spec.takes_shape and shape is None:
        raise ValueError(f"{spec.label} takes the shape of its parameter; pass that shape")
    filled_shape = tuple(shape or ()) if spec.takes_shape else spec.shape
    return _FILLERS[fill.kind](fill, prod(filled_shape), dtype, np.random.PCG64(spec.seed)).reshape(filled_shape)


def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy's dtype for torch's name."""
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    return np.dtype(name)


def parse_fill(value: Any) -> Fill:
    """``ones``, ``{uniform: [low, high]}``, ``{full: v}`` and so on, as a :class:`Fill`."""
    if isinstance(value, str):
        if value in BARE_FILLS:
            return Fill(value)  # type: ignore[arg-type]  # one of the kinds
        remedy = f"write {EXAMPLES[value]}" if value in EXAMPLES else suggestion(value, FILLS, _one_of(FILLS))
        raise invalid_value(f"{format_value(value)} is not a fill", remedy)
    if not isinstance(value, Mapping) or len(value) != 1:
        raise invalid_value(f"{format_value(value)} is not a fill", f"name one: {', '.join(FILLS)}")
    kind, parameters = next(iter(value.items()))
    if kind in {"uniform", "integers"}:
        low, high = parse_range(parameters, whole=kind == "integers")
        if not (math.isfinite(low) and math.isfinite(high)):
            raise invalid_value(f"{format_value(parameters)} is not finite", "write two finite numbers, low then high")
        return Fill(kind, (low, high))
    if kind == "full":
        return Fill("full", (_number(parameters),))
    if kind == "choice":
        if not isinstance(parameters, list) or not parameters:
            raise invalid_value(f"{format_value(parameters)} is not a list of choices", "write {choice: [v, ...]}")
        return Fill("choice", tuple(_number(each) for each in parameters))
    bare = f"write {kind} without parameters" if kind in BARE_FILLS else None
    remedy = bare or suggestion(str(kind), FILLS, _one_of(FILLS))
    raise invalid_value(f"{format_value(kind)} is not a fill with parameters", remedy)


def parse_range(value: Any, *, whole: bool = False) -> tuple[float, float]:
    """``[low, high]`` with low <= high and no NaN."""
    if not isinstance(value, list) or len(value) != 2:
        raise invalid_value(f"{format_value(value)} is not a range", "write [low, high]")
    low, high = (_number(each) for each in value)
    if whole and not (isinstance(low, int) and isinstance(high, int)):
        raise invalid_value(f"{format_value(value)} are not whole numbers", "write [low, high] without fractions")
    if not low <= high:
        raise invalid_value(f"{format_value(value)} is empty", "low must not be above high")
    return low, high


def _number(value: Any) -> float:
    """A number or a boolean, unchanged: an integer stays an integer."""
    if isinstance(value, int | float):
        return value
    raise invalid_value(f"{format_value(value)} is not a number", "write one, such as 0.5, .nan or .inf")


def _one_of(words: tuple[str, ...]) -> str:
    return f"write one of {', '.join(words)}"


def _literal(values: Any, dtype: np.dtype[Any]) -> Array:
    """Integers directly and floats through float64, so that neither loses a bit that the dtype can hold."""
    if dtype.kind in "iub":
        return np.array(values, dtype=dtype)
    return np.array(values, dtype=np.float64).astype(dtype)


def _unit(count: int, bits: np.random.PCG64) -> Array:
    """Uniform in [0, 1): multiples of :data:`GRID_STEP`."""
    return _grid_indices(count, bits) * GRID_STEP


def _grid_indices(count: int, bits: np.random.PCG64) -> Array:
    """Uniform integers below 2**53, all exact in float64."""
    indices: Array = _raw_words(count, bits) >> np.uint64(11)
    return indices


def _raw_words(count: int, bits: np.random.PCG64) -> Array:
    words: Array = bits.random_raw(count)
    return words


def _normal(_: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    """Irwin-Hall: the sum of twelve uniforms less six has mean 0 and variance 1, and needs no logarithm."""
    if dtype.kind == "b":
        return (_raw_words(count, bits) & np.uint64(1)).astype(dtype)
    # Summed as grid indices and scaled once at the end, which saves scaling each uniform.
    total = np.full(count, -IRWIN_HALL_TERMS / 2 / GRID_STEP)
    # For few elements many terms are drawn at once; for many elements, as much as fits the caches. Both read the same
    # stream in the same order.
    terms_per_draw = min(IRWIN_HALL_TERMS, max(1, BLOCK_SIZE // max(count, 1)))
    for remaining in range(IRWIN_HALL_TERMS, 0, -terms_per_draw):
        for start in range(0, count, BLOCK_SIZE):
            block = total[start : start + BLOCK_SIZE]
            drawn = _grid_indices(min(remaining, terms_per_draw) * len(block), bits)
            for term in drawn.reshape(-1, len(block)):
                block += term
    total *= GRID_STEP
    if dtype.kind in "iu":
        total = np.rint(INTEGER_SCALE * total)
        total = np.abs(total) if dtype.kind == "u" else total
    return total.astype(dtype)


def _uniform(fill: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    low, high = fill.parameters
    unit = _unit(count, bits)
    # As a weighted mean: the width of the range may be beyond float64 even if its ends are not.
    return np.clip(low * (1.0 - unit) + high * unit, low, high).astype(dtype)


def _integers(fill: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    low, high = (int(each) for each in fill.parameters)
    drawn, width = _raw_words(count, bits), high - low + 1
    if width < 2**64:
        drawn %= np.uint64(width)
    return (low + drawn.astype(np.int64)).astype(dtype)


def _arange(_: Fill, count: int, dtype: np.dtype[Any], __: np.random.PCG64) -> Array:
    return np.arange(count).astype(dtype)


def _choice(fill: Fill, count: int, dtype: np.dtype[Any], bits: np.random.PCG64) -> Array:
    return _literal(fill.parameters, dtype)[_raw_words(count, bits) % np.uint64(len(fill.parameters))]


def _constant(fill: Fill, count: int, dtype: np.dtype[Any], _: np.random.PCG64) -> Array:
    value = {"ones": 1, "zeros": 0}.get(fill.kind) if not fill.parameters else fill.parameters[0]
    return np.repeat(_literal([value], dtype), count)


_FILLERS: Mapping[FillKind, Callable[[Fill, int, np.dtype[Any], np.random.PCG64], Array]] = {
    "normal": _normal,
    "uniform": _uniform,
    "integers": _integers,
    "arange": _arange,
    "choice": _choice,
    "ones": _constant,
    "zeros": _constant,
    "full": _constant,
}
