"""Seconds by name. Each second is counted once, for the innermost timed call."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

REST = "the rest"


class CallTimes:
    """Seconds by name of the innermost timed call. Calls inside a ``library`` call count for the library call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack, self._in_library = [REST], False
        self._since = time.perf_counter()

    def time(self, owner: Any, attribute: str, name: str, *, library: bool = False) -> None:
        """Time calls of ``owner.attribute`` under ``name`` from now on."""
        call: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(call)
        def timed(*arguments: Any, **named: Any) -> Any:
            if self._in_library:
                return call(*arguments, **named)
            self._book()
            self._stack.append(name)
            self._in_library = library
            try:
                return call(*arguments, **named)
            finally:
                self._book()
                self._stack.pop()
                self._in_library = False

        setattr(owner, attribute, timed)

    def begin(self) -> None:
        """Reset all counts."""
        self.seconds.clear()
        self._since = time.perf_counter()

    def end(self) -> dict[str, float]:
        """Return the seconds of every name since :meth:`begin`."""
        self._book()
        return dict(self.seconds)

    def _book(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
