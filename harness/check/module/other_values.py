"""Other values of inputs of the same shapes, at which a model may do something else. Nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.spec.language.case import TensorSpec

Array = NDArray[Any]
Inputs = Mapping[str, Array]
Bounds = tuple[int, int]
"""The smallest and the largest integer that an input may have."""

MAX_INPUTS = 5
"""How many inputs are changed one by one."""


def alike_inputs(inputs: Inputs) -> Iterator[tuple[str, Inputs]]:
    """Inputs as they could have been instead: of the opposite sign, in another order, and drawn anew.

    Integers and booleans stay in the range of their own values, as in :func:`other_inputs`.
    """
    random = np.random.default_rng(0)
    yield "inputs of the opposite sign", {label: np.asarray(_turned(values)) for label, values in inputs.items()}
    yield (
        "inputs in another order",
        {label: random.permutation(values.reshape(-1)).reshape(values.shape) for label, values in inputs.items()},
    )
    yield "inputs drawn anew", {label: _drawn_anew(values, random) for label, values in inputs.items()}


def _drawn_anew(values: Array, random: np.random.Generator) -> Array:
    if not values.size or values.dtype.kind in "iub":
        return random.permutation(_turned(values).reshape(-1)).reshape(values.shape)
    known = values.astype(np.float64)
    known = known[np.isfinite(known)]
    mean, deviation = (float(known.mean()), float(known.std())) if known.size else (0.0, 0.0)
    return (mean + (deviation or 1.0) * random.standard_normal(values.shape)).astype(values.dtype)


def other_inputs(inputs: Inputs, bounds: Mapping[str, Bounds]) -> Iterator[tuple[str, Inputs]]:
    """Inputs of the same shapes that a model may treat in another way, each with a name for messages.

    Floating values get the other sign, lose it, become 0, or 100 times as large. Integers and booleans stay in the
    range of their own values, since they are mostly indices, lengths or masks, or in ``bounds`` by label, if the spec
    says between which two they are drawn; a range of one value is widened by one. In one set they move to its lower
    half, so that a kept largest integer shows.
    """
    changes: Mapping[str, Callable[[Array, Bounds | None], Any]] = {
        "of the opposite sign": lambda values, _: _turned(values),
        "without their signs": lambda values, _: np.abs(values),
        "with integers from the lower half of their range": lambda values, _: _lower_half(values),
        "of zero": _lowest,
        "that are all negative": lambda values, _: _negative(values),
        "100 times as large": _highest,
        "with a NaN": lambda values, _: _with_nan(values),
    }
    for words, change in changes.items():
        changed = {label: np.asarray(change(values, bounds.get(label))) for label, values in inputs.items()}
        yield f"inputs {words}", changed
    for label, values in list(inputs.items())[:MAX_INPUTS] if len(inputs) > 1 else ():
        yield f"{label} of the opposite sign", {**inputs, label: np.asarray(_turned(values))}


def other_integers(inputs: Inputs, bounds: Mapping[str, Bounds]) -> Iterator[tuple[str, Inputs]]:
    """Inputs of which one integer is the largest or the smallest in ``bounds``, as a length or an index may be.

    Where nothing says how large an integer may be, one becomes larger by one than all others. A table that has no such
    row refuses it.
    """
    whole = {label: each for label, each in inputs.items() if each.dtype.kind in "iu" and each.size}
    bounded = {label: each for label, each in whole.items() if label in bounds}
    for words, at, end in (("largest", np.argmax, 1), ("smallest", np.argmin, 0)):
        changed = {label: _with_one(each, int(at(each)), bounds[label][end]) for label, each in bounded.items()}
        yield f"inputs with the {words} integer that their fill allows", {**inputs, **changed}
    for label in [label for label in whole if label not in bounds][:MAX_INPUTS]:
        values = whole[label]
        largest = int(values.max())
        if largest < np.iinfo(values.dtype).max:
            changed = {label: _with_one(values, int(values.argmax()), largest + 1)}
            yield f"{label} with a larger integer", {**inputs, **changed}


def _with_one(values: Array, index: int, value: int) -> Array:
    changed = np.array(values)
    changed.reshape(-1)[index] = value
    return changed


def bounds_of(specs: Sequence[TensorSpec]) -> dict[str, Bounds]:
    """Between which integers the values of an input are drawn, by label, where the spec says so."""
    fills = {each.label: each.fill for each in specs if not each.is_literal and each.fill is not None}
    return {
        label: (int(min(fill.parameters)), int(max(fill.parameters)))
        for label, fill in fills.items()
        if fill.kind in {"integers", "choice"}
    }


def _negative(values: Array) -> Any:
    return -np.abs(values) if values.dtype.kind not in "iub" else values


def _with_nan(values: Array) -> Array:
    changed = np.array(values)
    if values.dtype.kind not in "iub" and values.size:
        changed.reshape(-1)[0] = np.nan
    return changed


def _turned(values: Array) -> Array:
    if values.dtype.kind not in "iu" or not values.size:
        return ~values if values.dtype.kind == "b" else -values
    low, high = int(values.min()), int(values.max())
    if low == high:
        return np.full_like(values, high - 1 if high > 0 else high + 1)
    return (low - values.astype(np.int64) + high).astype(values.dtype)


def _lower_half(values: Array) -> Array:
    if values.dtype.kind not in "iu" or not values.size:
        return values
    low = values.min()
    halves: Array = values // 2 - low // 2 + low  # nothing overflows on the way
    return halves


def _lowest(values: Array, bounds: Bounds | None) -> Array:
    if values.dtype.kind in "iu" and values.size:
        return np.full_like(values, values.min() if bounds is None else bounds[0])
    return np.zeros_like(values)


def _highest(values: Array, bounds: Bounds | None) -> Array:
    if values.dtype.kind == "b":
        return np.ones_like(values)
    if values.dtype.kind in "iu" and values.size:
        low, high = int(values.min()), int(values.max())
        if bounds is not None:
            return np.full_like(values, bounds[1])
        return np.full_like(values, high + 1 if low == high and high < np.iinfo(values.dtype).max else high)
    with np.errstate(all="ignore"):
        larger: Array = (values * values.dtype.type(100)).astype(values.dtype)
    return larger
