"""Passes that are inconclusive because a wrong output could not have been detected.

An output without elements is inconclusive: it has no value that could be wrong. If there are values, two things are
checked where an output passes. Both ignore what correct rounding can cause: a difference of at most
:data:`ROUNDING_ULPS` representable numbers, and one of at most :data:`ROUNDING_UNITS` roundings of the magnitudes of
terms where these are known (so cancellation is never suspected under ``Scaled``). ``Exact`` and a fine ``Ulp`` detect
everything and are never inconclusive.

1. *A region is wrong.* Values are off by more than a tenth of the larger of the two (flushed to zero, of the other
   sign, or simply different), and they are not scattered as cancellation scatters them: they are at least a tenth of
   all values that are not zero, or all such values of a slice along one axis (a channel, a row), or a run of
   :data:`RUN_LENGTH` along the last axis, or a block of 3 by 3 over the last two.
2. *The tolerance is too wide.* It would also accept all zeros, or the mean everywhere, although these differ from
   the reference by more than rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics import ComparedValues
from harness.compare.numbers import Pair
from harness.compare.rules import Allowance
from harness.spec.language.tolerances import Exact, Rule, Ulp

Array = NDArray[Any]
Mask = NDArray[np.bool_]

LARGE_ERROR = 0.1
"""A value is wrong if it is off by more than this share of the larger of the two."""

ROUNDING_UNITS = 16
ROUNDING_ULPS = 4

REGION_SHARE = 0.1
MIN_REGION_SIZE = 4
RUN_LENGTH = 8
BLOCK_SIDE = 3

NO_ELEMENTS = "the output has no elements, so no value was compared"
NO_FINITE_VALUE = "no value is finite, so no number was compared"
EXPORTED_IN_TRAINING = "was exported in training mode"
"""Part of the reason of a pass that says nothing about other runtimes, although every value agrees."""


def inconclusive_reason(rule: Rule, compared: ComparedValues, magnitudes: Array | None) -> str | None:
    """Why the pass of ``compared`` under ``rule`` is inconclusive, in one sentence; None if it is not.

    ``magnitudes`` is flat, like the pair, or None if it is not known.
    """
    pair = compared.pair
    if 0 in compared.shape:
        return NO_ELEMENTS
    if not pair.actual.size or isinstance(rule, Exact):
        return None
    if isinstance(rule, Ulp) and rule.n * pair.format.eps < LARGE_ERROR:
        return None
    return _wrong_region(rule, compared, magnitudes) or _accepted_constant(pair, compared.allowance, magnitudes)


def _wrong_region(rule: Rule, compared: ComparedValues, magnitudes: Array | None) -> str | None:
    pair = compared.pair
    if pair.equal or pair.max_relative <= LARGE_ERROR:
        return None
    larger = np.maximum(pair.magnitude, np.abs(pair.actual.astype(np.float64)) * pair.unit)
    wrong = (pair.distance > LARGE_ERROR * larger) & (pair.ulps > ROUNDING_ULPS)
    if magnitudes is not None:
        wrong &= pair.distance > _rounding_bound(pair, magnitudes)
    if np.count_nonzero(wrong) < MIN_REGION_SIZE:
        return None
    wrong_mask, nonzero_mask = _over_output(wrong, compared), _over_output(larger > 0, compared)
    if not any(_is_region(wrong_mask, nonzero_mask)):
        return None
    first = [int(i) for i in np.unravel_index(int(wrong_mask.argmax()), compared.shape)]
    zeros = int(np.count_nonzero(wrong & (pair.actual == 0)))
    flushed = f" ({zeros} of them are zero, expected nonzero)" if zeros else ""
    return (
        f"{np.count_nonzero(wrong)} of {pair.actual.size} values are off by more than {100 * LARGE_ERROR:g} %{flushed} "
        f"and pass only because the tolerance is {rule}; first at {first}"
    )


def _is_region(wrong: Mask, nonzero: Mask) -> Iterator[bool]:
    """Whether the wrong values make a region, by each of the definitions in turn."""
    yield bool(np.count_nonzero(wrong) >= REGION_SHARE * np.count_nonzero(nonzero))
    for axis in range(wrong.ndim):
        other_axes = tuple(other for other in range(wrong.ndim) if other != axis)
        counts = np.count_nonzero(wrong, axis=other_axes)
        whole_slice = counts == np.count_nonzero(nonzero, axis=other_axes)
        yield bool(((counts >= MIN_REGION_SIZE) & whole_slice).any())
    if wrong.ndim >= 1:
        yield bool(_eroded(wrong, -1, RUN_LENGTH).any())
    if wrong.ndim > 1:
        yield bool(_eroded(_eroded(wrong, -1, BLOCK_SIDE), -2, BLOCK_SIDE).any())


def _eroded(mask: Mask, axis: int, length: int) -> Mask:
    """True where ``length`` values in a row along ``axis`` are true; empty if the axis is shorter."""
    along = np.moveaxis(mask, axis, -1)
    starts = max(0, along.shape[-1] - length + 1)
    eroded = along[..., :starts].copy()
    for shift in range(1, length):
        eroded &= along[..., shift : shift + starts]
    return np.moveaxis(eroded, -1, axis)


def _over_output(mask: Mask, compared: ComparedValues) -> Mask:
    """A mask over the pair as a mask over the whole output."""
    if compared.pair.positions is None:
        return mask.reshape(compared.shape)
    whole = np.zeros(int(np.prod(compared.shape, dtype=np.int64)), dtype=np.bool_)
    whole[compared.pair.positions] = mask
    return whole.reshape(compared.shape)


def _accepted_constant(pair: Pair, allowance: Allowance, magnitudes: Array | None) -> str | None:
    if _accepts(pair, allowance, 0.0, pair.magnitude) and (pair.magnitude > _rounding_bound(pair, magnitudes)).any():
        return "an all-zero output would pass too"
    expected = pair.expected.astype(np.float64)
    mean = float(expected.sum()) / expected.size
    distance = np.abs(expected - mean) * pair.unit
    if _accepts(pair, allowance, mean, distance) and (distance > _rounding_bound(pair, magnitudes)).any():
        return f"an output of {mean:.4g} everywhere (the mean) would pass too"
    return None


def _accepts(pair: Pair, allowance: Allowance, constant: float, distance: NDArray[np.float64]) -> bool:
    """Whether the tolerance would accept ``constant`` at every value, at this ``distance`` from the reference."""
    if allowance.measure is pair.distance:
        return not (distance > allowance.limit).any()
    output = np.full_like(pair.expected, constant)
    return not (Pair(output, pair.expected, pair.format).ulps > allowance.limit).any()


def _rounding_bound(pair: Pair, magnitudes: Array | None) -> Any:
    """What correct rounding can cause, for terms of these magnitudes or as large as the largest expected value."""
    terms = pair.magnitude.max() if magnitudes is None else magnitudes * pair.unit
    return ROUNDING_UNITS * np.maximum(pair.format.eps * terms, pair.format.smallest)
