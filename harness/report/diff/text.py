"""Print a diff on the terminal: what became worse first, the verdict as the last line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import one_line, printable, shortened
from harness.report.diff import PARITY_LABELS, Diff, ParityChange, verdict_of
from harness.report.diff.latency import LATENCY_ORDER, LatencyChange
from harness.report.diff.start import UNITS, NodeChange, StartChange
from harness.report.terminal import UNFOLDED_WIDTH, standard_output

SHOWN = 30
"""Rows of each table on a terminal; a pipe and ``--json`` get all of them."""
GATED_NAMES = {"load": "Load", "first": "First run", "memory": "Peak memory"}
MEMORY_WORDS = {"slower": "larger", "faster": "smaller"}
MAX_DETAIL = 200
"""Characters of the message of a check; the reports have all of it."""


def show_diff(diff: Diff, console: Console | None = None) -> None:
    """Print what changed, and how many figures did not."""
    console = console or standard_output()
    for name, (before, after) in {**diff.hardware, **diff.versions}.items():
        console.print(_text(f"{name}: {before} -> {after}"))
    if diff.parity:
        order = list(PARITY_LABELS)
        parity = sorted(diff.parity, key=lambda change: (not change.worse, order.index(change.kind)))
        _print(_parity(parity, _shown(console)), console)
    if changed := [change for change in diff.latency or () if change.verdict != "no change"]:
        latency = sorted(changed, key=lambda change: LATENCY_ORDER.index(change.verdict))
        _print(_latency(latency, _shown(console)), console)
    if started := [change for change in diff.start if _is_shown(change, diff.gate)]:
        _print(_start(started, diff.gate, _shown(console)), console)
    if diff.nodes:
        _print(_nodes(diff.nodes, _shown(console)), console)
    for line in _counts(diff):
        console.print(_text(line))
    console.print(_text(verdict_of(diff), "bold red" if diff.regressed else "bold green"))


def _counts(diff: Diff) -> Iterator[str]:
    if not diff.parity:
        yield "Parity: no change."
    if diff.latency is None:
        yield "Latency: not compared, because the hardware differs; use --across-hardware to compare it anyway."
        return
    counts = Counter[str](change.verdict for change in diff.latency)
    line = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in LATENCY_ORDER if counts[verdict])
    yield f"Latency: {line or 'no figure in both reports'} (changes below {100 * diff.min_effect:g} % are ignored)."
    for figure in diff.gate:
        counts = Counter[str](change.verdict for change in diff.start if change.figure == figure)
        if counts:
            words = MEMORY_WORDS if figure == "memory" else {}
            found = [verdict for verdict in LATENCY_ORDER if counts[verdict]]
            line = ", ".join(f"{counts[verdict]:,} {words.get(verdict, verdict)}" for verdict in found)
            yield f"{GATED_NAMES[figure]}: {line}."


def _is_shown(change: StartChange, gate: Sequence[str]) -> bool:
    """A figure that changed, and a gated one of which nobody knows whether it did."""
    return change.verdict in {"slower", "faster"} or (change.verdict == "inconclusive" and change.figure in gate)


def _shown(console: Console) -> int | None:
    """The number of rows; None, for all of them, in a pipe, whose reader may look for any of them."""
    return None if _is_pipe(console) else SHOWN


def _is_pipe(console: Console) -> bool:
    return console.width >= UNFOLDED_WIDTH


def _print(table: Table, console: Console) -> None:
    """Print the table; in a pipe without the blanks that fill the last column."""
    if not _is_pipe(console):
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.print(Text(line.rstrip()), soft_wrap=True)


def _parity(changes: Sequence[ParityChange], shown: int | None) -> Table:
    table = _table("parity", "case", "target", "before", "after")
    for change in changes[:shown]:
        style = "bold red" if change.worse else "green" if change.kind == "mended" else ""
        after = ": ".join(part for part in (change.after, shortened(change.detail, MAX_DETAIL)) if part)
        cells = (change.case, change.target, change.before, after)
        table.add_row(Text(PARITY_LABELS[change.kind], style=style), *map(_text, cells))
    return _with_rest(table, len(changes), shown)


def _latency(changes: Sequence[LatencyChange], shown: int | None) -> Table:
    table = _table("latency", "case", "target", "at", "before us", "after us", "ratio", "why")
    for change in changes[:shown]:
        style = "bold red" if change.verdict == "slower" else "green" if change.verdict == "faster" else ""
        cells = (change.case, change.target, change.shapes, f"{change.before_us:.4g}", f"{change.after_us:.4g}")
        table.add_row(Text(change.verdict, style=style), *map(_text, (*cells, _ratio(change), _why(change))))
    return _with_rest(table, len(changes), shown)


def _start(changes: Sequence[StartChange], gate: Sequence[str], shown: int | None) -> Table:
    table = _table("start", "case", "target", "before", "after", "ratio", "")
    for change in changes[:shown]:
        worse, unit = change.verdict == "slower", UNITS[change.figure]
        gated = "gated" if change.figure in gate else f"not gated; --gate {change.figure} gates it"
        cells = (change.case, change.target, f"{change.before:.4g} {unit}", f"{change.after:.4g} {unit}")
        style = "bold red" if worse and change.figure in gate else ""
        table.add_row(
            Text(change.figure, style=style), *map(_text, (*cells, _ratio(change), gated if worse else change.why))
        )
    return _with_rest(table, len(changes), shown)


def _nodes(changes: Sequence[NodeChange], shown: int | None) -> Table:
    table = _table("node", "operator", "layer", "case", "target", "before us", "after us", "difference us")
    for change in changes[:shown]:
        times = f"{change.before_us:.4g}", f"{change.after_us:.4g}", f"{change.difference_us:+.4g}"
        cells = (change.node, change.operator, change.module, change.case, change.target, *times)
        table.add_row(*map(_text, cells))
    return _with_rest(table, len(changes), shown)


def _ratio(change: LatencyChange | StartChange) -> str:
    interval = "" if change.low is None or change.high is None else f" [{change.low:.3f}, {change.high:.3f}]"
    return f"{change.ratio:.3f}{interval}"


def _why(change: LatencyChange) -> str:
    more = "" if change.more_rounds is None else f"{change.more_rounds:,} more rounds would settle it"
    return "; ".join(part for part in (change.why, more) if part)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _with_rest(table: Table, count: int, shown: int | None) -> Table:
    if shown is not None and count > shown:
        table.add_row("...", f"and {count - shown:,} more; --json prints all of them")
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(printable(one_line(text)), style=style)
