"""The layers of a check in words and rows, and ``report.layers.csv``: every layer of every check, one row each."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.errors import one_line, shortened
from harness.report.csv_report import spreadsheet_text
from harness.report.wording import format_number
from harness.result import NO_LAYERS, Layer, Report, Result, to_json
from harness.spec.quoting import count_of

ROWS_ON_TERMINAL = 5
ROWS_IN_MARKDOWN = 10
MAX_ARGUMENTS = 60
MAX_UNCOVERED = 5
REASONS_ON_TERMINAL = 3
CHECKS_OF_A_REASON = 3

HEADERS = ("layer", "type", "local", "accumulated", "reference", "SQNR", "x rounding")

_FIELDS = (
    "path", "type", "call", "arguments", "shape", "local", "accumulated", "reference", "sqnr", "max_ulp", "times",
    "wrong", "nonfinite", "nonfinite_new", "nonfinite_node", "seconds", "provider", "value", "matched_by",
    "judged_with",
)  # fmt: skip


class LayersReport:
    """RFC 4180, as ``report.csv``. Numbers have all their digits."""

    name = "layers"
    suffix = ".layers.csv"

    def render(self, report: Report) -> str:
        """The whole report as text."""
        written = io.StringIO()
        rows = csv.writer(written)
        rows.writerow(["case", "target", "number", *_FIELDS, "nodes"])
        for result in report.results:
            for number, layer in enumerate(result.layers):
                rows.writerow(
                    [
                        spreadsheet_text(result.case),
                        spreadsheet_text(result.target),
                        number,
                        *(_value(getattr(layer, key)) for key in _FIELDS),
                        spreadsheet_text(" ".join(layer.nodes)),
                    ]
                )
        return written.getvalue()


PROVIDES = (LayersReport(),)


def _value(value: object) -> object:
    if value is None:
        return ""
    return spreadsheet_text(value) if isinstance(value, str) else to_json(value)


def worst_layers(layers: Sequence[Layer], count: int) -> list[Layer]:
    """The ``count`` layers that are furthest from what rounding explains, in order of execution.

    Where no layer is judged, as in a quantized file, those with the largest error by themselves.
    """
    compared = [layer for layer in layers if layer.local is not None]
    judged = any(layer.times is not None for layer in compared)

    def badness(layer: Layer) -> tuple[float, float]:
        return (layer.times if judged else layer.local) or 0.0, layer.accumulated or 0.0

    worst = sorted(compared, key=badness, reverse=True)[:count]
    chosen = {id(layer) for layer in worst}
    return [layer for layer in compared if id(layer) in chosen]


def layer_rows(layers: Sequence[Layer], count: int) -> tuple[list[str], list[list[str]]]:
    """Headers and a row for each of the :func:`worst_layers`, with the time where it is known.

    The provider has a column if the layers ran on more than one.
    """
    headers: list[str] = list(HEADERS)
    columns: list[Callable[[Layer], tuple[str, ...]]] = [_cells]
    if any(layer.seconds is not None for layer in layers):
        headers.append("us")
        columns.append(lambda layer: (format_number(None if layer.seconds is None else layer.seconds * 1e6),))
    if len({layer.provider for layer in layers if layer.provider}) > 1:
        headers.append("provider")
        columns.append(lambda layer: ((layer.provider or "-").replace("ExecutionProvider", ""),))
    rows = [[cell for cells in columns for cell in cells(layer)] for layer in worst_layers(layers, count)]
    return headers, rows


def node_names(layer: Layer) -> str:
    """The first nodes of a layer, and how many more there are."""
    return ", ".join(layer.nodes[:2]) + (f" and {len(layer.nodes) - 2} more" if len(layer.nodes) > 2 else "") or "-"


def _cells(layer: Layer) -> tuple[str, ...]:
    call = f" (call {layer.call + 1})" if layer.call else ""
    arguments = f"({shortened(layer.arguments, MAX_ARGUMENTS)})" if layer.arguments else ""
    return (
        f"{layer.path or '-'}{call}",
        f"{layer.type}{arguments}",
        format_number(layer.local),
        format_number(layer.accumulated),
        format_number(layer.reference),
        f"{layer.sqnr:.3g} dB" if layer.sqnr is not None else "-",
        ("WRONG " if layer.wrong else "") + _times(layer.times),
    )


def _times(times: float | None) -> str:
    """The local error in units of what rounding explains, with at most four digits before an exponent."""
    if times is None or not 100 <= times < 9999.5:
        return format_number(times)
    return f"{times:,.0f}"


def repeats_outputs(result: Result) -> bool:
    """True for a failure of a model whose only layer is itself, unless that layer was judged to be right."""
    if result.status != "failed" or not result.outputs or len(result.layers) != 1:
        return False
    (layer,) = result.layers
    return layer.path == "" and (layer.wrong or layer.times is None)


def layer_lines(result: Result, count: int = ROWS_ON_TERMINAL) -> Iterator[str]:
    """What the layers show in a sentence, the worst rows below each other, and what is not covered."""
    if result.layers_show is None or repeats_outputs(result):
        return
    yield one_line(result.layers_show)
    headers, rows = layer_rows(result.layers, count)
    if rows:
        widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
        for row in (headers, *rows):
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if line := uncovered_line(result):
        yield line


def lines_without_layers(report: Report, *, quiet: bool = False) -> Iterator[str]:
    """The checks whose layers could not be compared, by reason; with ``quiet``, their number and the first of them.

    Nothing with ``quiet`` if layers were not asked for, or none was compared: then the verdict says so.
    """
    checks: dict[str, list[str]] = {}
    for result in report.results:
        notes = [note for note in result.notes if note.startswith(NO_LAYERS)]
        if not notes and report.run.get("layers") and result.status == "passed" and result.outputs:
            notes = [] if result.compares_layers else [f"{NO_LAYERS}{result.layers_show or 'none could be compared'}"]
        for note in notes[:1]:
            checks.setdefault(note, []).append(f"{result.case} on {result.target}")
    by_number = sorted(checks.items(), key=lambda each: -len(each[1]))
    if quiet:
        if by_number and report.run.get("layers") and any(result.compares_layers for result in report.results):
            count, total = sum(map(len, checks.values())), count_of(len(report.results), "check")
            note, names = by_number[0]
            reason = note.removeprefix(NO_LAYERS)
            yield f"The layers of {count:,} of {total} were not compared. First: {names[0]}: {reason}"
        return
    for note, names in by_number[:REASONS_ON_TERMINAL]:
        more = f" and {len(names) - CHECKS_OF_A_REASON:,} more" if len(names) > CHECKS_OF_A_REASON else ""
        yield f"{note} ({count_of(len(names), 'check')}: {', '.join(names[:CHECKS_OF_A_REASON])}{more})"
    if rest := by_number[REASONS_ON_TERMINAL:]:
        yield f"... and no layers of {count_of(sum(len(names) for _, names in rest), 'check')} more"


LAYER_FIELDS = (
    "path", "type", "arguments", "shape", "local", "accumulated", "reference", "sqnr", "times", "wrong", "nodes",
    "judged_with", "seconds", "provider",
)  # fmt: skip
"""The fields of a row of :func:`layers_as_json`."""


def layers_as_json(result: Result) -> dict[str, Any] | None:
    """The layers for ``report.html``, with four digits, and the pictures by row; None without layers."""
    if result.layers_show is None:
        return None
    return {
        "show": result.layers_show,
        "uncovered": list(result.layers_uncovered),
        "rows": [[_compact(layer, name) for name in LAYER_FIELDS] for layer in result.layers],
        "pictures": {number: to_json(layer.picture) for number, layer in enumerate(result.layers) if layer.picture},
    }


def _compact(layer: Layer, name: str) -> Any:
    value = getattr(layer, name)
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.4g}")
    if name == "nodes":
        return ", ".join(layer.nodes[:4]) + (f" and {len(layer.nodes) - 4} more" if len(layer.nodes) > 4 else "")
    if name == "path" and layer.call:
        return f"{layer.path} (call {layer.call + 1})"
    return to_json(value)


def uncovered_line(result: Result) -> str | None:
    """What the table does not cover, counted; None if it covers everything."""
    names = result.layers_uncovered
    if not names:
        return None
    shown = ", ".join(names[:MAX_UNCOVERED]) + (", ..." if len(names) > MAX_UNCOVERED else "")
    return f"not covered: {len(names)} ({one_line(shown)})"
