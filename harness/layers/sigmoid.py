"""Sigmoid: 1 / (1 + e^-x)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from harness.layers import Answer, Call, Layer, Mutant, identity, is_floating_array, other_layer, why_empty
from harness.layers._tolerances import compute_format, is_16_bit_float, storage_format
from harness.spec.language.tolerances import Close, Tolerance


class Sigmoid:
    """The logistic function (torch.nn.Sigmoid)."""

    name = "Sigmoid"

    def float64_reference(self, call: Call) -> Answer:
        """``1 / (1 + e^-x)``, written with ``e^-|x|`` so that it does not overflow or cancel."""
        x = call.inputs[0].astype(np.float64)
        with np.errstate(under="ignore"):
            power = np.exp(-np.abs(x))
            return Answer((np.where(x < 0, power, 1.0) / (1 + power),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """TorchScript: ``6 eps`` relative. ONNX: ``eps`` relative, ``2 eps`` absolute. eps is float32's, or float64's.

        A kernel of an exponential (2 ULP), a sum and a division is within 4 eps; the kernel it is compared with has 2.
        Where the exponential or the result is subnormal, a kernel may flush it to zero: the least normal number is
        added. Measured over 5.4 million float32 values against float64: eager 1.5e-7 relative (1.2 eps), and 2.9e-39
        absolute below x = -88; eager itself changes by up to 4 ULP with the layout.

        ONNX Runtime computes ``0.5 + tanh(x / 2) / 2`` from a rational approximation, clamped at x = -18. An error of
        4 eps/2 in tanh near 1 is at most eps in the sum, and its last roundings add less than another eps: absolute,
        not relative. Measured: 1.66e-7 (1.4 eps) from float64 and 1.79e-7 (1.5 eps) from eager in float32, 2.2e-16
        (1 eps) in float64. **Errors that it cannot detect:** outputs below 2 eps (x < -15.3 in float32) may be wrong
        altogether, and ONNX Runtime's are: they are 0.

        float16 and bfloat16 are computed in float32 and rounded once, so two outputs are at most one number apart:
        their own eps, and their least number, are added. Measured over every float16: 1 ULP for eager, 2 ULP (at
        1.1e-4) for ONNX Runtime; over every bfloat16: eager is exact except for 8 subnormals.
        """
        compute, storage = compute_format(dtype), storage_format(dtype)
        relative, absolute = (
            (6 * compute.epsilon, compute.smallest_normal) if opset is None else (compute.epsilon, 2 * compute.epsilon)
        )
        if is_16_bit_float(dtype):
            return Tolerance(Close(storage.epsilon + relative, storage.smallest + absolute))
        return Tolerance(Close(relative, absolute))

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Other functions that rise from one level to another, and the identity."""
        empty = why_empty(call)
        yield identity(why_equivalent=empty)
        yield other_layer("Tanh", why_equivalent=empty)
        if is_floating_array(call.inputs[0]):
            for layer in ("Hardsigmoid", "LogSigmoid", "SiLU"):
                yield other_layer(layer, why_equivalent=empty)


PROVIDES: tuple[Layer, ...] = (Sigmoid(),)
