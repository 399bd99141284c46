"""Two arrays that are the same to the last bit, as the answers of most targets are: the quickest thing to find out."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


def same_bits(one: Array, other: Array) -> bool:
    """True where dtype, shape and every bit agree; never of objects (text), which hold no more than where they lie."""
    form = one.dtype == other.dtype and one.shape == other.shape and not one.dtype.hasobject
    return form and one.tobytes() == other.tobytes()
