"""The largest absolute difference, relative difference and ULP difference."""

from __future__ import annotations

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


PROVIDES: tuple[Metric, ...] = (MaxAbs(), MaxRel(), MaxUlp())
