"""RReLU: the dynamo exporter refuses it; in evaluation it is a LeakyReLU with the mean slope."""

from __future__ import annotations

from harness.fixes import leaky_relu
from harness.fixes._builder import Builder, Value, narrowed, widened
from harness.fixes._lowering import Lowering


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
    slopes = builder.op("RandomUniformLike", wide, low=float(lower), high=float(upper))
    return narrowed(builder, leaky_relu.positive_or(builder, wide, slopes, compute), builder.dtype(x))


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
