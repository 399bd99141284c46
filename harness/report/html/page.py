"""The contents of ``report.html``, in types that JSON or the template takes.

- :func:`headline`: the top of the page, which needs no script.
- :func:`check_fields`: one check, with the words and numbers of every other format.
- :func:`latency_fields`: its latency, without the raw samples, which ``report.json`` keeps.
- :func:`comparison_fields`: what changed since another report; the most urgent changes, and no more than one can read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from harness.errors import one_line, printable, shortened
from harness.report.diff import CONDITIONS, LATENCY_ORDER, PARITY_LABELS
from harness.report.tables import targets
from harness.report.wording import (
    CaseName,
    comparison_line,
    comparisons,
    expectation_name,
    explanation,
    export_counts,
    format_decisions,
    format_index,
    format_number,
    format_pair,
    main_comparison,
    next_step,
    stage_and_symptom,
    verdict,
)
from harness.result import STATUSES, OutputComparison, Report, Result, Status, to_json

# The top of the page

VerdictClass = Literal["good", "bad", "none"]

_VERDICT_CLASSES: dict[str, VerdictClass] = {"All as expected": "good", "Not as expected": "bad", "No verdict": "none"}
_PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "tract")
_BAR_WIDTH = 100.0


@dataclass(frozen=True, slots=True)
class Share:
    """The checks of one status. ``start`` and ``width`` are their part of a bar of 100; ``link`` shows the checks."""

    status: Status
    count: int
    start: float
    width: float
    link: str


@dataclass(frozen=True, slots=True)
class Row:
    """One target, or all of them if ``target`` is empty. ``shares`` are in the order of the statuses."""

    target: str
    checks: int
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """The top of the page.

    ``sentence`` and ``tally`` are the verdict, split before the counts in parentheses; ``verdict_class`` is its CSS
    class. ``complaints`` are all but the first, which is in the verdict. ``facts`` are labels and values.
    """

    sentence: str
    tally: str
    verdict_class: VerdictClass
    complaints: tuple[str, ...]
    baseline: str
    facts: tuple[tuple[str, str], ...]
    whole: Row
    rows: tuple[Row, ...]


def headline(report: Report) -> Headline:
    """The contents of the top of the page."""
    whole = printable(verdict(report))
    sentence, parenthesis, counts = whole.rpartition(" (")
    statuses: dict[str, list[Status]] = {target: [] for target in targets(report.results)}
    for result in report.results:
        statuses[result.target].append(result.status)
    return Headline(
        sentence=sentence or counts,
        tally=parenthesis + counts if sentence else "",
        verdict_class=_VERDICT_CLASSES[whole.partition(":")[0]],
        complaints=tuple(printable(one_line(str(line))) for line in report.run.get("complaints", ())[1:]),
        baseline=_baseline(report),
        facts=tuple((label, printable(one_line(value))) for label, value in _facts(report) if value),
        whole=_row("", [result.status for result in report.results]),
        rows=tuple(_row(target, of_target) for target, of_target in statuses.items()),
    )


def _row(target: str, statuses: Sequence[Status]) -> Row:
    shares: list[Share] = []
    start = 0.0
    for status in STATUSES:
        count = statuses.count(status)
        width = _BAR_WIDTH * count / len(statuses) if statuses else 0.0
        query = {"status": status} | ({"target": target} if target else {})
        shares.append(Share(status, count, round(start, 3), round(width, 3), f"#{urlencode(query, errors='replace')}"))
        start += width
    return Row(target, len(statuses), tuple(shares))


def _baseline(report: Report) -> str:
    baseline = report.run.get("baseline") or {}
    return f"Compared with {baseline.get('file')}: {baseline.get('verdict')}" if baseline else ""


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """The most important facts about the run; the environment at the end of the page has all of them."""
    run, environment = report.run, report.environment
    packages = environment.get("packages") or {}
    yield "started", str(run.get("began", "")).replace("T", " ").replace("Z", " UTC")
    yield "duration", _duration(run.get("seconds"))
    yield "specs", ", ".join(map(str, run.get("paths") or ()))
    yield "only", ", ".join(map(str, run.get("keywords") or ()))
    yield "shard", str(run.get("shard") or "")
    yield "exports", export_counts(report) or ""
    yield "versions", ", ".join(f"{name} {packages[name]}" for name in _PACKAGES if name in packages)
    for machine in (environment, *environment.get("also", ())):
        yield "machine", ", ".join(filter(None, _hardware(machine)))


def _hardware(environment: Any) -> Iterator[str]:
    cpu = environment.get("cpu") or {}
    yield str(environment.get("board") or "")
    yield str(cpu.get("model") or "")
    yield f"{cpu['usable']} CPUs" if cpu.get("usable") else ""
    yield from (str(gpu.get("name") or "") for gpu in environment.get("gpus") or ())
    yield str(environment.get("os") or "")


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


# One check

_MAX_LINE = 200
_MAX_TEXT = 1_200

NUMBERS = (
    "output", "shape", "dtype", "tolerance", "mismatched", "max abs", "max rel", "max ulp", "worst at", "actual",
    "expected", "least rtol", "least atol", "RMS", "reference's RMS", "SQNR (dB)", "cosine", "decisions",
    "further metrics", "problem", "inconclusive",
)  # fmt: skip
"""The names of the rows of a check's numbers."""

