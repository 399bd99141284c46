"""ONNX Runtime's fused operators: products, activations, attention and embeddings, without past keys and values.

Its optimizer and its tools for transformers write them. They are defined in
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt
from typing import Any

import numpy as np

from harness.blame.operators import MICROSOFT, Array, Operator, in_domains, wide
from harness.blame.operators.normalization import softmax

MASKED = -10000.0
"""The default of ``mask_filter_value``."""

_ERF = np.frompyfunc(erf, 1, 1)


def gelu(x: Array) -> Array:
    """``x`` times the probability that a normal variable is below x."""
    result: Array = x / 2 * (1 + np.asarray(_ERF(x / sqrt(2)), np.float64))
    return result


def gelu_by_tanh(x: Array) -> Array:
    """The approximation of :func:`gelu` by a hyperbolic tangent."""
    result: Array = x / 2 * (1 + np.tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))
    return result


class Gelu(Operator):
    """Gelu, in ONNX's domain with the approximation that its attribute asks for."""

    def compute(self, x: Array, approximate: str = "none", **_: Any) -> tuple[Array]:
        """The activation."""
        return ((gelu_by_tanh if approximate == "tanh" else gelu)(wide(x)).astype(x.dtype),)


class BiasGelu(Operator):
    """Gelu of a sum."""

    op_domain = MICROSOFT

    def compute(self, x: Array, bias: Array, **_: Any) -> tuple[Array]:
        """The activation."""
        return (gelu(wide(x) + wide(bias)).astype(x.dtype),)


class FastGelu(Operator):
    """Gelu by a hyperbolic tangent, of a sum where there is a bias."""

    op_domain = MICROSOFT

    def compute(self, x: Array, bias: Array | None = None, **_: Any) -> tuple[Array]:
        """The activation."""
        return (gelu_by_tanh(wide(x) + (0.0 if bias is None else wide(bias))).astype(x.dtype),)


class QuickGelu(Operator):
    """``x`` times the sigmoid of ``alpha x``."""

    op_domain = MICROSOFT

    def compute(self, x: Array, alpha: float = 1.702, **_: Any) -> tuple[Array]:
        """The activation."""
        values = wide(x)
        return ((values / (1 + np.exp(-alpha * values))).astype(x.dtype),)


