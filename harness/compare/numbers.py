"""Pairs of arrays and their number formats, with everything that rules and metrics measure.

:class:`Pair` holds the finite values of two arrays side by side and computes each measure once. :func:`number_format`
describes a dtype: its kind, its resolution and its bit layout. :func:`same_bits` is a fast check for identical arrays,
which is what most targets return. :func:`split_nonfinite` separates a pair's finite values from NaN and infinities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from harness.deprecated import accept_old_names, old_attributes

Array = NDArray[Any]


@old_attributes(
    form="format",
    most_relative="max_relative",
    same="equal",
    signs_of_zero="zero_sign_differences",
    size="magnitude",
    steps="ulps",
)
@dataclass(frozen=True, eq=False)
class Pair:
    """Two flat arrays of one dtype. Every value is finite.

    ``positions`` are the flat indices in the whole output, or None if the pair covers all of it. ``unit`` is 1, or an
    array that is 0.5 where the difference of two huge float64 would overflow. There ``distance`` and ``magnitude``
    count in halves, so that they stay comparable; limits are multiplied by ``unit`` as well.
    Use it under ``np.errstate(all="ignore")``.
    """

    actual: Array
    expected: Array
    format: NumberFormat
    positions: NDArray[np.intp] | None = None
    unit: Array | float = 1.0

    @cached_property
    def identical(self) -> bool:
        """True if both arrays have the same bits, so that measuring can be skipped."""
        return same_bits(self.actual, self.expected)

    @cached_property
    def equal(self) -> bool:
        """True if no two values differ; 0.0 equals -0.0."""
        return self.identical or not self.ulps.any()

    @cached_property
    def ulps(self) -> NDArray[np.uint64]:
        """Distance in representable numbers (ULP), exact."""
        if self.identical:
            return np.zeros(self.actual.shape, dtype=np.uint64)
        return ulps_between(self.actual, self.expected, self.format)

    @cached_property
    def distance(self) -> NDArray[np.float64]:
        """``|actual - expected|`` in float64. For 64-bit integers the exact difference, rounded once."""
        if self.format.kind == "integer":
            return self.ulps.astype(np.float64)
        if self.identical:
            return self.magnitude - self.magnitude  # NaN where the magnitude is not finite
        distance: NDArray[np.float64] = np.abs(self._widened(self.actual) - self._widened(self.expected))
        return distance

    @cached_property
    def magnitude(self) -> NDArray[np.float64]:
        """``|expected|`` in float64."""
        magnitude: NDArray[np.float64] = np.abs(self._widened(self.expected))
        return magnitude

    @cached_property
    def relative(self) -> NDArray[np.float64]:
        """``distance / magnitude``: NaN for zero against zero, infinite for any other value against zero."""
        relative: NDArray[np.float64] = self.distance / self.magnitude
        return relative

    @cached_property
    def max_relative(self) -> float:
        """The largest ``relative``; 0 if there are no values."""
        return 0.0 if self.equal else float(np.fmax.reduce(self.relative))

    @property
    def zero_sign_differences(self) -> int:
        """How many values are 0.0 on one side and -0.0 on the other."""
        if self.format.kind == "integer" or self.identical:
            return 0
        different_bits = bit_patterns(self.actual, self.format) != bit_patterns(self.expected, self.format)
        return int(np.count_nonzero(different_bits & (self.ulps == 0)))

    def position(self, index: int) -> int:
        """The flat index in the whole output of the value at ``index`` in the pair."""
        return index if self.positions is None else int(self.positions[index])

    def _widened(self, array: Array) -> Array:
        widened = array.astype(np.float64)
        return widened if isinstance(self.unit, float) else widened * self.unit


def native_byte_order(array: Array) -> Array:
    """The array in this machine's byte order. A Python number or a NumPy scalar becomes an array without axes."""
    array = np.asarray(array)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def same_bits(first: Array, second: Array) -> bool:
    """True if dtype, shape and every bit agree. Always False for objects (text): their bits are only addresses."""
    comparable = first.dtype == second.dtype and first.shape == second.shape and not first.dtype.hasobject
    return comparable and first.tobytes() == second.tobytes()


