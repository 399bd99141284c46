"""What came of one environment: the checks of the shipped specs, the tests, and what was installed."""

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
    """One environment's result; ``trouble`` says why there is none, ``notes`` what else was measured."""

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
        """True where everything ran, and nothing of it was otherwise than expected."""
        ran = self.checks and self.tests and self.tests.get("passed")
        return bool(ran) and not (self.trouble or self.unexpected or self.failing)

    def with_checks(self, report: Path) -> Outcome:
        """The same with the results of ``report``, a run's report.json."""
        told = json.loads(report.read_text(encoding="utf-8"))
        results = told["results"]
        counts = Counter(str(row["status"]) for row in results)
        complaints = tuple(str(line) for line in told.get("run", {}).get("complaints", ()))
        return replace(self, checks=dict(counts), unexpected=(*_grouped(results), *map(_cut, complaints)))

    def with_comparison(self, own: Path, other: Path) -> Outcome:
        """The same with a note on how many checks of the report ``own`` have the status that ``other`` gives them."""
        statuses, others = _statuses(own), _statuses(other)
        unlike = [check for check, status in statuses.items() if others.get(check) != status]
        note = (
            f"{len(statuses) - len(unlike):,} of {len(statuses | others):,} checks end as where the bundle was packed."
        )
        lines = [f"There {others.get(one)}, here {statuses[one]}: {' on '.join(one)}" for one in unlike[:SHOWN]]
        return replace(self, notes=(*self.notes, note, *lines))

    def with_tests(self, junit: Path) -> Outcome:
        """The same with the tests of ``junit``, what pytest wrote."""
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
        """The outcome as a line of JSON."""
        return json.dumps(asdict(self), sort_keys=True) + "\n"


def _statuses(report: Path) -> dict[tuple[str, str], str]:
    results = json.loads(report.read_text(encoding="utf-8"))["results"]
    return {(row["case"], row["target"]): str(row["status"]) for row in results}


def _grouped(results: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each target and status that is not expected, with the first case of it."""
    rows = [row for row in results if row["status"] not in EXPECTED]
    counts = Counter((row["target"], row["status"]) for row in rows)
    for (target, status), count in counts.items():
        first = next(row for row in rows if (row["target"], row["status"]) == (target, status))
        yield _cut(f"{count} {status} on {target}, first {first['case']}: {first['message'] or 'it passes now'}")


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def read_outcomes(file: Path) -> dict[str, Outcome]:
    """What ``file`` tells, by environment."""
    if not file.exists():
        return {}
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    read = [Outcome(**row | {key: tuple(row[key]) for key in ("unexpected", "failing", "notes")}) for row in rows]
    return {outcome.name: outcome for outcome in read}


def write_outcomes(file: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Write ``outcomes`` to ``file``, one line each, sorted by name."""
    file.write_text("".join(outcomes[name].to_line() for name in sorted(outcomes)), encoding="utf-8")
