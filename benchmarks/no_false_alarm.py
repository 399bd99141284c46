"""Checks random correct configurations of the study notes' layers, and counts the false alarms.

    python -m benchmarks.no_false_alarm [--configurations 10000] [--seed 0] [--report reports/no-false-alarm.md]

Each configuration is exported with the TorchScript exporter at opset 17 and run in ONNX Runtime. One in ten is also
exported with the new exporter at opset 23, and one in four is traced. The default tolerances apply. Configurations that
the stock exporters are known to get wrong use the fixes; of the others, one half uses them. A mismatch is a false
alarm, unless a sum overflows: if the magnitudes of the terms add up to more than the dtype can hold, the sum may be
infinite in one order of summation and finite in another. The exit code is 1 if there is a false alarm.
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
from harness.engine.processes.serving import frozen_from_gc, load_for_specs
from harness.environment import versions

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("torch", "onnx", "onnxruntime")
MARKDOWN = """\
# No false alarm

{configurations} random configurations of the study notes' layers, {checks} checks; {seconds:.0f} s with {about},
seed {seed}.

**{alarms} false alarms.** Arguments, shapes, layouts and dtypes (float16, float32 and float64, and int8 and uint8 for
MaxPool2d) are random. Values range from the smallest subnormal to the largest number; they are equal, mixed or signed
zeros, and NaN and infinities for layers that only select, move or map values. Every configuration is exported with
onnx-torchscript@17, one in four is traced, and one in ten is exported with onnx-dynamo@23. Configurations that a stock
exporter is known to get wrong use the fixes; of the others, one half uses them and one half does not.

{table}

- **agree**: the check passed under the layer's default tolerance.
- **overflow**: finite on one side and infinite on the other, and the magnitudes of the terms add up to more than the
  dtype can hold. The result depends on the order of summation, and neither side is wrong.
- **not supported**: the runtime reports that it has no kernel.
- **tolerance used**: the largest error of any element, divided by its tolerance; *exact* if all elements are equal.

Made by `python -m benchmarks.no_false_alarm`.
"""


def table(tallies: Mapping[tuple[str, str], Tally], tablefmt: str = "simple") -> str:
    """Return the outcomes of the checks as a table by layer and exporter."""
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
    """Generate configurations, check them, write the report. Returns 1 if there is a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "no-false-alarm.md")
    arguments = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="correct-") as folder, silent():
        with frozen_from_gc():
            load_for_specs()
        bench = Bench(Path(folder), arguments.seed)
        for _ in range(arguments.configurations):
            bench.check(bench.draw())
    text = MARKDOWN.format(
        configurations=arguments.configurations,
        checks=sum(tally.counts.total() for tally in bench.tallies.values()),
        seconds=time.monotonic() - began,
        about=", ".join(f"{name} {number}" for name, number in versions().items() if name in SHOWN),
        seed=arguments.seed,
        alarms=len(bench.alarms),
        table=table(bench.tallies, "github"),
    )
    arguments.report.write_text(text, encoding="utf-8")
    print(table(bench.tallies))
    print(*bench.alarms, sep="\n")
    print(f"{arguments.configurations} configurations, {len(bench.alarms)} false alarms; {arguments.report}")
    return 1 if bench.alarms or not bench.tallies else 0


if __name__ == "__main__":
    sys.exit(main())
