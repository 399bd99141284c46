"""Measures the speed of harness and of what it is compared with, on the same work, and writes the report.

    python -m benchmarks.performance [PART ...] [--quick] [--report reports/performance.md]

Every process is new. The two sides of a ratio alternate, so a machine that slows down affects both. Nothing is deleted
before all parts are measured: for minutes after many files were deleted, ext4 takes up to ten times as long to create
new ones. Parts that are not named keep their earlier results in the report. ``polygraphy`` needs
``pip install '.[bench]'`` in a clone. The exit code is 1 if a figure misses its goal.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from benchmarks.speed.parts import PARTS, QUICK, WHOLE
from benchmarks.speed.process import created
from benchmarks.speed.report import Measured, markdown, measured_before
from benchmarks.speed.work import ROOT


def main() -> int:
    """Measure, print, write the report. Returns 1 if a figure of this run misses its goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="less work: minutes for all parts, less precise figures")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "performance.md")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    measured = measured_before(arguments.report)
    met = True
    with tempfile.TemporaryDirectory(prefix="performance-") as kept:
        for part in arguments.parts or PARTS:
            began = time.perf_counter()
            rows = PARTS[part](QUICK if arguments.quick else WHOLE, created(Path(kept, part)))
            measured[part] = Measured.now(rows, quick=arguments.quick, seconds=time.perf_counter() - began)
            met &= all(row.met for row in rows)
            print(tabulate([(row.what, f"{row.figure:.3g} {row.unit}", row.how) for row in rows], tablefmt="plain"))
            arguments.report.write_text(
                markdown({name: measured[name] for name in PARTS if name in measured}), encoding="utf-8"
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
