"""One check and one cause as ``report.html`` shows them, in types that JSON has.

Latencies are packed, without raw samples and without names, because ten thousand of them are many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.errors import one_line, printable, shortened
from harness.report.causes import causes
from harness.report.diff.latency import CONDITIONS
from harness.report.tables.precision import sample_lines
from harness.report.wording import (
    CaseName,
    blame_words,
    comparison_line,
    comparisons,
    expectation_name,
    explanation,
    format_decisions,
    format_element,
    format_index,
    format_number,
    format_pair,
    main_comparison,
    next_step,
    stage_and_symptom,
)
from harness.result import OutputComparison, Result, to_json

_MAX_LINE = 400
_MAX_TEXT = 1_200

NUMBERS = (
    "output", "shape", "dtype", "tolerance", "mismatched", "max abs", "max rel", "max ulp", "worst at", "actual",
    "expected", "least rtol", "least atol", "RMS", "reference's RMS", "SQNR (dB)", "cosine", "decisions",
    "further metrics", "problem", "inconclusive",
)  # fmt: skip
"""The names of the rows of a check's numbers."""

Fields = dict[str, Any]


def check_fields(result: Result, attached: Mapping[str, Any], run: Mapping[str, Any]) -> Fields:
    """The fields of ``result``, a check of ``run``, in types that JSON has; empty ones are None.

    They are in the same order for all checks.
    """
    name = CaseName.parse(result.case)
    step = next_step(result, run)
    return {
        "case": result.case,
        "spec": name.spec,
        "family": name.family,
        "short": name.short,
        "about": None if result.about is None else _cut(result.about),
        "model": result.case_model,
        "inputs": [f"{one.get('label')}: {one.get('dtype')} {one.get('shape')}" for one in result.inputs] or None,
        "draws": result.draws,
        "target": result.target,
        "status": result.status,
        "stage": result.stage,
        "symptom": result.symptom,
        "happened": stage_and_symptom(result) or None,
        "line": _line(result),
        "message": None if result.message is None else _cut(result.message),
        "blame": blame_words(result),
        "evidence": list(_evidence(result)) or None,
        "numbers": [_numbers(label, comparison) for label, comparison in comparisons(result)] or None,
        "exact": list(_exact(result)) or None,
        "findings": [[expectation_name(one), one.passed, _cut(one.message)] for one in result.findings] or None,
        "distances": [
            [str(one.index), format_number(one.eager_max_abs), format_number(one.target_max_abs), one.nearer]
            for one in result.distances
        ]
        or None,
        "placement": list(_placement(result.placement)) or None,
        "checker": None if result.checker is None else _cut(result.checker),
        "notes": list(map(_cut, (*result.notes, *_of_samples(result)))) or None,
        "reason": None if result.reason is None else _cut(result.reason),
        "issues": (result.issue or "").split() or None,
        "where": result.where,
        "next": None if step is None else [step.sentence, step.command],
        "apart": to_json(_largest_errors(result)),
        "latency": to_json(latency_fields(result.latency)),
        "seconds": {stage: to_json(float(f"{seconds:.3g}")) for stage, seconds in result.seconds.items()} or None,
        "file": result.artifact_path,
        **{key: attached.get(key) for key in ("log", "script", "pictures", "left_out", "layers")},
    }


def _evidence(result: Result) -> Iterator[str]:
    """The evidence, without the worst element of a comparison where the message has shown it."""
    for line in result.evidence:
        head, worst, rest = line.partition("; worst at ")
        shown = worst + rest.partition("; allowed")[0]
        yield _cut(head if worst and shown in (result.message or "") else line)


def _of_samples(result: Result) -> Iterator[str]:
    return iter(()) if result.samples is None else sample_lines(result.samples)


def _line(result: Result) -> str | None:
    """Why it is not a plain pass, on one line: the worst element of the output that decides, or the message."""
    comparison = main_comparison(result)
    if result.status == "passed":
        return None
    if comparison is not None and not comparison.passed:
        return shortened(comparison_line(comparison), _MAX_LINE)
    return shortened(explanation(result), _MAX_LINE) or None


def _exact(result: Result) -> Iterator[str]:
    """The worst element of each output that fails, with the 17 digits that distinguish all values of float64."""
    seen = set()
    for label, comparison in comparisons(result):
        if not comparison.passed and comparison.worst is not None:
            actual, expected = comparison.actual_at_worst, comparison.expected_at_worst
            pair = f"actual {format_element(actual, 17)}, expected {format_element(expected, 17)}"
            line = f"at {format_index(comparison.worst)}: {pair}"
            if line not in seen:
                yield f"{label} {line}"
            seen.add(line)


