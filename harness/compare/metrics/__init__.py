"""One metric a file: a module here, or another package's entry point in the group ``harness.compare.metrics``.

A metric whose ``name`` is a field of :class:`harness.result.OutputComparison` fills that field; any other
shows up in every report under ``extra``, by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.compare.numbers import Pair
from harness.compare.rules import Allowance


@dataclass(frozen=True)
class Judged:
    """One output after structure and rule: what a metric measures.

    ``pair`` holds the elements that are finite on both sides and that the layer defines, and may be empty;
    ``allowance`` is what the rule measures and allows of each of them. ``strays`` are the flat indices in the output
    where NaN or an infinity stands on one side only. ``shape`` is the output's.
    """

    pair: Pair
    allowance: Allowance
    strays: NDArray[np.intp]
    shape: tuple[int, ...]

    @cached_property
    def outside(self) -> NDArray[np.bool_]:
        """True at the elements of ``pair`` that are outside the tolerance."""
        return self.allowance.outside


class Metric(Protocol):
    """One number about an output and its reference."""

    name: str

    def measure(self, judged: Judged) -> Any:
        """The number (of the standard metrics also an index or a count); None where there is nothing to measure.

        Called under ``np.errstate(all="ignore")``.
        """
        ...
