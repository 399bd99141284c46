"""The report on the planted faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from benchmarks.planted.bench import CAUGHT, COLUMNS, FALSE_ALARM, MATTER, MISSED, REFUSED, UNCHANGED, WITHIN, Outcome
from harness.environment import versions

SHOWN = ("torch", "onnx", "onnxruntime", "onnxscript")
MARKDOWN = """\
# Planted faults

{planted} faults in {artifacts} artifacts and their outputs, from {cases} shipped cases on {targets};
{seconds:.0f} s with {about}.

**{caught} of {matter} faults that matter were caught, {missed} missed.** {harmless} more were harmless: no value left
the tolerance, and the check passed. {alarms} checks failed although nothing was wrong.

{table}

- **refused**: the wrong file does not load or run, or its outputs cannot be compared: the check is an error.
- **caught**: exact arithmetic, independent of harness's own comparison, finds a value outside the tolerance, and the
  check failed.
- **missed**: exact arithmetic finds a value outside the tolerance, but the check passed.
- **by the spec**: within the tolerance of eager torch's outputs, but an expectation of the spec (`expect`) fails.
- **within tolerance**, **unchanged**: some bits changed, or none; no value is outside the tolerance, and the check
  passed.
- **false alarm**: no value is outside the tolerance, but the check failed.

Made by `python -m benchmarks.planted_faults`.
"""


def table(outcomes: Sequence[Outcome], tablefmt: str = "simple") -> str:
    """Return the outcomes as a table by kind."""
    counts = Counter((outcome.kind, outcome.what) for outcome in outcomes)
    kinds = sorted({outcome.kind for outcome in outcomes})
    rows = [(kind, [counts[kind, what] for what in COLUMNS]) for kind in kinds]
    rows.append(("all", [sum(column) for column in zip(*(row for _, row in rows), strict=True)]))
    headers = ("fault", "planted", *COLUMNS)
    return tabulate([(kind, sum(row), *row) for kind, row in rows], headers=headers, tablefmt=tablefmt)


def markdown(outcomes: Sequence[Outcome], *, artifacts: int, cases: int, targets: str, seconds: float) -> str:
    """Return the report in Markdown."""
    counts = Counter(outcome.what for outcome in outcomes)
    return MARKDOWN.format(
        planted=len(outcomes),
        artifacts=artifacts,
        cases=cases,
        targets=targets,
        seconds=seconds,
        about=", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN),
        caught=counts[CAUGHT] + counts[REFUSED],
        matter=sum(counts[what] for what in MATTER),
        missed=counts[MISSED],
        harmless=counts[UNCHANGED] + counts[WITHIN],
        alarms=counts[FALSE_ALARM],
        table=table(outcomes, "github"),
    )
