"""The latency of a check as the page shows it: its figures, without the raw samples, which ``report.json`` keeps.

One check as the page shows it: words and numbers as every other format says them.

What changed against another report, as the page shows it: what matters most first, and no more than can be read.

The head of the page: what came of the run, by how many, where and when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from harness.report.diff import CONDITIONS
from harness.report.tables import targets
from harness.report.wording import (
    CaseName,
    comparisons,
    explanation,
    exports,
    happened,
    index,
    next_step,
    number,
    numbers,
    one_line,
    printable,
    shortened,
    telling,
    value_at,
    verdict,
)
from harness.result import STATUSES, OutputComparison, Report, Result, Status, to_json

_FIGURE = (
    *("median_us", "low_us", "high_us", "p90_us", "p99_us", "eager_us", "ratio", "ratio_low", "ratio_high"),
    *("quotable", "notes", "samples", "processes", "batch", "shapes", "elements"),
)
_FIRST = ("first_call_us", "load_s", "first_run_s")


def figures(latency: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What :class:`harness.latency.figure.Latency` and ``harness bench`` wrote; None where nothing was timed."""
    if latency is None or "median_us" not in latency:
        return None
    return {
        **_picked(latency, (*_FIGURE, *_FIRST)),
        "conditions": _picked(latency, (*CONDITIONS, "version")),
        "by_shape": [_picked(figure, _FIGURE) for figure in latency.get("by_shape", ()) if "median_us" in figure],
        "beside": dict(_beside(latency)),
    }


def _beside(latency: Mapping[str, Any]) -> Any:
    """Further figures of the same call, by name: variants, the transfer, the device's own clock."""
    for name, figure in latency.get("variants", {}).items():
        yield name, _picked(figure, _FIGURE)
    for key, name in (("transfer", "transfer alone"), ("by_device", "by the device's clock")):
        if key in latency:
            yield name, _picked(latency[key], _FIGURE)


def _picked(figure: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: figure[key] for key in keys if figure.get(key) is not None}


_LINE = 200
_TEXT = 1_200

Fields = dict[str, Any]


def fields(
    result: Result, heavy: Mapping[str, Any], *, allow_import: bool = False, bundle: str | None = None
) -> Fields:
    """What the page knows of ``result`` as JSON can hold it, in an order that is the same for all. None is nothing."""
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
        "happened": happened(result) or None,
        "line": _line(result),
        "message": None if result.message is None else _cut(result.message),
        "blame": result.blame,
        "evidence": list(map(_cut, result.evidence)) or None,
        "numbers": [_numbers(label, held) for label, held in comparisons(result)] or None,
        "findings": [[one.what, one.passed, _cut(one.message)] for one in result.findings] or None,
        "distances": [
            [str(one.index), number(one.eager_max_abs), number(one.target_max_abs), one.nearer]
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
        "apart": to_json(_apart(result)),
        "latency": to_json(figures(result.latency)),
        "seconds": {stage: to_json(float(f"{seconds:.3g}")) for stage, seconds in result.seconds.items()} or None,
        "artifact": result.artifact,
        **{key: heavy.get(key) for key in ("log", "script", "pictures", "left_out")},
    }


def _line(result: Result) -> str | None:
    """Why it is not a plain pass, on one line."""
    held = telling(result)
    if result.status == "passed":
        return None
    if held is not None and not held.passed:
        return shortened(numbers(held), _LINE)
    return shortened(explanation(result), _LINE) or None


def _numbers(label: str, held: OutputComparison) -> list[str | None]:
    """The rows of one output, in the order of :data:`NUMBERS`."""
    return [
        label,
        str(list(held.shape)),
        held.dtype,
        held.tolerance,
        f"{held.mismatched:,} of {held.of:,}",
        number(held.max_abs),
        number(held.max_rel),
        number(held.max_ulp),
        index(held.worst),
        value_at(held.actual_at_worst),
        value_at(held.expected_at_worst),
        number(held.least_rtol),
        number(held.least_atol),
        ", ".join(f"{name} {number(value)}" for name, value in held.extra.items()) or None,
        None if held.problem is None else one_line(_cut(held.problem)),
        held.blind,
    ]


NUMBERS = (
    "output", "shape", "dtype", "tolerance", "outside", "max abs", "max rel", "max ulp", "worst at", "got", "meant",
    "least rtol", "least atol", "further metrics", "problem", "blind",
)  # fmt: skip
"""What the rows of a check's numbers are called."""


def _placement(placement: Mapping[str, Any] | None) -> Iterator[str]:
    """Which provider ran how many nodes of which operator."""
    if placement is None:
        return
    if asked := placement.get("asked"):
        yield f"asked: {asked}"
    for provider, operators in (placement.get("nodes") or {}).items():
        yield f"{provider}: {', '.join(f'{name} {count}' for name, count in operators.items())}"
    if stray := placement.get("stray"):
        yield f"ran elsewhere than asked: {', '.join(map(str, stray))}"


def _apart(result: Result) -> list[float | None] | None:
    """The largest ULP, absolute and relative error over the outputs; None where no numbers were compared."""
    measures = [[held.max_ulp, held.max_abs, held.max_rel] for held in result.outputs]
    if not measures:
        return None
    columns = zip(*measures, strict=True)
    return [max((value for value in column if value is not None), default=None) for column in columns]


