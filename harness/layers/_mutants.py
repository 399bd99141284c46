"""What the leaky layers share: x where it is positive, a slope times x where it is not.

The few ways to make a mutant: another layer, other arguments, other weights, other outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.layers import Array, Call, Mutant
from harness.layers._tolerances import is_half
from harness.spec.language.tolerances import Exact, Tolerance, Ulp


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


EMPTY = "the input has no elements"
SAME_WEIGHTS = "the changed weights are the same numbers"


def another(layer: str, *, why_equal: str | None = None, **args: Any) -> Mutant:
    """Another layer of the same shape, with ``args``; the defaults for the rest."""
    shown = ", ".join(f"{key}={value!r}" for key, value in args.items())
    return Mutant(name=f"{layer}({shown})", layer=layer, args=args, why_equal=why_equal)


def identity(*, why_equal: str | None = None) -> Mutant:
    """Nothing at all."""
    return another("Identity", why_equal=why_equal)


def with_argument(call: Call, key: str, value: Any, *, why_equal: str | None = None) -> Mutant:
    """The same layer with one argument changed."""
    return Mutant(name=f"{key}={value!r}", args={**call.args, key: value}, why_equal=why_equal)


def with_weight(
    call: Call, name: str, wrong: str, change: Callable[[Array], Array], *, why_equal: str | None = None
) -> Mutant:
    """The same layer with the weight ``name`` changed; equal where the change changes no number."""

    def changed(weights: dict[str, Array]) -> dict[str, Array]:
        return {**weights, name: change(weights[name])}

    weight = call.weights[name]
    if why_equal is None and np.array_equal(change(weight), weight, equal_nan=True):
        why_equal = SAME_WEIGHTS
    return Mutant(name=f"{name} {wrong}", weights=changed, why_equal=why_equal)


def with_output(index: int, name: str, change: Callable[[Array], Array], *, why_equal: str | None = None) -> Mutant:
    """The right answer with output ``index`` changed."""

    def changed(outputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (*outputs[:index], change(outputs[index]), *outputs[index + 1 :])

    return Mutant(name=name, outputs=changed, why_equal=why_equal)


def nothing_to_see(call: Call) -> str | None:
    """Why no mutant of the same shape could be told apart: there is no element to compare."""
    return EMPTY if call.inputs[0].size == 0 else None


def is_real(array: Array) -> bool:
    """True for floating inputs: the layers that most mutants become take no integers."""
    return bool(np.issubdtype(array.dtype, np.floating))
