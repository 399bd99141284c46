"""The committed report: the figures of all parts, with the date and the load of each measurement."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmarks.speed.parts import Row
from harness.environment import versions

SHOWN = ("torch", "onnx", "onnxruntime", "onnxscript")
KEPT = re.compile(r"<!-- (\{.*\}) -->")
MARKDOWN = """\
# The speed of harness

{about}

{table}

{details}

{whys}\
**Size** is the amount of work of a part: `whole`, or `quick` with less precise figures. **Load** is the mean number of
processes that needed a core during the measurement, including those of the part. Above {cores}, the machine was shared,
and times are longer than on an idle machine; ratios of alternating runs are affected less.

- **The plain loop** is [`benchmarks/speed/plain_loop.py`](../benchmarks/speed/plain_loop.py): public calls only, the
  same layers, arguments, shapes and targets, in one new process.
- **Harness's own share** is a worker's time outside the public calls of torch, onnx and ONNX Runtime, measured with
  only those calls timed. harness makes these calls many times faster than the plain loop does, and the faster the
  exporters are, the larger this share is. It depends on the disk: for minutes after many files were deleted, ext4 takes
  up to ten times as long to create new ones.
- **A second run** finds every exported file in the cache, and loads, runs and compares all of them again.
- **The time per case** leaves out the start and the first ten cases, which load what is needed at the first use.
- **Large models** run beside [`benchmarks/speed/large_models.py`](../benchmarks/speed/large_models.py). Both sides keep
  Python's bytecode, as installed packages do.

Made by `python -m benchmarks.performance`.

<!-- {kept} -->
"""


@dataclass(frozen=True)
class Measured:
    """The rows of one part, with the date, versions and load of the measurement."""

    rows: Sequence[Row]
    quick: bool
    seconds: float
    load: float
    on: str
    by: str

    @classmethod
    def now(cls, rows: Sequence[Row], *, quick: bool, seconds: float) -> Measured:
        """Return the rows with the current date, versions and load."""
        by = ", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN)
        return cls(rows, quick, seconds, os.getloadavg()[1], time.strftime("%Y-%m-%d", time.gmtime()), by)


def markdown(parts: Mapping[str, Measured]) -> str:
    """Return the whole report in Markdown."""
    rows = [
        (row.what, f"{row.figure:.3g} {row.unit}", _goal(row), "yes" if row.met else "**no**", *_when(part))
        for part in parts.values()
        for row in part.rows
    ]
    headers = ("figure", "measured", "goal", "met", "size", "load")
    details = [f"- {row.what}: {row.how}." for part in parts.values() for row in part.rows]
    unmet = [row for part in parts.values() for row in part.rows if not row.met and row.why]
    newest = max(parts.values(), key=lambda part: part.on)
    cores = len(os.sched_getaffinity(0))
    return MARKDOWN.format(
        about=f"Measured on {newest.on} with {newest.by}, on {cores} cores.",
        table=tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True),
        details="\n".join(details),
        whys="".join(map(_profile, unmet)),
        cores=cores,
        kept=json.dumps({name: asdict(part) for name, part in parts.items()}),
    )


def measured_before(report: Path) -> dict[str, Measured]:
    """Return the measurements of an earlier report by part; empty if there is no report."""
    match = KEPT.search(report.read_text(encoding="utf-8")) if report.exists() else None
    kept = json.loads(match[1]) if match else {}
    return {name: Measured(**{**part, "rows": [_row(row) for row in part["rows"]]}) for name, part in kept.items()}


def _row(kept: Mapping[str, Any]) -> Row:
    return Row(**{**kept, "why": tuple(kept.get("why", ()))})


def _profile(row: Row) -> str:
    """Return the profile of a figure that misses its goal."""
    return "\n".join([f"## Not reached: {row.what}", "", *(f"- {line}" for line in row.why), "", ""])


def _goal(row: Row) -> str:
    return f"{'at least' if row.at_least else 'at most'} {row.bound:g} {row.unit}"


def _when(part: Measured) -> tuple[str, str]:
    return "quick" if part.quick else "whole", f"{part.load:.1f}"
