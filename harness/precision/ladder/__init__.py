"""``harness ladder``: carry out the rungs in a separate process, and write the table, the picture and the JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from harness.engine.processes.temporary import temporary_folder
from harness.errors import Mistakes, UsageError
from harness.explain.process import ProcessEnd, SeparateProcess
from harness.precision import (
    START_SECONDS,
    STEP_FACTOR,
    STEP_SECONDS,
    Listener,
    Problems,
    make_folder,
    torch_is_here,
    write_texts,
)
from harness.precision.chart import Chart, Mark, Series, svg
from harness.precision.ladder import rungs
from harness.precision.ladder.rungs import LadderStart, Rung, RungOutcome
from harness.precision.measure import Timing, decibel, latency_text, megabytes, share_text
from harness.precision.model import ModelQuestion
from harness.report.wording import format_duration
from harness.result import to_json
from harness.spec.quoting import count_of

SLOWEST_STEP = 100.0
"""A rung may take so many times as long as the float32 model: emulated precisions are slow."""


NOT_TIMED = Timing(None)


@dataclass(frozen=True, slots=True)
class Row:
    """A rung with what it costs."""

    rung: Rung
    outcome: RungOutcome
    timing: Timing = NOT_TIMED

    @property
    def sqnr(self) -> float | None:
        """The lowest SQNR of any sample; None if nothing was measured."""
        return None if self.outcome.measure is None else self.outcome.measure.sqnr


@dataclass(frozen=True, slots=True)
class Ladder:
    """All rungs, in the order of precisions. ``timing_problem`` says why there is no latency, None if there is one."""

    model: str
    start: LadderStart
    rows: tuple[Row, ...]
    timing_problem: str | None = None


def measure_rungs(question: ModelQuestion, words: Sequence[str], listener: Listener) -> Ladder:
    """Measure all rungs, or those that ``words`` name. Raises :class:`UsageError` if nothing can be measured."""
    for word in words:
        rungs.check_rung(word)
    with (
        temporary_folder() as scratch,
        closing(SeparateProcess(scratch, torch=torch_is_here(), exporting=True)) as process,
    ):
        start = process.call(rungs.start_ladder, question, tuple(words), seconds=START_SECONDS)
        if isinstance(start, ProcessEnd):
            raise UsageError(f"{question.model}: {start.description} while it was prepared; make sure that it loads")
        if isinstance(start, Problems):
            raise Mistakes(start.problems)
        seconds = max(STEP_SECONDS, STEP_FACTOR * SLOWEST_STEP * start.seconds)
        listener.tell(
            f"{count_of(len(start.rungs), 'rung')} x {count_of(len(start.samples), 'sample')}: about "
            f"{format_duration(len(start.rungs) * (start.seconds + 1))}"
        )
        listener.begin(len(start.rungs), "rungs")
        rows = []
        try:
            for rung in start.rungs:
                outcome = process.call(rungs.try_rung, question, rung, start.seconds, seconds=seconds)
                if isinstance(outcome, ProcessEnd):
                    outcome = RungOutcome("failed", message=outcome.description)
                rows.append(Row(rung, outcome))
                listener.advance()
        finally:
            listener.end()
        return _timed(question, start, rows, process, seconds)


def _timed(
    question: ModelQuestion, start: LadderStart, rows: list[Row], process: SeparateProcess, seconds: float
) -> Ladder:
    measured = [row for row in rows if row.outcome.status == "measured"]
    if not measured:
        reasons = "; ".join(f"{row.rung.word}: {row.outcome.message}" for row in rows)
        raise UsageError(f"{question.model}: no rung can be measured: {reasons}")
    timings = process.call(rungs.time_rungs, question, [row.rung for row in measured], seconds=seconds)
    if isinstance(timings, ProcessEnd):
        return Ladder(question.model, start, tuple(rows), timings.description)
    by_word = {row.rung.word: timing for row, timing in zip(measured, timings, strict=True)}
    timed = tuple(Row(row.rung, row.outcome, by_word.get(row.rung.word, row.timing)) for row in rows)
    return Ladder(question.model, start, timed)


# What is written


def write(ladder: Ladder, folder: Path) -> list[Path]:
    """Write the JSON and the picture into ``folder``. Raises :class:`HarnessError` where that is not possible."""
    make_folder(folder)
    files = {"ladder.json": json.dumps(as_json(ladder), indent=1) + "\n", "ladder.svg": svg(chart(ladder))}
    return write_texts(files, folder)


def as_json(ladder: Ladder) -> dict[str, Any]:
    """Everything that was measured."""
    start = ladder.start
    return {
        "format": 1,
        "model": ladder.model,
        "samples": list(start.samples),
        "inputs": list(start.inputs),
        "drawn": start.drawn,
        "decided_by": None if start.decided is None else str(start.decided),
        "reference": start.reference,
        "rungs": [{**to_json(row.rung), **to_json(row.outcome), "latency": to_json(row.timing)} for row in ladder.rows],
    }


def lines(ladder: Ladder) -> Iterator[str]:
    """The terminal's text."""
    start = ladder.start
    drawn = " drawn" if start.drawn else ""
    yield f"{ladder.model}, {len(start.samples)}{drawn} samples. Errors are against {start.reference}."
    if start.drawn:
        yield "The samples are random; give real ones with --inputs, since ranges and decisions depend on them."
    if start.decided is not None:
        yield f"Decisions: {start.decided}."
    if ladder.timing_problem is not None:
        yield f"No latency: {ladder.timing_problem}."
    yield ""
    heads = ("precision", "target", "computes in", "SQNR", "RMS", "decisions", "latency", "size")
    rows = [_row(row) for row in ladder.rows if row.outcome.measure is not None]
    yield from tabulate(rows, heads, "simple", disable_numparse=True).splitlines()
    others = [row for row in ladder.rows if row.outcome.measure is None]
    if others:
        yield ""
    for row in others:
        yield f"{row.rung.precision} on {row.rung.word}: {row.outcome.status}: {row.outcome.message}"


def _row(row: Row) -> tuple[str, ...]:
    measured = row.outcome.measure
    assert measured is not None
    latency = latency_text(row.timing) if row.timing.median_us is not None else ""
    return (
        row.rung.precision,
        row.rung.word,
        row.outcome.computes_in,
        decibel(measured.sqnr),
        f"{measured.rms:.3g}",
        share_text(measured),
        latency,
        megabytes(row.outcome.bytes),
    )


def chart(ladder: Ladder) -> Chart:
    """Accuracy against latency, one series for each precision."""
    series: dict[str, list[Mark]] = {}
    for row in ladder.rows:
        ratio = row.sqnr
        if ratio is None or row.timing.median_us is None:
            continue
        milliseconds = row.timing.median_us / 1e3
        title = f"{row.rung.precision} on {row.rung.word}: {milliseconds:.4g} ms, {decibel(ratio)}"
        runtime = row.rung.word.rpartition("/")[2]
        series.setdefault(row.rung.precision, []).append(Mark(milliseconds, ratio, title, runtime))
    finite = [mark.y for marks in series.values() for mark in marks if math.isfinite(mark.y)]
    levels = [(0.0, "noise as strong as the signal")] if finite and min(finite) < 0 else []
    name = Path(ladder.model).name
    drawn = [Series(precision, marks) for precision, marks in series.items()]
    return Chart(f"Precisions of {name}", "latency in ms", "SQNR in dB", drawn, levels, log_x=True)
