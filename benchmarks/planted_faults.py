"""Plants faults in the artifacts of the shipped specs and in the outputs of the runtimes, and counts the caught ones.

    python -m benchmarks.planted_faults [--each N] [--cases TEXT] [--report reports/planted-faults.md]

Every artifact that passes gets faults of N kinds in its file and of N kinds in its outputs, the least planted kinds
first. harness then checks each. The real effect of a fault is determined independently, in exact arithmetic
(``benchmarks.planted.exact``). A fault that moves any value outside the tolerance must be caught. The exit code is 1
if a fault is missed, or if a check fails although nothing is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.planted.bench import WRONG, Bench
from benchmarks.planted.report import markdown, table
from benchmarks.silence import silent
from harness.engine.processes.serving import frozen_from_gc, load_for_exports
from harness.spec.discovery import load_specs
from harness.spec.targets import Target

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (
    Target("onnx-torchscript", "ort-cpu", 17),
    Target("onnx-dynamo", "ort-cpu", 23, fixes=True),
    Target("trace", "torch-cpu"),
)


def main() -> int:
    """Plant faults, count, write the report. Returns 1 if a fault was missed or there is a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=3, help="kinds of faults for each file, and for its outputs")
    parser.add_argument("--cases", default="", help="only cases whose id contains TEXT", metavar="TEXT")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "planted-faults.md")
    arguments = parser.parse_args()
    began = time.monotonic()
    cases = [case for case in load_specs([str(ROOT / "specs")], allow_import=False).cases if arguments.cases in case.id]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder, silent():
        with frozen_from_gc():
            load_for_exports()
        bench = Bench(Path(folder), arguments.each)
        for case in cases:
            bench.plant(case, TARGETS)
    text = markdown(
        bench.outcomes,
        artifacts=bench.artifacts,
        cases=len(cases),
        targets=", ".join(map(str, TARGETS)),
        seconds=time.monotonic() - began,
    )
    arguments.report.write_text(text, encoding="utf-8")
    wrong = [outcome for outcome in bench.outcomes if outcome.what in WRONG]
    print(table(bench.outcomes))
    print(*wrong, sep="\n")
    print(f"{len(bench.outcomes)} faults, {len(wrong)} wrong verdicts; {arguments.report}")
    return 1 if wrong or not bench.outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
