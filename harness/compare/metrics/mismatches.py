"""How many elements are wrong.

Where the worst element is.
"""

from __future__ import annotations

import numpy as np

from harness.compare.metrics import Judged, Metric


class Mismatched:
    """Elements outside the tolerance, and those where NaN or an infinity stands on one side only."""

    name = "mismatched"

    def measure(self, judged: Judged) -> int:
        """The count; its total is the output comparison's ``of``."""
        return int(np.count_nonzero(judged.outside)) + judged.strays.size


class Worst:
    """The index of the element that is furthest outside the tolerance, or nearest to its limit where all pass.

    NaN or an infinity on one side only comes first; then the largest ratio of what is measured to what is allowed;
    where nothing is allowed, the largest difference.
    """

    name = "worst"

    def measure(self, judged: Judged) -> tuple[int, ...] | None:
        """One index for each axis; None where no element differs."""
        flat = _flat(judged)
        return None if flat is None else tuple(int(at) for at in np.unravel_index(flat, judged.shape))


def _flat(judged: Judged) -> int | None:
    if judged.strays.size:
        return int(judged.strays[0])
    pair, measure, limit = judged.pair, judged.allowance.measure, judged.allowance.limit
    if pair.same:
        return None
    if np.ndim(limit) == 0:
        return pair.position(int(measure.argmax()))
    severity = measure / limit
    severity[measure == 0] = 0.0
    element = int(severity.argmax())
    if np.isinf(severity[element]):
        element = int(np.where(np.isinf(severity), measure, 0).argmax())
    return pair.position(element)


PROVIDES: tuple[Metric, ...] = (Mismatched(), Worst())
