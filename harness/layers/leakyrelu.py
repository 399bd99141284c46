"""LeakyReLU: x if it is positive, else a fixed slope times x; and the slope arithmetic that PReLU and RReLU share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers import Answer, Call, Layer, Mutant, identity, other_layer, why_empty, with_argument
from harness.layers._tolerances import is_16_bit_float
from harness.spec.language.tolerances import Exact, Tolerance, Ulp

DEFAULT_SLOPE = 0.01


class LeakyReLU:
    """The leaky rectifier (torch.nn.LeakyReLU)."""

    name = "LeakyReLU"

    def float64_reference(self, call: Call) -> Answer:
        """``x`` where ``x > 0``, else ``negative_slope * x``, with the slope as the kernel rounds it."""
        slope = rounded_slope(_slope(call.args), call.dtype)
        return Answer((leaky_relu(call.inputs[0], slope),), magnitudes=(None,), undefined=(None,))

    def tolerance(self, args: Mapping[str, Any], dtype: str, opset: int | None) -> Tolerance:  # noqa: ARG002
        """Exact, but 1 ULP in the 16-bit dtypes.

        One product is rounded once, so every correct kernel gives the same float32 or float64. In float16 and bfloat16
        the slope is a float32: kernels round the product to float32 and again to 16 bits, and the two roundings may
        end one number away from a single one. Measured over all float16 values: eager and ONNX Runtime agree bit for
        bit, and both differ from the single rounding by 1 ULP at up to 1354 of them (slope 11/48). In float64 an ONNX
        ``LeakyRelu`` stores its slope as float32, 4e-10 from the model's: that is an error, and no tolerance hides it.
        """
        return slope_tolerance(dtype)

    def mutants(self, call: Call) -> Iterable[Mutant]:
        """Another slope: 1, 0, the opposite, the default, one nearby."""
        slope = _slope(call.args)
        empty = why_empty(call)
        yield identity(why_equivalent=empty or why_same_slope(slope, 1, call.dtype))
        if slope != 0:
            yield other_layer("ReLU", why_equivalent=empty)
        for changed in sorted({-slope, DEFAULT_SLOPE, slope + 0.125} - {slope}):
            why = empty or why_same_slope(slope, changed, call.dtype)
            yield with_argument(call, "negative_slope", changed, why_equivalent=why)


def _slope(args: Mapping[str, Any]) -> float:
    return float(args.get("negative_slope", DEFAULT_SLOPE))


def leaky_relu(x: NDArray[Any], slope: Any) -> NDArray[Any]:
    """``x`` where ``x > 0``, else ``slope * x``; NaN stays NaN, and a zero slope times -inf is NaN."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        return np.where(x > 0, x, x * slope)


def rounded_slope(slope: float, dtype: str) -> float:
    """The slope as a kernel stores it: a double for float64, a float32 for every dtype computed in float32."""
    with np.errstate(over="ignore", under="ignore"):
        return slope if dtype == "float64" else float(np.float32(slope))


def why_same_slope(first: float, second: float, dtype: str) -> str | None:
    """Why two slopes are equivalent: a kernel stores them as one number; None if it does not."""
    rounded = rounded_slope(first, dtype)
    return f"both slopes are {rounded:g}" if rounded == rounded_slope(second, dtype) else None


def slope_tolerance(dtype: str) -> Tolerance:
    """The tolerance of LeakyReLU and RReLU; see :meth:`LeakyReLU.tolerance`."""
    return Tolerance(Ulp(1) if is_16_bit_float(dtype) else Exact())


PROVIDES: tuple[Layer, ...] = (LeakyReLU(),)
