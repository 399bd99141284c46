"""Measures how long `harness run --watch` takes from the save of a spec to its verdict.

    python -m benchmarks.watch [--saves N] [--targets LIST]

Each save changes the inputs of the only case, so that every target exports anew. Prints the median and the slowest, and
the load of the machine, without which the figures say little. The exit code is 1 if the median misses 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

GOAL_S = 0.5
SPEC = "harness: 1\nlayer: ReLU\ncases:\n  - {{name: signed, inputs: {{x: {{values: [1.0, {number}]}}}}}}\n"
ANSWERED = b"Ctrl-C ends"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measures the answers of harness run --watch.")
    parser.add_argument("--saves", type=int, default=10)
    parser.add_argument("--targets", default="default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = answers(Path(folder), options.saves, options.targets)
    load = os.getloadavg()[0]
    print(f"median {median(times):.2f} s, slowest {max(times):.2f} s, of {len(times)} saves; load {load:.1f}")
    return int(median(times) > GOAL_S)


def answers(folder: Path, saves: int, targets: str) -> list[float]:
    """The seconds from each of ``saves`` saves to the answer on ``targets``."""
    spec = folder / "relu.yaml"
    spec.write_text(SPEC.format(number=-1.0), encoding="utf-8")
    command = [sys.executable, "-m", "harness", "run", "relu.yaml", "--watch", "--targets", targets]
    environment = os.environ | {
        "HARNESS_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
    }
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as run:
        assert run.stderr is not None
        times = []
        for save in range(saves + 1):
            began = time.perf_counter()
            if save:  # the first answer needs none
                spec.write_text(SPEC.format(number=-1.0 - save / 8), encoding="utf-8")
            for line in run.stderr:
                if ANSWERED in line:
                    break
            else:
                raise SystemExit("harness ended before it answered")
            times.append(time.perf_counter() - began)
        run.send_signal(signal.SIGINT)
        run.wait()
    return times[1:]


if __name__ == "__main__":
    sys.exit(main())
