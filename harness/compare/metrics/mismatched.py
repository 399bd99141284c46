"""How many elements are wrong."""

from __future__ import annotations

import numpy as np

from harness.compare.metrics import Judged, Metric


class Mismatched:
    """Elements outside the tolerance, and those where NaN or an infinity stands on one side only."""

    name = "mismatched"

    def measure(self, judged: Judged) -> int:
        """The count; its total is the output comparison's ``of``."""
        return int(np.count_nonzero(judged.outside)) + judged.strays.size


PROVIDES: tuple[Metric, ...] = (Mismatched(),)
