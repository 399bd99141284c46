"""How far an output is from its reference: the largest differences, and the values that exceed the tolerance."""

from __future__ import annotations

import numpy as np

from harness.compare.metrics import ComparedValues, Metric


class MaxAbs:
    """``max |actual - expected|`` in the output's unit; infinite if it exceeds every float64."""

    name = "max_abs"

    def measure(self, compared: ComparedValues) -> float | None:
        """The largest difference of the finite values; None if there are none."""
        pair = compared.pair
        if not pair.distance.size:
            return None
        return float((pair.distance if isinstance(pair.unit, float) else pair.distance / pair.unit).max())


class MaxRel:
    """``max |actual - expected| / |expected|``; 0 for zero against zero, infinite for any other value against zero."""

    name = "max_rel"

    def measure(self, compared: ComparedValues) -> float | None:
        """The largest ratio of the finite values; None if there are none."""
        return compared.pair.max_relative if compared.pair.actual.size else None


class MaxUlp:
    """The largest distance in representable numbers of the output's own dtype, counted through zero.

    -0.0 and 0.0 are the same number. For integers it is their difference. Exact for every dtype.
    """

    name = "max_ulp"

    def measure(self, compared: ComparedValues) -> int | None:
        """The largest count of the finite values; None if there are none."""
        return int(compared.pair.ulps.max()) if compared.pair.actual.size else None


class Mismatched:
    """The count of values that differ by more than the tolerance, with NaN or an infinity on one side included."""

    name = "mismatched"

    def measure(self, compared: ComparedValues) -> int:
        """The count; the total is ``of`` in the output comparison."""
        return int(np.count_nonzero(compared.exceeded)) + compared.nonfinite_mismatches.size


class Worst:
    """The index of the value that exceeds its limit the most, or comes closest to it if all pass.

    NaN or an infinity on one side only comes first, then the largest ratio of measure to limit. If the limit is zero,
    the largest difference.
    """

    name = "worst"

    def measure(self, compared: ComparedValues) -> tuple[int, ...] | None:
        """The index, one number per axis; None if no value differs."""
        flat = _flat_index(compared)
        return None if flat is None else tuple(int(i) for i in np.unravel_index(flat, compared.shape))


def _flat_index(compared: ComparedValues) -> int | None:
    if compared.nonfinite_mismatches.size:
        return int(compared.nonfinite_mismatches[0])
    pair, measure, limit = compared.pair, compared.allowance.measure, compared.allowance.limit
    if pair.equal:
        return None
    if np.ndim(limit) == 0:
        return pair.position(int(measure.argmax()))
    severity = measure / limit
    severity[measure == 0] = 0.0
    worst = int(severity.argmax())
    if np.isinf(severity[worst]):
        worst = int(np.where(np.isinf(severity), measure, 0).argmax())
    return pair.position(worst)


PROVIDES: tuple[Metric, ...] = (MaxAbs(), MaxRel(), MaxUlp(), Mismatched(), Worst())
