"""What a run prints on the terminal: progress while it runs, then a summary with the unexpected checks last."""

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

from harness.errors import one_line, printable, shortened
from harness.report.layers import layer_lines
from harness.report.shell import command_line
from harness.report.tables import targets
from harness.report.tables.counted import ModelTime, model_times
from harness.report.tables.node_times import node_time_lines
from harness.report.tables.terminal_latency import latency_lines
from harness.report.wording import (
    UNEXPECTED,
    bundle_folder,
    comparison_line,
    explanation,
    export_counts,
    inconclusive_reason,
    main_comparison,
    next_step,
    stage_and_symptom,
    unexpected,
    verdict,
)
from harness.result import STATUSES, Report, Result, Status

__all__ = ["SHOWN", "Progress", "show", "standard_output"]

SHOWN = 20
"""Unexpected checks that are listed; the others are in the report."""

UNFOLDED_WIDTH = 100_000
_MAX_REASON = 240

_STYLES: dict[Status, str] = {
    "passed": "green",
    "failed": "bold red",
    "error": "bold red",
    "known": "yellow",
    "fixed": "bold magenta",
    "skipped": "dim",
}


def standard_output() -> Console:
    """The console for a summary.

    In a pipe or a file each row is one line, for grep and awk, unless COLUMNS sets a width. A terminal folds rows.
    """
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if folded else UNFOLDED_WIDTH)


def show(
    report: Report,
    written: Sequence[Path] = (),
    console: Console | None = None,
    *,
    resume: Sequence[str] = (),
    quiet: bool = False,
) -> None:
    """Print the summary table, the unexpected checks, the paths of the reports, and the verdict as the last line.

    Words carry every status; colour, if the terminal has it, only helps to find them. ``written`` are the paths of the
    reports. ``console`` is standard output by default. ``resume`` are the words of the command that continues an
    interrupted run. With ``quiet``, only what is not as expected and the verdict are printed.
    """
    console = console or standard_output()
    if report.results and not quiet:
        console.print(_summary(report.results, console))
    _print_unexpected(report, written, console)
    _print_layers(report, console)
    if inconclusive := [result for result in report.results if inconclusive_reason(result)]:
        console.print(_text(_inconclusive_line(inconclusive, written), console, "yellow"))
    if not quiet:
        for row in (*latency_lines(report.results), *node_time_lines(report.results)):
            console.print(_text(row, console, keep_spaces=True))
        for times in model_times(report.results):
            console.print(_counted_layers(times, console))
    if not quiet and (line := export_counts(report)):
        console.print(_text(f"{line}.", console))
    if written and not quiet:
        console.print(_text(f"Written: {', '.join(map(str, written))}", console))
    for complaint in report.run.get("complaints", ())[1:]:
        console.print(_text(str(complaint), console, "bold red"))
    if resume and report.run.get("interrupted"):
        _print_command("Continue with: ", resume, console)
    console.print(_text(verdict(report), console, "bold red" if _is_alarming(report) else "bold green"))


def _summary(results: Sequence[Result], console: Console) -> Table:
    """Targets by statuses, without the columns that would be empty."""
    present = [status for status in STATUSES if any(result.status == status for result in results)]
    table = Table(box=None, pad_edge=False, show_footer=True, footer_style="bold")
    statuses = [result.status for result in results]
    table.add_column("target", footer="all", overflow="fold", ratio=1)
    for status in present:
        table.add_column(status, footer=f"{statuses.count(status):,}", justify="right", style=_STYLES[status])
    for target in targets(results):
        of_target = [result.status for result in results if result.target == target]
        cells = (f"{count:,}" if (count := of_target.count(status)) else "." for status in present)
        table.add_row(_text(target, console), *cells)
    return table


def _counted_layers(times: ModelTime, console: Console) -> Table:
    """The layers of a model by count x latency, beside the time of the model."""
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="")
    table.add_column(f"{times.spec}: count x latency in us", overflow="fold")
    table.add_column("count", justify="right")
    for target in times.targets:
        table.add_column(_text(target, console), justify="right", overflow="fold")
    for name, count, cells in times.rows():
        table.add_row(_text(name, console), count, *cells)
    return table


def _print_unexpected(report: Report, written: Sequence[Path], console: Console) -> None:
    """Print each unexpected check with its next step."""
    results = unexpected(report.results)
    groups = _same_error(results)
    for result, *others in groups[:SHOWN]:
        console.print(_entry(result, len(others), console))
        for line in layer_lines(result):
            console.print(_text(f"{'':8}{line}", console, keep_spaces=True))
        step = next_step(result, allow_import=bool(report.run.get("allow_import")), bundle=bundle_folder(report.run))
        if step and step.words:
            _print_command(" " * 8, step.words, console)
    if rest := sum(map(len, groups[SHOWN:])):
        console.print(_text(f"... and {rest:,} more{_in_file(written)}", console))
    if results:
        console.print()


def _print_layers(report: Report, console: Console) -> None:
    """Print what the layers of the other checks show."""
    results = [result for result in report.results if result.layers_show and result.status == "passed"]
    for result in results[:SHOWN]:
        console.print(_text(f"Layers of {result.case} on {result.target}:", console))
        for line in layer_lines(result):
            console.print(_text(f"  {line}", console, keep_spaces=True))
    if rest := results[SHOWN:]:
        console.print(_text(f"... and the layers of {len(rest):,} more checks", console))


