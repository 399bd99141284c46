"""Checks harness's verdicts on whole models, and writes reports/models.md.

    python -m benchmarks.models [correct|power|door|report]... [--only TEXT]

correct: correct exports of models of torchvision and transformers, through `harness run`.
power:   planted faults, judged in this process.
door:    some of the faults through `harness run`.
report:  writes reports/models.md from what the others left in build/models.

Without a word, all of them in this order. --only limits them to nets whose id contains TEXT; what is known of the
others stays as it is. Needs torchvision and transformers; `make models` installs them into .venv-models.

Exit codes: 0 no false alarm, and no fault missed that is visible in RMS; 1 otherwise, or if nothing was judged.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.models import correct, door, power
from benchmarks.models.correct import Row
from benchmarks.models.power import Outcome
from benchmarks.models.report import markdown
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case

ROOT = Path(__file__).resolve().parent.parent.parent
SPECS = Path(__file__).resolve().parent / "specs"
RESULTS = ROOT / "build" / "models"
PARTS = ("correct", "power", "door", "report")
OF_EACH_KIND = 4
HALF_SEEDS = (0,)
"""The seeds at which faults are planted in float16, whose kernels are slow on a CPU."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that were asked for."""
    request = parser().parse_args(arguments)
    RESULTS.mkdir(parents=True, exist_ok=True)
    parts = request.parts or PARTS
    if "correct" in parts:
        run_correct(request.only)
    if "power" in parts:
        run_power(request.only)
    if "door" in parts:
        run_door(request.only)
    return write_report(request.report) if "report" in parts else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    made.add_argument("--only", default="", metavar="TEXT", help="nets whose id contains TEXT")
    made.add_argument("--report", type=Path, default=ROOT / "reports" / "models.md", metavar="FILE")
    return made


def run_correct(only: str) -> None:
    """Run the correct models, one ``harness run`` for each model."""
    models: dict[str, list[str]] = {}
    for case in _cases("images", "language"):
        if only in case.id:
            models.setdefault(case.id.partition("[")[0], []).append(case.id)
    for model, ids in models.items():
        started = time.monotonic()
        spec, _, name = model.partition("/")
        correct.run_specs([SPECS / f"{spec}.yaml"], RESULTS / "correct" / name, ids)
        seconds = (time.monotonic() - started) / len(ids)
        found = correct.rows(RESULTS / "correct" / name)
        for case_id in ids:
            _keep("correct", case_id, [asdict(row) for row in found if row.case == case_id], seconds)


def run_power(only: str) -> None:
    """Plant faults in the small nets."""
    for case in _cases("small"):
        if only not in case.id or (case.dtype == "float16" and case.seed not in HALF_SEEDS):
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            outcomes = list(power.plant_faults(case, OF_EACH_KIND, Path(scratch)))
        _keep("power", case.id, [asdict(outcome) for outcome in outcomes], time.monotonic() - started)
        print(f"{case.id}: {sum(outcome.caught for outcome in outcomes)} of {len(outcomes)} caught")


def run_door(only: str) -> None:
    """Send one fault of each kind and net through ``harness run``."""
    for case in _cases("small"):
        name = case.id.partition("/")[2].partition("[")[0]
        if only not in case.id or name not in door.NETS or case.dtype != "float32" or case.seed:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            outcomes = list(power.plant_faults(case, door.OF_EACH_KIND, Path(scratch)))
        spec = RESULTS / "door" / f"{name}.yaml"
        spec.parent.mkdir(exist_ok=True)
        spec.write_text(yaml.safe_dump(door.spec_of(case, range(len(outcomes))), sort_keys=False), encoding="utf-8")
        correct.run_specs([spec], spec.with_suffix(""), targets=door.TARGETS)
        checks = correct.rows(spec.with_suffix(""))
        pairs = [{"fault": asdict(outcomes[int(row.model.partition("-")[2])]), "check": asdict(row)} for row in checks]
        _keep("door", case.id, pairs, time.monotonic() - started)


def write_report(file: Path) -> int:
    """Write the report from the kept results."""
    rows = [Row(**row) for row in _kept("correct")]
    outcomes = [Outcome(**outcome) for outcome in _kept("power")]
    checks = [(Outcome(**pair["fault"]), Row(**pair["check"])) for pair in _kept("door")]
    seconds = sum(entry["seconds"] for part in PARTS[:3] for entry in _entries(part))
    file.write_text(markdown(rows, outcomes, checks, seconds), encoding="utf-8")
    print(f"Written: {file}")
    alarms = [row for row in rows if row.state == "false alarm"]
    missed = [outcome for outcome in outcomes if outcome.visible and not outcome.caught]
    passed = [outcome for outcome, row in checks if outcome.visible and row.state == "passed"]
    print(f"{len(alarms)} false alarms; {len(missed) + len(passed)} visible faults missed")
    if not any(row.judged for row in rows) or not any(outcome.visible for outcome in outcomes):
        print("nothing was judged")
        return 1
    return 1 if alarms or missed or passed else 0


def _cases(*specs: str) -> list[Case]:
    return [case for name in specs for case in load_specs([str(SPECS / f"{name}.yaml")], allow_import=True).cases]


def _keep(part: str, name: str, results: list[dict[str, Any]], seconds: float) -> None:
    """Keep the results of one net, in place of what was known of it."""
    file = RESULTS / part / f"{name.replace('/', '-')}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"seconds": seconds, "results": results}), encoding="utf-8")


def _entries(part: str) -> list[dict[str, Any]]:
    files = sorted((RESULTS / part).glob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _kept(part: str) -> list[dict[str, Any]]:
    return [result for entry in _entries(part) for result in entry["results"]]


if __name__ == "__main__":
    sys.exit(main())
