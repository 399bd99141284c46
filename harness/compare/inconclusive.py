"""Passes that should not be trusted, because the tolerance could not have seen a wrong answer.

Two things are looked for where an output passes. Both leave alone what rounding can do honestly: a difference of at
most :data:`NEIGHBOURS` representable numbers, and one of at most :data:`HONEST` roundings of the terms' magnitudes
where these are known (so cancellation is never suspected under ``Scaled``). ``Exact`` and a fine ``Ulp`` see
everything and are never suspected.

1. *A region is wrong.* Elements are off by more than a tenth of the larger of the two values (flushed to zero, of the
   other sign, or just elsewhere), and they are not strewn as cancellation strews them: they are at least a tenth of
   all elements that are not zero, or all such elements of a slice along one axis (a channel, a row), or a run of
   :data:`RUN` along the last axis, or a block of 3 by 3 over the last two.
2. *The tolerance has no power.* It would also accept all zeros, or the mean everywhere, although these differ from
   the reference by more than rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics import Judged
from harness.compare.numbers import Pair
from harness.compare.rules import Allowance
from harness.spec.language.tolerances import Exact, Rule, Ulp

Array = NDArray[Any]
Mask = NDArray[np.bool_]

OFF = 0.1
HONEST = 16
NEIGHBOURS = 4
SHARE = 0.1
ENOUGH = 4
RUN = 8
BLOCK = 3


def blindness(rule: Rule, judged: Judged, magnitudes: Array | None) -> str | None:
    """Why the pass of ``judged`` under ``rule`` should not be trusted, in one sentence; None where it can be.

    ``magnitudes`` is flat, like the pair, or None where it is not known.
    """
    pair = judged.pair
    if not pair.actual.size or isinstance(rule, Exact):
        return None
    if isinstance(rule, Ulp) and rule.n * pair.form.eps < OFF:
        return None
    return _region(rule, judged, magnitudes) or _powerless(pair, judged.allowance, magnitudes)


def _region(rule: Rule, judged: Judged, magnitudes: Array | None) -> str | None:
    pair = judged.pair
    if pair.same or pair.most_relative <= OFF:
        return None
    largest = np.maximum(pair.size, np.abs(pair.actual.astype(np.float64)) * pair.unit)
    wrong = (pair.distance > OFF * largest) & (pair.steps > NEIGHBOURS)
    if magnitudes is not None:
        wrong &= pair.distance > _rounding(pair, magnitudes)
    if np.count_nonzero(wrong) < ENOUGH:
        return None
    wrong_there, alive_there = _spread(wrong, judged), _spread(largest > 0, judged)
    if not any(_regions(wrong_there, alive_there)):
        return None
    first = tuple(int(at) for at in np.unravel_index(int(wrong_there.argmax()), judged.shape))
    zeros = int(np.count_nonzero(wrong & (pair.actual == 0)))
    flushed = f", {zeros} of them zero where a number is expected," if zeros else ""
    return (
        f"{np.count_nonzero(wrong)} of {pair.actual.size} elements are off by more than {OFF:.0%}{flushed} "
        f"and pass only because the tolerance is {rule}, the first at {first}"
    )


def _regions(wrong: Mask, alive: Mask) -> Iterator[bool]:
    """Whether the wrong elements make a region, by each of the definitions in turn."""
    yield bool(np.count_nonzero(wrong) >= SHARE * np.count_nonzero(alive))
    for axis in range(wrong.ndim):
        others = tuple(other for other in range(wrong.ndim) if other != axis)
        counts = np.count_nonzero(wrong, axis=others)
        yield bool(((counts >= ENOUGH) & (counts == np.count_nonzero(alive, axis=others))).any())
    if wrong.ndim >= 1:
        yield bool(_eroded(wrong, -1, RUN).any())
    if wrong.ndim > 1:
        yield bool(_eroded(_eroded(wrong, -1, BLOCK), -2, BLOCK).any())


def _eroded(mask: Mask, axis: int, length: int) -> Mask:
    """True where ``length`` elements in a row along ``axis`` are true; empty where the axis is shorter."""
    along = np.moveaxis(mask, axis, -1)
    rows = max(0, along.shape[-1] - length + 1)
    eroded = along[..., :rows].copy()
    for shift in range(1, length):
        eroded &= along[..., shift : shift + rows]
    return np.moveaxis(eroded, -1, axis)


def _spread(mask: Mask, judged: Judged) -> Mask:
    """A mask over the pair, as one over the whole output."""
    if judged.pair.positions is None:
        return mask.reshape(judged.shape)
    whole = np.zeros(int(np.prod(judged.shape, dtype=np.int64)), dtype=np.bool_)
    whole[judged.pair.positions] = mask
    return whole.reshape(judged.shape)


def _powerless(pair: Pair, allowance: Allowance, magnitudes: Array | None) -> str | None:
    if _accepts(pair, allowance, 0.0, pair.size) and (pair.size > _rounding(pair, magnitudes)).any():
        return "an answer of all zeros would pass this tolerance"
    expected = pair.expected.astype(np.float64)
    mean = float(expected.sum()) / expected.size
    off = np.abs(expected - mean) * pair.unit
    if _accepts(pair, allowance, mean, off) and (off > _rounding(pair, magnitudes)).any():
        return f"an answer of {mean:g} everywhere, the mean, would pass this tolerance"
    return None


def _accepts(pair: Pair, allowance: Allowance, answer: float, off: NDArray[np.float64]) -> bool:
    """Whether the tolerance would accept ``answer`` at every element, where it is that far ``off``."""
    if allowance.measure is pair.distance:
        return not (off > allowance.limit).any()
    constant = np.full_like(pair.expected, answer)
    return not (Pair(constant, pair.expected, pair.form).steps > allowance.limit).any()


def _rounding(pair: Pair, magnitudes: Array | None) -> Any:
    """What honest rounding can come to: of terms of these magnitudes, or as large as the largest expected value."""
    terms = pair.size.max() if magnitudes is None else magnitudes * pair.unit
    return HONEST * np.maximum(pair.form.eps * terms, pair.form.smallest)
