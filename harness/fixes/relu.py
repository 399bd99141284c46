"""ReLU of bfloat16 and of integers, for which ONNX Runtime has kernels at some opsets or none."""

from __future__ import annotations

from harness.fixes._builder import INTEGERS, Builder, Value, cast, narrowed, number, widened
from harness.fixes._lowering import Lowering


def lower(builder: Builder, x: Value) -> Value | None:
    """``aten::relu``; None where the stock lowering is right."""
    dtype = builder.dtype(x)
    if dtype == "BFLOAT16":
        return cast(builder, builder.op("Relu", cast(builder, x, "FLOAT")), "BFLOAT16")
    if dtype not in INTEGERS:
        return None
    wide, compute = widened(builder, x)
    return narrowed(builder, builder.op("Max", wide, number(builder, 0, compute)), dtype)


PROVIDES = (
    Lowering(
        name="relu",
        about="ReLU: no kernel in the runtime for bfloat16, nor for some integers",
        issue=None,
        aten="relu",
        arguments=("v",),
        lower=lower,
    ),
)
