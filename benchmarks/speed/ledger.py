"""Seconds by name, each counted once: a call inside a timed call counts for that one, unless it has its own name."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

REST = "the rest"


class Ledger:
    """Seconds by the innermost name that was entered; inside a ``library`` call no other name counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack, self._in_library = [REST], False
        self._since = time.perf_counter()

    def time(self, owner: Any, attribute: str, name: str, *, library: bool = False) -> None:
        """Count ``owner.attribute`` under ``name`` from now on."""
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
        """Forget what was counted so far."""
        self.seconds.clear()
        self._since = time.perf_counter()

    def end(self) -> dict[str, float]:
        """The seconds of every name since :meth:`begin`."""
        self._book()
        return dict(self.seconds)

    def _book(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
