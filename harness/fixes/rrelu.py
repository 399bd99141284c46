"""RReLU: the dynamo exporter has no lowering for it. In evaluation it is a LeakyReLU with the mean slope."""

from __future__ import annotations

import numpy as np

from harness.fixes import leaky_relu
from harness.fixes._builder import Builder, Value, cast, from_compute_type, int64_vector, scalar, to_compute_type
from harness.fixes._lowering import Lowering

_BITS = 24


def lower(
    builder: Builder,
    x: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Value | None = None,
) -> Value:
    """``aten::rrelu``: the slope is the mean of the bounds, computed in float64; in training slopes are random.

    Random slopes agree with torch's only in distribution, not number by number.
    """
    del generator
    return _lower(builder, x, lower, upper, training=training)


def _lower(builder: Builder, x: Value, lower: float, upper: float, *, training: bool) -> Value:
    if not training:
        return leaky_relu.lower(builder, x, (lower + upper) / 2)
    wide, compute = to_compute_type(builder, x)
    span = builder.op("Mul", _uniform(builder, wide, compute), scalar(builder, upper - lower, compute))
    slopes = builder.op("Add", span, scalar(builder, lower, compute))
    return from_compute_type(builder, leaky_relu.leaky_relu(builder, wide, slopes, compute), builder.dtype(x))


def _uniform(builder: Builder, x: Value, compute: str) -> Value:
    """Uniform random numbers from [0, 1), one for each element of ``x``, new at each run.

    Each is 24 random bits, the digits of a float32. Dropout draws the bits: it is the only random operator that ONNX
    Runtime has a kernel for at opset 22 and above. Its input of ones and its ``training_mode`` are computed from ``x``:
    an optimizer folds a Dropout of constants into a constant, and ONNX Runtime's removes one with a constant
    ``training_mode``, true or not.
    """
    shape = builder.op("Concat", builder.op("Shape", x), int64_vector(builder, [_BITS]), axis=0)
    nan = builder.op("IsNaN", x)
    one = cast(builder, builder.op("Or", nan, builder.op("Not", nan)), "FLOAT")
    ones = builder.op("Expand", builder.op("Unsqueeze", one, int64_vector(builder, [-1])), shape)
    half = scalar(builder, 0.5, "FLOAT")
    training = builder.op("Greater", builder.op("ReduceMax", one, keepdims=0), half)
    bits = builder.op("Dropout", ones, half, training)  # each is 0 or, scaled up by 1 / (1 - ratio), 2
    weights = builder.constant(np.ldexp(np.float32(1), -np.arange(2, _BITS + 2)))
    return cast(builder, builder.op("MatMul", bits, weights), compute)


def lower_in_place(
    builder: Builder,
    x: Value,
    noise: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Value | None = None,
) -> tuple[Value, Value]:
    """``aten::rrelu_with_noise_functional``, to which ``inplace=True`` is decomposed; nothing uses its noise output."""
    del generator
    return _lower(builder, x, lower, upper, training=training), noise


PROVIDES = (
    Lowering(
        name="rrelu_in_place",
        about="RReLU in place: the dynamo exporter has no lowering for its decomposition",
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
