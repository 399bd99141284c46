"""Where an answer differs: a small picture of the plane in which it is furthest off. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import NumberFormat, Pair, number_format
from harness.result import OutputComparison

Array = NDArray[Any]

SIDE = 32
"""A picture is at most so many cells high and wide."""


def pictures(
    outputs: Sequence[OutputComparison],
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    undefined: Sequence[Array | None] = (),
) -> tuple[Mapping[str, Any], ...]:
    """A picture of every one of ``outputs`` that fails by its numbers, as ``Result.pictures`` holds them.

    ``outputs`` are those of one comparison, ``actual`` and ``expected`` what was compared, by name; ``undefined`` goes
    by the index. Where form or dtype is wrong there is no element to show, and no picture.
    """
    return tuple(
        {
            "output": output.index,
            **picture(
                actual[output.name],
                expected[output.name],
                output.worst,
                undefined[output.index] if output.index < len(undefined) else None,
            ),
        }
        for output in outputs
        if not output.passed and output.worst is not None and _real(expected[output.name].dtype) is not None
    )


def picture(actual: Array, expected: Array, worst: Sequence[int], undefined: Array | None = None) -> Mapping[str, Any]:
    """The plane over the last two axes that holds the element ``worst``; a vector is a plane of one row.

    ``plane`` is its height and width, ``shape`` that of the picture, ``worst`` the cell with that element. A plane that
    is higher or wider than :data:`SIDE` is cut into blocks, and a cell then shows the one element of its block that is
    furthest off, with its own error: a single wrong element is never averaged away. ``expected``, ``actual`` and
    ``error`` are rows of cells. The error is the absolute difference: 0 between equal values and between NaN and NaN,
    infinite where just one side is not a number or the infinities differ, NaN where ``undefined`` is True.

    Raises ``ValueError`` where the shapes differ, ``worst`` is no index of them, or the dtype holds no real numbers.
    """
    if actual.shape != expected.shape or len(worst) != expected.ndim:
        raise ValueError(f"cannot draw {list(actual.shape)} over {list(expected.shape)} at {list(worst)}")
    form = _real(expected.dtype)
    if form is None:
        raise ValueError(f"cannot draw {expected.dtype}; real numbers would be right")
    at = tuple(int(place) for place in worst)
    shown, meant = _plane(actual, at), _plane(expected, at)
    error = _error(shown, meant, form)
    if undefined is not None:
        error[_plane(undefined, at)] = np.nan
    rows, columns = map(_blocks, error.shape)
    row, column = (0, 0, *at)[-2:]
    cell = _holding(rows, row), _holding(columns, column)
    elements = _furthest(error, rows, columns)
    elements[cell] = row * error.shape[1] + column
    return {
        "title": _title(expected.shape, at, error.shape),
        "plane": list(error.shape),
        "shape": list(elements.shape),
        "worst": list(cell),
        "expected": _cells(meant, elements, form),
        "actual": _cells(shown, elements, form),
        "error": _cells(error, elements, NumberFormat("floating")),
    }


def _real(dtype: np.dtype[Any]) -> NumberFormat | None:
    """The format of real numbers; None for text and for what is not compared."""
    form = number_format(dtype)
    return None if form is None or form.kind == "text" else form


def _plane(array: Array, at: tuple[int, ...]) -> Array:
    return np.atleast_2d(array[at[:-2]] if array.ndim > 2 else array)


def _error(actual: Array, expected: Array, form: NumberFormat) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        error = Pair(actual.reshape(-1), expected.reshape(-1), form).distance.reshape(expected.shape)
        if form.kind == "floating":
            lost = [np.isnan(side.astype(np.float64)) for side in (actual, expected)]
            error = np.where((actual == expected) | (lost[0] & lost[1]), 0.0, error)
            error[lost[0] ^ lost[1]] = np.inf
    return error


def _title(shape: tuple[int, ...], at: tuple[int, ...], plane: tuple[int, ...]) -> str:
    """``[1, 3, :, :] of [2, 8, 64, 64]``, and what a cell is where it is not one element."""
    place = ", ".join([*map(str, at[:-2]), *[":"] * min(len(shape), 2)])
    title = f"[{place}] of {list(shape)}" if shape else "a single number"
    if max(plane) > SIDE:
        title += f"; each cell shows the furthest off of up to {' x '.join(str(-(-side // SIDE)) for side in plane)}"
    return title


def _blocks(length: int) -> list[slice]:
    edges = np.linspace(0, length, min(length, SIDE) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _holding(blocks: Sequence[slice], place: int) -> int:
    return next(number for number, block in enumerate(blocks) if block.start <= place < block.stop)


def _furthest(error: NDArray[np.float64], rows: Sequence[slice], columns: Sequence[slice]) -> NDArray[np.intp]:
    """For each cell the flat index of the element that it shows."""
    elements = np.arange(error.size).reshape(error.shape)
    if (len(rows), len(columns)) == error.shape:
        return elements
    known = np.where(np.isnan(error), -1.0, error)
    furthest = [[elements[row, column].flat[known[row, column].argmax()] for column in columns] for row in rows]
    return np.array(furthest)


def _cells(plane: Array, elements: NDArray[np.intp], form: NumberFormat) -> list[list[int | float]]:
    """``plane`` at ``elements`` as JSON holds it: integers whole, floats to every digit that float32 holds."""
    if form.kind == "integer":
        return [[int(value) for value in row] for row in plane.reshape(-1)[elements]]
    return [[float(f"{float(value):.9g}") for value in row] for row in plane.reshape(-1)[elements]]
