"""Text outputs, which some ONNX operators give: equal or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def wrong_text(actual: Array, expected: Array) -> tuple[str | None, NDArray[np.intp]]:
    """What is wrong, in one sentence or None, and the flat indices at which two arrays of one shape differ."""
    one, other = actual.reshape(-1).astype(object), expected.reshape(-1).astype(object)
    for values in (one, other):
        if not all(isinstance(value, str | bytes) for value in values):
            return "dtype object holds values that are not text; text would be compared", np.arange(one.size)
    unequal = np.flatnonzero(one != other)
    if not unequal.size:
        return None, unequal
    first = int(unequal[0])
    place = tuple(int(at) for at in np.unravel_index(first, actual.shape))
    said = f"{one[first]!r} at {place}, expected {other[first]!r}; {unequal.size} of {one.size} elements"
    return said, unequal
