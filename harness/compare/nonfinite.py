"""Split two arrays into the values that are finite on both sides and the places where NaN or infinities disagree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import Pair

Array = NDArray[Any]


_VALUE_CLASSES = ("finite", "NaN", "+inf", "-inf")


NO_POSITIONS: NDArray[np.intp] = np.empty(0, dtype=np.intp)


@dataclass(frozen=True, slots=True)
class NonfiniteSplit:
    """A pair of arrays split into its finite values and the positions where NaN or infinities disagree.

    ``finite`` is the pair of the values that are finite on both sides. ``mismatches`` are the flat indices in the
    output of the values whose class (finite, NaN, +inf, -inf) differs. ``problems`` has one sentence for each
    combination of classes.
    """

    finite: Pair
    mismatches: NDArray[np.intp]
    problems: tuple[str, ...]


def split_nonfinite(pair: Pair, shape: tuple[int, ...]) -> NonfiniteSplit:
    """Split ``pair``, which may hold any value; ``shape`` is that of the output."""
    # One reduction detects the common case: any NaN, infinity or overflow on either side makes the maximum not finite.
    if pair.format.kind == "integer" or not pair.distance.size or np.isfinite(pair.distance.max()):
        return NonfiniteSplit(pair, NO_POSITIONS, ())
    return _split_by_class(pair, shape)


def _split_by_class(pair: Pair, shape: tuple[int, ...]) -> NonfiniteSplit:
    """Split ``pair``, which may hold any value, into finite values and mismatches of NaN and infinities."""
    actual_class, expected_class = _class_indices(pair.actual), _class_indices(pair.expected)
    positions = np.arange(actual_class.size, dtype=np.intp) if pair.positions is None else pair.positions
    wrong = actual_class != expected_class
    finite = (actual_class == 0) & (expected_class == 0)
    actual, expected = pair.actual[finite], pair.expected[finite]
    # Two finite float64 whose difference overflows are compared in halves.
    overflow = ~np.isfinite(pair.distance[finite])
    unit = np.where(overflow, 0.5, 1.0) if overflow.any() else 1.0
    problems = _class_problems(actual_class[wrong], expected_class[wrong], positions[wrong], shape, wrong.size)
    return NonfiniteSplit(
        Pair(actual, expected, pair.format, positions[finite], unit),
        positions[wrong],
        tuple(problems) if wrong.any() else (),
    )


def _class_indices(array: Array) -> NDArray[np.int8]:
    """The class of each value, as its index in :data:`_VALUE_CLASSES`."""
    widened = array.astype(np.float64)
    return np.select([np.isnan(widened), np.isposinf(widened), np.isneginf(widened)], [1, 2, 3], 0).astype(np.int8)


def _class_problems(
    actual: NDArray[np.int8], expected: NDArray[np.int8], positions: NDArray[np.intp], shape: tuple[int, ...], of: int
) -> Iterator[str]:
    for actual_class, expected_class in sorted(set(zip(actual.tolist(), expected.tolist(), strict=True))):
        where = positions[(actual == actual_class) & (expected == expected_class)]
        first = [int(i) for i in np.unravel_index(where[0], shape)]
        are = values_are(where.size, of, "is", "are")
        yield f"{are} {_VALUE_CLASSES[actual_class]}, expected {_VALUE_CLASSES[expected_class]}; first at {first}"


def values_are(count: int, of: int, singular: str, plural: str) -> str:
    """The beginning of a sentence about some values: ``1 of 4 values is``, ``3 of 4 values are``."""
    return f"{count} of {of} value{'' if of == 1 else 's'} {singular if count == 1 else plural}"
