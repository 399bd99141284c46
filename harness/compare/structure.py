"""Structure before numbers: which outputs there are, their form, and where NaN and the infinities stand.

Each thing that is wrong is one sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import Pair, dtype_name, number_format

Array = NDArray[Any]

_CLASSES = ("a number", "NaN", "+inf", "-inf")


def wrong_outputs(actual: Mapping[str, Array], expected: Mapping[str, Array]) -> tuple[str, ...]:
    """What is wrong with the set of outputs: their count, their names, their order."""
    if not actual and not expected:
        return ("nothing was compared: neither the answer nor the reference has an output",)
    if list(actual) == list(expected):
        return ()
    missing = [name for name in expected if name not in actual]
    extra = [name for name in actual if name not in expected]
    found = [] if len(actual) == len(expected) else [f"{_outputs(len(actual))}, expected {len(expected)}"]
    found += [f"{name} is missing" for name in missing]
    found += [f"{name} is not an output of the reference" for name in extra]
    if not missing and not extra:
        found.append(f"the outputs come in the order {_listed(actual)}, expected {_listed(expected)}")
    return tuple(found)


def wrong_form(actual: Array, expected: Array) -> tuple[str, ...]:
    """What is wrong with the shape and the dtype of one output, or with comparing such a dtype at all."""
    found = []
    if actual.shape != expected.shape:
        found.append(f"shape {actual.shape}, expected {expected.shape}")
    if actual.dtype != expected.dtype and dtype_name(actual.dtype) != dtype_name(expected.dtype):
        found.append(f"dtype {dtype_name(actual.dtype)}, expected {dtype_name(expected.dtype)}")
    elif number_format(actual.dtype) is None:
        found.append(f"dtype {dtype_name(actual.dtype)} is not compared; real numbers, integers or text would be")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Specials:
    """Where NaN and the infinities stand in a pair of arrays.

    ``finite`` is the pair of the elements that are finite on both sides. ``strays`` are the flat indices in the output
    of those whose class (a number, NaN, +inf, -inf) differs; ``problems`` says so, one sentence for each mixture.
    """

    finite: Pair
    strays: NDArray[np.intp]
    problems: tuple[str, ...]


def specials(pair: Pair, shape: tuple[int, ...]) -> Specials:
    """Tell the numbers of ``pair``, which may hold any value, from its NaN and infinities."""
    found, wanted = _classes(pair.actual), _classes(pair.expected)
    positions = np.arange(found.size, dtype=np.intp) if pair.positions is None else pair.positions
    stray = found != wanted
    numbers = (found == 0) & (wanted == 0)
    actual, expected = pair.actual[numbers], pair.expected[numbers]
    # Two finite float64 whose difference is not finite are compared in halves.
    huge = ~np.isfinite(pair.distance[numbers])
    unit = np.where(huge, 0.5, 1.0) if huge.any() else 1.0
    return Specials(
        Pair(actual, expected, pair.form, positions[numbers], unit),
        positions[stray],
        tuple(_mixtures(found[stray], wanted[stray], positions[stray], shape, found.size)) if stray.any() else (),
    )


def _classes(array: Array) -> NDArray[np.int8]:
    """For each element its index in the classes: a number, NaN, +inf, -inf."""
    wide = array.astype(np.float64)
    return np.select([np.isnan(wide), np.isposinf(wide), np.isneginf(wide)], [1, 2, 3], 0).astype(np.int8)


def _mixtures(
    found: NDArray[np.int8], wanted: NDArray[np.int8], positions: NDArray[np.intp], shape: tuple[int, ...], of: int
) -> Iterator[str]:
    for this, that in sorted(set(zip(found.tolist(), wanted.tolist(), strict=True))):
        where = positions[(found == this) & (wanted == that)]
        first = tuple(int(at) for at in np.unravel_index(where[0], shape))
        yield f"{_CLASSES[this]} at {first} where {_CLASSES[that]} is expected; {where.size} of {of} elements"


def _outputs(count: int) -> str:
    return f"{count} output" if count == 1 else f"{count} outputs"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
