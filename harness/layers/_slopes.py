"""What the leaky layers share: x where it is positive, a slope times x where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers._precision import is_half
from harness.spec.tolerance import Exact, Tolerance, Ulp


def leak(x: NDArray[Any], slope: Any) -> NDArray[Any]:
    """``x`` where ``x > 0``, else ``slope * x``; NaN stays NaN, and a zero slope times -inf is NaN."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        return np.where(x > 0, x, x * slope)


def held(slope: float, dtype: str) -> float:
    """The slope as a kernel holds it: a double beside float64, a float beside all that is computed in float32."""
    with np.errstate(over="ignore", under="ignore"):
        return slope if dtype == "float64" else float(np.float32(slope))


def same_slope(one: float, other: float, dtype: str) -> str | None:
    """Why two slopes cannot be told apart: a kernel holds them as one number."""
    return f"both slopes are {held(one, dtype):g}" if held(one, dtype) == held(other, dtype) else None


def slope_tolerance(dtype: str) -> Tolerance:
    """Exact, but 1 ULP in the sixteen-bit dtypes.

    One product is rounded once, so every correct kernel gives the same float32 or float64. Beside float16
    and bfloat16 the slope is a float32: kernels round the product to float32 and again to sixteen
    bits, and the two roundings may land one number away from a single one. Measured over all
    float16 values: eager and ONNX Runtime agree bit for bit, and both differ from the single
    rounding by 1 ULP at up to 1354 of them (slope 11/48). In float64 an ONNX ``LeakyRelu`` holds its slope
    in float32, 4e-10 from the model's: that is a loss, and no tolerance hides it.
    """
    return Tolerance(Ulp(1) if is_half(dtype) else Exact())
