"""BatchNormalization at every opset, LayerNormalization and its relatives, LRN, and Softmax with its relatives.

``onnx.reference`` takes inference for training in BatchNormalization 9 to 13, computes LayerNormalization in the dtype
of its input, where squares overflow, LRN for as many channels as there are samples, and an L1 norm without magnitudes.
It does not flatten the input of Softmax, LogSoftmax and Hardmax below opset 13, where all axes from ``axis`` on are
one.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from onnx import TensorProto

from harness.blame.operators import MICROSOFT, Array, Operator, in_domains, wide
from harness.data_files.onnx_files import dtype_from_onnx


class BatchNormalization(Operator):
    """BatchNormalization as defined in https://onnx.ai/onnx/operators/onnx__BatchNormalization.html.

    Training is an attribute below opset 7 and from opset 14 on; between them, it is asked for by more than one output.
    """

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array,
        mean: Array,
        var: Array,
        epsilon: float = 1e-5,
        momentum: float = 0.9,
        spatial: int = 1,
        is_test: int = 0,
        training_mode: int = 0,
        **_: Any,
    ) -> tuple[Array, ...]:
        """Y; in training also the running mean and variance, and below opset 14 those of the batch."""
        values = wide(x)
        training = {6: not is_test, 13: len(self.onnx_node.output) > 1}.get(
            6 if self.opset < 7 else 13 if self.opset < 14 else 0, bool(training_mode)
        )

        def per_channel(statistic: Array) -> Array:
            wide_statistic = wide(statistic)
            return wide_statistic.reshape(-1, *[1] * (x.ndim - 2)) if spatial else wide_statistic

        if not training:
            y = (values - per_channel(mean)) / np.sqrt(per_channel(var) + epsilon)
            return ((y * per_channel(scale) + per_channel(bias)).astype(x.dtype),)
        axes = tuple(axis for axis in range(x.ndim) if axis != 1) if spatial else (0,)
        batch_mean, batch_var = values.mean(axis=axes), values.var(axis=axes)
        y = (values - per_channel(batch_mean)) / np.sqrt(per_channel(batch_var) + epsilon)
        running = (wide(old) * momentum + new * (1 - momentum) for old, new in ((mean, batch_mean), (var, batch_var)))
        saved = () if self.opset >= 14 else (batch_mean.astype(x.dtype), batch_var.astype(x.dtype))
        outputs = (y * per_channel(scale) + per_channel(bias), *running)
        return (*(value.astype(x.dtype) for value in outputs), *saved)


class LayerNormalization(Operator):
    """LayerNormalization as defined in https://onnx.ai/onnx/operators/onnx__LayerNormalization.html."""

    def compute(
        self,
        x: Array,
        scale: Array,
        bias: Array | None = None,
        axis: int = -1,
        epsilon: float = 1e-5,
        stash_type: int = TensorProto.FLOAT,
        **_: Any,
    ) -> tuple[Array, Array, Array]:
        """The normalised values, the means, and the inverse standard deviations."""
        y, mean, inverse = _normalized(wide(x), tuple(range(axis % x.ndim, x.ndim)), epsilon, centred=True)
        stash = x.dtype if x.dtype == np.float64 else dtype_from_onnx(stash_type)
        return _affine(y, scale, bias).astype(x.dtype), mean.astype(stash), inverse.astype(stash)


class RMSNormalization(Operator):
    """RMSNormalization as defined in https://onnx.ai/onnx/operators/onnx__RMSNormalization.html."""

    def compute(self, x: Array, scale: Array, axis: int = -1, epsilon: float = 1e-5, **_: Any) -> tuple[Array, Array]:
        """The values over their root mean square, and the inverse of that."""
        y, _mean, inverse = _normalized(wide(x), tuple(range(axis % x.ndim, x.ndim)), epsilon, centred=False)
        return _affine(y, scale, None).astype(x.dtype), inverse


class GroupNormalization(Operator):
    """GroupNormalization as defined in https://onnx.ai/onnx/operators/onnx__GroupNormalization.html.

    Scale and bias are per group at opset 18 and per channel from 21 on.
    """

    def compute(
        self, x: Array, scale: Array, bias: Array, epsilon: float = 1e-5, num_groups: int = 1, **_: Any
    ) -> tuple[Array]:
        """The normalised values."""
        groups = wide(x).reshape(x.shape[0], num_groups, -1)
        y = _normalized(groups, (2,), epsilon, centred=True)[0]
        if self.opset < 21:
            return (_affine(y, scale[:, None], bias[:, None]).reshape(x.shape).astype(x.dtype),)
        shape = (-1, *[1] * (x.ndim - 2))
        return (_affine(y.reshape(x.shape), scale.reshape(shape), bias.reshape(shape)).astype(x.dtype),)


class SimplifiedLayerNormalization(RMSNormalization):
    """ONNX Runtime's RMSNormalization, which it registers in ONNX's domain."""


