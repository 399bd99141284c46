"""What ``harness sensitivity`` writes: its page, JSON, the exclusion list, and a spec with its targets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from harness.compare.decisions import percent
from harness.errors import UsageError
from harness.precision import write_texts
from harness.precision.chart import Chart, Mark, Series, svg
from harness.precision.layers import Lowering
from harness.precision.measure import decibel, latency_text, megabytes
from harness.precision.sensitivity import Sensitivity, TimedChoice
from harness.precision.sensitivity.search import LoweredAlone, Target
from harness.precision.sensitivity.steps import COPIED_SAMPLES
from harness.precision.sensitivity.text import conclusion, how_to_use, sqnr
from harness.result import to_json
from harness.spec.quoting import count_of

LIST_FILE = "keep.json"
SPEC = "mixed.yaml"
REPORT = "sensitivity.json"
RESULTS = (REPORT, "sensitivity.html", "curve.svg", "front.svg", LIST_FILE, SPEC)
MODELS = ("float32", "mixed", "samples")
"""The folders that are written beside the results, if there is a list."""


def write(sensitivity: Sensitivity, folder: Path, model_file: str) -> list[Path]:
    """Write all files into ``folder`` and return their paths. ``model_file`` is what scripts call the user's model.

    Raises :class:`HarnessError` where a file cannot be written.
    """
    pictures = {name: svg(chart) for name, chart in charts(sensitivity).items()}
    files = {
        REPORT: json.dumps(as_json(sensitivity), indent=1) + "\n",
        "sensitivity.html": page(sensitivity, pictures, model_file),
        **{f"{name}.svg": picture for name, picture in pictures.items()},
    }
    if sensitivity.search.shortest is not None:
        files[LIST_FILE] = json.dumps(exclusion_list(sensitivity), indent=1) + "\n"
        files[SPEC] = spec(sensitivity)
    remove_earlier(folder, files)
    return write_texts(files, folder)


def remove_earlier(folder: Path, written: Iterable[str]) -> None:
    """Remove what an earlier report left in ``folder`` and the one that is ``written`` lacks: it is about others."""
    written = {*written}
    if not (folder / REPORT).exists():
        return
    if SPEC not in written and (folder / SPEC).exists():
        for name in MODELS:
            shutil.rmtree(folder / name, ignore_errors=True)
    for name in {*RESULTS} - written:
        (folder / name).unlink(missing_ok=True)


def require_own_folders(folder: Path) -> None:
    """Raise :class:`UsageError` if ``folder`` has one of :data:`MODELS` that no report wrote: it would be replaced."""
    if (folder / REPORT).exists() and (folder / SPEC).exists():
        return
    if others := [str(folder / name) for name in MODELS if (folder / name).exists()]:
        raise UsageError(
            f"-o {folder}: the report would replace {', '.join(others)}, which no earlier report wrote; "
            "name another folder with -o"
        )


def earlier_report(folder: Path, model: str, lowering: Lowering, target: Target) -> str | None:
    """What the report in ``folder`` is about, if that is another question; None if there is none to lose."""
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        goal = Target(**{name: None if value is None else float(value) for name, value in found["target"].items()})
        other = (found["model"], Lowering(found["to"], found["options"]), goal)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if other == (model, lowering, target):
        return None
    return f"{other[0]} in {other[1]}, {goal}"


def exclusion_list(sensitivity: Sensitivity) -> dict[str, Any]:
    """The nodes to keep, as arguments of the library's own function."""
    nodes = sensitivity.kept_nodes
    if sensitivity.lowering.word == "int8":
        # quantize_dynamic replaces each Gemm by a MatMul of another name before it looks at the list.
        operators = {n: layer.operators for layer in sensitivity.start.layers for n in layer.nodes}
        nodes += [f"{name}_MatMul" for name in nodes if "Gemm" in operators[name]]
    if sensitivity.lowering.word in {"fp16", "bf16"}:
        return {"keep_io_types": True, "op_block_list": None, "node_block_list": nodes}
    return {"nodes_to_exclude": nodes}


def spec(sensitivity: Sensitivity) -> str:
    """The spec that holds the mixed file to what was reached, on the samples beside it."""
    assert sensitivity.verified is not None
    rules: list[dict[str, Any]] = []
    measured = sensitivity.verified.measure
    if sensitivity.target.sqnr is not None:
        rules.append({"sqnr": sensitivity.target.sqnr})
    decided = sensitivity.start.decided
    if sensitivity.target.decisions is not None and measured is not None and measured.decisions is not None and decided:
        whole = len(sensitivity.start.samples) <= COPIED_SAMPLES
        share = sensitivity.target.decisions if whole else min(sensitivity.target.decisions, measured.decisions.lowest)
        rules.append({"decisions": {"by": decided.by, "axis": decided.axis, "at_least": share}})
    samples, kept, word = len(sensitivity.start.samples), len(sensitivity.kept), sensitivity.lowering.word
    case: dict[str, Any] = {
        "name": "mixed",
        "about": f"{kept} of {len(sensitivity.start.layers)} layers stay in float32, the others are lowered.",
        "file": "float32/model.onnx",
        "samples": "samples/*.npz",
        "files": {"float32": "float32/model.onnx", "mixed": "mixed/model.onnx"},
        "tolerance": rules[0] if len(rules) == 1 else rules,
    }
    body: str = yaml.safe_dump({"harness": 1, "cases": [case]}, sort_keys=False, width=100_000, allow_unicode=True)
    return (
        f"# Written by `harness sensitivity {sensitivity.model} --to {word}`, from {count_of(samples, 'sample')}.\n"
        f"# The same list as a target: {sensitivity.target_word}\n{body}"
    )


