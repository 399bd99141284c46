"""Models that say nothing about the evaluation of their operator, each with the reason."""

from __future__ import annotations

from fnmatch import fnmatchcase

from benchmarks.operator_sweep.models.case import Pair
from harness.blame.disagreement import RANDOM_OPERATORS

SCORES = (
    "only the fourth output differs, the scores before the softmax, which no exporter asks for; "
    "the answer and the keys and values agree"
)
ARGUED: tuple[tuple[str, tuple[int, ...], str, str], ...] = (
    ("Attention", (23, 24), "test_attention_4d_with_past_and_present_qk_matmul_bias_?d_mask_causal", SCORES),
    ("Dropout", (12, 13, 22), "test_training_dropout*", "it draws random numbers"),
)
"""Operator, versions, pattern of the model's name, reason."""


def argument(pair: Pair, name: str) -> str | None:
    """Why the model ``name`` is left out for ``pair``; None if it counts."""
    if pair.operator in RANDOM_OPERATORS or pair.operator == "Multinomial":
        return "it draws random numbers"
    return next(
        (
            reason
            for operator, versions, pattern, reason in ARGUED
            if operator == pair.operator and pair.since in versions and fnmatchcase(name, pattern)
        ),
        None,
    )
