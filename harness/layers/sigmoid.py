"""Sigmoid: 1 / (1 + e^-x)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Call, Layer, Mutant
from harness.layers._mutants import another, identity, is_real, nothing_to_see
from harness.layers._tolerances import computed, is_half, stored
from harness.spec.language.tolerances import Close, Tolerance


class Sigmoid:
    """The logistic function (torch.nn.Sigmoid)."""

    name = "Sigmoid"

    def float64_reference(self, call: Call) -> Answer:
        """``1 / (1 + e^-x)``, written with ``e^-|x|`` so that it neither overflows nor cancels."""
        x = call.inputs[0].astype(np.float64)
        with np.errstate(under="ignore"):
            decay = np.exp(-np.abs(x))
            return Answer((np.where(x < 0, decay, 1.0) / (1 + decay),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """TorchScript: ``6 eps`` relative. ONNX: ``eps`` and ``2 eps`` absolute; eps is float32's but for float64.

        A kernel made of an exponential (2 ULP), a sum and a division is within 4 eps; the other side has 2.
        Where the exponential or the result is subnormal a kernel may flush it to zero: the least normal number is
        added. Measured over 5.4 million float32 values against float64: eager 1.5e-7 relative (1.2
        eps), and 2.9e-39 absolute below x = -88; eager itself changes by up to 4 ULP with the layout.

        ONNX Runtime computes ``0.5 + tanh(x / 2) / 2`` from a rational approximation, clamped at
        x = -18. An error of 4 eps/2 in tanh near 1 is eps at most in the sum, and its last roundings
        add less than another: absolute, not relative. Measured: 1.66e-7 (1.4 eps) from float64 and 1.79e-7
        (1.5 eps) from eager in float32, 2.2e-16 (1 eps) in float64. **What it cannot see:** outputs
        below 2 eps (x < -15.3 in float32) may be wrong altogether, and there ONNX Runtime's are: it gives 0.

        float16 and bfloat16 are computed in float32 and rounded once, so two answers are at most one number apart:
        their own eps, and their least number, come on top. Measured over every float16: 1 ULP for eager, 2 ULP (at
        1.1e-4) for ONNX Runtime; over every bfloat16: eager exact but for 8 subnormals.
        """
        work, own = computed(dtype), stored(dtype)
        relative, absolute = (
            (6 * work.epsilon, work.smallest_normal) if opset is None else (work.epsilon, 2 * work.epsilon)
        )
        if is_half(dtype):
            return Tolerance(Close(own.epsilon + relative, own.smallest + absolute))
        return Tolerance(Close(relative, absolute))

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other functions that rise from one level to another, and nothing at all."""
        empty = nothing_to_see(call)
        yield identity(why_equal=empty)
        yield another("Tanh", why_equal=empty)
        if is_real(call.inputs[0]):
            for layer in ("Hardsigmoid", "LogSigmoid", "SiLU"):
                yield another(layer, why_equal=empty)


PROVIDES: tuple[Layer, ...] = (Sigmoid(),)
