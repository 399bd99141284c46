"""PReLU: x where it is positive, a learned slope times x where it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Array, Call, Layer, Mutant
from harness.layers._mutants import another, identity, leak, nothing_to_see, with_weight
from harness.spec.language.tolerances import Exact, Tolerance


class PReLU:
    """The parametric rectifier (torch.nn.PReLU); ``weight`` holds one slope, or one per channel (axis 1)."""

    name = "PReLU"

    def float64_reference(self, call: Call) -> Answer:
        """``x`` where ``x > 0``, else the channel's slope times ``x``.

        Raises :class:`ValueError`, where PyTorch raises, for slopes that are as many as no channel axis.
        """
        x, slope = call.inputs[0], call.weights["weight"]
        if slope.size > 1:
            channels = x.shape[1] if x.ndim > 1 else 1
            if channels != slope.size:
                raise ValueError(f"{slope.size} slopes for {channels} channels; one, or {channels}, would be right")
            slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
        else:
            slope = slope.reshape(())
        return Answer((leak(x, slope),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: one product, rounded once; in the sixteen-bit dtypes it is whole in float32 before that."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other slopes: none, the initial one, the opposite, another channel's."""
        slope = call.weights["weight"]
        empty = nothing_to_see(call)
        yield identity(why_equal=empty or ("every slope is 1" if (slope == 1).all() else None))
        if slope.any():
            yield another("ReLU", why_equal=empty)
        yield with_weight(call, "weight", "as initialised by default", lambda w: np.full_like(w, 0.25), why_equal=empty)
        yield with_weight(call, "weight", "negated", np.negative, why_equal=empty)
        yield with_weight(call, "weight", "moved by 0.125", lambda w: w + 0.125, why_equal=empty)
        if slope.size > 1:
            yield with_weight(call, "weight", "shuffled", lambda w: np.roll(w, 1), why_equal=empty)
            yield with_weight(call, "weight", "the first for all", _first_for_all, why_equal=empty)


def _first_for_all(slope: Array) -> Array:
    return np.full_like(slope, slope[0])


PROVIDES: tuple[Layer, ...] = (PReLU(),)