def _same_error(results: Sequence[Result]) -> list[list[Result]]:
    """``results`` in groups: errors on one target with the same message are one group, every other check is its own."""
    groups: dict[object, list[Result]] = {}
    for result in results:
        alone = result.status != "error" or not result.message
        key = id(result) if alone else (result.target, result.stage, result.symptom, result.message)
        groups.setdefault(key, []).append(result)
    return list(groups.values())


def _entry(result: Result, others: int, console: Console) -> Table:
    """One unexpected check: one line on a wide terminal, folded beside its status on a narrow one."""
    entry = Table.grid(padding=(0, 1))
    entry.add_column(width=max(map(len, STATUSES)))
    entry.add_column(overflow="fold")
    entry.add_row(
        Text(result.status.upper(), style=_STYLES[result.status]), _text(" | ".join(_parts(result, others)), console)
    )
    return entry


def _parts(result: Result, others: int) -> Iterator[str]:
    yield f"{result.case} on {result.target}"
    if failure := stage_and_symptom(result):
        yield failure + (f" (blame: {result.blame})" if result.blame else "")
    comparison = main_comparison(result)
    if result.status == "failed" and comparison is not None and not comparison.passed:
        yield shortened(comparison_line(comparison), _MAX_REASON)
    elif reason := explanation(result):
        yield shortened(reason, _MAX_REASON)
    if result.where:
        yield result.where
    if others:
        yield f"and {others:,} more on this target, for the same reason"


def _inconclusive_line(results: Sequence[Result], written: Sequence[Path]) -> str:
    """How many passes are inconclusive, and why the first one is."""
    first = results[0]
    number = "1 check passed but is" if len(results) == 1 else f"{len(results):,} checks passed but are"
    advice = "; --strict fails such checks"
    more = f"; the others are{_in_file(written)}" if len(results) > 1 and written else ""
    return f"{number} inconclusive. First: {first.case} on {first.target}: {inconclusive_reason(first)}{more}{advice}"


def _in_file(written: Sequence[Path]) -> str:
    """Where the rest is: in the Markdown report, or in the first file that was written."""
    readable = [path for path in written if path.suffix == ".md"] or list(written)
    return f" in {readable[0]}" if readable else ""


def _print_command(before: str, words: Sequence[str], console: Console) -> None:
    """Print a command on one line, never folded, so that it can be pasted."""
    console.print(Text(before + command_line(words, console.encoding)), soft_wrap=True)


def _is_alarming(report: Report) -> bool:
    nothing_done = {result.status for result in report.results} <= {"skipped"}
    unreliable = report.run.get("complaints") or report.run.get("interrupted")
    return bool(nothing_done or unreliable or unexpected(report.results))


def _text(text: str, console: Console, style: str = "", *, keep_spaces: bool = False) -> Text:
    """Literal text, without markup, control sequences, or characters that the terminal's encoding lacks."""
    line = printable(text if keep_spaces else one_line(text))
    return Text(line.encode(console.encoding, "backslashreplace").decode(console.encoding), style=style)


# Progress

_TENTHS = 10
_QUIET_SECONDS = 30.0


class Progress:
    """Shows the progress of a run: a live line on a terminal, an occasional plain line in a log.

    The caller marks known failures as such, so that they do not count as failing. In a log, a line appears with every
    tenth of the checks, and after half a minute without one. With ``verbose``, each check has a line; with ``quiet``,
    nothing is shown. ``console`` is standard error by default, so that standard output holds the results alone.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self._console = console or Console(stderr=True, quiet=quiet)
        self._clock, self._verbose = clock, verbose
        self._total = self._done = self._failing = 0
        self._unit = "checks"
        self._began = self._last_line = 0.0
        self._live: Live | None = None

    def begin(self, total: int, unit: str = "checks") -> None:
        """Start to count to ``total``; on a terminal, the live line appears."""
        self._total, self._done, self._failing, self._unit = total, 0, 0, unit
        self._began = self._last_line = self._clock()
        if self._console.is_terminal and not self._console.quiet:
            self._live = _live(self._console)
            self._live.add_task(unit, total=total, failing="")
            self._live.start()

    def advance(self, result: Result | None = None) -> None:
        """Count one more; ``result`` is its result if it is a check."""
        self._done += 1
        self._failing += result is not None and result.status in UNEXPECTED
        if self._verbose and result is not None:
            line = f"{result.status} {result.case} on {result.target} ({sum(result.seconds.values()):.2f} s)"
            self._console.print(_text(line, self._console), style=_STYLES[result.status])
        if self._live is not None:
            self._live.update(self._live.task_ids[0], advance=1, failing=self._failing_so_far())
        elif not self._verbose and self._is_due():
            self._last_line = self._clock()
            self._console.print(self._line(), markup=False, highlight=False)

    def end(self) -> None:
        """Stop; the live line disappears before the summary is printed."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _is_due(self) -> bool:
        tenth = self._done * _TENTHS // self._total > (self._done - 1) * _TENTHS // self._total
        return tenth or self._clock() - self._last_line >= _QUIET_SECONDS

    def _line(self) -> str:
        left = (self._clock() - self._began) / self._done * (self._total - self._done)
        rest = f", about {_duration(left)} left" if self._done < self._total else ""
        return f"{self._done:,} of {self._total:,} {self._unit}{self._failing_so_far()}{rest}"

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


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
