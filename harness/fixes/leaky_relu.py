"""LeakyReLU: the sign of zero under a negative slope, the float32 slope of ONNX in float64, and an integer slope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.fixes._builder import Builder, Value, from_compute_type, scalar, to_compute_type
from harness.fixes._lowering import Lowering, Replacement

if TYPE_CHECKING:
    from torch import nn


def lower(builder: Builder, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    """``aten::leaky_relu``: ``x`` where it is positive, else ``negative_slope * x``, in torch's compute dtype."""
    del inplace
    if negative_slope >= 0 and builder.dtype(x) in {"FLOAT", "FLOAT16"}:
        return builder.op("LeakyRelu", x, alpha=float(negative_slope))
    wide, compute = to_compute_type(builder, x)
    y = leaky_relu(builder, wide, scalar(builder, float(negative_slope), compute), compute)
    return from_compute_type(builder, y, builder.dtype(x))


def leaky_relu(builder: Builder, x: Value, slope: Value, dtype: str) -> Value:
    """``x`` where ``x > 0``, else ``x * slope``: torch's rule, also for zeros and NaN."""
    positive = builder.op("Greater", x, scalar(builder, 0.0, dtype))
    return builder.op("Where", positive, x, builder.op("Mul", x, slope))


def exchange(module: nn.Module) -> nn.Module | None:
    """The ``LeakyReLU`` or ``RReLU`` with floats for integer slopes, as ``torch.jit.script`` requires; else None."""
    from torch import nn

    if type(module) is nn.LeakyReLU:
        return _with_floats(module, "negative_slope")
    if type(module) is nn.RReLU:
        return _with_floats(module, "lower", "upper")
    return None


def _with_floats(module: Any, *names: str) -> nn.Module | None:
    integers = [name for name in names if isinstance(getattr(module, name), int)]
    for name in integers:
        setattr(module, name, float(getattr(module, name)))
    return module if integers else None


PROVIDES = (
    Lowering(
        name="leaky_relu",
        about="LeakyReLU: a negative slope flips the sign of zero in the runtime; float64 gets a float32 slope",
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
