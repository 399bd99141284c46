"""Sigmoid: ONNX Runtime has no bfloat16 kernel on the CPU, the TorchScript exporter omits the cast of integers."""

from __future__ import annotations

from harness.fixes._builder import Builder, Value, computed_in_float32
from harness.fixes._lowering import Lowering


def lower(builder: Builder, x: Value) -> Value | None:
    """``aten::sigmoid``; None if the stock lowering is correct."""
    return computed_in_float32(builder, "Sigmoid", x)


PROVIDES = (
    Lowering(
        name="sigmoid",
        about="Sigmoid: no bfloat16 kernel in the runtime; the TorchScript exporter omits the cast of integers",
        issue=None,
        aten="sigmoid",
        arguments=("v",),
        lower=lower,
    ),
)
