"""Standard output: as wide as the terminal is, and as wide as it takes where there is none.

How far a run is: a live line on a terminal, an occasional plain line in a log.

What the person at the terminal sees: progress while it runs, then a summary with what is wrong last.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Live
from rich.table import Table
from rich.text import Text

from harness.report.shell import command_line
from harness.report.tables import targets
from harness.report.wording import (
    WRONG,
    blindness,
    bundle_of,
    explanation,
    exports,
    happened,
    next_step,
    numbers,
    one_line,
    printable,
    shortened,
    telling,
    verdict,
    wrong,
)
from harness.result import STATUSES, Report, Result, Status

UNFOLDED = 100_000


def standard_output() -> Console:
    """Where a summary is printed.

    In a pipe or a file each row is one line, for grep and awk; where COLUMNS says how wide, it is folded there too.
    """
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if folded else UNFOLDED)


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


__all__ = ["SHOWN", "Progress", "show"]

SHOWN = 20
"""So many wrong checks are listed; the others stand in the report."""

_STYLES: dict[Status, str] = {
    "passed": "green",
    "failed": "bold red",
    "error": "bold red",
    "known": "yellow",
    "fixed": "bold magenta",
    "skipped": "dim",
}


def show(
    report: Report, written: Sequence[Path] = (), console: Console | None = None, *, resume: Sequence[str] = ()
) -> None:
    """Print the summary table, what is not as expected, where the report lies, and the verdict as the last line.

    Words carry every status; colour, where the terminal has it, only helps to find them.
    ``written`` are the paths of the reports; ``console`` is standard output where none is given. ``resume`` are the
    words of the command that goes on with an interrupted run.
    """
    console = console or standard_output()
    if report.results:
        console.print(_summary(report.results, console))
    _print_wrong(report, written, console)
    if blind := [result for result in report.results if blindness(result)]:
        console.print(_text(_told(blind, written), console, "yellow"))
    if said := exports(report):
        console.print(_text(f"{said}.", console))
    if written:
        console.print(_text(f"Written: {', '.join(map(str, written))}", console))
    for complaint in report.run.get("complaints", ())[1:]:
        console.print(_text(str(complaint), console, "bold red"))
    if resume and report.run.get("interrupted"):
        _print_command("Go on with: ", resume, console)
    console.print(_text(verdict(report), console, "bold red" if _alarming(report) else "bold green"))


def _print_wrong(report: Report, written: Sequence[Path], console: Console) -> None:
    """What is not as expected, each with its next step."""
    bad = wrong(report.results)
    alike = _alike(bad)
    for result, *others in alike[:SHOWN]:
        console.print(_entry(result, len(others), console))
        step = next_step(result, allow_import=bool(report.run.get("allow_import")), bundle=bundle_of(report.run))
        if step and step.words:
            _print_command(" " * 8, step.words, console)
    if rest := sum(map(len, alike[SHOWN:])):
        console.print(_text(f"... and {rest:,} more{_in_full(written)}", console))
    if bad:
        console.print()


def _print_command(before: str, words: Sequence[str], console: Console) -> None:
    """A command on one line, never folded, so that it can be pasted."""
    console.print(Text(before + command_line(words, console.encoding)), soft_wrap=True)


def _alike(bad: Sequence[Result]) -> list[list[Result]]:
    """What is told together: checks of a target that could not finish, all for one and the same reason."""
    groups: dict[object, list[Result]] = {}
    for result in bad:
        alone = result.status != "error" or not result.message
        reason = id(result) if alone else (result.target, result.stage, result.symptom, result.message)
        groups.setdefault(reason, []).append(result)
    return list(groups.values())


def _told(blind: Sequence[Result], written: Sequence[Path]) -> str:
    """That checks passed whose tolerance could not have seen an error, and why it could not for the first."""
    first = blind[0]
    passes = "1 pass proves" if len(blind) == 1 else f"{len(blind):,} passes prove"
    more = f"; the others{_in_full(written)}" if len(blind) > 1 else ""
    return f"{passes} little, the tolerance is blind: {first.case} on {first.target} | {blindness(first)}{more}"


def _in_full(written: Sequence[Path]) -> str:
    """Where the rest can be read: in the Markdown report, else in whatever was written."""
    readable = [path for path in written if path.suffix == ".md"] or list(written)
    return f" in {readable[0]}" if readable else ""


def _alarming(report: Report) -> bool:
    undone = {result.status for result in report.results} <= {"skipped"}
    unreliable = report.run.get("complaints") or report.run.get("interrupted")
    return bool(undone or unreliable or wrong(report.results))


def _summary(results: Sequence[Result], console: Console) -> Table:
    """Targets by statuses; a column that would be empty throughout is left out."""
    present = [status for status in STATUSES if any(result.status == status for result in results)]
    table = Table(box=None, pad_edge=False, show_footer=True, footer_style="bold")
    statuses = [result.status for result in results]
    table.add_column("target", footer="all", overflow="fold", ratio=1)
    for status in present:
        table.add_column(status, footer=f"{statuses.count(status):,}", justify="right", style=_STYLES[status])
    for target in targets(results):
        here = [result.status for result in results if result.target == target]
        table.add_row(_text(target, console), *(f"{count:,}" if (count := here.count(s)) else "." for s in present))
    return table


def _entry(result: Result, others: int, console: Console) -> Table:
    """One wrong check and how many like it: a line on a wide terminal, folded beside its status on a narrow one."""
    entry = Table.grid(padding=(0, 1))
    entry.add_column(width=max(map(len, STATUSES)))
    entry.add_column(overflow="fold")
    entry.add_row(
        Text(result.status.upper(), style=_STYLES[result.status]), _text(" | ".join(_line(result, others)), console)
    )
    return entry


def _line(result: Result, others: int) -> Iterator[str]:
    yield f"{result.case} on {result.target}"
    if what := happened(result):
        yield what + (f" (blame: {result.blame})" if result.blame else "")
    comparison = telling(result)
    if result.status == "failed" and comparison is not None and not comparison.passed:
        yield numbers(comparison)
    elif why := explanation(result):
        yield shortened(why, 240)
    if result.where:
        yield result.where
    if others:
        yield f"and {others:,} more on this target, for the same reason"


def _text(text: str, console: Console, style: str = "") -> Text:
    """Literal text: nothing in it is markup, a control sequence, or beyond the terminal's encoding."""
    line = printable(one_line(text))
    return Text(line.encode(console.encoding, "backslashreplace").decode(console.encoding), style=style)
