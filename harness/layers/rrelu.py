"""RReLU: x if it is positive, else a random slope times x; in evaluation the mean slope."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.layers import Answer, Call, Layer, Mutant, identity, other_layer, why_empty, with_argument
from harness.layers.leakyrelu import leaky_relu, rounded_slope, slope_tolerance, why_same_slope
from harness.spec.language.tolerances import Tolerance


class RReLU:
    """The randomized leaky rectifier (torch.nn.RReLU)."""

    name = "RReLU"

    def float64_reference(self, call: Call) -> Answer | None:
        """In evaluation the slope is ``(lower + upper) / 2``. In training slopes are random: None."""
        if call.mode == "train":
            return None
        slope = rounded_slope(_mean(call.args), call.dtype)
        return Answer((leaky_relu(call.inputs[0], slope),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact, but 1 ULP in the 16-bit dtypes, for the reasons given at LeakyReLU."""
        return slope_tolerance(dtype)

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other bounds, and fixed slopes: 1, 0, each bound, and in training the mean."""
        empty = why_empty(call)
        yield from self._other_bounds(call)
        if not self._why_fixed_slope(call, 0):
            yield other_layer("ReLU", why_equivalent=empty)
        yield identity(why_equivalent=empty or self._why_fixed_slope(call, 1))
        lower, upper = _bounds(call.args)
        slopes = {"lower bound": lower, "upper bound": upper}
        if call.mode == "train":
            slopes["mean"] = _mean(call.args)
        for label, slope in slopes.items():
            yield Mutant(
                f"LeakyReLU with the {label} as its slope",
                layer="LeakyReLU",
                args={"negative_slope": slope},
                why_equivalent=empty or self._why_fixed_slope(call, slope),
            )

    def _other_bounds(self, call: Call) -> Iterator[Mutant]:
        lower, upper = _bounds(call.args)
        for key, bound in (("lower", lower - 0.125), ("upper", upper + 0.125)):
            changed = {**call.args, key: bound}
            why = why_same_slope(_mean(call.args), _mean(changed), call.dtype) if call.mode == "eval" else None
            yield with_argument(call, key, bound, why_equivalent=why_empty(call) or why)

    def _why_fixed_slope(self, call: Call, slope: float) -> str | None:
        """Why the layer is equivalent to a LeakyReLU with ``slope``; None if it is not."""
        if call.mode == "eval":
            return why_same_slope(_mean(call.args), slope, call.dtype)
        lower, upper = (why_same_slope(bound, slope, call.dtype) for bound in _bounds(call.args))
        return lower and upper


def _bounds(args: Mapping[str, Any]) -> tuple[float, float]:
    return float(args.get("lower", 1 / 8)), float(args.get("upper", 1 / 3))


def _mean(args: Mapping[str, Any]) -> float:
    lower, upper = _bounds(args)
    return (lower + upper) / 2


PROVIDES: tuple[Layer, ...] = (RReLU(),)
