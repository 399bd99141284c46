"""What the person at the terminal sees: progress while it runs, then a summary with what is wrong last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.advice import bundle_of, next_step
from harness.report.console import standard_output
from harness.report.matrix import targets
from harness.report.progress import Progress
from harness.report.shell import command_line
from harness.report.wording import (
    blindness,
    explanation,
    exports,
    happened,
    numbers,
    one_line,
    printable,
    shortened,
    telling,
    verdict,
    wrong,
)
from harness.result import STATUSES, Report, Result, Status

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
