"""bfloat16: ONNX Runtime's CPU kernels know it only in Cast, so these layers compute in float32 and round once."""

from __future__ import annotations

from harness.fixes._builder import Builder, Value, cast
from harness.fixes._lowering import Lowering


def relu(builder: Builder, x: Value) -> Value | None:
    """``aten::relu``."""
    return _in_float32(builder, "Relu", x)


def sigmoid(builder: Builder, x: Value) -> Value | None:
    """``aten::sigmoid``."""
    return _in_float32(builder, "Sigmoid", x)


def tanh(builder: Builder, x: Value) -> Value | None:
    """``aten::tanh``."""
    return _in_float32(builder, "Tanh", x)


def linear(builder: Builder, x: Value, weight: Value, bias: Value | None = None) -> Value | None:
    """``aten::linear``: the sum is taken in float32, bias included, as torch's own kernel does."""
    if builder.dtype(x) != "BFLOAT16":
        return None
    wide = [cast(builder, value, "FLOAT") for value in (x, weight)]
    y = builder.op("MatMul", wide[0], builder.op("Transpose", wide[1], perm=[1, 0]))
    if bias is not None:
        y = builder.op("Add", y, cast(builder, bias, "FLOAT"))
    return cast(builder, y, "BFLOAT16")


def _in_float32(builder: Builder, kind: str, x: Value) -> Value | None:
    """The operator between two casts; None where the dtype is another, which the stock lowering serves."""
    if builder.dtype(x) != "BFLOAT16":
        return None
    return cast(builder, builder.op(kind, cast(builder, x, "FLOAT")), "BFLOAT16")


PROVIDES = (
    Lowering("relu_bfloat16", "ReLU: no bfloat16 kernel in the runtime", None, "relu", ("v",), relu),
    Lowering("sigmoid_bfloat16", "Sigmoid: no bfloat16 kernel in the runtime", None, "sigmoid", ("v",), sigmoid),
    Lowering("tanh_bfloat16", "Tanh: no bfloat16 kernel in the runtime", None, "tanh", ("v",), tanh),
    Lowering("linear_bfloat16", "Linear: no bfloat16 kernel in the runtime", None, "linear", ("v", "v", "v"), linear),
)
