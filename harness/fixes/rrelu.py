"""RReLU: the dynamo exporter refuses it; in evaluation it is a LeakyReLU with the mean slope."""

from __future__ import annotations

import numpy as np

from harness.fixes import leaky_relu
from harness.fixes._builder import Builder, Value, cast, integers, narrowed, number, widened
from harness.fixes._lowering import Lowering

_DIGITS = 24


def lower(
    builder: Builder,
    x: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Value | None = None,
) -> Value:
    """``aten::rrelu``: the slope is the mean of the bounds, taken in float64; in training it is drawn anew each time.

    A drawn slope cannot agree with torch's number by number, only in distribution.
    """
    del generator
    return _slopes_applied(builder, x, lower, upper, training=training)


def _slopes_applied(builder: Builder, x: Value, lower: float, upper: float, *, training: bool) -> Value:
    if not training:
        return leaky_relu.lower(builder, x, (lower + upper) / 2)
    wide, compute = widened(builder, x)
    span = builder.op("Mul", _uniform(builder, wide, compute), number(builder, upper - lower, compute))
    slopes = builder.op("Add", span, number(builder, lower, compute))
    return narrowed(builder, leaky_relu.positive_or(builder, wide, slopes, compute), builder.dtype(x))


def _uniform(builder: Builder, x: Value, compute: str) -> Value:
    """Numbers from [0, 1), one for each element of ``x``, drawn anew at each run.

    Each is 24 coins, the digits of a float32. The coins are thrown by Dropout, the only random
    operator that ONNX Runtime has a kernel for at opset 22 and above. They are ones made from
    ``x`` itself, and so is the word that it is training: an optimizer folds a Dropout of
    constants into a constant, and ONNX Runtime's takes one away whose training_mode is constant, true or not.
    """
    shape = builder.op("Concat", builder.op("Shape", x), integers(builder, [_DIGITS]), axis=0)
    nan = builder.op("IsNaN", x)
    one = cast(builder, builder.op("Or", nan, builder.op("Not", nan)), "FLOAT")
    coins = builder.op("Expand", builder.op("Unsqueeze", one, integers(builder, [-1])), shape)
    half = number(builder, 0.5, "FLOAT")
    training = builder.op("Greater", builder.op("ReduceMax", one, keepdims=0), half)
    thrown = builder.op("Dropout", coins, half, training)  # each is 0 or, scaled up by 1 / (1 - ratio), 2
    digits = builder.constant(np.ldexp(np.float32(1), -np.arange(2, _DIGITS + 2)))
    return cast(builder, builder.op("MatMul", thrown, digits), compute)


def lower_in_place(
    builder: Builder,
    x: Value,
    noise: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Value | None = None,
) -> tuple[Value, Value]:
    """``aten::rrelu_with_noise_functional``, what ``inplace=True`` becomes; nothing reads the noise after it."""
    del generator
    return _slopes_applied(builder, x, lower, upper, training=training), noise


PROVIDES = (
    Lowering(
        name="rrelu_in_place",
        about="RReLU in place: the dynamo exporter has no lowering for what it becomes",
        issue=None,
        aten="rrelu_with_noise_functional",
        arguments=("v", "v", "f", "f", "b", "none"),
        lower=lower_in_place,
    ),
    Lowering(
        name="rrelu",
        about="RReLU: the dynamo exporter has no lowering for it, in evaluation or in training",
        issue=None,
        aten="rrelu",
        arguments=("v", "f", "f", "b", "none"),
        lower=lower,
    ),
)
