"""Gives corrupted files to every reader of harness. Each file must be read or refused, in limited time.

    python -m benchmarks.fuzz_readers [--inputs 100000] [--seed 0] [--report reports/fuzzing.md]

A finding is an exception that is not one of harness's own errors, which a user would see as a traceback, or an input
that takes longer than ten seconds. The exit code is 1 if there is a finding; its inputs are written to build/fuzzing.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType

from tabulate import tabulate

from benchmarks.fuzzing.readers import READERS, Reader, scratch
from harness.errors import HarnessError

SECONDS = 10
CHUNK = 500
KEPT = Path("build/fuzzing")


class Hang(BaseException):
    """An input took too long. It is a BaseException, so no ``except Exception`` catches it."""


@dataclass
class Tally:
    """The outcomes of one reader: how many inputs were read and refused, the seconds, and the findings."""

    reader: str
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    findings: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the outcomes of ``other``."""
        self.read += other.read
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.seconds += other.seconds
        self.findings += other.findings


def main() -> int:
    """Run, print and write the table. Returns 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    tallies = {reader.name: Tally(reader.name) for reader in READERS}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for part in pool.map(chunk, *zip(*_chunks(arguments.inputs, arguments.seed), strict=True)):
            tallies[part.reader].add(part)
    text = _report(list(tallies.values()), arguments.inputs, arguments.seed)
    print(text)
    if arguments.report:
        arguments.report.write_text(text, encoding="utf-8")
    return _keep(list(tallies.values()))


def _chunks(inputs: int, seed: int) -> Iterator[tuple[int, int, str]]:
    whole = sum(reader.weight for reader in READERS)
    for at, reader in enumerate(READERS):
        left = -(-inputs * reader.weight // whole)
        for number in range(-(-left // CHUNK)):
            yield at, min(CHUNK, left - number * CHUNK), f"{seed}/{reader.name}/{number}"


def chunk(at: int, count: int, seed: str) -> Tally:
    """Give reader number ``at`` ``count`` corrupted files, generated from ``seed``."""
    reader, random = READERS[at], Random(seed)
    tally, folder, material = Tally(reader.name), scratch(), reader.material()
    signal.signal(signal.SIGALRM, _hang)
    try:
        for _ in range(count):
            one(reader, folder, reader.corrupt(random.choice(material), random), tally)
    finally:
        shutil.rmtree(folder)
    return tally


def one(reader: Reader, folder: Path, content: bytes, tally: Tally) -> None:
    """Give the reader one file, and record the outcome."""
    began = time.perf_counter()
    signal.alarm(SECONDS)
    try:
        reader.read(folder, content)
        tally.read += 1
    except HarnessError:
        tally.refused += 1
    except (Exception, Hang):  # noqa: BLE001 - any other exception is a finding
        tally.findings.append((traceback.format_exc(limit=-3), content))
    finally:
        signal.alarm(0)
        took = time.perf_counter() - began
        tally.seconds += took
        tally.slowest = max(tally.slowest, took)


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f"longer than {SECONDS} s")


def _report(tallies: Sequence[Tally], inputs: int, seed: int) -> str:
    rows = [
        [one.reader, one.read + one.refused + len(one.findings), one.read, one.refused, len(one.findings), one.slowest]
        for one in tallies
    ]
    total = sum(one.read + one.refused + len(one.findings) for one in tallies)
    table = tabulate(
        rows,
        ["reader", "inputs", "read", "refused", "findings", "slowest s"],
        tablefmt="github",
        floatfmt=".3f",
        intfmt=",",
    )
    about = f"""# Corrupted files

`python -m benchmarks.fuzz_readers --inputs {inputs} --seed {seed}` gave the readers {total:,} corrupted files:
shipped files with changed bytes, words, lines and nesting. A file must be read, or refused with one of harness's
own errors. A finding is a traceback, or more than {SECONDS} s.
"""
    return f"{about}\n{table}\n"


def _keep(tallies: Sequence[Tally]) -> int:
    """Write one input of each kind of finding to build/fuzzing. Returns 1 if there is a finding."""
    kinds: Counter[str] = Counter()
    for one in tallies:
        for details, content in one.findings:
            last = details.strip().splitlines()[-1][:100]
            kinds[f"{one.reader}: {last}"] += 1
            if kinds[f"{one.reader}: {last}"] == 1:
                KEPT.mkdir(parents=True, exist_ok=True)
                name = f"{one.reader.replace(' ', '-')}-{len(kinds)}"
                (KEPT / name).write_bytes(content)
                print(f"{KEPT / name}\n{details}", file=sys.stderr)
    for kind, times in kinds.most_common():
        print(f"{times:6} {kind}", file=sys.stderr)
    return 1 if kinds else 0


if __name__ == "__main__":
    raise SystemExit(main())
