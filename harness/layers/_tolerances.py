"""How far one correct implementation may be from another: by layer, for layers in sequence, and for a sum of terms.

This is the tolerance of a model whose spec names none. :func:`default_tolerance` and :func:`composite_tolerance` choose
it; :func:`sum_error` and the formats of the floating dtypes are what the layers derive their own from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.layers._windows import per_axis
from harness.spec.language.tolerances import Calibrated, Close, Exact, Rule, Scaled, Tolerance

if TYPE_CHECKING:
    from harness.layers import Layer

Args = Mapping[str, Any]

MOVES_ONLY = frozenset(
    {
        *("ChannelShuffle", "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d"),
        *("ConstantPad3d", "Flatten", "Identity", "PixelShuffle", "PixelUnshuffle", "ReflectionPad1d"),
        *("ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d"),
        *("Unflatten", "Unfold", "UpsamplingNearest2d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d"),
        *("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "ReLU6"),
    }
)
"""Layers that only move or select numbers and round none: every correct implementation gives the same output."""


def _convolution_terms(dims: int) -> Callable[[Args], int]:
    def terms(args: Args) -> int:
        window = prod(per_axis(args["kernel_size"], dims))
        return int(args["in_channels"] // args.get("groups", 1)) * window + bool(args.get("bias", True))

    return terms


def _bilinear_terms(args: Args) -> int:
    return int(args["in1_features"] * args["in2_features"]) + bool(args.get("bias", True))


SUMS_OF_PRODUCTS: Mapping[str, Callable[[Args], int]] = MappingProxyType(
    {
        **{f"Conv{dims}d": _convolution_terms(dims) for dims in (1, 2, 3)},
        **{f"ConvTranspose{dims}d": _convolution_terms(dims) for dims in (1, 2, 3)},
        "Bilinear": _bilinear_terms,
    }
)
"""Layers that are sums of products of inputs and weights, with the largest number of terms of a sum, by arguments.

The same layer with the magnitudes of its inputs and parameters gives the sums of the magnitudes of the terms.
"""


def default_tolerance(layer: str | None, args: Args, dtype: str, opset: int | None) -> Tolerance:
    """How far one correct implementation of a layer may be from another; None stands for an unknown module.

    The layer's own tolerance if it has a file; exact if it only moves numbers; scaled by the magnitudes of its terms if
    it is a sum of products; exact for integers and booleans; else calibrated (:mod:`harness.compare.calibrated`).
    """
    defined: Layer | None = None if layer is None else registry.plugins("layers").get(layer)
    if defined is not None:
        return defined.tolerance(args, dtype, opset)
    if layer in MOVES_ONLY or not is_floating(dtype):
        return Tolerance(Exact())
    if layer is not None and layer in SUMS_OF_PRODUCTS:
        return Tolerance(Scaled(sum_error(SUMS_OF_PRODUCTS[layer](args), dtype)))
    return Tolerance(_calibrated(dtype))


def _calibrated(dtype: str) -> Rule:
    """The calibrated rule; for float64 assert_close's own, since nothing is more precise to calibrate with."""
    return Close(1e-7, 1e-7) if dtype == "float64" else Calibrated()


def composite_tolerance(parts: Sequence[tuple[str, Args]], dtype: str, opset: int | None) -> Tolerance:
    """How far one correct implementation of several layers together may be from another.

    Exact if every layer is exact. Else calibrated: how far the layers magnify each other's errors depends on the
    weights and the inputs, so it is measured on the reference itself.
    """
    rules = [default_tolerance(layer, args, dtype, opset).rule for layer, args in parts]
    return Tolerance(Exact() if all(isinstance(rule, Exact) for rule in rules) else _calibrated(dtype))


def sum_error(terms: int, dtype: str) -> float:
    """How far apart two correct sums of ``terms`` terms may be, in units of eps times the sum of the magnitudes.

    Every addition rounds by at most eps/2 of the partial sum (Higham, Accuracy and Stability of Numerical Algorithms,
    2nd ed., section 4.2). The worst case, ``terms * eps`` for two orders, assumes that every rounding goes the same
    way, and would detect nothing in long sums. Roundings do go the same way for equal terms that are added one after
    another: while the sum stays in one binade, every rounding is the same. Half of the additions fall in the last
    binade, each off by at most eps/4 of the final sum; a quarter fall in the binade before, off by half as much, and so
    on: terms/8 * (1 + 1/4 + 1/16 + ...) = terms/6. Terms of mixed signs or sizes err like a random walk, far below
    that. The 2 on top are the roundings of a product, of a division and of the result, in both sums.

    Measured, largest error against float64 (float32, eager and ONNX Runtime on a CPU): a constant AvgPool window of
    3136 terms 266 (bound 525), of 49 terms 3.8 (10.2), random ones of 4 terms 1.6 (2.7) and of 9 terms 2.0 (3.5);
    Linear of 401 terms 23.6 (68.8), of 17 terms 2.0 (4.8); in float64, of 4097 terms 350 (685).

    The 16-bit dtypes are summed in float32, so that the error of the sum is small beside the last rounding.
    """
    return 2 + terms / 6 * compute_format(dtype).epsilon / storage_format(dtype).epsilon


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """One binary floating format (IEEE 754-2019, table 3.5; bfloat16 as in the Intel white paper of 2018).

    ``epsilon`` is the gap after 1. ``smallest_normal`` is the least number with full precision. ``smallest`` is the
    least positive number, which is also the gap between subnormals.
    """

    epsilon: float
    smallest_normal: float
    smallest: float


_FORMATS = {
    "float16": FloatFormat(2.0**-10, 2.0**-14, 2.0**-24),
    "bfloat16": FloatFormat(2.0**-7, 2.0**-126, 2.0**-133),
    "float32": FloatFormat(2.0**-23, 2.0**-126, 2.0**-149),
    "float64": FloatFormat(2.0**-52, 2.0**-1022, 2.0**-1074),
}


def storage_format(dtype: str) -> FloatFormat:
    """The format of a result; float32, PyTorch's default dtype, for integers and booleans."""
    return _FORMATS.get(dtype, _FORMATS["float32"])


def compute_format(dtype: str) -> FloatFormat:
    """The format that kernels compute in: float64 for float64, float32 for all others."""
    return _FORMATS["float64" if dtype == "float64" else "float32"]


def is_floating(dtype: str) -> bool:
    """True for the dtypes that round."""
    return dtype in _FORMATS


def is_16_bit_float(dtype: str) -> bool:
    """True for float16 and bfloat16, which kernels compute in float32 and round once at the end."""
    return dtype in {"float16", "bfloat16"}