@old_attributes(spare="unused_bits")
@dataclass(frozen=True, slots=True)
class NumberFormat:
    """The format of a dtype that can be compared.

    For a floating dtype, ``eps`` is the distance from 1 to the next number, ``smallest`` the smallest subnormal and
    ``bits`` the integer dtype of the same width; otherwise they are 0, 0 and None. ``unused_bits`` counts the top bits
    of each byte that a dtype narrower than a byte does not use.
    """

    kind: Literal["floating", "integer", "text"]
    eps: float = 0.0
    smallest: float = 0.0
    bits: np.dtype[Any] | None = None
    unused_bits: int = 0


@cache
def number_format(dtype: np.dtype[Any]) -> NumberFormat | None:
    """The format of ``dtype``; None if it cannot be compared (complex, dates, records, 80-bit floats).

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
    bits, unused_bits = np.dtype(f"{sign}{dtype.itemsize}"), 8 * dtype.itemsize - info.bits
    return NumberFormat("floating", float(info.eps), float(info.smallest_subnormal), bits, unused_bits)


def _narrow_integer(dtype: np.dtype[Any]) -> NumberFormat | None:
    try:
        ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    except ValueError:
        return None
    return NumberFormat("integer")


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """The dtype's name as a user writes it, without byte order and without the width of text."""
    return "string" if dtype.kind in "OUT" else "bytes" if dtype.kind == "S" else dtype.name


def bit_patterns(array: Array, number_format: NumberFormat) -> Array:
    """The bits of each floating value as integers of the same width, shifted to the top for a narrower dtype."""
    assert number_format.bits is not None
    bits = array.view(number_format.bits)
    unused = number_format.unused_bits
    return np.left_shift(bits, unused, dtype=bits.dtype) if unused else bits


def ordinals(array: Array, number_format: NumberFormat) -> Array:
    """Integers that count up by one from each value to the next representable one; both zeros are 0.

    Integers are their own ordinals. A float's bits, read as sign and magnitude, are its ordinal
    (Dawson, "Comparing Floating Point Numbers"). The result has the width of the dtype and cannot overflow it.
    """
    if number_format.kind == "integer":
        return array.astype(np.int64) if array.dtype.kind == "V" else array
    bits = bit_patterns(array, number_format)
    lowest = np.iinfo(bits.dtype).min
    signed = np.where(bits < 0, lowest - bits, bits)
    return signed >> number_format.unused_bits if number_format.unused_bits else signed


def ulps_between(actual: Array, expected: Array, number_format: NumberFormat) -> NDArray[np.uint64]:
    """The distance in representable numbers as exact unsigned integers: 0 if equal, 1 for neighbours."""
    first, second = ordinals(actual, number_format), ordinals(expected, number_format)
    if first.dtype.itemsize < 8:
        return np.abs(np.subtract(first, second, dtype=np.int64)).view(np.uint64)
    # Two's complement wraps: the difference of the wrapped values is the true difference, which fits in 64 bits.
    larger, smaller = np.maximum(first, second), np.minimum(first, second)
    ulps: NDArray[np.uint64] = larger.astype(np.uint64) - smaller.astype(np.uint64)
    return ulps


accept_old_names(__name__)


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


def compare_text(actual: Array, expected: Array) -> tuple[str | None, NDArray[np.intp]]:
    """The problem in one sentence or None, and the flat indices at which two arrays of one shape differ."""
    actual_flat, expected_flat = actual.reshape(-1).astype(object), expected.reshape(-1).astype(object)
    for values in (actual_flat, expected_flat):
        if not all(isinstance(value, str | bytes) for value in values):
            return "dtype object holds values that are not text; only text can be compared", np.arange(values.size)
    different = np.flatnonzero(actual_flat != expected_flat)
    if not different.size:
        return None, different
    first = int(different[0])
    index = [int(i) for i in np.unravel_index(first, actual.shape)]
    differ = values_are(different.size, actual_flat.size, "differs", "differ")
    return f"{differ}; first at {index}: {actual_flat[first]!r}, expected {expected_flat[first]!r}", different
