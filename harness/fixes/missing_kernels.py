"""Operators that ONNX Runtime has no CPU kernel of, for bfloat16 and some integers: Linear, ReLU, Sigmoid and Tanh.

For Sigmoid and Tanh, the TorchScript exporter also omits the cast of integers.
"""

from __future__ import annotations

from harness.fixes._builder import (
    INTEGER_TYPES,
    Builder,
    Value,
    cast,
    computed_in_float32,
    from_compute_type,
    scalar,
    to_compute_type,
)
from harness.fixes._lowering import Lowering


def lower_linear(builder: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value | None:
    """``aten::linear`` of bfloat16, summed in float32, bias included, and rounded once, as in torch; else None."""
    if builder.dtype(x) != "BFLOAT16":
        return None
    y = builder.op(
        "MatMul", cast(builder, x, "FLOAT"), builder.op("Transpose", cast(builder, weight, "FLOAT"), perm=[1, 0])
    )
    if bias is not None:
        y = builder.op("Add", y, cast(builder, bias, "FLOAT"))
    return cast(builder, y, "BFLOAT16")


def lower_relu(builder: Builder, x: Value) -> Value | None:
    """``aten::relu``; None if the stock lowering is correct."""
    dtype = builder.dtype(x)
    if dtype == "BFLOAT16":
        return cast(builder, builder.op("Relu", cast(builder, x, "FLOAT")), "BFLOAT16")
    if dtype not in INTEGER_TYPES:
        return None
    wide, compute = to_compute_type(builder, x)
    return from_compute_type(builder, builder.op("Max", wide, scalar(builder, 0, compute)), dtype)


def lower_sigmoid(builder: Builder, x: Value) -> Value | None:
    """``aten::sigmoid``; None if the stock lowering is correct."""
    return computed_in_float32(builder, "Sigmoid", x)


def lower_tanh(builder: Builder, x: Value) -> Value | None:
    """``aten::tanh``; None if the stock lowering is correct."""
    return computed_in_float32(builder, "Tanh", x)


PROVIDES = (
    Lowering(
        name="linear",
        about="Linear: no bfloat16 kernel in the runtime",
        issue=None,
        aten="linear",
        arguments=("v", "v", "v"),
        lower=lower_linear,
    ),
    Lowering(
        name="relu",
        about="ReLU: no kernel in the runtime for bfloat16 and some integers",
        issue=None,
        aten="relu",
        arguments=("v",),
        lower=lower_relu,
    ),
    Lowering(
        name="sigmoid",
        about="Sigmoid: no bfloat16 kernel in the runtime; the TorchScript exporter omits the cast of integers",
        issue=None,
        aten="sigmoid",
        arguments=("v",),
        lower=lower_sigmoid,
    ),
    Lowering(
        name="tanh",
        about="Tanh: no bfloat16 kernel in the runtime; the TorchScript exporter omits the cast of integers",
        issue=None,
        aten="tanh",
        arguments=("v",),
        lower=lower_tanh,
    ),
)
