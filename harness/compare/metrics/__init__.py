"""Metrics, one family per file: a module here, or an entry point of another package in ``harness.compare.metrics``.

A metric whose ``name`` is a field of :class:`harness.result.OutputComparison` fills that field. Any other metric
appears in every report under ``extra``, by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import Pair
from harness.compare.rules import Allowance
from harness.deprecated import accept_old_names, old_attributes


@dataclass(frozen=True, slots=True)
class Scores:
    """Two outputs of one shape that hold scores of candidates along ``axis``."""

    actual: NDArray[Any]
    expected: NDArray[Any]
    axis: int


@old_attributes(strays="nonfinite_mismatches", outside="exceeded")
@dataclass(frozen=True)
class ComparedValues:
    """The values of one output after the structure check and the tolerance rule: what a metric measures.

    ``pair`` holds the values that are finite on both sides and defined by the layer; it may be empty. ``allowance``
    holds the rule's measure of each of them and its limit. ``nonfinite_mismatches`` are the flat indices in the output
    where NaN or an infinity is on one side only. ``shape`` is the shape of the output. ``float64`` is the float64
    reference at the values of ``pair``, None if there is none. ``scores`` are the whole outputs if they are known to
    be scores of candidates.
    """

    pair: Pair
    allowance: Allowance
    nonfinite_mismatches: NDArray[np.intp]
    shape: tuple[int, ...]
    float64: NDArray[np.float64] | None = None
    scores: Scores | None = None

    @cached_property
    def exceeded(self) -> NDArray[np.bool_]:
        """True at the values of ``pair`` that differ by more than the tolerance."""
        return self.allowance.exceeded


class Metric(Protocol):
    """One number about an output and its reference."""

    name: str

    def measure(self, compared: ComparedValues) -> Any:
        """The number, None if there is nothing to measure. A standard metric may also return an index or a count.

        Called under ``np.errstate(all="ignore")``.
        """
        ...


accept_old_names(__name__)
