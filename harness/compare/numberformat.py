"""What kind of numbers a dtype holds: how they are laid out, and how fine they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A dtype whose values can be compared.

    ``eps`` is the distance from 1 to the next number, ``smallest`` the smallest subnormal, ``bits``
    the integer of the same width; all three are those of a floating dtype, else 0, 0 and None. ``spare`` is how many
    bits of each element's byte a narrower dtype leaves unused, at its top.
    """

    kind: Literal["floating", "integer", "text"]
    eps: float = 0.0
    smallest: float = 0.0
    bits: np.dtype[Any] | None = None
    spare: int = 0


@cache
def number_format(dtype: np.dtype[Any]) -> NumberFormat | None:
    """The format of ``dtype``; None for those that are not compared (complex, dates, records, 80-bit floats).

    Covers bool and integers, float16, bfloat16, float32, float64, the narrow dtypes of ml_dtypes, and text.
    """
    if dtype.kind in "biu":
        return NumberFormat("integer")
    if dtype.kind in "OSUT":
        return NumberFormat("text")
    if dtype.kind not in "fV" or dtype.fields is not None or dtype.subdtype is not None:
        return None
    return _floating(dtype) or _narrow_integer(dtype)


def _floating(dtype: np.dtype[Any]) -> NumberFormat | None:
    try:
        info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    except ValueError:
        return None
    if info.bits > 64:
        return None
    sign = "u" if float(info.min) >= 0 else "i"
    bits, spare = np.dtype(f"{sign}{dtype.itemsize}"), 8 * dtype.itemsize - info.bits
    return NumberFormat("floating", float(info.eps), float(info.smallest_subnormal), bits, spare)


def _narrow_integer(dtype: np.dtype[Any]) -> NumberFormat | None:
    try:
        ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    except ValueError:
        return None
    return NumberFormat("integer")


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """The dtype as a user writes it: byte order and the width of text do not count."""
    return "string" if dtype.kind in "OUT" else "bytes" if dtype.kind == "S" else dtype.name


def bit_patterns(array: Array, form: NumberFormat) -> Array:
    """The bits of each floating value, as integers of the same width; those of a narrower dtype stand at its top."""
    assert form.bits is not None
    bits = array.view(form.bits)
    return np.left_shift(bits, form.spare, dtype=bits.dtype) if form.spare else bits


def ordinals(array: Array, form: NumberFormat) -> Array:
    """Numbers that count up by one from each value to the next representable one; both zeros are 0.

    Integers are their own ordinals. A float's bits, read as sign and magnitude, are its ordinal
    (Dawson, "Comparing Floating Point Numbers"); the result has the width of the dtype, and cannot overflow it.
    """
    if form.kind == "integer":
        return array.astype(np.int64) if array.dtype.kind == "V" else array
    bits = bit_patterns(array, form)
    lowest = np.iinfo(bits.dtype).min
    signed = np.where(bits < 0, lowest - bits, bits)
    return signed >> form.spare if form.spare else signed


def steps_between(actual: Array, expected: Array, form: NumberFormat) -> NDArray[np.uint64]:
    """How many representable numbers lie between, as exact unsigned integers: 0 where equal, 1 for neighbours."""
    one, other = ordinals(actual, form), ordinals(expected, form)
    if one.dtype.itemsize < 8:
        return np.abs(np.subtract(one, other, dtype=np.int64)).view(np.uint64)
    # The two's complement wraps: the difference of the wrapped is the true difference, which fits in 64 bits.
    steps: NDArray[np.uint64] = np.maximum(one, other).astype(np.uint64) - np.minimum(one, other).astype(np.uint64)
    return steps
