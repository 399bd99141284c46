"""What a run prints on the terminal: progress while it runs, then a summary with what is wrong, by cause, last."""

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

from harness.compare.inconclusive import training_line, training_words
from harness.errors import one_line, printable, shortened
from harness.report.causes import Cause, causes
from harness.report.layers import layer_lines, lines_without_layers
from harness.report.shell import command_line
from harness.report.tables import targets
from harness.report.tables.latency import ModelTime, latency_lines, model_times
from harness.report.tables.node_times import node_time_lines
from harness.report.tables.precision import sample_lines
from harness.report.wording import (
    UNEXPECTED,
    blame_words,
    comparison_line,
    explanation,
    export_counts,
    format_duration,
    inconclusive_reason,
    main_comparison,
    next_step,
    stage_and_symptom,
    unexpected,
    verdict,
)
from harness.result import STATUSES, Report, Result, Status

SHOWN = 20
"""Causes of unexpected checks that are listed; the others are in the report."""

SHOWN_WITH_LAYERS = 3
"""Passed checks whose worst layers are shown."""

UNFOLDED_WIDTH, _MAX_REASON = 100_000, 240

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
    """Print the summary table, the causes of unexpected checks, the reports, and the verdict as the last line.

    Words carry every status; colour only helps to find them. ``written`` are the reports. ``console`` is standard
    output by default. ``resume`` is the command that continues an interrupted run. With ``quiet``, only what is not as
    expected and the verdict are printed.
    """
    console = console or standard_output()
    _print_top(report.results, console, quiet=quiet)
    _print_unexpected(report, written, console)
    if not quiet:
        for sentence in _sample_lines(report.results):
            console.print(_text(sentence, console))
    _print_layers(report, console, quiet=quiet)
    if inconclusive := [one for one in report.results if inconclusive_reason(one) and not training_words(one)]:
        console.print(_text(_inconclusive_line(inconclusive, written), console, "yellow"))
    if not quiet:
        _print_latency(report.results, console)
    if not quiet and (line := export_counts(report)):
        console.print(_text(f"{line}.", console))
    if written and not quiet:
        console.print(_text(f"Written: {', '.join(map(str, written))}", console))
    for complaint in report.run.get("complaints", ())[1:]:
        console.print(_text(str(complaint), console, "bold red"))
    if resume and report.run.get("interrupted"):
        _print_command("Continue with: ", resume, console)
    console.print(_text(verdict(report), console, "bold red" if _is_alarming(report) else "bold green"))


def _print_top(results: Sequence[Result], console: Console, *, quiet: bool) -> None:
    """Print the table, and before any number whether a module that passed is in training mode."""
    if line := training_line(results):
        console.print(_text(line, console, "yellow"))
    if results and not quiet:
        console.print(_summary(results, console))


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


def _print_latency(results: Sequence[Result], console: Console) -> None:
    for row in (*latency_lines(results), *node_time_lines(results)):
        console.print(_text(row, console, keep_spaces=True))
    for times in model_times(results):
        console.print(_counted_layers(times, console))


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
    """Print each cause of unexpected checks with the next step for its first check."""
    found = causes(report.results)
    for cause in found[:SHOWN]:
        console.print(_entry(cause, console))
        for line in layer_lines(cause.first):
            console.print(_text(f"{'':8}{line}", console, keep_spaces=True))
        step = next_step(cause.first, report.run)
        if step and step.words:
            _print_command(" " * 8, step.words, console)
    if rest := found[SHOWN:]:
        checks = sum(len(cause.results) for cause in rest)
        of = f" in {checks:,} checks" if checks > len(rest) else ""
        console.print(_text(f"... and {len(rest):,} more{of}{_in_file(written)}", console))
    if found:
        console.print()


def _print_layers(report: Report, console: Console, *, quiet: bool) -> None:
    """Print what the layers of the checks that passed show: rows if there are few such checks, else a line each.

    Then which checks have no layers, and why. With ``quiet``, that alone.
    """
    passed = () if quiet else [result for result in report.results if result.status == "passed"]
    results = [result for result in passed if result.layers_show]
    for result in results[:SHOWN]:
        sentence, *rows = layer_lines(result)
        console.print(_text(f"Layers of {result.case} on {result.target}: {sentence}", console))
        for row in rows if len(results) <= SHOWN_WITH_LAYERS else ():
            console.print(_text(f"  {row}", console, keep_spaces=True))
    if rest := results[SHOWN:]:
        console.print(_text(f"... and the layers of {len(rest):,} more checks", console))
    for line in lines_without_layers(report, quiet=quiet):
        console.print(_text(line, console))


