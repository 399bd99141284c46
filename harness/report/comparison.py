"""What ``harness compare`` prints: whether SUBJECT is still REFERENCE, by how much, whose fault, and what next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath

from harness.compare.inconclusive import EXPORTED_IN_TRAINING, NO_ELEMENTS, NO_FINITE_VALUE, training_words
from harness.errors import one_line, shortened
from harness.report.layers import layer_lines
from harness.report.tables.precision import sample_lines
from harness.report.wording import (
    blame_words,
    comparisons,
    explanation,
    format_decisions,
    format_index,
    format_microseconds,
    format_number,
    format_pair,
    inconclusive_reason,
    main_comparison,
)
from harness.result import OutputComparison, Report, Result
from harness.spec.targets import split_target

INDENT = 11
MAX_EVIDENCE = 6
MAX_LENGTH = 400
MAX_NAME = 40
MAX_PLACES = 3


def comparison_lines(
    report: Report,
    subject: str,
    reference: str,
    inputs: Sequence[str],
    advice: Sequence[str],
    notes: Sequence[str] = (),
) -> Iterator[str]:
    """The screen, line by line. ``inputs`` describe the inputs in words, ``advice`` are the commands to go on with.

    ``notes`` are remarks on the whole comparison.
    """
    for result in report.results:
        yield f"{_headline(result, subject, reference)} (on {_on(result.target)})"
        if reason := inconclusive_reason(result):
            yield from _entry("caution", [f"the pass is inconclusive: {reason}"])
        yield from _entry("inputs", inputs)
        if result.status in {"error", "skipped"}:
            yield from _entry(f"{result.stage}", [shortened(explanation(result), MAX_LENGTH)])
        else:
            yield from _entry("outputs", _outputs(result))
        if result.samples is not None:
            yield from _entry("samples", sample_lines(result.samples))
        if result.stage != "build" and (result.blame is not None or result.evidence):
            yield from _entry("blame", [blame_words(result) or "nobody: the evidence does not decide"])
        yield from _entry(
            "evidence", [shortened(_without_worst(line), MAX_LENGTH) for line in result.evidence[:MAX_EVIDENCE]]
        )
        yield from _entry("layers", list(layer_lines(result)))
        yield from _entry("latency", _latency(result))
        new = [note for note in result.notes if note not in (result.inconclusive or "")]
        yield from _entry("note", [shortened(one_line(note), MAX_LENGTH) for note in new])
    yield from _entry("note", notes)
    yield from _entry("next", advice)


def _on(target: str) -> str:
    """The transforms and the runtime of a target of SUBJECT, as ``--targets`` has them."""
    export, runtime = split_target(target)
    _, plus, transforms = export.partition("+")
    return f"+{transforms}/{runtime}" if plus else runtime


def nothing_compared(report: Report) -> bool:
    """True if no runtime came to an answer, or to any value: the reference does not answer these inputs."""
    return all(
        result.stage == "build" or _is_empty(result) or has_no_number(result) or is_random(result)
        for result in report.results
    )


def anything_compared(report: Report) -> bool:
    """True if some runtime's values were compared with the reference's; else each headline is NOT COMPARED."""
    if nothing_compared(report):
        return False
    return any(result.status not in {"error", "skipped"} for result in report.results)


def _is_empty(result: Result) -> bool:
    """True for a pass on outputs that all have no elements."""
    return result.status == "passed" and bool(result.outputs) and all(0 in each.shape for each in result.outputs)


def is_random(result: Result) -> bool:
    """True if no value was compared because the reference answers differently at each call."""
    return (
        result.status == "failed" and not result.outputs and (result.message or "").startswith("nothing was compared")
    )


def has_no_number(result: Result) -> bool:
    """True for a pass on outputs without a single finite value: NaN agrees with NaN, whatever was computed."""
    reasons = {each.inconclusive for each in result.outputs}
    return result.status == "passed" and NO_FINITE_VALUE in reasons and reasons <= {NO_FINITE_VALUE, NO_ELEMENTS}


def _headline(result: Result, *names: str) -> str:
    subject, reference = (name if len(name) <= MAX_NAME else PurePath(name).name for name in names)
    if result.status == "passed" and not _is_empty(result):
        if reason := inconclusive_reason(result):
            in_training = f"{subject} {EXPORTED_IN_TRAINING}" if EXPORTED_IN_TRAINING in reason else None
            but = training_words(result) or in_training or "a wrong file would too"
            return f"INCONCLUSIVE: {subject} and {reference} agree, but {but}"
        return f"SAME: {subject} is still {reference}"
    words = training_words(result)
    mode = "" if words is None else f": {words}"
    if result.status == "failed" and not is_random(result):
        return f"DIFFERENT: {subject} is not {reference}{mode}"
    return f"NOT COMPARED: {subject} with {reference}{mode}"


def _entry(name: str, lines: Iterable[str]) -> Iterator[str]:
    for at, line in enumerate(lines):
        yield f"  {name if at == 0 else '':<{INDENT}}{line}"


def _without_worst(line: str) -> str:
    """A line of evidence without the worst value of a comparison, which the outputs have shown."""
    return one_line(line).partition("; worst at ")[0]


def _outputs(result: Result) -> list[str]:
    lines = list(_output_lines(result))
    shown = main_comparison(result)
    if result.status == "failed" and (shown is None or shown.passed):
        return [shortened(explanation(result), MAX_LENGTH), *lines]
    if result.message and not any(output.problem and output.problem in result.message for output in result.outputs):
        return [shortened(one_line(result.message), MAX_LENGTH), *lines]
    return lines


def _output_lines(result: Result) -> Iterator[str]:
    """A line for each output: its first failure, or its largest difference, and at which other inputs it is so."""
    groups: dict[tuple[str, bool], list[tuple[str, OutputComparison]]] = {}
    for label, output in comparisons(result):
        name = label.removesuffix(f" at {output.at}") if output.at else label
        groups.setdefault((name, output.passed), []).append((label, output))
    for (_, passed), group in groups.items():
        label, shown = max(group, key=lambda each: each[1].max_abs or 0.0) if passed else group[0]
        others = [output.at or "the first inputs" for _, output in group if output is not shown]
        yield _output(label, shown) + _also(others, "no larger" if passed else "also")


def _also(places: Sequence[str], how: str) -> str:
    if not places:
        return ""
    shown, more = places[:MAX_PLACES], len(places) - MAX_PLACES
    rest = f" and {more} other set{'s' if more > 1 else ''} of inputs" if more > 0 else ""
    return f"; {how} at {', '.join(map(one_line, shown))}{rest}"


def _output(label: str, output: OutputComparison) -> str:
    if output.problem:
        return f"{label}: {shortened(one_line(output.problem), MAX_LENGTH)}"
    error = f"largest difference {format_number(output.max_abs)}"
    if output.worst is not None:
        actual, expected = format_pair(output.actual_at_worst, output.expected_at_worst)
        error += f", at {format_index(output.worst)}: {actual}, expected {expected}"
    if output.rms is not None:
        error = (
            f"RMS error {format_number(output.rms)} against float64, the reference's own "
            f"{format_number(output.reference_rms)}; {error}"
        )
    if output.sqnr is not None and math.isfinite(output.sqnr):
        error += f"; SQNR {output.sqnr:.3g} dB"
    if output.decisions is not None:
        error += f"; decisions: {format_decisions(output.decisions)}"
    return f"{label}: {error}; allowed: {output.tolerance}"


def _latency(result: Result) -> list[str]:
    latency = result.latency
    if not latency or latency.get("median_us") is None:
        return []
    reference = latency.get("eager_us")
    beside = "" if reference is None else f", reference {format_microseconds(float(reference))}"
    return [
        f"{format_microseconds(float(latency['median_us']))}{beside} (a quick measurement; harness bench is thorough)"
    ]
