"""SIGTERM and SIGHUP end a command as one Ctrl-C does; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from harness.errors import SIGNALLED, Interrupted

if TYPE_CHECKING:
    from typing_extensions import Self

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME = 0.3
"""Seconds in which further signals are the first one told again: ``timeout`` and a closing terminal send it twice."""


class Signals:
    """While it is open, the first of these signals raises :class:`Interrupted` in the main thread.

    A signal that is ignored, as ``nohup`` does with SIGHUP, or that somebody else answers, is left alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[signal.Signals, Any] = {}
        self._at = 0.0
        self.received: signal.Signals | None = None

    def __enter__(self) -> Self:
        usual = (signal.SIG_DFL, signal.default_int_handler)
        for number in ENDING:
            if (before := signal.getsignal(number)) in usual:
                try:
                    signal.signal(number, self._answer)
                except ValueError:  # not in the main thread, where signals are not this command's
                    return self
                self._before[number] = before
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _answer(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if self.received is None:
            self._at, self.received = now, signal.Signals(number)
            raise Interrupted(self.received)
        if now - self._at > SAME:
            os._exit(SIGNALLED + number)
