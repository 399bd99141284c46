"""What each floating dtype can hold, and how far a sum computed in it may be from another sum of the same terms.

The tolerance that a model deserves where its spec names none: by layer, and for layers wired together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from harness import registry
from harness.layers._windows import per_axis
from harness.spec.language.tolerances import Close, Exact, Rule, Scaled, Tolerance, Ulp

if TYPE_CHECKING:
    from harness.layers import Layer


@dataclass(frozen=True, slots=True)
class Precision:
    """One binary floating format (IEEE 754-2019, table 3.5; bfloat16 as in the Intel white paper of 2018).

    ``epsilon`` is the gap after 1, ``smallest_normal`` the least number that still has full
    precision, and ``smallest`` the least positive number, which is also the gap between the subnormals.
    """

    epsilon: float
    smallest_normal: float
    smallest: float


FORMATS = {
    "float16": Precision(2.0**-10, 2.0**-14, 2.0**-24),
    "bfloat16": Precision(2.0**-7, 2.0**-126, 2.0**-133),
    "float32": Precision(2.0**-23, 2.0**-126, 2.0**-149),
    "float64": Precision(2.0**-52, 2.0**-1022, 2.0**-1074),
}

_HALVES = ("float16", "bfloat16")


def is_floating(dtype: str) -> bool:
    """True for the dtypes that round."""
    return dtype in FORMATS


def is_half(dtype: str) -> bool:
    """True for the sixteen-bit dtypes, which kernels compute in float32 and round once at the end."""
    return dtype in _HALVES


def stored(dtype: str) -> Precision:
    """The format of a result; integers and booleans become float32, PyTorch's default dtype."""
    return FORMATS.get(dtype, FORMATS["float32"])


def computed(dtype: str) -> Precision:
    """The format that kernels compute in: float64 for float64, float32 for all others."""
    return FORMATS["float64" if dtype == "float64" else "float32"]


def sum_error(terms: int, dtype: str) -> float:
    """How far two correct sums of ``terms`` terms may be apart, in units of eps times the sum of the magnitudes.

    Every addition rounds by at most eps/2 of the partial sum (Higham, Accuracy and Stability of
    Numerical Algorithms, 2nd ed., section 4.2). The worst case, ``terms * eps`` for two orders,
    needs every rounding to conspire, so it would see nothing in long sums. What does conspire is
    equal terms summed one after another: while the sum stays in one binade, every rounding is
    the same. Half of the additions fall in the last binade, each off by at most eps/4 of the final sum, a
    quarter in the binade before, off by half as much, and so on: terms/8 * (1 + 1/4 + 1/16 + ...) = terms/6.
    Terms of mixed signs or sizes err like a random walk, far below that. The roundings of a
    product, of a division and of the result, in both sums, are the 2 on top.

    Measured, largest seen against float64 (float32, eager and ONNX Runtime on a CPU): a constant
    AvgPool window of 3136 terms 266 (bound 525), of 49 terms 3.8 (10.2), random ones of 4 terms 1.6 (2.7) and of 9
    terms 2.0 (3.5); Linear of 401 terms 23.6 (68.8), of 17 terms 2.0 (4.8); in float64, of 4097 terms 350 (685).

    The sixteen-bit dtypes sum in float32, so that the sum's own error all but disappears in the last rounding.
    """
    return 2 + terms / 6 * computed(dtype).epsilon / stored(dtype).epsilon


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
"""Layers that move or choose numbers and round none: every correct implementation gives the same."""

_ASSERT_CLOSE = {
    "float16": Close(1e-3, 1e-5),
    "bfloat16": Close(1.6e-2, 1e-5),
    "float32": Close(1.3e-6, 1e-5),
    "float64": Close(1e-7, 1e-7),
}


def _convolution(dims: int) -> Callable[[Args], int]:
    def terms(args: Args) -> int:
        window = prod(per_axis(args["kernel_size"], dims))
        return int(args["in_channels"] // args.get("groups", 1)) * window + bool(args.get("bias", True))

    return terms


def _bilinear(args: Args) -> int:
    return int(args["in1_features"] * args["in2_features"]) + bool(args.get("bias", True))


SUMS_OF_PRODUCTS: Mapping[str, Callable[[Args], int]] = MappingProxyType(
    {
        **{f"Conv{dims}d": _convolution(dims) for dims in (1, 2, 3)},
        **{f"ConvTranspose{dims}d": _convolution(dims) for dims in (1, 2, 3)},
        "Bilinear": _bilinear,
    }
)
"""Layers that are sums of products of inputs and weights, and how many terms at most each sum has.

The sums of the terms' magnitudes are what the same layer gives with the magnitudes of its inputs and parameters.
"""


def find(name: str) -> Layer | None:
    """The layer of that ``torch.nn`` class name, here or in another package; None where nobody provides it."""
    return cast("Layer | None", registry.plugins("layers").get(name))


def default_tolerance(layer: str | None, args: Args, dtype: str, opset: int | None) -> Tolerance:
    """How far a correct implementation of one layer may be from another; None stands for a module of unknown make.

    The layer's own where it has a file; exact where it only moves numbers; scaled by the
    magnitudes of its terms where it is a sum of products; exact for integers and booleans; else the defaults
    of ``torch.testing.assert_close`` for ``dtype``.
    """
    known = find(layer) if layer is not None else None
    if known is not None:
        return known.tolerance(args, dtype, opset)
    if layer in MOVES_ONLY or not is_floating(dtype):
        return Tolerance(Exact())
    if layer is not None and layer in SUMS_OF_PRODUCTS:
        return Tolerance(Scaled(sum_error(SUMS_OF_PRODUCTS[layer](args), dtype)))
    return Tolerance(_ASSERT_CLOSE[dtype])


def composite_tolerance(parts: Sequence[tuple[str, Args]], dtype: str, opset: int | None) -> Tolerance:
    """How far a correct implementation of several layers, one after another, may be from another.

    Exact where every layer is. Else ``rtol`` is the sum of what the layers may be off, each at a
    result of the order of 1, since errors add up to first order where no layer magnifies them
    (Higham, section 3.4), and ``atol`` is the same times 1: inner results of the order of 1 may
    cancel into a small one, which then carries their error. That is no proof: layers with large weights magnify,
    and results far below 1 are hardly looked at. A spec whose numbers are of another order names its own tolerance.
    Indices that a pool takes from rounded values may differ at near ties, whatever the tolerance.
    """
    rules = [default_tolerance(layer, args, dtype, opset).rule for layer, args in parts]
    if all(isinstance(rule, Exact) for rule in rules):
        return Tolerance(Exact())
    error = sum(_at_one(rule, dtype) for rule in rules)
    return Tolerance(Close(error, error))


def _at_one(rule: Rule, dtype: str) -> float:
    """What ``rule`` allows at a result of 1 whose terms' magnitudes sum up to 1."""
    epsilon = stored(dtype).epsilon
    match rule:
        case Exact():
            return 0.0
        case Ulp(n) | Scaled(n):
            return n * epsilon
        case Close(rtol, atol):
            return rtol + atol
