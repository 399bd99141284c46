"""LeakyReLU and PReLU: the sign of zero under a negative slope, which ONNX Runtime flips.

For LeakyReLU also the slope, which ONNX has in float32 for float64 too, and which may be an integer; for PReLU also
float64, of which ONNX Runtime has no kernel at some opsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.fixes._builder import Builder, Value, from_compute_type, int64_vector, scalar, to_compute_type
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


def lower_prelu(builder: Builder, x: Value, weight: Value) -> Value:
    """``aten::prelu``: ``x`` where it is positive, else ``weight * x``; one weight, or one per channel."""
    wide, compute = to_compute_type(builder, x)
    slope, _ = to_compute_type(builder, weight)
    rank = len(builder.sizes(x))
    if rank == 0:
        slope = builder.op("Reshape", slope, int64_vector(builder, []))
    elif rank > 2:
        slope = builder.op("Reshape", slope, int64_vector(builder, [-1, *[1] * (rank - 2)]))
    return from_compute_type(builder, leaky_relu(builder, wide, slope, compute), builder.dtype(x))


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
    Lowering(
        name="prelu",
        about="PReLU: a negative slope flips the sign of zero in the runtime; float64 has no kernel at some opsets",
        issue=None,
        aten="prelu",
        arguments=("v", "v"),
        lower=lower_prelu,
    ),
    Replacement(
        name="leaky_relu_module",
        about="LeakyReLU and RReLU: torch.jit.script refuses a slope that is an int",
        issue=None,
        exchange=exchange,
    ),
)
