"""PReLU: the sign of zero under a negative slope; ONNX Runtime has no float64 kernel at some opsets."""

from __future__ import annotations

from harness.fixes._builder import Builder, Value, from_compute_type, int64_vector, to_compute_type
from harness.fixes._lowering import Lowering
from harness.fixes.leaky_relu import leaky_relu


def lower(builder: Builder, x: Value, weight: Value) -> Value:
    """``aten::prelu``: ``x`` where it is positive, else ``weight * x``; one weight, or one per channel."""
    wide, compute = to_compute_type(builder, x)
    slope, _ = to_compute_type(builder, weight)
    rank = len(builder.sizes(x))
    if rank == 0:
        slope = builder.op("Reshape", slope, int64_vector(builder, []))
    elif rank > 2:
        slope = builder.op("Reshape", slope, int64_vector(builder, [-1, *[1] * (rank - 2)]))
    return from_compute_type(builder, leaky_relu(builder, wide, slope, compute), builder.dtype(x))


PROVIDES = (
    Lowering(
        name="prelu",
        about="PReLU: a negative slope flips the sign of zero in the runtime; float64 has no kernel at some opsets",
        issue=None,
        aten="prelu",
        arguments=("v", "v"),
        lower=lower,
    ),
)
