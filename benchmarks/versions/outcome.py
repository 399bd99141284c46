"""The outcome of one environment: the checks of the shipped specs, the tests, and the installed versions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

EXPECTED = frozenset({"passed", "known"})
LONGEST = 160
SHOWN = 12


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one environment. ``trouble`` is the reason if it did not finish; ``notes`` are other results."""

    name: str
    date: str
    python: str = ""
    packages: Mapping[str, str] | None = None
    checks: Mapping[str, int] | None = None
    unexpected: tuple[str, ...] = ()
    tests: Mapping[str, int] | None = None
    failing: tuple[str, ...] = ()
    trouble: str = ""
    notes: tuple[str, ...] = ()

    @property
    def green(self) -> bool:
        """True if the checks and the tests ran, and all of them are as expected."""
        ran = self.checks and self.tests and self.tests.get("passed")
        return bool(ran) and not (self.trouble or self.unexpected or self.failing)

    def with_checks(self, report: Path) -> Outcome:
        """Return the outcome with the results of ``report``, a run's report.json."""
        content = json.loads(report.read_text(encoding="utf-8"))
        results = content["results"]
        counts = Counter(str(row["status"]) for row in results)
        complaints = tuple(str(line) for line in content.get("run", {}).get("complaints", ()))
        return replace(self, checks=dict(counts), unexpected=(*_grouped(results), *map(_cut, complaints)))

    def with_comparison(self, own: Path, other: Path) -> Outcome:
        """Return the outcome with notes on the checks with different statuses in the reports ``own`` and ``other``."""
        statuses, others = _statuses(own), _statuses(other)
        unlike = [check for check, status in statuses.items() if others.get(check) != status]
        equal, total = len(statuses) - len(unlike), len(statuses | others)
        note = f"{equal:,} of {total:,} checks have the same status as in the environment that packed the bundle."
        lines = [f"{others.get(one)} there, {statuses[one]} here: {' on '.join(one)}" for one in unlike[:SHOWN]]
        return replace(self, notes=(*self.notes, note, *lines))

    def with_tests(self, junit: Path) -> Outcome:
        """Return the outcome with the tests of ``junit``, a file that pytest wrote."""
        counts: Counter[str] = Counter()
        failing = []
        for case in ET.parse(junit).getroot().iter("testcase"):
            trouble = next((child for child in case if child.tag in {"failure", "error"}), None)
            what = "skipped" if case.find("skipped") is not None else "passed" if trouble is None else "failed"
            counts[what] += 1
            if trouble is not None:
                where = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '')}"
                failing.append(_cut(f"{where}: {trouble.get('message', '')}"))
        return replace(self, tests=dict(counts), failing=tuple(failing))

    def to_line(self) -> str:
        """Return the outcome as a line of JSON."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"


def _statuses(report: Path) -> dict[tuple[str, str], str]:
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {(row["case"], row["target"]): str(row["status"]) for row in results}


def _grouped(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each target and unexpected status, with the first case."""
    rows = [row for row in results if row["status"] not in EXPECTED]
    counts = Counter((row["target"], row["status"]) for row in rows)
    for (target, status), count in counts.items():
        first = next(row for row in rows if (row["target"], row["status"]) == (target, status))
        yield _cut(f"{count} {status} on {target}, first {first['case']}: {first['message'] or 'it passes now'}")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def read_outcomes(file: Path) -> dict[str, Outcome]:
    """Return the outcomes in ``file`` by environment; empty if there is no file."""
    if not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    read = [Outcome(**row | {key: tuple(row[key]) for key in ("unexpected", "failing", "notes")}) for row in rows]
    return {outcome.name: outcome for outcome in read}


def write_outcomes(file: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write ``outcomes`` to ``file``, one line each, sorted by name."""
    file.write_text("".join(outcomes[name].to_line() for name in sorted(outcomes)), encoding="utf-8")