class FusedMatMul(Operator):
    """A scaled product of matrices that may be transposed."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        b: Array,
        alpha: float = 1.0,
        transA: int = 0,  # noqa: N803 - ONNX Runtime's name
        transB: int = 0,  # noqa: N803
        transBatchA: int = 0,  # noqa: N803
        transBatchB: int = 0,  # noqa: N803
        **_: Any,
    ) -> tuple[Array]:
        """The product times alpha."""
        first, second = _factor(wide(a), transA, transBatchA), _factor(wide(b), transB, transBatchB)
        return ((alpha * np.matmul(first, second)).astype(a.dtype),)


class TransposeMatMul(FusedMatMul):
    """The older name of :class:`FusedMatMul`."""

    op_domain = MICROSOFT


class FusedGemm(Operator):
    """Gemm with an activation."""

    op_domain = MICROSOFT

    def compute(
        self,
        a: Array,
        b: Array,
        c: Array | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        transA: int = 0,  # noqa: N803 - ONNX Runtime's name
        transB: int = 0,  # noqa: N803
        activation: str = "",
        activation_alpha: float = 0.01,
        **_: Any,
    ) -> tuple[Array]:
        """The activation of the sum."""
        product = alpha * _factor(wide(a), transA, 0) @ _factor(wide(b), transB, 0)
        total = product + (0.0 if c is None else beta * wide(c))
        activations: dict[str, Callable[[Array], Array]] = {
            "": lambda x: x,
            "Relu": lambda x: np.maximum(x, 0),
            "LeakyRelu": lambda x: np.where(x < 0, activation_alpha * x, x),
            "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            "Tanh": np.tanh,
        }
        if activation not in activations:
            raise NotImplementedError(f"FusedGemm with activation {activation!r}")
        return (activations[activation](total).astype(a.dtype),)


def _factor(values: Array, transposed: int, batch_transposed: int) -> Array:
    """``values`` with the first axis behind the batch axes if ``batch_transposed``, then its last two exchanged."""
    if batch_transposed:
        values = np.moveaxis(values, 0, -2)
    return np.swapaxes(values, -1, -2) if transposed and values.ndim > 1 else values


class Attention(Operator):
    """Self-attention, with the projections of query, key and value in one matrix."""

    op_domain = MICROSOFT

    def compute(
        self,
        x: Array,
        weights: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        past: Array | None = None,
        attention_bias: Array | None = None,
        past_sequence_length: Array | None = None,
        num_heads: int = 1,
        qkv_hidden_sizes: list[int] | None = None,
        scale: float = 0.0,
        unidirectional: int = 0,
        do_rotary: int = 0,
        mask_filter_value: float = MASKED,
        **_: Any,
    ) -> tuple[Array]:
        """The attended values."""
        if past is not None or past_sequence_length is not None or do_rotary or len(self.onnx_node.output) > 1:
            raise NotImplementedError("Attention with past keys and values, or with rotary positions")
        projected = wide(x) @ wide(weights) + (0.0 if bias is None else wide(bias))
        sizes = qkv_hidden_sizes or [weights.shape[1] // 3] * 3
        query, key, value = np.split(projected, np.cumsum(sizes)[:2], axis=-1)
        added = _mask_bias(mask, x.shape[0], x.shape[1], x.shape[1], mask_filter_value)
        added = added + (0.0 if attention_bias is None else wide(attention_bias))
        if unidirectional:
            added = added + np.triu(np.full((x.shape[1], x.shape[1]), -np.inf), 1)
        return (_attended(query, key, value, num_heads, scale, added).astype(x.dtype),)


class MultiHeadAttention(Operator):
    """Attention of projected queries to projected keys and values, each of shape (batch, sequence, hidden)."""

    op_domain = MICROSOFT

    def compute(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        bias: Array | None = None,
        key_padding_mask: Array | None = None,
        attention_bias: Array | None = None,
        *past: Array | None,
        num_heads: int = 1,
        scale: float = 0.0,
        unidirectional: int = 0,
        mask_filter_value: float = MASKED,
        **_: Any,
    ) -> tuple[Array]:
        """The attended values."""
        packed = key is None or value is None or key.ndim != 3 or query.ndim != 3
        if packed or any(each is not None for each in past) or len(self.onnx_node.output) > 1:
            raise NotImplementedError("MultiHeadAttention with packed inputs, or with past keys and values")
        assert key is not None
        assert value is not None
        sizes = np.cumsum([query.shape[-1], key.shape[-1]])
        biases = [0.0] * 3 if bias is None else np.split(wide(bias), sizes)
        q, k, v = (wide(each) + added for each, added in zip((query, key, value), biases, strict=True))
        added = _mask_bias(key_padding_mask, query.shape[0], query.shape[1], key.shape[1], mask_filter_value)
        added = added + (0.0 if attention_bias is None else wide(attention_bias))
        if unidirectional:
            added = added + np.triu(np.full((query.shape[1], key.shape[1]), -np.inf), 1)
        return (_attended(q, k, v, num_heads, scale, added).astype(query.dtype),)


def _mask_bias(mask: Array | None, batch: int, queries: int, keys: int, filled: float) -> Any:
    """What a mask adds to the scores, to be broadcast to (batch, heads, queries, keys)."""
    if mask is None:
        return 0.0
    if mask.shape == (batch,) and batch != keys:
        kept = (np.arange(keys) < mask[:, None])[:, None, None]
    elif mask.shape == (batch, keys):
        kept = (mask != 0)[:, None, None]
    elif mask.shape == (batch, queries, keys):
        kept = (mask != 0)[:, None]
    else:
        raise NotImplementedError(f"a mask of shape {list(mask.shape)} for {batch} x {queries} x {keys} scores")
    return np.where(kept, 0.0, filled)


def _attended(query: Array, key: Array, value: Array, heads: int, scale: float, added: Any) -> Array:
    """Softmax of the scaled scores plus ``added``, applied to the values; hidden sizes are split among ``heads``."""
    q, k, v = (each.reshape(*each.shape[:2], heads, -1).swapaxes(1, 2) for each in (query, key, value))
    scores = q @ k.swapaxes(-1, -2) * (scale or 1 / np.sqrt(q.shape[-1])) + added
    attended: Array = (softmax(scores) @ v).swapaxes(1, 2)
    return attended.reshape(*attended.shape[:2], -1)


class EmbedLayerNormalization(Operator):
    """The normalised sum of the embeddings of words, positions and segments."""

    op_domain = MICROSOFT

    def compute(
        self,
        input_ids: Array,
        segment_ids: Array | None,
        words: Array,
        positions: Array,
        segments: Array | None,
        gamma: Array,
        beta: Array,
        mask: Array | None = None,
        position_ids: Array | None = None,
        epsilon: float = 1e-12,
        **_: Any,
    ) -> tuple[Array, Array, Array]:
        """The normalised sum, the number of unmasked words, and the sum."""
        where = np.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
        total = wide(words)[input_ids] + wide(positions)[where]
        if segments is not None and segment_ids is not None:
            total = total + wide(segments)[segment_ids]
        centred = total - total.mean(axis=-1, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        count = np.zeros(len(input_ids), np.int32) if mask is None else mask.sum(axis=1).astype(np.int32)
        return (y * wide(gamma) + wide(beta)).astype(words.dtype), count, total.astype(words.dtype)


MICROSOFT_FUSED_OPERATORS: tuple[type[Operator], ...] = (
    *in_domains(Gelu, "", MICROSOFT),
    BiasGelu,
    FastGelu,
    QuickGelu,
    FusedMatMul,
    TransposeMatMul,
    FusedGemm,
    Attention,
    MultiHeadAttention,
    EmbedLayerNormalization,
)
