"""Two arrays that are the same to the last bit, as the answers of most targets are: the quickest thing to find out.

What kind of numbers a dtype holds: how they are laid out, and how fine they are.

The finite numbers of two arrays side by side, and what rules and metrics need of them, each computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def same_bits(one: Array, other: Array) -> bool:
    """True where dtype, shape and every bit agree; never of objects (text), which hold no more than where they lie."""
    form = one.dtype == other.dtype and one.shape == other.shape and not one.dtype.hasobject
    return form and one.tobytes() == other.tobytes()


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


@dataclass(frozen=True, eq=False)
class Pair:
    """Two flat arrays of one dtype, every value finite.

    ``positions`` are the flat indices in the whole output, None where the pair is all of it. ``unit`` is 1, or
    an array with 0.5 where the difference of two huge float64 would overflow: there ``distance`` and ``size`` count
    in halves, so that a comparison can be made at all; limits are multiplied by ``unit`` likewise.
    Used under ``np.errstate(all="ignore")``.
    """

    actual: Array
    expected: Array
    form: NumberFormat
    positions: NDArray[np.intp] | None = None
    unit: Array | float = 1.0

    @cached_property
    def identical(self) -> bool:
        """True where both are the same to the last bit, so that there is little to be measured."""
        return same_bits(self.actual, self.expected)

    @cached_property
    def steps(self) -> NDArray[np.uint64]:
        """Representable numbers between the two, exactly."""
        if self.identical:
            return np.zeros(self.actual.shape, dtype=np.uint64)
        return steps_between(self.actual, self.expected, self.form)

    @cached_property
    def distance(self) -> NDArray[np.float64]:
        """``|actual - expected|`` in float64; of 64-bit integers the exact difference, rounded once."""
        if self.form.kind == "integer":
            return self.steps.astype(np.float64)
        if self.identical:
            return self.size - self.size  # NaN where that is not finite
        distance: NDArray[np.float64] = np.abs(self._wide(self.actual) - self._wide(self.expected))
        return distance

    @cached_property
    def size(self) -> NDArray[np.float64]:
        """``|expected|`` in float64."""
        size: NDArray[np.float64] = np.abs(self._wide(self.expected))
        return size

    @cached_property
    def relative(self) -> NDArray[np.float64]:
        """``distance / size``: NaN for zero against zero, infinite for anything else against zero."""
        relative: NDArray[np.float64] = self.distance / self.size
        return relative

    @cached_property
    def most_relative(self) -> float:
        """The largest ``relative``; 0 where there are no elements."""
        return 0.0 if self.same else float(np.fmax.reduce(self.relative))

    @cached_property
    def same(self) -> bool:
        """True where no two numbers differ in value."""
        return self.identical or not self.steps.any()

    @property
    def signs_of_zero(self) -> int:
        """How many elements are 0.0 on one side and -0.0 on the other."""
        if self.form.kind == "integer" or self.identical:
            return 0
        unlike = bit_patterns(self.actual, self.form) != bit_patterns(self.expected, self.form)
        return int(np.count_nonzero(unlike & (self.steps == 0)))

    def position(self, element: int) -> int:
        """The flat index in the whole output of one element of the pair."""
        return element if self.positions is None else int(self.positions[element])

    def against(self, answer: Array) -> Pair:
        """The same expected numbers with another answer."""
        return Pair(answer.astype(self.actual.dtype), self.expected, self.form, self.positions)

    def _wide(self, array: Array) -> Array:
        wide = array.astype(np.float64)
        return wide if isinstance(self.unit, float) else wide * self.unit
