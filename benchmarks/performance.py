"""How quick harness is, beside what it is measured against, in one run on the same work; writes the report on it.

    python -m benchmarks.performance [PART ...] [--quick] [--report reports/performance.md]

Every process is fresh, and the two sides of a ratio run one after the other, in turn, so that a machine that slows down
slows both. Nothing is deleted before all is measured: for minutes after many files were deleted, ext4 takes up to ten
times as long to make new ones. Parts that are not named keep what the report says of them. ``polygraphy`` needs
``pip install 'parity-harness[bench]'``. The exit code is 1 where a figure is not what is asked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from benchmarks.speed.parts import PARTS, QUICK, WHOLE
from benchmarks.speed.process import made
from benchmarks.speed.report import Measured, markdown, measured_before
from benchmarks.speed.work import ROOT


def main() -> int:
    """Measure, print, write; 1 where a figure of this run is not what is asked."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all if none is named")
    asked.add_argument("--quick", action="store_true", help="less work: minutes for everything, rougher figures")
    asked.add_argument("--report", type=Path, default=ROOT / "reports" / "performance.md")
    given = asked.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        asked.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    measured = measured_before(given.report)
    met = True
    with tempfile.TemporaryDirectory(prefix="performance-") as kept:
        for part in given.parts or PARTS:
            began = time.perf_counter()
            rows = PARTS[part](QUICK if given.quick else WHOLE, made(Path(kept, part)))
            measured[part] = Measured.now(rows, quick=given.quick, seconds=time.perf_counter() - began)
            met &= all(row.met for row in rows)
            print(tabulate([(row.what, f"{row.figure:.3g} {row.unit}", row.how) for row in rows], tablefmt="plain"))
            given.report.write_text(
                markdown({name: measured[name] for name in PARTS if name in measured}), encoding="utf-8"
            )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
