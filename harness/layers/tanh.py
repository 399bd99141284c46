"""Tanh: sinh x / cosh x."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Call, Layer, Mutant, identity, is_floating_array, other_layer, why_empty
from harness.layers._tolerances import compute_format, is_16_bit_float, storage_format
from harness.spec.language.tolerances import Close, Tolerance


class Tanh:
    """The hyperbolic tangent (torch.nn.Tanh)."""

    name = "Tanh"

    def float64_reference(self, call: Call) -> Answer:
        """``(1 - e^-2|x|) / (1 + e^-2|x|)`` with the sign of x, through ``expm1`` so that small x keep every digit."""
        x = call.inputs[0].astype(np.float64)
        with np.errstate(under="ignore"):
            power = np.expm1(-2 * np.abs(x))
            return Answer((np.copysign(power / (2 + power), x),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """``6 eps`` relative and the least normal number absolute. eps is float32's, or float64's.

        The rational approximation of ONNX Runtime, Eigen and others is off by up to 4 ULP, the kernel it is compared
        with by up to 2, and one ULP is at most eps. Measured over 5.4 million float32 values against float64: eager
        5.9e-8 relative (0.5 eps), ONNX Runtime 2.7e-7 (2.3 eps), 2.98e-7 (2.5 eps) between them; in float64 3.5 eps
        between them.

        For tiny x the approximation multiplies x by 4.9e-3, and loses digits where the product is subnormal
        (x < 2.4e-36): 104 ULP, which is 1.5e-43. Kernels that flush subnormals lose up to the least normal number,
        1.2e-38 in float32, which the rule allows. The rule detects no error below that, and every error above.

        float16 and bfloat16 are computed in float32 and rounded once: their own eps, and their least number, are added.
        Measured over every value of both: eager, and ONNX Runtime in float16, are exact.
        """
        compute, storage = compute_format(dtype), storage_format(dtype)
        relative, absolute = 6 * compute.epsilon, compute.smallest_normal
        if is_16_bit_float(dtype):
            return Tolerance(Close(storage.epsilon + relative, storage.smallest + absolute))
        return Tolerance(Close(relative, absolute))

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other functions through the origin that level off, and the identity."""
        empty = why_empty(call)
        yield identity(why_equivalent=empty)
        yield other_layer("Sigmoid", why_equivalent=empty)
        if is_floating_array(call.inputs[0]):
            for layer in ("Softsign", "Hardtanh", "Tanhshrink"):
                yield other_layer(layer, why_equivalent=empty)


PROVIDES: tuple[Layer, ...] = (Tanh(),)
