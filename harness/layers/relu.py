"""ReLU: max(0, x)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Call, Layer, Mutant, identity, is_floating_array, other_layer, why_empty
from harness.spec.language.tolerances import Exact, Tolerance


class ReLU:
    """The rectifier (torch.nn.ReLU); integers stay integers."""

    name = "ReLU"

    def float64_reference(self, call: Call) -> Answer:
        """The larger of 0 and x; NaN stays NaN."""
        x = call.inputs[0]
        return Answer((np.maximum(x, x.dtype.type(0)),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact: the output is x or 0, and nothing is rounded. Measured: 0 ULP everywhere."""
        return Tolerance(Exact())

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other functions that keep positive inputs, or nearly."""
        x = call.inputs[0]
        empty = why_empty(call)
        unsigned = "an unsigned input is never negative" if np.issubdtype(x.dtype, np.unsignedinteger) else None
        yield identity(why_equivalent=empty or unsigned)
        if is_floating_array(x):
            yield other_layer("ReLU6", why_equivalent=empty)
            yield other_layer("LeakyReLU", why_equivalent=empty)
            # A slope of -1 gives the absolute value.
            yield Mutant("absolute value", layer="LeakyReLU", args={"negative_slope": -1.0}, why_equivalent=empty)
            yield other_layer("GELU", why_equivalent=empty)
            yield other_layer("Softplus", why_equivalent=empty)


PROVIDES: tuple[Layer, ...] = (ReLU(),)
