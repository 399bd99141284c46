"""The largest absolute difference."""

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


PROVIDES: tuple[Metric, ...] = (MaxAbs(),)
