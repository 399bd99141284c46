"""The largest relative difference."""

from __future__ import annotations

from harness.compare.metrics import Judged, Metric


class MaxRel:
    """``max |actual - expected| / |expected|``; zero against zero is 0, anything else against zero is infinite."""

    name = "max_rel"

    def measure(self, judged: Judged) -> float | None:
        """The largest ratio among the finite elements; None where there are none."""
        return judged.pair.most_relative if judged.pair.actual.size else None


PROVIDES: tuple[Metric, ...] = (MaxRel(),)
