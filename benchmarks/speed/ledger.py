"""Seconds by name, each counted once: what is called inside a timed call is that call's, unless it has a name too."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

REST = "the rest"


class Ledger:
    """Seconds by the innermost name that was entered; behind a ``door`` no other name counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack, self._behind = [REST], False
        self._since = time.perf_counter()

    def time(self, owner: Any, attribute: str, name: str, *, door: bool = False) -> None:
        """From now on ``owner.attribute`` counts under ``name``."""
        call: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            if self._behind:
                return call(*given, **named)
            self._turn()
            self._stack.append(name)
            self._behind = door
            try:
                return call(*given, **named)
            finally:
                self._turn()
                self._stack.pop()
                self._behind = False

        setattr(owner, attribute, timed)

    def begin(self) -> None:
        """Forget what was counted so far."""
        self.seconds.clear()
        self._since = time.perf_counter()

    def end(self) -> dict[str, float]:
        """The seconds of every name since :meth:`begin`."""
        self._turn()
        return dict(self.seconds)

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
