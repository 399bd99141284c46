"""Tanh: sinh x / cosh x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Call, Layer, Mutant
from harness.layers._mutants import another, identity, is_real, nothing_to_see
from harness.layers._tolerances import computed, is_half, stored
from harness.spec.language.tolerances import Close, Tolerance


class Tanh:
    """The hyperbolic tangent (torch.nn.Tanh)."""

    name = "Tanh"

    def float64_reference(self, call: Call) -> Answer:
        """``(1 - e^-2|x|) / (1 + e^-2|x|)`` with the sign of x, through ``expm1`` so that small x keep every digit."""
        x = call.inputs[0].astype(np.float64)
        with np.errstate(under="ignore"):
            loss = np.expm1(-2 * np.abs(x))
            return Answer((np.copysign(loss / (2 + loss), x),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """``6 eps`` relative and the least normal number; eps is float32's but for float64.

        The rational approximation that ONNX Runtime, Eigen and others use errs by up to 4 ULP,
        the other side by up to 2, and one ULP is at most eps. Measured over 5.4 million float32
        values against float64: eager 5.9e-8 relative (0.5 eps), ONNX Runtime 2.7e-7 (2.3 eps), 2.98e-7 (2.5 eps)
        between them; in float64 3.5 eps between them.

        For tiny x the approximation multiplies x by 4.9e-3, and loses digits where that is
        subnormal (x < 2.4e-36): 104 ULP, which is 1.5e-43. Kernels that flush subnormals lose up to
        the least normal number, 1.2e-38 in float32, which the rule allows. It cannot see anything wrong below that, and
        sees everything above.

        float16 and bfloat16 are computed in float32 and rounded once: their own eps, and their
        least number, come on top. Measured over every value of both: eager, and ONNX Runtime in float16, are exact.
        """
        work, own = computed(dtype), stored(dtype)
        relative, absolute = 6 * work.epsilon, work.smallest_normal
        if is_half(dtype):
            return Tolerance(Close(own.epsilon + relative, own.smallest + absolute))
        return Tolerance(Close(relative, absolute))

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other functions through the origin that level off, and nothing at all."""
        empty = nothing_to_see(call)
        yield identity(why_equal=empty)
        yield another("Sigmoid", why_equal=empty)
        if is_real(call.inputs[0]):
            for layer in ("Softsign", "Hardtanh", "Tanhshrink"):
                yield another(layer, why_equal=empty)


PROVIDES: tuple[Layer, ...] = (Tanh(),)
