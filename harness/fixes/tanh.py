"""Tanh of bfloat16, for which ONNX Runtime has no kernel on the CPU, and of integers, whose cast is forgotten."""

from __future__ import annotations

from harness.fixes._builder import Builder, Value, in_float32
from harness.fixes._lowering import Lowering


def lower(builder: Builder, x: Value) -> Value | None:
    """``aten::tanh``; None where the stock lowering is right."""
    return in_float32(builder, "Tanh", x)


PROVIDES = (
    Lowering(
        name="tanh",
        about="Tanh: no bfloat16 kernel in the runtime; of integers the TorchScript exporter forgets the cast",
        issue=None,
        aten="tanh",
        arguments=("v",),
        lower=lower,
    ),
)
