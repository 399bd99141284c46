"""Pictures of where an answer differs: the plane that holds the worst value, small enough for a report. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import NumberFormat, Pair, number_format
from harness.result import OutputComparison

Array = NDArray[Any]

MAX_SIDE = 32
"""The maximum height and width of a picture, in cells."""


def pictures(
    outputs: Sequence[OutputComparison],
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    undefined: Sequence[Array | None] = (),
) -> tuple[Mapping[str, Any], ...]:
    """A picture of each output that fails by its values, in the form of ``Result.pictures``.

    ``outputs`` are those of one comparison of ``actual`` with ``expected``. ``undefined`` goes by the index. An output
    with a wrong shape or dtype has no value to show, and no picture.
    """
    names = list(expected)  # the name of an output in a comparison may have its path beside it
    return tuple(
        {
            "output": output.index,
            **picture(
                actual[names[output.index]],
                expected[names[output.index]],
                output.worst,
                undefined[output.index] if output.index < len(undefined) else None,
            ),
        }
        for output in outputs
        if not output.passed
        and output.worst is not None
        and _real_format(expected[names[output.index]].dtype) is not None
    )


def picture(
    actual: Array, expected: Array, worst: Sequence[int] | None, undefined: Array | None = None
) -> Mapping[str, Any]:
    """The plane over the last two axes that holds the value at ``worst``; a vector is a plane of one row.

    ``worst`` None is the place of the largest error.

    ``plane`` is its height and width, ``shape`` that of the picture, ``worst`` the cell with that value. A plane that
    is higher or wider than :data:`MAX_SIDE` is cut into blocks. A cell then shows the one value of its block with the
    largest error, so that a single wrong value is never averaged away. ``expected``, ``actual`` and ``error`` are rows
    of cells. The error is the absolute difference: 0 between equal values and between NaN and NaN, infinite if only
    one side is NaN or the infinities differ, NaN where ``undefined`` is True.

    Raises ``ValueError`` if the shapes differ, ``worst`` is not an index of them, or the dtype holds no real numbers.
    """
    if actual.shape != expected.shape or (worst is not None and len(worst) != expected.ndim):
        raise ValueError(
            f"cannot draw shape {list(actual.shape)} with expected shape {list(expected.shape)} at {worst}"
        )
    real_format = _real_format(expected.dtype)
    if real_format is None:
        raise ValueError(f"cannot draw dtype {expected.dtype}; it must hold real numbers")
    index = _largest_at(actual, expected, real_format) if worst is None else tuple(int(i) for i in worst)
    actual_plane, expected_plane = _plane(actual, index), _plane(expected, index)
    error = _error(actual_plane, expected_plane, real_format)
    if undefined is not None:
        error[_plane(undefined, index)] = np.nan
    rows, columns = map(_blocks, error.shape)
    row, column = (0, 0, *index)[-2:]
    cell = _block_of(rows, row), _block_of(columns, column)
    elements = _shown_elements(error, rows, columns)
    elements[cell] = row * error.shape[1] + column
    return {
        "title": _title(expected.shape, index, error.shape),
        "plane": list(error.shape),
        "shape": list(elements.shape),
        "worst": list(cell),
        "expected": _cells(expected_plane, elements, real_format),
        "actual": _cells(actual_plane, elements, real_format),
        "error": _cells(error, elements, NumberFormat("floating")),
    }


def _real_format(dtype: np.dtype[Any]) -> NumberFormat | None:
    """The format of real numbers; None for text and for dtypes that cannot be compared."""
    found = number_format(dtype)
    return None if found is None or found.kind == "text" else found


def _plane(array: Array, index: tuple[int, ...]) -> Array:
    return np.atleast_2d(array[index[:-2]] if array.ndim > 2 else array)


def _error(actual: Array, expected: Array, real_format: NumberFormat) -> NDArray[np.float64]:
    with np.errstate(all="ignore"):
        error = Pair(actual.reshape(-1), expected.reshape(-1), real_format).distance.reshape(expected.shape)
        if real_format.kind == "floating":
            actual_nan, expected_nan = (np.isnan(side.astype(np.float64)) for side in (actual, expected))
            error = np.where((actual == expected) | (actual_nan & expected_nan), 0.0, error)
            error[actual_nan ^ expected_nan] = np.inf
    return error


def _largest_at(actual: Array, expected: Array, real_format: NumberFormat) -> tuple[int, ...]:
    place = _ranked(_error(actual, expected, real_format)).argmax()
    return tuple(int(i) for i in np.unravel_index(place, expected.shape))


def _ranked(error: NDArray[np.float64]) -> NDArray[np.float64]:
    """``error`` with what is not compared behind everything else."""
    return np.where(np.isnan(error), -1.0, error)


def _title(shape: tuple[int, ...], index: tuple[int, ...], plane: tuple[int, ...]) -> str:
    """``[1, 3, :, :] of [2, 8, 64, 64]``, and what a cell shows if it is not one value."""
    slices = ", ".join([*map(str, index[:-2]), *[":"] * min(len(shape), 2)])
    title = f"[{slices}] of {list(shape)}" if shape else "a single number"
    if max(plane) > MAX_SIDE:
        block = " x ".join(str(-(-side // MAX_SIDE)) for side in plane)
        title += f"; each cell shows the largest error of up to {block} values"
    return title


def _blocks(length: int) -> list[slice]:
    edges = np.linspace(0, length, min(length, MAX_SIDE) + 1).astype(int).tolist()
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _block_of(blocks: Sequence[slice], position: int) -> int:
    return next(number for number, block in enumerate(blocks) if block.start <= position < block.stop)


def _shown_elements(error: NDArray[np.float64], rows: Sequence[slice], columns: Sequence[slice]) -> NDArray[np.intp]:
    """The flat index of the value that each cell shows."""
    elements = np.arange(error.size).reshape(error.shape)
    if (len(rows), len(columns)) == error.shape:
        return elements
    ranked = _ranked(error)
    largest = [[elements[row, column].flat[ranked[row, column].argmax()] for column in columns] for row in rows]
    return np.array(largest)


def _cells(plane: Array, elements: NDArray[np.intp], cell_format: NumberFormat) -> list[list[int | float]]:
    """``plane`` at ``elements`` as JSON: integers in full, floats with every digit that float32 holds."""
    if cell_format.kind == "integer":
        return [[int(value) for value in row] for row in plane.reshape(-1)[elements]]
    return [[float(f"{float(value):.9g}") for value in row] for row in plane.reshape(-1)[elements]]
