"""ReLU: ONNX Runtime has no kernels for bfloat16 and integers, or only at some opsets."""

from __future__ import annotations

from harness.fixes._builder import INTEGER_TYPES, Builder, Value, cast, from_compute_type, scalar, to_compute_type
from harness.fixes._lowering import Lowering


def lower(builder: Builder, x: Value) -> Value | None:
    """``aten::relu``; None if the stock lowering is correct."""
    dtype = builder.dtype(x)
    if dtype == "BFLOAT16":
        return cast(builder, builder.op("Relu", cast(builder, x, "FLOAT")), "BFLOAT16")
    if dtype not in INTEGER_TYPES:
        return None
    wide, compute = to_compute_type(builder, x)
    return from_compute_type(builder, builder.op("Max", wide, scalar(builder, 0, compute)), dtype)


PROVIDES = (
    Lowering(
        name="relu",
        about="ReLU: no kernel in the runtime for bfloat16 and some integers",
        issue=None,
        aten="relu",
        arguments=("v",),
        lower=lower,
    ),
)