def as_json(sensitivity: Sensitivity) -> dict[str, Any]:
    """Everything that was measured. Layers of choices are named; ``layers`` has their nodes."""
    start = sensitivity.start
    shortest = sensitivity.search.shortest
    return {
        "format": 1,
        "model": sensitivity.model,
        "to": sensitivity.lowering.word,
        "options": dict(sensitivity.lowering.options),
        "target": to_json(sensitivity.target),
        "reached": sensitivity.reached,
        "samples": list(start.samples),
        "inputs": list(start.inputs),
        "drawn": start.drawn,
        "decided_by": None if start.decided is None else str(start.decided),
        "float32_bytes": start.bytes,
        "layers": [
            {**to_json(each.layer), "alone": to_json(each.outcome), "kept": each.layer in sensitivity.kept}
            for each in sensitivity.search.ranking
        ],
        "not_lowered": to_json(start.not_lowered),
        "curve": [{"kept": len(choice.kept), **to_json(choice.outcome)} for choice in sensitivity.search.curve],
        "shortest": None
        if shortest is None
        else {
            "layers": [layer.name for layer in shortest.kept],
            "outcome": to_json(sensitivity.verified),
            "each_tried_without": sensitivity.search.all_tried,
            **exclusion_list(sensitivity),
        },
        "hazards": sensitivity.hazards if isinstance(sensitivity.hazards, str) else to_json(sensitivity.hazards),
        "front": [_front_entry(each) for each in sensitivity.timed],
    }


def _front_entry(each: TimedChoice) -> dict[str, Any]:
    return {
        "choice": each.name,
        "kept": None if each.choice is None else [layer.name for layer in each.choice.kept],
        "latency": to_json(each.timing),
        "sqnr": to_json(each.sqnr),
        "bytes": each.bytes,
        "best": each.best,
    }


MOST_ROWS = 200
STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.kept td:first-child{font-weight:600}
code,pre{font-size:90%}pre{overflow-x:auto}svg{max-width:100%;height:auto}
"""


def charts(sensitivity: Sensitivity) -> dict[str, Chart]:
    """The curve of error against layers kept, and accuracy against latency, by the names of their files."""
    word = sensitivity.lowering.word
    least = sensitivity.target.sqnr
    levels = [] if least is None else [(least, f"target: {least:g} dB")]
    curve = [
        Mark(len(choice.kept), sqnr(choice.outcome), f"{len(choice.kept)} kept: {decibel(sqnr(choice.outcome))}")
        for choice in sensitivity.search.curve
        if choice.outcome.measure is not None
    ]
    series = [Series("most sensitive layers kept", curve, line=True)]
    shortest = sensitivity.search.shortest
    if shortest is not None and shortest.outcome.measure is not None:
        title = f"the list: {len(shortest.kept)} kept, {decibel(sqnr(shortest.outcome))}"
        series.append(Series("the list", [Mark(len(shortest.kept), sqnr(shortest.outcome), title)]))
    charts = {
        "curve": Chart(
            f"Error against layers kept in float32 (+{word})", "layers kept in float32", "SQNR in dB", series, levels
        )
    }
    marks = [(each, _mark(each)) for each in sensitivity.timed if each.timing.median_us is not None]
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


def page(sensitivity: Sensitivity, pictures: Mapping[str, str], model_file: str) -> str:
    """The page in HTML, which needs no other file. ``pictures`` are SVG."""
    title = f"Sensitivity of {sensitivity.model} to {sensitivity.lowering.word}"
    lines = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style><h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in conclusion(sensitivity)),
        *pictures.values(),
        "<h2>Layers</h2><p>Each layer alone lowered, all others in float32; the most sensitive one first.</p>",
        _table(
            ("layer", "operators", "SQNR alone", "decisions", "worst sample"),
            [(_layer_row(each), each.layer in sensitivity.kept) for each in sensitivity.search.ranking[:MOST_ROWS]],
        ),
        *_not_lowered(sensitivity),
        "<h2>Hazards on the way</h2>",
        *_hazards(sensitivity),
        "<h2>Choices that were timed</h2>",
        _table(
            ("choice", "latency", "SQNR", "size", ""), [(_timed_row(each), each.best) for each in sensitivity.timed]
        ),
    ]
    if sensitivity.search.shortest is not None:
        code = "\n".join(how_to_use(sensitivity, model_file))
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


def _not_lowered(sensitivity: Sensitivity) -> Iterator[str]:
    found = sensitivity.start.not_lowered
    if found:
        yield f"<h2>Not lowered by +{escape(sensitivity.lowering.word)}</h2>"
        rows = [((each.operator, each.reason, ", ".join(each.nodes)), False) for each in found]
        yield _table(("operator", "why", "nodes"), rows)


def _hazards(sensitivity: Sensitivity) -> Iterator[str]:
    if isinstance(sensitivity.hazards, str):
        yield f"<p>Not known: {escape(sensitivity.hazards)}</p>"
    elif not sensitivity.hazards:
        yield "<p>None found on these samples.</p>"
    else:
        rows = [((each.node, each.tensor, each.sentence), False) for each in sensitivity.hazards[:MOST_ROWS]]
        yield _table(("node", "value", "hazard"), rows)


def _timed_row(each: TimedChoice) -> tuple[str, ...]:
    return each.name, latency_text(each.timing), decibel(each.sqnr), megabytes(each.bytes), "best" if each.best else ""
