"""The top of ``report.html`` and what changed since another report, in types that JSON or the template takes.

- :func:`headline`: the top of the page, which needs no script.
- :func:`comparison_fields`: what changed since another report; the most urgent changes, and no more than one can read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from harness.compare.inconclusive import training_line
from harness.errors import one_line, printable
from harness.report.diff import PARITY_LABELS
from harness.report.diff.latency import LATENCY_ORDER
from harness.report.tables import targets
from harness.report.wording import (
    export_counts,
    verdict,
)
from harness.result import STATUSES, Report, Status
from harness.spec.quoting import count_of

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

    ``title`` is the kind of the report, or the question of `harness compare`. ``sentence`` and ``tally`` are the
    verdict, split before the counts in parentheses; ``verdict_class`` is its CSS class. ``complaints`` are all but the
    first, which is in the verdict. ``caution`` is about modules in training mode. ``facts`` are labels and values.
    """

    title: str
    sentence: str
    tally: str
    verdict_class: VerdictClass
    caution: str
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
        title=_title(report),
        sentence=sentence or counts,
        tally=parenthesis + counts if sentence else "",
        verdict_class=_VERDICT_CLASSES[whole.partition(":")[0]],
        caution=printable(one_line(training_line(report.results) or "")),
        complaints=tuple(printable(one_line(str(line))) for line in report.run.get("complaints", ())[1:]),
        baseline=_baseline(report),
        facts=tuple((label, printable(one_line(value))) for label, value in _facts(report) if value),
        whole=_row("", [result.status for result in report.results]),
        rows=tuple(_row(target, of_target) for target, of_target in statuses.items()),
    )


def _title(report: Report) -> str:
    compared = report.run.get("compared")
    about = compared.get("about") if isinstance(compared, Mapping) else None
    return printable(one_line(str(about))) if about else "Parity report"


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
    yield "compared" if run.get("compared") else "specs", ", ".join(map(str, run.get("paths") or ()))
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
    yield count_of(cpu["usable"], "CPU") if isinstance(cpu.get("usable"), int) else ""
    yield from (str(gpu.get("name") or "") for gpu in environment.get("gpus") or ())
    yield str(environment.get("os") or "")


def _duration(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


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
    """The first changes in ``order``, of one kind the largest first."""
    return sorted(changes, key=lambda change: (order.index(change[key]), -_size(change)))[:SHOWN]


def _size(change: Mapping[str, Any]) -> float:
    ratio = change.get("ratio")
    return abs(math.log(ratio)) if isinstance(ratio, int | float) and 0 < ratio < math.inf else 0.0


def _counts(changes: Sequence[Mapping[str, Any]], key: str, order: Sequence[str]) -> dict[str, int]:
    counts = Counter(change[key] for change in changes)
    return {name: counts[name] for name in order if counts[name]}