class SkipLayerNormalization(Operator):
    """LayerNormalization of a sum over the last axis.

    Defined in https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
    """

    op_domain = MICROSOFT

    def compute(
        self,
        x: Array,
        skip: Array,
        gamma: Array,
        beta: Array | None = None,
        bias: Array | None = None,
        epsilon: float = 1e-12,
        **_: Any,
    ) -> tuple[Array, ...]:
        """The normalised sum, the means, the inverse standard deviations, and the sum."""
        return _normalized_sum(x, skip, gamma, beta, bias, epsilon, centred=True)


class SkipSimplifiedLayerNormalization(Operator):
    """RMSNormalization of a sum over the last axis; defined beside :class:`SkipLayerNormalization`."""

    op_domain = MICROSOFT

    def compute(
        self, x: Array, skip: Array, gamma: Array, bias: Array | None = None, epsilon: float = 1e-12, **_: Any
    ) -> tuple[Array, ...]:
        """The normalised sum, the means, the inverse root mean squares, and the sum."""
        return _normalized_sum(x, skip, gamma, None, bias, epsilon, centred=False)


class LpNormalization(Operator):
    """LpNormalization as defined in https://onnx.ai/onnx/operators/onnx__LpNormalization.html.

    Where the norm is 0, so is the answer.
    """

    def compute(self, x: Array, axis: int = -1, p: int = 2, **_: Any) -> tuple[Array]:
        """The values over the norm along ``axis``."""
        values = wide(x)
        norm = (np.abs(values) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
        return (np.where(norm == 0, 0.0, values / norm).astype(x.dtype),)


class LRN(Operator):
    """LRN as defined in https://onnx.ai/onnx/operators/onnx__LRN.html, over the channels of any rank."""

    def compute(
        self, x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, **_: Any
    ) -> tuple[Array]:
        """The values over the power of the sum of squares of the channels around them."""
        values = wide(x)
        squares, channels = values**2, x.shape[1]
        sums = np.stack(
            [
                squares[:, max(0, channel - (size - 1) // 2) : channel + size // 2 + 1].sum(axis=1)
                for channel in range(channels)
            ],
            axis=1,
        )
        return ((values / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


def _normalized(values: Array, axes: tuple[int, ...], epsilon: float, *, centred: bool) -> tuple[Array, Array, Array]:
    """``values`` without their mean if ``centred``, over the root of their mean square; the mean, and that inverse."""
    mean = values.mean(axis=axes, keepdims=True)
    centre = values - mean if centred else values
    inverse = 1 / np.sqrt((centre**2).mean(axis=axes, keepdims=True) + epsilon)
    return centre * inverse, mean, inverse


def _normalized_sum(
    x: Array, skip: Array, gamma: Array, beta: Array | None, bias: Array | None, epsilon: float, *, centred: bool
) -> tuple[Array, ...]:
    total = wide(x) + wide(skip) + (0.0 if bias is None else wide(bias))
    y, mean, inverse = _normalized(total, (-1,), epsilon, centred=centred)
    return _affine(y, gamma, beta).astype(x.dtype), mean, inverse, total.astype(x.dtype)


def _affine(values: Array, scale: Array, bias: Array | None) -> Array:
    scaled: Array = values * wide(scale)
    return scaled if bias is None else scaled + wide(bias)


class Softmax(Operator):
    """Softmax as defined in https://onnx.ai/onnx/operators/onnx__Softmax.html."""

    def compute(self, x: Array, axis: int = -1, **_: Any) -> tuple[Array]:
        """The normalised exponentials."""
        return (self._by_rows(x, axis),)

    def rows(self, values: Array) -> Array:
        """The answer for an array whose last axis is the one to normalise."""
        return softmax(values)

    def _by_rows(self, x: Array, axis: int) -> Array:
        if x.size == 0:
            return x
        axis %= x.ndim or 1
        if self.opset < 13:
            rows = wide(x).reshape(prod(x.shape[:axis]), -1)
            return self.rows(rows).reshape(x.shape).astype(x.dtype)
        return np.moveaxis(self.rows(np.moveaxis(wide(x), axis, -1)), -1, axis).astype(x.dtype)


class LogSoftmax(Softmax):
    """LogSoftmax as defined in https://onnx.ai/onnx/operators/onnx__LogSoftmax.html."""

    def rows(self, values: Array) -> Array:
        """The logarithm of the softmax."""
        shifted = values - values.max(axis=-1, keepdims=True)
        result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return result


class Hardmax(Softmax):
    """Hardmax as defined in https://onnx.ai/onnx/operators/onnx__Hardmax.html."""

    def rows(self, values: Array) -> Array:
        """1 at the first largest value of a row, else 0."""
        result = np.zeros_like(values)
        np.put_along_axis(result, values.argmax(axis=-1)[..., None], 1, axis=-1)
        return result


def softmax(values: Array) -> Array:
    """Softmax over the last axis."""
    exponentials = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return result


NORMALIZATION_OPERATORS: tuple[type[Operator], ...] = (
    BatchNormalization,
    LayerNormalization,
    RMSNormalization,
    GroupNormalization,
    *in_domains(SimplifiedLayerNormalization, "", MICROSOFT),
    SkipLayerNormalization,
    SkipSimplifiedLayerNormalization,
    LpNormalization,
    LRN,
    Softmax,
    LogSoftmax,
    Hardmax,
)
