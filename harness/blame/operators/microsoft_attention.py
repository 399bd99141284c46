"""ONNX Runtime's Attention, MultiHeadAttention and EmbedLayerNormalization, without past keys and values.

Defined in https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.blame.operators._operator import MICROSOFT, Array, Operator, wide
from harness.blame.operators.normalization import softmax

MASKED = -10000.0
"""The default of ``mask_filter_value``."""


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


MICROSOFT_ATTENTION_OPERATORS = (Attention, MultiHeadAttention, EmbedLayerNormalization)
