"""The largest difference in representable numbers."""

from __future__ import annotations

from harness.compare.metrics import Judged, Metric


class MaxUlp:
    """How many numbers of the output's own dtype the two are apart at most, counted through zero.

    -0.0 and 0.0 are the same number; of integers it is their difference. Exact for every dtype.
    """

    name = "max_ulp"

    def measure(self, judged: Judged) -> int | None:
        """The largest count among the finite elements; None where there are none."""
        return int(judged.pair.steps.max()) if judged.pair.actual.size else None


PROVIDES: tuple[Metric, ...] = (MaxUlp(),)
