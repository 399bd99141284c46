"""Linear: ONNX Runtime has no bfloat16 kernel on the CPU."""

from __future__ import annotations

from harness.fixes._builder import Builder, Value, cast
from harness.fixes._lowering import Lowering


def lower(builder: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value | None:
    """``aten::linear`` of bfloat16, summed in float32, bias included, and rounded once, as in torch; else None."""
    if builder.dtype(x) != "BFLOAT16":
        return None
    y = builder.op(
        "MatMul", cast(builder, x, "FLOAT"), builder.op("Transpose", cast(builder, weight, "FLOAT"), perm=[1, 0])
    )
    if bias is not None:
        y = builder.op("Add", y, cast(builder, bias, "FLOAT"))
    return cast(builder, y, "BFLOAT16")


PROVIDES = (
    Lowering(
        name="linear",
        about="Linear: no bfloat16 kernel in the runtime",
        issue=None,
        aten="linear",
        arguments=("v", "v", "v"),
        lower=lower,
    ),
)
