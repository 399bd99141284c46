"""The least relative tolerance that would have passed."""

from __future__ import annotations

from harness.compare.metrics import Judged, Metric
from harness.compare.metrics._least import least
from harness.compare.rules import close


class LeastRtol:
    """The smallest float64 ``rtol`` that passes with ``atol`` 0."""

    name = "least_rtol"

    def measure(self, judged: Judged) -> float:
        """Infinite where none passes: a value against zero, or NaN or an infinity on one side only."""
        if judged.strays.size:
            return float("inf")
        pair = judged.pair
        if pair.same:
            return 0.0
        return least(lambda rtol: not close(pair, rtol, 0.0).outside.any(), near=pair.most_relative)


PROVIDES: tuple[Metric, ...] = (LeastRtol(),)
