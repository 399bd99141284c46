"""PReLU: x if it is positive, else a learned slope times x."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Array, Call, Layer, Mutant, identity, other_layer, why_empty, with_weight
from harness.layers.leakyrelu import leaky_relu
from harness.spec.language.tolerances import Exact, Tolerance


class PReLU:
    """The parametric rectifier (torch.nn.PReLU); ``weight`` holds one slope, or one per channel (axis 1)."""

    name = "PReLU"

    def float64_reference(self, call: Call) -> Answer:
        """``x`` where ``x > 0``, else the channel's slope times ``x``.

        Raises :class:`ValueError`, as PyTorch does, if there are several slopes but not one per channel.
        """
        x, slope = call.inputs[0], call.weights["weight"]
        if slope.size > 1:
            channels = x.shape[1] if x.ndim > 1 else 1
            if channels != slope.size:
                raise ValueError(f"{slope.size} slopes for {channels} channels; expected 1 or {channels}")
            slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
        else:
            slope = slope.reshape(())
        return Answer((leaky_relu(x, slope),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: one product, rounded once. In the 16-bit dtypes float32 holds the whole product before that."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other slopes: 1, 0, the initial one, the opposite, one nearby, another channel's."""
        slope = call.weights["weight"]
        empty = why_empty(call)
        yield identity(why_equivalent=empty or ("every slope is 1" if (slope == 1).all() else None))
        if slope.any():
            yield other_layer("ReLU", why_equivalent=empty)
        changes: list[tuple[str, Callable[[Array], Array]]] = [
            ("as initialised by default", lambda w: np.full_like(w, 0.25)),
            ("negated", np.negative),
            ("moved by 0.125", lambda w: w + 0.125),
        ]
        if slope.size > 1:
            changes += [("shuffled", lambda w: np.roll(w, 1)), ("the first for all", lambda w: np.full_like(w, w[0]))]
        for label, change in changes:
            yield with_weight(call, "weight", label, change, why_equivalent=empty)


PROVIDES: tuple[Layer, ...] = (PReLU(),)