def _entry(cause: Cause, console: Console) -> Table:
    """One cause: one line on a wide terminal, folded beside its status on a narrow one."""
    entry = Table.grid(padding=(0, 1))
    entry.add_column(width=max(map(len, STATUSES)))
    entry.add_column(overflow="fold")
    parts = _parts(cause.first) if len(cause.results) == 1 else _parts_of_cause(cause)
    entry.add_row(Text(cause.status.upper(), style=_STYLES[cause.status]), _text(" | ".join(parts), console))
    return entry


def _parts(result: Result) -> Iterator[str]:
    yield f"{result.case} on {result.target}"
    if failure := stage_and_symptom(result):
        yield failure + (f" (blame: {blame_words(result)})" if result.blame else "")
    comparison = main_comparison(result)
    if result.status == "failed" and comparison is not None and not comparison.passed:
        yield shortened(comparison_line(comparison), _MAX_REASON)
    elif reason := explanation(result):
        yield shortened(reason, _MAX_REASON)
    if result.where:
        yield result.where


def _parts_of_cause(cause: Cause) -> Iterator[str]:
    """The title and the extent of a cause, what tells its cases apart, and its first check."""
    yield f"{cause.title}: {cause.extent}"
    if failure := stage_and_symptom(cause.first):
        yield failure + (f" (blame: {blame_words(cause.first)})" if cause.blame else "")
    if cause.contrast:
        yield cause.contrast
    yield f"first: {cause.first.case} on {cause.first.target}"
    if not cause.line.endswith(cause.kind):
        yield shortened(cause.line, _MAX_REASON)
    if cause.first.where:
        yield cause.first.where


def _sample_lines(results: Sequence[Result]) -> Iterator[str]:
    """What came of the samples of the first checks that ran many; the others are in the report."""
    sampled = [result for result in results if result.samples is not None]
    for result in sampled[:SHOWN]:
        yield f"{result.case} on {result.target}: {'; '.join(sample_lines(result.samples or {}))}"
    if len(sampled) > SHOWN:
        yield f"... and the samples of {len(sampled) - SHOWN:,} more checks in the report"


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
_LEAST_SECONDS_LEFT = 1.0


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
        self._first = self._last_line = 0.0
        self._live: Live | None = None

    def begin(self, total: int, unit: str = "checks") -> None:
        """Start to count to ``total``; on a terminal, the live line appears."""
        self._total, self._done, self._failing, self._unit = total, 0, 0, unit
        self._last_line = self._clock()
        if self._console.is_terminal and not self._console.quiet:
            self._live = _live(self._console)
            self._live.add_task(unit, total=total, failing="")
            self._live.start()

    def advance(self, result: Result | None = None) -> None:
        """Count one more; ``result`` is its result if it is a check."""
        self._done += 1
        if self._done == 1:
            self._first = self._clock()
        self._failing += result is not None and result.status in UNEXPECTED
        if self._verbose and result is not None:
            line = f"{result.status} {result.case} on {result.target} ({sum(result.seconds.values()):.2f} s)"
            self._console.print(_text(line, self._console), style=_STYLES[result.status])
        if self._live is not None:
            self._live.update(self._live.task_ids[0], advance=1, failing=self._failing_so_far())
        elif not self._verbose and self._is_due():
            self._last_line = self._clock()
            self._console.print(self._line(), markup=False, highlight=False)

    def tell(self, line: str) -> None:
        """Print a line between the others, such as how many samples of a check are done."""
        console = self._live.console if self._live is not None else self._console
        console.print(_text(line, console))

    def end(self) -> None:
        """Stop; the live line disappears before the summary is printed."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _is_due(self) -> bool:
        tenth = self._done * _TENTHS // self._total > (self._done - 1) * _TENTHS // self._total
        return tenth or self._clock() - self._last_line >= _QUIET_SECONDS

    def _line(self) -> str:
        rest = ""
        if 1 < self._done < self._total:  # until the first check, the libraries were loaded too
            left = (self._clock() - self._first) / (self._done - 1) * (self._total - self._done)
            rest = f", about {format_duration(left)} left" if left >= _LEAST_SECONDS_LEFT else ""
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
