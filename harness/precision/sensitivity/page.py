"""The pictures and the page of ``harness sensitivity``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from harness.compare.decisions import percent
from harness.precision.chart import Chart, Mark, Series
from harness.precision.measure import decibel, latency_text, megabytes
from harness.precision.sensitivity import Sensitivity, TimedChoice
from harness.precision.sensitivity.search import LoweredAlone
from harness.precision.sensitivity.text import conclusion, how_to_use, sqnr

MOST_ROWS = 200
STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.kept td:first-child{font-weight:600}
code,pre{font-size:90%}pre{overflow-x:auto}svg{max-width:100%;height:auto}
"""


def charts(found: Sensitivity) -> dict[str, Chart]:
    """The curve of error against layers kept, and accuracy against latency, by the names of their files."""
    word = found.lowering.word
    levels = [] if found.target.sqnr is None else [(found.target.sqnr, f"target: {found.target.sqnr:g} dB")]
    curve = [
        Mark(len(choice.kept), sqnr(choice.outcome), f"{len(choice.kept)} kept: {decibel(sqnr(choice.outcome))}")
        for choice in found.found.curve
        if choice.outcome.measure is not None
    ]
    series = [Series("most sensitive layers kept", curve, line=True)]
    shortest = found.found.shortest
    if shortest is not None and shortest.outcome.measure is not None:
        title = f"the list: {len(shortest.kept)} kept, {decibel(sqnr(shortest.outcome))}"
        series.append(Series("the shortest list", [Mark(len(shortest.kept), sqnr(shortest.outcome), title)]))
    charts = {
        "curve": Chart(
            f"Error against layers kept in float32 (+{word})", "layers kept in float32", "SQNR in dB", series, levels
        )
    }
    marks = [(each, _mark(each)) for each in found.timed if each.timing.median_us is not None]
    if marks:
        best = sorted((mark for each, mark in marks if each.best), key=lambda mark: mark.x)
        charts["front"] = Chart(
            f"Accuracy against latency on ort-cpu, one thread (+{word})",
            "latency in ms",
            "SQNR in dB",
            [
                Series("best choices", best, line=True, steps=True),
                Series("others", [mark for each, mark in marks if not each.best]),
            ],
            levels,
            from_zero=True,
        )
    return charts


def _mark(each: TimedChoice) -> Mark:
    assert each.timing.median_us is not None
    milliseconds = each.timing.median_us / 1e3
    return Mark(milliseconds, each.sqnr, f"{each.name}: {milliseconds:.4g} ms, {decibel(each.sqnr)}", each.name)


def page(found: Sensitivity, pictures: Mapping[str, str], model_file: str) -> str:
    """The page in HTML, which needs no other file. ``pictures`` are SVG."""
    title = f"Sensitivity of {found.model} to {found.lowering.word}"
    lines = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style><h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in conclusion(found)),
        *pictures.values(),
        "<h2>Layers</h2><p>Each layer alone lowered, all others in float32; the most sensitive one first.</p>",
        _table(
            ("layer", "operators", "SQNR alone", "decisions", "worst sample"),
            [(_layer_row(each), each.layer in found.kept) for each in found.found.ranking[:MOST_ROWS]],
        ),
        "<h2>Hazards on the way</h2>",
        *_hazards(found),
        "<h2>Choices that were timed</h2>",
        _table(("choice", "latency", "SQNR", "size", ""), [(_timed_row(each), each.best) for each in found.timed]),
    ]
    if found.found.shortest is not None:
        code = "\n".join(how_to_use(found, model_file))
        lines.append(f"<h2>Use it</h2><pre>{escape(code)}</pre>")
    return "\n".join([*lines, "</html>"]) + "\n"


def _table(heads: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join(
        f"<tr{' class=kept' if kept else ''}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n"
        for row, kept in rows
    )
    return f"<table><tr>{head}</tr>\n{body}</table>"


def _layer_row(each: LoweredAlone) -> tuple[str, ...]:
    measured = each.outcome.measure
    operators = ", ".join(each.layer.operators)
    if measured is None:
        return each.layer.name, operators, each.outcome.failed or "", "", ""
    decided = "" if measured.decisions is None else percent(measured.decisions.share)
    return each.layer.name, operators, decibel(measured.sqnr), decided, measured.sample


def _hazards(found: Sensitivity) -> Iterator[str]:
    if isinstance(found.hazards, str):
        yield f"<p>Not known: {escape(found.hazards)}</p>"
    elif not found.hazards:
        yield "<p>None found on these samples.</p>"
    else:
        rows = [((each.node, each.tensor, each.sentence), False) for each in found.hazards[:MOST_ROWS]]
        yield _table(("node", "value", "hazard"), rows)


def _timed_row(each: TimedChoice) -> tuple[str, ...]:
    return each.name, latency_text(each.timing), decibel(each.sqnr), megabytes(each.bytes), "best" if each.best else ""
