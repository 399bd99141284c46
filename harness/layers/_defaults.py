"""The tolerance that a model deserves where its spec names none: by layer, and for layers wired together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from harness import registry
from harness.layers._precision import is_floating, stored, sum_error
from harness.layers._windows import per_axis
from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp

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
