"""Metrics of an output that is compared by its decisions along an axis: KL divergence and top-k agreement.

They are measured where a ``decisions`` rule by ``argmax`` applies, because only then are the values known to be scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.compare.metrics import ComparedValues, Metric

Array = NDArray[Any]

TOP = 5


class KlDivergence:
    """The mean KL divergence of the target's softmax from the reference's, in nats."""

    name = "kl"

    def measure(self, compared: ComparedValues) -> float | None:
        """The divergence; None if the output holds no scores, or NaN or infinities."""
        scores = _scores(compared)
        if scores is None:
            return None
        actual, expected = (_log_softmax(each) for each in scores)
        return float((np.exp(expected) * (expected - actual)).sum(axis=-1).mean())


class TopAgreement:
    """The share of decisions whose :data:`TOP` best candidates are the same set on both sides."""

    name = f"top{TOP}"

    def measure(self, compared: ComparedValues) -> float | None:
        """The share; None if the output holds no scores, or no more than :data:`TOP` candidates."""
        scores = _scores(compared)
        if scores is None or scores[0].shape[-1] <= TOP:
            return None
        actual, expected = (np.sort(np.argsort(each, axis=-1, kind="stable")[..., -TOP:]) for each in scores)
        return float((actual == expected).all(axis=-1).mean())


def _scores(compared: ComparedValues) -> tuple[Array, Array] | None:
    """Both outputs in float64 with the axis of the candidates last; None if they hold no scores."""
    if compared.scores is None:
        return None
    actual, expected = (
        np.moveaxis(values.astype(np.float64), compared.scores.axis, -1)
        for values in (compared.scores.actual, compared.scores.expected)
    )
    if not expected.size or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return None
    return actual, expected


def _log_softmax(scores: Array) -> Array:
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


PROVIDES: tuple[Metric, ...] = (KlDivergence(), TopAgreement())
