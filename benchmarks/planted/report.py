"""What came of the planted faults, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from benchmarks.planted.bench import CAUGHT, COLUMNS, FALSE_ALARM, MATTER, MISSED, REFUSED, UNCHANGED, WITHIN, Outcome
from harness.environment import versions

SHOWN = ("torch", "onnx", "onnxruntime", "onnxscript")
MARKDOWN = """\
# Planted faults

{planted} faults in {artifacts} artifacts and their answers, from {cases} shipped cases on {targets};
{seconds:.0f} s with {about}.

**{caught} of {matter} faults that matter were caught, {missed} missed.** {harmless} more were harmless: nothing left
the tolerance, and the check passed. {alarms} checks failed although nothing was wrong.

{table}

- **refused**: the wrong file no longer loads or runs, or the answer cannot be judged: the check is an error.
- **caught**: exact arithmetic, apart from the product's own comparing, finds a result beyond the tolerance, and the
  check failed.
- **missed**: the same, and the check passed.
- **by the spec**: within the tolerance of eager torch's answer, but against what the spec says under `expect`.
- **within tolerance**, **unchanged**: some bits changed, or none; nothing is beyond the tolerance, and the
  check passed.
- **false alarm**: the same, and the check failed.

Made by `python -m benchmarks.planted_faults`.
"""


def table(outcomes: Sequence[Outcome], tablefmt: str = "simple") -> str:
    """How many were planted, and what came of them, by kind."""
    counts = Counter((outcome.kind, outcome.what) for outcome in outcomes)
    kinds = sorted({outcome.kind for outcome in outcomes})
    rows = [(kind, [counts[kind, what] for what in COLUMNS]) for kind in kinds]
    rows.append(("all", [sum(column) for column in zip(*(row for _, row in rows), strict=True)]))
    headers = ("fault", "planted", *COLUMNS)
    return tabulate([(kind, sum(row), *row) for kind, row in rows], headers=headers, tablefmt=tablefmt)


def markdown(outcomes: Sequence[Outcome], *, artifacts: int, cases: int, targets: str, seconds: float) -> str:
    """The committed report."""
    found = Counter(outcome.what for outcome in outcomes)
    return MARKDOWN.format(
        planted=len(outcomes),
        artifacts=artifacts,
        cases=cases,
        targets=targets,
        seconds=seconds,
        about=", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN),
        caught=found[CAUGHT] + found[REFUSED],
        matter=sum(found[what] for what in MATTER),
        missed=found[MISSED],
        harmless=found[UNCHANGED] + found[WITHIN],
        alarms=found[FALSE_ALARM],
        table=table(outcomes, "github"),
    )
