"""The time of some of harness's own steps, and the time of a second call made at once.

These steps do the same each time they are called. So the second call shows only what the first one loses because the
libraries have used the processor, and its caches, for something else.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from harness.check.cache import artifacts
from harness.check.judging import judge
from harness.engine import journal
from harness.model import build, reference

STEPS: tuple[tuple[Any, str], ...] = (
    (judge, "compare_with_reference"),
    (reference, "float64_reference"),
    (build, "array"),
    (artifacts, "_digest"),
    (journal, "to_json_line"),
)


class RepeatedCalls:
    """The seconds of all first calls, and of all second calls."""

    def __init__(self) -> None:
        self.first = self.second = 0.0
        for owner, name in STEPS:
            setattr(owner, name, self._twice(getattr(owner, name)))

    def _twice(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def twice(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = call(*arguments, **named)
            between = time.perf_counter()
            call(*arguments, **named)
            self.first += between - began
            self.second += time.perf_counter() - between
            return result

        return twice
