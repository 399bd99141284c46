"""The head of the page: what came of the run, by how many, where and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from harness.report.matrix import targets
from harness.report.wording import exports, one_line, printable, verdict
from harness.result import STATUSES, Report, Status

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
