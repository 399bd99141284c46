"""Which layers to keep in float32: each layer lowered alone, the curve over layers kept, and a short list.

Layers are ranked by what each one costs alone, measured on the samples; the norms of their weights say little about
that. Where the errors of layers add up like independent noise, keeping the first ones of this ranking is the best
choice for their number. Since they need not, the list that reaches the target is shortened by trying to leave out each
of its layers, and what remains is measured as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.precision.layers import Layer
from harness.precision.measure import Measure
from harness.precision.sensitivity.steps import Outcome

ALL_POINTS = 24
"""Up to so many layers, the curve has a point for each number of layers kept."""
MOST_LEFT_OUT = 32
"""The search tries to leave out so many layers of the list, the least sensitive ones."""

Try = Callable[[Sequence[Layer]], Outcome]
"""Keep these layers in float32, lower all others, and run the model on all samples."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a lowered model must reach: an SQNR in dB on every sample, a share of decisions, or both."""

    sqnr: float | None = None
    decisions: float | None = None

    def __str__(self) -> str:
        parts = [f"SQNR of {self.sqnr:g} dB on every sample" if self.sqnr is not None else ""]
        parts.append(f"{100 * self.decisions:g} % of the decisions" if self.decisions is not None else "")
        return " and ".join(filter(None, parts))

    def reached(self, measure: Measure | None) -> bool:
        """Whether ``measure`` reaches all of the target; nothing measured reaches nothing."""
        if measure is None or (self.sqnr is not None and not measure.sqnr >= self.sqnr):
            return False
        return self.decisions is None or (
            measure.decisions is not None and measure.decisions.of > 0 and measure.decisions.share >= self.decisions
        )


@dataclass(frozen=True, slots=True)
class LoweredAlone:
    """A layer, and the model with this layer alone lowered."""

    layer: Layer
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Choice:
    """Layers that are kept in float32, and the model with all others lowered."""

    kept: tuple[Layer, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Found:
    """``ranking`` has the most sensitive layer first. ``curve`` has the choices of its first layers, fewest first.

    ``shortest`` is the shortest list found that reaches the target, None if only the float32 model reaches it.
    ``all_tried`` is True if it is known that no single layer of the list can be left out.
    """

    ranking: tuple[LoweredAlone, ...]
    curve: tuple[Choice, ...]
    shortest: Choice | None
    all_tried: bool


def points(layers: int) -> tuple[int, ...]:
    """The numbers of layers kept at which the curve is measured; the last one is the float32 model."""
    if layers <= ALL_POINTS:
        return tuple(range(layers + 1))
    numbers = {0, 1, 2, 3, layers}
    step = 4.0
    while step < layers:
        numbers.add(round(step))
        step *= math.sqrt(2)
    return tuple(sorted(numbers))


def most_runs(layers: int) -> int:
    """The largest number of choices that a search measures."""
    curve = len(points(layers))
    return layers + curve + math.ceil(math.log2(max(layers, 2))) + min(layers, MOST_LEFT_OUT)


def rank(layers: Sequence[Layer], attempt: Try) -> tuple[LoweredAlone, ...]:
    """Lower each layer alone; the one that costs most comes first, and one that cannot be lowered before all others."""
    alone = [LoweredAlone(layer, attempt([other for other in layers if other != layer])) for layer in layers]
    return tuple(sorted(alone, key=lambda each: _ratio(each.outcome)))


def search(layers: Sequence[Layer], target: Target, attempt: Try) -> Found:
    """The ranking, the curve and a list for ``target``. ``attempt`` may be called again for a choice."""
    ranking = rank(layers, attempt)
    ranked = [each.layer for each in ranking]
    curve = tuple(Choice(tuple(ranked[:count]), attempt(ranked[:count])) for count in points(len(layers)))

    def reaches(kept: Sequence[Layer]) -> bool:
        return target.reached(attempt(kept).measure)

    reaching = [len(choice.kept) for choice in curve if target.reached(choice.outcome.measure)]
    high = min(reaching, default=len(ranked))
    low = max((len(choice.kept) for choice in curve if len(choice.kept) < high), default=0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(ranked[:middle]) else (middle, high)
    kept = ranked[:high]
    left_out = kept[-MOST_LEFT_OUT:]
    for layer in reversed(left_out):
        fewer = [other for other in kept if other != layer]
        if reaches(fewer):
            kept = fewer
    if len(kept) == len(ranked):
        return Found(ranking, curve, None, all_tried=False)
    return Found(ranking, curve, Choice(tuple(kept), attempt(kept)), all_tried=high <= MOST_LEFT_OUT)


def _ratio(outcome: Outcome) -> float:
    return -math.inf if outcome.measure is None else outcome.measure.sqnr
