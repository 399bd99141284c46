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

So is a pass of a module or a file in training mode, which is not what ships.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics import ComparedValues
from harness.compare.numbers import Pair
from harness.compare.rules import Allowance
from harness.result import Result
from harness.spec.language.tolerances import Exact, Rule, Ulp
from harness.spec.quoting import count_of

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
EXPORT_AGAIN = "call .eval() and export again"
WITHOUT_OPTION = "leave the option `training` out of the target"
TRAINING_MODE = "the module is in training mode (call .eval())"
PARTS_IN_TRAINING = "parts of the module are in training mode, which .eval() does not reach"
OTHERWISE = "it answers otherwise in evaluation mode, which is what ships"
MAX_PARTS = 3
"""The number of parts in training mode that a message names."""


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


# Remarks on a result


def with_reason(result: Result, reason: str | None) -> Result:
    """``result`` with ``reason`` at its first output: why its pass is inconclusive."""
    if reason is None or not result.outputs:
        return result
    first, *others = result.outputs
    return replace(result, outputs=(replace(first, inconclusive=reason), *others))


def with_cause(result: Result, cause: str) -> Result:
    """``result`` with ``cause`` before its message, and before the problem of its first failing output."""
    message = cause if result.message is None else f"{cause}: {result.message}"
    outputs = list(result.outputs)
    first = next((index for index, output in enumerate(outputs) if output.problem), None)
    if first is not None:
        outputs[first] = replace(outputs[first], problem=f"{cause}: {outputs[first].problem}")
    return replace(result, message=message, outputs=tuple(outputs))


# In training mode


def with_training_mode(result: Result, words: str) -> Result:
    """``result`` with the mode as its first words: a module in training mode is not what ships.

    A pass is inconclusive, and nobody is blamed for a failure.
    """
    if result.status != "passed":
        return replace(with_cause(result, words), blame=None, evidence=())
    noted = replace(result, notes=(words, *result.notes))
    return with_reason(noted, "; ".join(filter(None, (f"{words}: {OTHERWISE}", result.inconclusive))))


def with_training_export(result: Result, file: str, operators: Sequence[str], advice: str) -> Result:
    """``result`` of a ``file`` with ``operators`` in training mode, which runtimes treat differently.

    A pass is inconclusive, and nobody is blamed for a failure.
    """
    exported = f"{file} {EXPORTED_IN_TRAINING} ({', '.join(operators)})"
    if result.status != "passed":
        return replace(with_cause(result, f"{exported}: {advice}"), blame=None, evidence=())
    why = "its answers depend on the other samples of the batch"
    if "Dropout" in operators:
        why = f"the runtime leaves {'it' if len(operators) == 1 else 'Dropout'} out, others do not"
    reason = f"{exported}: {why}; {advice}"
    if not result.outputs:
        return replace(result, notes=(reason, *result.notes))
    return with_reason(result, reason)


def parts_in_words(parts: Sequence[str]) -> str:
    """What a message says about ``parts`` in training mode."""
    names = ", ".join(name.removeprefix("layer.") or "the module itself" for name in parts[:MAX_PARTS])
    more = f" and {len(parts) - MAX_PARTS} more" if len(parts) > MAX_PARTS else ""
    return f"{PARTS_IN_TRAINING} ({names}{more})"


def training_words(result: Result) -> str | None:
    """The first words about a module in training mode that answers otherwise in evaluation mode; None without one."""
    lines = (*result.notes, result.message or "")
    first = next((each for each in lines if each.startswith((TRAINING_MODE, PARTS_IN_TRAINING))), None)
    return None if first is None else first.partition(": ")[0]


def training_line(results: Sequence[Result]) -> str | None:
    """What a summary begins with: the passes of modules in training mode; None without one. Failures say it first."""
    trained = [(each, words) for each in results if each.status == "passed" and (words := training_words(each))]
    if not trained:
        return None
    (first, words), *others = trained
    more = f" and {count_of(len(others), 'more check')}" if others else ""
    return f"{words}: {first.case} on {first.target}{more} passed, which is inconclusive: {OTHERWISE}"
