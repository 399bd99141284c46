"""LeakyReLU: x where it is positive, a fixed slope times x where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.layers import Answer, Call, Layer, Mutant
from harness.layers._mutants import (
    another,
    held,
    identity,
    leak,
    nothing_to_see,
    same_slope,
    slope_tolerance,
    with_argument,
)
from harness.spec.language.tolerances import Tolerance

DEFAULT_SLOPE = 0.01


class LeakyReLU:
    """The leaky rectifier (torch.nn.LeakyReLU)."""

    name = "LeakyReLU"

    def float64_reference(self, call: Call) -> Answer:
        """``x`` where ``x > 0``, else ``negative_slope * x``, with the slope as the kernel holds it."""
        slope = held(_slope(call.args), call.dtype)
        return Answer((leak(call.inputs[0], slope),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """See :func:`harness.layers._mutants.slope_tolerance`."""
        return slope_tolerance(dtype)

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Another slope: one, none, the opposite, the default, one nearby."""
        slope = _slope(call.args)
        empty = nothing_to_see(call)
        yield identity(why_equal=empty or same_slope(slope, 1, call.dtype))
        if slope != 0:
            yield another("ReLU", why_equal=empty)
        for wrong in sorted({-slope, DEFAULT_SLOPE, slope + 0.125} - {slope}):
            why = empty or same_slope(slope, wrong, call.dtype)
            yield with_argument(call, "negative_slope", wrong, why_equal=why)


def _slope(args: Mapping[str, Any]) -> float:
    return float(args.get("negative_slope", DEFAULT_SLOPE))


PROVIDES: tuple[Layer, ...] = (LeakyReLU(),)
