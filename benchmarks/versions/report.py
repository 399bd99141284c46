"""Writes the report on the versions from the outcomes of the environments.

    python -m benchmarks.versions.report [OUTCOMES.jsonl ...]

Adds the outcomes in the given files to reports/versions.jsonl, and writes reports/versions.md from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tabulate import tabulate

from benchmarks.versions.environments import ENVIRONMENTS, ROOT
from benchmarks.versions.outcome import SHOWN, Outcome, read_outcomes, write_outcomes

OUTCOMES = ROOT / "reports" / "versions.jsonl"
REPORT = ROOT / "reports" / "versions.md"
STACK = ("torch", "onnxscript", "onnx", "onnxruntime", "numpy")
MARKDOWN = """\
# Versions

Each row is a separate environment. harness was installed in it, and the shipped specs (without timing) and the tests
that depend on versions were run.

{table}

- **lowest**: the oldest version of every library that `pyproject.toml` allows. **newest**: the newest ones on that day.
- **torch-**, **onnxruntime-**, **onnx-**: the versions of `constraints.txt`, except for this library.
- **python-3.10-target**: `parity-harness[target]` and the newest onnxruntime for Python 3.10, without torch. It runs
  the bundle that `harness pack specs/` wrote in the development environment.
- **as expected**: checks that passed, and known failures that `specs/known-failures.yaml` lists for these versions.

{details}
Made by `make matrix`; `nox -s NAME` runs one environment.
"""


def markdown(outcomes: Mapping[str, Outcome]) -> str:
    """Return the report: a table, and the reasons for each environment that is not green."""
    rows = [_row(environment.name, outcomes.get(environment.name)) for environment in ENVIRONMENTS]
    headers = ("environment", "", "Python", *STACK, "as expected", "not as expected", "tests passed", "failed", "date")
    shown = [outcomes[each.name] for each in ENVIRONMENTS if each.name in outcomes]
    details = "\n".join(_why(outcome) for outcome in shown if not outcome.green or outcome.notes)
    return MARKDOWN.format(
        table=tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True), details=details
    )


def _row(name: str, outcome: Outcome | None) -> tuple[str, ...]:
    if outcome is None:
        return (name, "not run", *[""] * (len(STACK) + 6))
    packages, checks, tests = outcome.packages or {}, outcome.checks or {}, outcome.tests or {}
    expected = sum(checks.get(status, 0) for status in ("passed", "known"))
    return (
        name,
        _state(outcome),
        outcome.python,
        *(packages.get(each, "") for each in STACK),
        f"{expected:,}",
        f"{sum(checks.values()) - expected:,}",
        f"{tests.get('passed', 0):,}",
        f"{tests.get('failed', 0):,}",
        outcome.date,
    )


def _state(outcome: Outcome) -> str:
    """Return ``green``, ``in part`` if not everything was run but all results are as expected, or red."""
    if outcome.green:
        return "green"
    return "in part" if outcome.checks and not (outcome.unexpected or outcome.failing) else "**red**"


def _why(outcome: Outcome) -> str:
    lines = [f"## {outcome.name}\n"]
    lines += [f"- {line}" for line in (*outcome.notes, outcome.trouble) if line]
    for all_of_them in (outcome.unexpected, outcome.failing):
        lines += [f"- {line.replace('|', chr(92) + '|')}" for line in all_of_them[:SHOWN]]
        lines += [f"- and {len(all_of_them) - SHOWN} more"] if len(all_of_them) > SHOWN else []
    return "\n".join(lines) + "\n"


def add(outcomes: Mapping[str, Outcome]) -> None:
    """Add ``outcomes`` to the files in ``reports/``; they replace earlier ones of the same environments."""
    together = {**read_outcomes(OUTCOMES), **outcomes}
    known = {environment.name for environment in ENVIRONMENTS}
    write_outcomes(OUTCOMES, {name: outcome for name, outcome in together.items() if name in known})
    REPORT.write_text(markdown(read_outcomes(OUTCOMES)), encoding="utf-8")


if __name__ == "__main__":
    add({name: outcome for file in sys.argv[1:] for name, outcome in read_outcomes(Path(file)).items()})