Fields = dict[str, Any]


def check_fields(
    result: Result, attached: Mapping[str, Any], *, allow_import: bool = False, bundle: str | None = None
) -> Fields:
    """The fields of ``result`` in types that JSON has, in the same order for all checks; empty ones are None."""
    name = CaseName.parse(result.case)
    step = next_step(result, allow_import=allow_import, bundle=bundle)
    return {
        "case": result.case,
        "spec": name.spec,
        "family": name.family,
        "short": name.short,
        "target": result.target,
        "status": result.status,
        "stage": result.stage,
        "symptom": result.symptom,
        "happened": stage_and_symptom(result) or None,
        "line": _line(result),
        "message": None if result.message is None else _cut(result.message),
        "blame": result.blame,
        "evidence": list(map(_cut, result.evidence)) or None,
        "numbers": [_numbers(label, comparison) for label, comparison in comparisons(result)] or None,
        "findings": [[expectation_name(one), one.passed, _cut(one.message)] for one in result.findings] or None,
        "distances": [
            [str(one.index), format_number(one.eager_max_abs), format_number(one.target_max_abs), one.nearer]
            for one in result.distances
        ]
        or None,
        "placement": list(_placement(result.placement)) or None,
        "checker": None if result.checker is None else _cut(result.checker),
        "notes": list(map(_cut, result.notes)) or None,
        "reason": None if result.reason is None else _cut(result.reason),
        "issues": (result.issue or "").split() or None,
        "where": result.where,
        "next": None if step is None else [step.sentence, step.command],
        "apart": to_json(_largest_errors(result)),
        "latency": to_json(latency_fields(result.latency)),
        "seconds": {stage: to_json(float(f"{seconds:.3g}")) for stage, seconds in result.seconds.items()} or None,
        "artifact": result.artifact,
        **{key: attached.get(key) for key in ("log", "script", "pictures", "left_out", "layers")},
    }


def _line(result: Result) -> str | None:
    """Why it is not a plain pass, on one line."""
    comparison = main_comparison(result)
    if result.status == "passed":
        return None
    if comparison is not None and not comparison.passed:
        return shortened(comparison_line(comparison), _MAX_LINE)
    return shortened(explanation(result), _MAX_LINE) or None


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
    """The largest ULP, absolute and relative error over the outputs; None if no numbers were compared."""
    errors = [[output.max_ulp, output.max_abs, output.max_rel] for output in result.outputs]
    if not errors:
        return None
    columns = zip(*errors, strict=True)
    return [max((value for value in column if value is not None), default=None) for column in columns]


def _cut(text: str) -> str:
    """``text`` with its lines, cut if it is very long; report.json has all of it."""
    safe = printable(text.strip())
    return safe if len(safe) <= _MAX_TEXT else f"{safe[:_MAX_TEXT]} ..."


# Latency

_FIGURE = (
    *("median_us", "low_us", "high_us", "p90_us", "p99_us", "eager_us", "ratio", "ratio_low", "ratio_high"),
    *("low_confidence", "notes", "samples", "processes", "batch", "shapes", "elements"),
)
_FIRST_CALLS = ("first_call_us", "load_s", "first_run_s")


def latency_fields(latency: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The figures of :class:`harness.latency.figure.Latency` and ``harness bench``; None if nothing was timed."""
    if latency is None or "median_us" not in latency:
        return None
    return {
        **_select(latency, (*_FIGURE, *_FIRST_CALLS)),
        "conditions": _select(latency, (*CONDITIONS, "version")),
        "by_shape": [_select(figure, _FIGURE) for figure in latency.get("by_shape", ()) if "median_us" in figure],
        "beside": dict(_further_figures(latency)),
    }


def _further_figures(latency: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Further figures of the same call, by name: variants, the transfer alone, the device's own clock."""
    for name, figure in latency.get("variants", {}).items():
        yield name, _select(figure, _FIGURE)
    for key, name in (("transfer", "transfer alone"), ("by_device", "by the device's clock")):
        if key in latency:
            yield name, _select(latency[key], _FIGURE)


def _select(figure: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: figure[key] for key in keys if figure.get(key) is not None}


# What changed

SHOWN = 1_000
"""Changes of each kind that are shown; all of them are counted."""


def comparison_fields(diff: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part of :meth:`harness.report.diff.Diff.to_dict` that the page shows; None if there is no diff."""
    if diff is None:
        return None
    parity = [{**change, "kind": PARITY_LABELS[change["kind"]]} for change in diff.get("parity") or ()]
    latency = diff.get("latency")
    labels = tuple(PARITY_LABELS.values())
    return {
        **{key: diff.get(key) for key in ("regressed", "versions", "hardware", "min_effect")},
        "parity": _most_urgent(parity, "kind", labels),
        "parity_counts": _counts(parity, "kind", labels),
        "latency": None if latency is None else _most_urgent(latency, "verdict", LATENCY_ORDER),
        "latency_counts": _counts(latency or (), "verdict", LATENCY_ORDER),
    }


def _most_urgent(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> list[Mapping[str, Any]]:
    return sorted(changes, key=lambda change: order.index(change[key]))[:SHOWN]


def _counts(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> dict[str, int]:
    counts = Counter(change[key] for change in changes)
    return {name: counts[name] for name in order if counts[name]}
