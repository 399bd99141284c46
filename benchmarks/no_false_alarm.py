"""Checks random correct configurations of the notes' layers, and counts the checks that fail although nothing is wrong.

    python -m benchmarks.no_false_alarm [--configurations 10000] [--seed 0] [--report reports/no-false-alarm.md]

Each is taken to ONNX Runtime through the TorchScript exporter at opset 17, one in ten through the new exporter at opset
23 as well, and one in four to torch's own tracing, under the default tolerances: with the fixes where the stock
exporters are known to be wrong, and of the others one half with them and one half without. A mismatch is a false alarm,
unless terms overflow: magnitudes that add up to more than the dtype can hold may be summed to infinity in one order
and not in another. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tabulate import tabulate

from benchmarks.correct.bench import COUNTED, Bench, Tally
from benchmarks.silence import silent
from harness.engine.processes.libraries import frozen_from_gc, load_for_specs
from harness.environment import versions

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("torch", "onnx", "onnxruntime")
MARKDOWN = """\
# No false alarm

{configurations} random configurations of the notes' layers, {checks} checks; {seconds:.0f} s with {about}, seed {seed}.

**{alarms} false alarms.** Arguments, shapes, layouts, float16, float32 and float64 (and int8 and uint8 for MaxPool2d)
are drawn freely; values are of every size from the least subnormal to the greatest number, equal, mixed, signed zeros,
and NaN and infinities where a layer only chooses, moves or maps them. Every configuration goes through
onnx-torchscript@17, one in four is traced, and one in ten goes through onnx-dynamo@23; with the fixes where a stock
exporter is known to be wrong, and of the others one half with them and one half as PyTorch ships it.

{table}

- **agree**: the check passed under the layer's default tolerance.
- **overflow**: finite on one side and infinite on the other, where the terms' magnitudes add up to more than the dtype
  holds: the order of summation decides, and no answer is right.
- **not supported**: the runtime says that it has no kernel.
- **tolerance used**: how much of its tolerance the farthest element used up; *exact* where all are equal.

Made by `python -m benchmarks.no_false_alarm`.
"""


def table(tallies: Mapping[tuple[str, str], Tally], tablefmt: str = "simple") -> str:
    """What came of the checks, by layer and exporter."""
    rows = [
        (
            *name,
            *(tally.counts[what] for what in COUNTED),
            tally.elements,
            f"{tally.nearest:.2f}" if tally.nearest else "exact",
        )
        for name, tally in sorted(tallies.items())
    ]
    headers = ("layer", "exporter", *COUNTED, "elements", "tolerance used")
    return tabulate(rows, headers=headers, tablefmt=tablefmt)


def main() -> int:
    """Draw, check, report; 1 where a check failed although nothing was wrong."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--configurations", type=int, default=10_000)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--report", type=Path, default=ROOT / "reports" / "no-false-alarm.md")
    given = asked.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="correct-") as folder, silent():
        with frozen_from_gc():
            load_for_specs()
        bench = Bench(Path(folder), given.seed)
        for _ in range(given.configurations):
            bench.check(bench.draw())
    said = MARKDOWN.format(
        configurations=given.configurations,
        checks=sum(tally.counts.total() for tally in bench.tallies.values()),
        seconds=time.monotonic() - began,
        about=", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN),
        seed=given.seed,
        alarms=len(bench.alarms),
        table=table(bench.tallies, "github"),
    )
    given.report.write_text(said, encoding="utf-8")
    print(table(bench.tallies))
    print(*bench.alarms, sep="\n")
    print(f"{given.configurations} configurations, {len(bench.alarms)} false alarms; {given.report}")
    return 1 if bench.alarms or not bench.tallies else 0


if __name__ == "__main__":
    sys.exit(main())
