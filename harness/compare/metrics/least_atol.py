"""The least absolute tolerance that would have passed."""

from __future__ import annotations

from harness.compare.metrics import Judged, Metric
from harness.compare.metrics._least import least
from harness.compare.rules import close


class LeastAtol:
    """The smallest float64 ``atol`` that passes with ``rtol`` 0."""

    name = "least_atol"

    def measure(self, judged: Judged) -> float:
        """Infinite where none passes: a difference beyond float64, or NaN or an infinity on one side only."""
        if judged.strays.size:
            return float("inf")
        pair = judged.pair
        if pair.same:
            return 0.0
        near = float((pair.distance / pair.unit).max())
        if pair.form.kind == "floating":
            return near  # the very number that the rule compares atol with
        return least(lambda atol: not close(pair, 0.0, atol).outside.any(), near=near)


PROVIDES: tuple[Metric, ...] = (LeastAtol(),)
