"""How far a run is: a live line on a terminal, an occasional plain line in a log."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live

from harness.report.wording import WRONG
from harness.result import Result

_TENTHS = 10
_QUIET_SECONDS = 30.0


class Progress:
    """Looks on while checks run: ``begin`` with how many there are, ``advance`` for each, ``end``.

    What fails is counted before the gate has judged it, known failures included. In a log a line
    appears with every tenth of the checks, and when half a minute has gone by without one.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console()
        self._clock = clock
        self._total = self._done = self._failing = 0
        self._what = "checks"
        self._began = self._last_line = 0.0
        self._live: Live | None = None

    def begin(self, total: int, what: str = "checks") -> None:
        """So many are about to run; on a terminal the live line appears."""
        self._total, self._done, self._failing, self._what = total, 0, 0, what
        self._began = self._last_line = self._clock()
        if self._console.is_terminal:
            self._live = _live(self._console)
            self._live.add_task(what, total=total, failing="")
            self._live.start()

    def advance(self, result: Result | None = None) -> None:
        """One more is done; ``result`` is what it came to, where it is a check."""
        self._done += 1
        self._failing += result is not None and result.status in WRONG
        if self._live is not None:
            self._live.update(self._live.task_ids[0], advance=1, failing=self._failing_so_far())
        elif self._due():
            self._last_line = self._clock()
            self._console.print(self._line(), markup=False, highlight=False)

    def end(self) -> None:
        """No more will come; the live line goes away, what follows is the summary."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _due(self) -> bool:
        tenth = self._done * _TENTHS // self._total > (self._done - 1) * _TENTHS // self._total
        return tenth or self._clock() - self._last_line >= _QUIET_SECONDS

    def _line(self) -> str:
        left = (self._clock() - self._began) / self._done * (self._total - self._done)
        rest = f", about {_span(left)} left" if self._done < self._total else ""
        return f"{self._done:,} of {self._total:,} {self._what}{self._failing_so_far()}{rest}"

    def _failing_so_far(self) -> str:
        return f", {self._failing:,} failing" if self._failing else ""


def _live(console: Console) -> Live:
    return Live(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("[bold red]{task.fields[failing]}"),
        console=console,
        transient=True,
    )


def _span(seconds: float) -> str:
    """A length of time as one would say it."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