def _numbers(label: str, comparison: OutputComparison) -> list[str | None]:
    """The numbers of one output, in the order of :data:`NUMBERS`."""
    return [
        label,
        str(list(comparison.shape)),
        comparison.dtype,
        comparison.tolerance,
        f"{comparison.mismatched:,} of {comparison.of:,}",
        format_number(comparison.max_abs),
        format_number(comparison.max_rel),
        format_number(comparison.max_ulp),
        format_index(comparison.worst),
        *format_pair(comparison.actual_at_worst, comparison.expected_at_worst),
        format_number(comparison.least_rtol),
        format_number(comparison.least_atol),
        format_number(comparison.rms),
        format_number(comparison.reference_rms),
        format_number(comparison.sqnr),
        format_number(comparison.cosine),
        format_decisions(comparison.decisions),
        ", ".join(f"{name} {format_number(value)}" for name, value in comparison.extra.items()) or None,
        None if comparison.problem is None else one_line(_cut(comparison.problem)),
        comparison.inconclusive,
    ]


def _placement(placement: Mapping[str, Any] | None) -> Iterator[str]:
    """The number of nodes of each operator by provider."""
    if placement is None:
        return
    if requested := placement.get("asked"):
        yield f"requested: {requested}"
    for provider, operators in (placement.get("nodes") or {}).items():
        yield f"{provider}: {', '.join(f'{name} {count}' for name, count in operators.items())}"
    if stray := placement.get("stray"):
        yield f"ran outside the requested provider: {', '.join(map(str, stray))}"


def _largest_errors(result: Result) -> list[float | None] | None:
    """The largest ULP, absolute and relative error over the outputs; None if no outputs were compared.

    They are infinite where no tolerance would pass: another shape, a lost NaN or infinity, an expectation that is not
    about values. What is left of such an output may agree to the last bit.
    """
    if not result.outputs:
        return None
    errors = [_errors(comparison) for comparison in result.outputs]
    if result.stage == "compare" and all(comparison.passed for comparison in result.outputs):
        failed = [comparison for _, comparison in comparisons(result) if not comparison.passed]
        errors = [*errors, *map(_errors, failed)] if failed else [(math.inf, math.inf, math.inf)]
    columns = zip(*errors, strict=True)
    return [max((value for value in column if value is not None), default=None) for column in columns]


def _errors(output: OutputComparison) -> tuple[float | None, float | None, float | None]:
    if not output.passed and output.least_atol in {None, math.inf}:
        return math.inf, math.inf, math.inf
    return output.max_ulp, output.max_abs, output.max_rel


def _cut(text: str) -> str:
    """``text`` with its lines, cut if it is very long; report.json has all of it."""
    safe = printable(text.strip())
    return safe if len(safe) <= _MAX_TEXT else f"{safe[:_MAX_TEXT]} ..."


# Causes


def cause_fields(results: Sequence[Result]) -> list[Fields]:
    """The causes of the unexpected checks. ``checks`` are positions in ``results``."""
    number = {id(result): position for position, result in enumerate(results)}
    return [
        {
            "status": cause.status,
            "title": printable(one_line(cause.title)),
            "extent": cause.extent,
            "contrast": cause.contrast,
            "blame": blame_words(cause.first),
            "line": None if cause.line.endswith(cause.kind) else shortened(printable(one_line(cause.line)), _MAX_LINE),
            "checks": [number[id(result)] for result in cause.results],
        }
        for cause in causes(results)
    ]


FIGURE = (
    *("median_us", "low_us", "high_us", "p90_us", "p99_us", "eager_us", "ratio", "ratio_low", "ratio_high"),
    *("low_confidence", "notes", "samples", "processes", "batch", "shapes", "elements"),
)
"""The names of the values of a packed figure."""

TIMED = (*FIGURE, "first_call_us", "load_s", "first_run_s", "conditions", "by_shape", "beside")
"""The names of the values of a packed latency."""

_DIGITS = 5


def latency_fields(latency: Mapping[str, Any] | None) -> list[Any] | None:
    """The figures of :class:`harness.latency.figure.Latency` and ``harness bench``, packed; None if nothing was timed.

    ``conditions`` has names. ``by_shape`` is a list of packed figures, ``beside`` has one by name.
    """
    if latency is None or "median_us" not in latency:
        return None
    conditions = {key: latency[key] for key in (*CONDITIONS, "version") if latency.get(key) is not None}
    by_shape = [packed_figure(figure) for figure in latency.get("by_shape", ()) if "median_us" in figure]
    parts = {"conditions": conditions, "by_shape": by_shape, "beside": dict(_further_figures(latency))}
    return packed_figure({**latency, **parts}, TIMED)


def packed_figure(figure: Mapping[str, Any], names: tuple[str, ...] = FIGURE) -> list[Any]:
    """The values of ``figure`` in the order of ``names``, without what is missing at the end, with five digits."""
    values = [_short(figure.get(name)) for name in names]
    while values and values[-1] is None:
        values.pop()
    return values


def _short(value: Any) -> Any:
    """``value``, rounded; None for False and what is empty."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    return None if value is False or value in ([], {}, ()) else value


def _further_figures(latency: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Further figures of the same call, by name: variants, the transfer alone, the device's own clock."""
    for name, figure in latency.get("variants", {}).items():
        yield name, packed_figure(figure)
    for key, name in (("transfer", "transfer alone"), ("by_device", "by the device's clock")):
        if key in latency:
            yield name, packed_figure(latency[key])
