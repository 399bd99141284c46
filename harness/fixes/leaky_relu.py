"""LeakyReLU: the sign of zero under a negative slope, a slope that ONNX keeps in float32, and an integer slope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.fixes._builder import Builder, Value, narrowed, number, widened
from harness.fixes._lowering import Lowering, Replacement

if TYPE_CHECKING:
    from torch import nn


def lower(builder: Builder, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """``aten::leaky_relu``: ``x`` where it is positive, else ``negative_slope * x``, in the dtype torch computes in."""
    del inplace
    if negative_slope >= 0 and builder.dtype(x) in {"FLOAT", "FLOAT16"}:
        return builder.op("LeakyRelu", x, alpha=float(negative_slope))
    wide, compute = widened(builder, x)
    y = positive_or(builder, wide, number(builder, float(negative_slope), compute), compute)
    return narrowed(builder, y, builder.dtype(x))


def positive_or(builder: Builder, x: Value, slope: Value, dtype: str) -> Value:
    """``x`` where ``x > 0``, else ``x * slope``: torch's own rule, zeros and NaN included."""
    positive = builder.op("Greater", x, number(builder, 0.0, dtype))
    return builder.op("Where", positive, x, builder.op("Mul", x, slope))


def exchange(module: nn.Module) -> nn.Module | None:
    """A ``LeakyReLU`` or ``RReLU`` whose numbers are floating, which scripting asks for."""
    from torch import nn

    if type(module) is nn.LeakyReLU:
        return _floating(module, "negative_slope")
    if type(module) is nn.RReLU:
        return _floating(module, "lower", "upper")
    return None


def _floating(module: Any, *names: str) -> nn.Module | None:
    whole = [name for name in names if isinstance(getattr(module, name), int)]
    for name in whole:
        setattr(module, name, float(getattr(module, name)))
    return module if whole else None


PROVIDES = (
    Lowering(
        name="leaky_relu",
        about="LeakyReLU: a negative slope turns the sign of zero in the runtime; float64 gets a float32 slope",
        issue=None,
        aten="leaky_relu",
        arguments=("v", "f", "b"),
        lower=lower,
    ),
    Replacement(
        name="leaky_relu_module",
        about="LeakyReLU and RReLU: torch.jit.script refuses a slope that is an int",
        issue=None,
        exchange=exchange,
    ),
)
