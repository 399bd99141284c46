"""How far a run is: a live line on a terminal, an occasional plain line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live

from harness.report.wording import WRONG
from harness.result import Result

_TENTHS = 10
_QUIET_SECONDS = 30.0


class Progress:
    """Counts checks as they come in; a context manager around the run.

    ``advance`` takes each check with its final status (see :func:`harness.gate.expected`), so that
    what is counted as not as expected is what the report will say. In a log a line appears with
    every tenth of the checks, and when half a minute has gone by without one.
    """

    def __init__(self, total: int, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self.wrong = 0
        self._console = console
        self._clock = clock
        self._began = self._last_line = clock()
        self._live = _live(console) if console.is_terminal else None
        self._task = None if self._live is None else self._live.add_task("checks", total=total, wrong="")

    def __enter__(self) -> Self:
        """Show the live line, where there is a terminal."""
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the live line away: what follows is the summary."""
        if self._live is not None:
            self._live.stop()

    def advance(self, result: Result) -> None:
        """Count one check."""
        self.done += 1
        self.wrong += result.status in WRONG
        if self._live is not None and self._task is not None:
            self._live.update(self._task, advance=1, wrong=self._not_as_expected())
        elif self._due():
            self._last_line = self._clock()
            self._console.print(self._line(), markup=False, highlight=False)

    def _due(self) -> bool:
        tenth = self.done * _TENTHS // self.total > (self.done - 1) * _TENTHS // self.total
        return tenth or self._clock() - self._last_line >= _QUIET_SECONDS

    def _line(self) -> str:
        left = (self._clock() - self._began) / self.done * (self.total - self.done)
        rest = f", about {_span(left)} left" if self.done < self.total else ""
        return f"{self.done:,} of {self.total:,} checks{self._not_as_expected()}{rest}"

    def _not_as_expected(self) -> str:
        return f", {self.wrong:,} not as expected" if self.wrong else ""


def _live(console: Console) -> Live:
    return Live(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("[bold red]{task.fields[wrong]}"),
        console=console,
        transient=True,
    )


def _span(seconds: float) -> str:
    """A length of time as one would say it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
