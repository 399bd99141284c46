"""Reports of the same model again and again, some with the slowdown; kept, so that a run may be in parts."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency.chain import chain
from harness.check.settings import Settings
from harness.engine.bench import BenchSettings
from harness.engine.bench.timing import time_all
from harness.environment import describe
from harness.plan import Plan
from harness.report.json_report import JsonReport, read_report
from harness.result import Report, Result
from harness.spec.targets import Target

TARGET = Target("onnx-torchscript", "ort-cpu", 17)
BENCH = BenchSettings()


@dataclass(frozen=True, slots=True)
class Series:
    """Reports in the order in which they were made; ``slowed`` by the number of the plain report before each."""

    plain: tuple[Report, ...]
    slowed: dict[int, Report]


def make_reports(folder: Path, equals: int, planted: int) -> Iterator[str]:
    """Make ``equals`` + 1 plain reports and ``planted`` slowed ones among them, except those that ``folder`` holds.

    Each is an independent measurement, in fresh processes. Yields the name of each new report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for at in range(equals + 1):
        for name in ("plain", "slowed"):
            path = folder / f"{name}-{at:04}.json"
            is_needed = name == "plain" or (at * planted) // equals != ((at + 1) * planted) // equals
            if is_needed and not path.exists() and at < equals + (name == "plain"):
                path.write_text(JsonReport().render(timed(slowed=name == "slowed")), encoding="utf-8")
                yield path.name


def read(folder: Path) -> Series:
    """Read all reports made so far."""
    plain = tuple(map(read_report, sorted(folder.glob("plain-*.json"))))
    slowed = {int(path.stem.removeprefix("slowed-")): read_report(path) for path in folder.glob("slowed-*.json")}
    return Series(plain, {at: slowed[at] for at in sorted(slowed) if at < len(plain)})


def timed(*, slowed: bool, bench: BenchSettings = BENCH) -> Report:
    """Make one report, timed as ``harness bench`` does; ``run`` holds the load of the machine."""
    case, load = chain(slowed=slowed), os.getloadavg()[0]
    plan = Plan(((case, (TARGET,)),))
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(cache=None, latency=False)
        results = time_all(plan, [Result(case.id, str(TARGET), "passed")], bench, settings, Path(scratch))
    (result,) = results
    if result.latency is None:
        raise SystemExit(f"the model was not timed: {json.dumps(result.notes)}")
    return Report(describe(), (result,), {"load": load})
