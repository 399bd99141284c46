"""RReLU: x where it is positive, a random slope times x where it is not; in evaluation the mean slope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


class RReLU:
    """The randomized leaky rectifier (torch.nn.RReLU)."""

    name = "RReLU"

    def float64_reference(self, call: Call) -> Answer | None:
        """In evaluation the slope is ``(lower + upper) / 2``; in training it is drawn anew, and there is no answer."""
        if call.mode == "train":
            return None
        slope = held(_mean(call.args), call.dtype)
        return Answer((leak(call.inputs[0], slope),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """See :func:`harness.layers._mutants.slope_tolerance`."""
        return slope_tolerance(dtype)

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other bounds, and fixed slopes: one, none, each bound, and in training the mean."""
        empty = nothing_to_see(call)
        yield from self._other_bounds(call)
        if not self._always(call, 0):
            yield another("ReLU", why_equal=empty)
        yield identity(why_equal=empty or self._always(call, 1))
        lower, upper = _bounds(call.args)
        fixed = {"lower bound": lower, "upper bound": upper}
        for which, slope in (fixed | {"mean": _mean(call.args)} if call.mode == "train" else fixed).items():
            why = empty or self._always(call, slope)
            args = {"negative_slope": slope}
            yield Mutant(f"LeakyReLU with the {which} as its slope", layer="LeakyReLU", args=args, why_equal=why)

    def _other_bounds(self, call: Call) -> Iterator[Mutant]:
        lower, upper = _bounds(call.args)
        for key, wrong in (("lower", lower - 0.125), ("upper", upper + 0.125)):
            changed = {**call.args, key: wrong}
            why = same_slope(_mean(call.args), _mean(changed), call.dtype) if call.mode == "eval" else None
            yield with_argument(call, key, wrong, why_equal=nothing_to_see(call) or why)

    def _always(self, call: Call, slope: float) -> str | None:
        """Why the layer is a LeakyReLU with ``slope``; None where it is not."""
        if call.mode == "eval":
            return same_slope(_mean(call.args), slope, call.dtype)
        lower, upper = (same_slope(bound, slope, call.dtype) for bound in _bounds(call.args))
        return lower and upper


def _bounds(args: Mapping[str, Any]) -> tuple[float, float]:
    return float(args.get("lower", 1 / 8)), float(args.get("upper", 1 / 3))


def _mean(args: Mapping[str, Any]) -> float:
    lower, upper = _bounds(args)
    return (lower + upper) / 2


PROVIDES: tuple[Layer, ...] = (RReLU(),)
