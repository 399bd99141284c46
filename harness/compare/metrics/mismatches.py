"""How many values differ by more than the tolerance, and the index of the worst one."""

from __future__ import annotations

import numpy as np

from harness.compare.metrics import ComparedValues, Metric


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


PROVIDES: tuple[Metric, ...] = (Mismatched(), Worst())
