"""PReLU: the sign of zero under a negative slope, and float64, which the runtime has no kernel for at some opsets."""

from __future__ import annotations

from harness.fixes._builder import Builder, Value, integers, narrowed, widened
from harness.fixes._lowering import Lowering
from harness.fixes.leaky_relu import positive_or


def lower(builder: Builder, x: Value, weight: Value) -> Value:
    """``aten::prelu``: ``x`` where it is positive, else ``weight * x``, one weight for all or one for each channel."""
    wide, compute = widened(builder, x)
    slope, _ = widened(builder, weight)
    rank = len(builder.sizes(x))
    if rank == 0:
        slope = builder.op("Reshape", slope, integers(builder, []))
    elif rank > 2:
        slope = builder.op("Reshape", slope, integers(builder, [-1, *[1] * (rank - 2)]))
    return narrowed(builder, positive_or(builder, wide, slope, compute), builder.dtype(x))


PROVIDES = (
    Lowering(
        name="prelu",
        about="PReLU: a negative slope turns the sign of zero in the runtime; float64 has no kernel at some opsets",
        issue=None,
        aten="prelu",
        arguments=("v", "v"),
        lower=lower,
    ),
)
