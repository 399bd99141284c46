"""The largest absolute difference.

The largest relative difference.

The largest difference in representable numbers.
"""

from __future__ import annotations

from harness.compare.metrics import Judged, Metric


class MaxAbs:
    """``max |actual - expected|`` in the output's unit; infinite where it exceeds every float64."""

    name = "max_abs"

    def measure(self, judged: Judged) -> float | None:
        """The largest difference among the finite elements; None where there are none."""
        pair = judged.pair
        if not pair.distance.size:
            return None
        return float((pair.distance if isinstance(pair.unit, float) else pair.distance / pair.unit).max())


class MaxRel:
    """``max |actual - expected| / |expected|``; zero against zero is 0, anything else against zero is infinite."""

    name = "max_rel"

    def measure(self, judged: Judged) -> float | None:
        """The largest ratio among the finite elements; None where there are none."""
        return judged.pair.most_relative if judged.pair.actual.size else None


class MaxUlp:
    """How many numbers of the output's own dtype the two are apart at most, counted through zero.

    -0.0 and 0.0 are the same number; of integers it is their difference. Exact for every dtype.
    """

    name = "max_ulp"

    def measure(self, judged: Judged) -> int | None:
        """The largest count among the finite elements; None where there are none."""
        return int(judged.pair.steps.max()) if judged.pair.actual.size else None


PROVIDES: tuple[Metric, ...] = (MaxAbs(), MaxRel(), MaxUlp())
