"""The committed report: what was measured, when, and under which load; parts measured apart stand side by side."""

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
# How quick harness is

{about}

{table}

{details}

{whys}\
**Size** is how much work a part did: `whole`, or `quick` with rougher figures. **Load** is the mean number of processes
that wanted a core while it was measured, its own among them: above {cores}, this machine was shared, and seconds are
longer than they need be; ratios of runs in turn suffer less.

- **The plain loop** is [`benchmarks/speed/plain_loop.py`](../benchmarks/speed/plain_loop.py): public calls alone, the
  same layers, arguments, shapes and targets, in one fresh process.
- **Harness's own share** is all of a worker's time outside the public calls of torch, onnx and ONNX Runtime, measured
  with nothing but those calls timed. It is a share of calls that harness makes many times quicker than the plain loop
  has them: what makes the exporters quicker makes this share larger. It depends on the disk: for minutes after many
  files were deleted, ext4 takes up to ten times as long to make new ones.
- **A second run** finds every exported file in the cache, loads, runs and compares all of them again.
- **Seconds a case** leave out the start, and what the first ten cases take, since they load what is used first.

Made by `python -m benchmarks.performance`.

<!-- {kept} -->
"""


@dataclass(frozen=True)
class Measured:
    """One part's rows, when they were measured and under which load."""

    rows: Sequence[Row]
    quick: bool
    seconds: float
    load: float
    on: str
    by: str

    @classmethod
    def now(cls, rows: Sequence[Row], *, quick: bool, seconds: float) -> Measured:
        """The rows with the circumstances of this moment."""
        by = ", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN)
        return cls(rows, quick, seconds, os.getloadavg()[1], time.strftime("%Y-%m-%d", time.gmtime()), by)


def markdown(parts: Mapping[str, Measured]) -> str:
    """The whole report."""
    rows = [
        (row.what, f"{row.figure:.3g} {row.unit}", _asked(row), "yes" if row.met else "**no**", *_when(part))
        for part in parts.values()
        for row in part.rows
    ]
    headers = ("figure", "measured", "asked", "met", "size", "load")
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
    """What an earlier report says, by part; nothing where there is none."""
    found = KEPT.search(report.read_text(encoding="utf-8")) if report.exists() else None
    kept = json.loads(found[1]) if found else {}
    return {name: Measured(**{**part, "rows": [_row(row) for row in part["rows"]]}) for name, part in kept.items()}


def _row(kept: Mapping[str, Any]) -> Row:
    return Row(**{**kept, "why": tuple(kept.get("why", ()))})


def _profile(row: Row) -> str:
    """Why the figure is what it is."""
    return "\n".join([f"## Not reached: {row.what}", "", *(f"- {line}" for line in row.why), "", ""])


def _asked(row: Row) -> str:
    return f"{'at least' if row.at_least else 'at most'} {row.bound:g} {row.unit}"


def _when(part: Measured) -> tuple[str, str]:
    return "quick" if part.quick else "whole", f"{part.load:.1f}"
