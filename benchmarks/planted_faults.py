"""Plants faults in what the exporters wrote for the shipped specs and in what the runtimes answered, and counts.

    python -m benchmarks.planted_faults [--each N] [--cases TEXT] [--report reports/planted-faults.md]

Every artifact that passes is given faults of N kinds in its file and of N kinds in its answers, the kinds that were
planted least so far first. The product's own check then says what it makes of each; what the fault really did is found
out apart from it, in exact arithmetic (``benchmarks.planted.truth``). A fault that puts any result beyond the
tolerance must be caught: the exit code is 1 if one is missed, or if a check fails although nothing is wrong.
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
from harness.engine.processes.libraries import frozen_from_gc, load_for_exports
from harness.spec.discovery import load_specs
from harness.spec.targets import Target

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (
    Target("onnx-torchscript", "ort-cpu", 17),
    Target("onnx-dynamo", "ort-cpu", 23, fixes=True),
    Target("trace", "torch-cpu"),
)


def main() -> int:
    """Plant, count, report; 1 where a fault was missed or a check failed over nothing."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--each", type=int, default=3, help="kinds of faults for each file, and for each answer")
    asked.add_argument("--cases", default="", help="only cases whose id holds this text")
    asked.add_argument("--report", type=Path, default=ROOT / "reports" / "planted-faults.md")
    given = asked.parse_args()
    began = time.monotonic()
    cases = [case for case in load_specs([str(ROOT / "specs")], allow_import=False).cases if given.cases in case.id]
    with tempfile.TemporaryDirectory(prefix="planted-") as folder, silent():
        with frozen_from_gc():
            load_for_exports()
        bench = Bench(Path(folder), given.each)
        for case in cases:
            bench.plant(case, TARGETS)
    said = markdown(
        bench.outcomes,
        artifacts=bench.artifacts,
        cases=len(cases),
        targets=", ".join(map(str, TARGETS)),
        seconds=time.monotonic() - began,
    )
    given.report.write_text(said, encoding="utf-8")
    wrong = [outcome for outcome in bench.outcomes if outcome.what in WRONG]
    print(table(bench.outcomes))
    print(*wrong, sep="\n")
    print(f"{len(bench.outcomes)} faults, {len(wrong)} wrong verdicts; {given.report}")
    return 1 if wrong or not bench.outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