def _cut(text: str) -> str:
    """``text`` with its lines, cut where it is very long; the whole of it stands in report.json."""
    safe = printable(text.strip())
    return safe if len(safe) <= _TEXT else f"{safe[:_TEXT]} ..."


SHOWN = 1_000
"""So many changes of each kind are shown; all of them are counted."""

_PARITY = ("regressed", "mended", "otherwise", "unverified", "verified", "new", "gone", "numbers")
_LATENCY = ("slower", "faster", "inconclusive", "not comparable", "no change")


def comparison(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The part that the page shows of what :meth:`harness.report.diff.Diff.to_dict` wrote; None where there is none."""
    if told is None:
        return None
    return {
        **{key: told.get(key) for key in ("regressed", "versions", "hardware", "min_effect")},
        "parity": _first(told.get("parity") or (), "kind", _PARITY),
        "parity_counts": _counts(told.get("parity") or (), "kind", _PARITY),
        "latency": None if told.get("latency") is None else _first(told["latency"], "verdict", _LATENCY),
        "latency_counts": _counts(told.get("latency") or (), "verdict", _LATENCY),
    }


def _first(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> list[Mapping[str, Any]]:
    return sorted(changes, key=lambda change: order.index(change[key]))[:SHOWN]


def _counts(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> dict[str, int]:
    counts = Counter(change[key] for change in changes)
    return {name: counts[name] for name in order if counts[name]}


Mood = Literal["good", "bad", "none"]

_MOODS: dict[str, Mood] = {"All as expected": "good", "Not as expected": "bad", "No verdict": "none"}
_VERSIONS = ("torch", "onnx", "onnxruntime", "openvino", "tract")
_BAR = 100.0


@dataclass(frozen=True, slots=True)
class Share:
    """So many checks of one status: ``start`` and ``width`` are its part of a bar of 100, ``link`` shows the checks."""

    status: Status
    count: int
    start: float
    width: float
    link: str


@dataclass(frozen=True, slots=True)
class Row:
    """One target, or all of them where ``target`` is empty; ``shares`` are in the order of the statuses."""

    target: str
    checks: int
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """``said`` and ``tally`` are the verdict's sentence, parted before the counts in parentheses.

    ``complaints`` are those after the first, which stands in the verdict; ``facts`` are labels and values.
    """

    said: str
    tally: str
    mood: Mood
    complaints: tuple[str, ...]
    baseline: str
    facts: tuple[tuple[str, str], ...]
    whole: Row
    rows: tuple[Row, ...]


def headline(report: Report) -> Headline:
    """What stands at the top of the page."""
    sentence = printable(verdict(report))
    said, parenthesis, counts = sentence.rpartition(" (")
    statuses: dict[str, list[Status]] = {target: [] for target in targets(report.results)}
    for result in report.results:
        statuses[result.target].append(result.status)
    return Headline(
        said=said or counts,
        tally=parenthesis + counts if said else "",
        mood=_MOODS[sentence.partition(":")[0]],
        complaints=tuple(printable(one_line(str(line))) for line in report.run.get("complaints", ())[1:]),
        baseline=_baseline(report),
        facts=tuple((label, printable(one_line(value))) for label, value in _facts(report) if value),
        whole=_row("", [result.status for result in report.results]),
        rows=tuple(_row(target, found) for target, found in statuses.items()),
    )


def _row(target: str, statuses: Sequence[Status]) -> Row:
    shares: list[Share] = []
    start = 0.0
    for status in STATUSES:
        count = statuses.count(status)
        width = _BAR * count / len(statuses) if statuses else 0.0
        asked = {"status": status} | ({"target": target} if target else {})
        shares.append(Share(status, count, round(start, 3), round(width, 3), f"#{urlencode(asked, errors='replace')}"))
        start += width
    return Row(target, len(statuses), tuple(shares))


def _baseline(report: Report) -> str:
    against = report.run.get("baseline") or {}
    return f"Against {against.get('file')}: {against.get('verdict')}" if against else ""


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    """What a reader wants to know before anything else; the environment at the end has all of it."""
    run, environment = report.run, report.environment
    packages = environment.get("packages") or {}
    yield "when", str(run.get("began", "")).replace("T", " ").replace("Z", " UTC")
    yield "took", _seconds(run.get("seconds"))
    yield "specs", ", ".join(map(str, run.get("paths") or ()))
    yield "only", ", ".join(map(str, run.get("keywords") or ()))
    yield "shard", str(run.get("shard") or "")
    yield "exports", exports(report) or ""
    yield "with", ", ".join(f"{name} {packages[name]}" for name in _VERSIONS if name in packages)
    for machine in (environment, *environment.get("also", ())):
        yield "on", ", ".join(filter(None, _hardware(machine)))


def _hardware(environment: Any) -> Iterator[str]:
    cpu = environment.get("cpu") or {}
    yield str(environment.get("board") or "")
    yield str(cpu.get("model") or "")
    yield f"{cpu['usable']} CPUs" if cpu.get("usable") else ""
    yield from (str(gpu.get("name") or "") for gpu in environment.get("gpus") or ())
    yield str(environment.get("os") or "")


def _seconds(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"
