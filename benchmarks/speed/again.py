"""How long some of harness's own steps take, and how long when they are called again at once.

Only steps that do the same each time they are called: the second call tells nothing but what it costs to come back to a
step after the libraries have used the processor for something else.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from harness.check import case_context as judging
from harness.check.cache import artifacts as entry
from harness.engine import journal
from harness.model import build, reference

STEPS: tuple[tuple[Any, str], ...] = (
    (judging, "compare"),
    (reference, "define"),
    (build, "array"),
    (entry, "_sum"),
    (journal, "one_line"),
)


class Again:
    """The seconds of all first calls, and of all second ones."""

    def __init__(self) -> None:
        self.first = self.again = 0.0
        for owner, name in STEPS:
            setattr(owner, name, self._twice(getattr(owner, name)))

    def _twice(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def twice(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            answer = call(*given, **named)
            between = time.perf_counter()
            call(*given, **named)
            self.first += between - began
            self.again += time.perf_counter() - between
            return answer

        return twice
