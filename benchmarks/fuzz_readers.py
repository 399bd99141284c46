"""Gives every reader of harness spoilt files: each must be read, or refused in harness's own words, and in time.

    python -m benchmarks.fuzz_readers [--inputs 100000] [--seed 0] [--report reports/fuzzing.md]

A finding is an exception that is none of harness's own, which a user would see as a traceback, or an input that takes
longer than ten seconds. The exit code is 1 where there is one; the inputs are kept in build/fuzzing.
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
    """An input took too long; no ``except Exception`` may take it for its own."""


@dataclass
class Told:
    """What came of a reader's inputs: how many were read and refused, the slowest, and what should not have been."""

    reader: str
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    findings: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, other: Told) -> None:
        """Take another's figures in."""
        self.read += other.read
        self.refused += other.refused
        self.slowest = max(self.slowest, other.slowest)
        self.seconds += other.seconds
        self.findings += other.findings


def main() -> int:
    """Fuzz, print and write the table; 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", type=Path)
    asked = parser.parse_args()
    told = {reader.name: Told(reader.name) for reader in READERS}
    with ProcessPoolExecutor(asked.workers) as pool:
        for part in pool.map(chunk, *zip(*_chunks(asked.inputs, asked.seed), strict=True)):
            told[part.reader].add(part)
    text = _report(list(told.values()), asked.inputs, asked.seed)
    print(text)
    if asked.report:
        asked.report.write_text(text, encoding="utf-8")
    return _keep(list(told.values()))


def _chunks(inputs: int, seed: int) -> Iterator[tuple[int, int, str]]:
    whole = sum(reader.weight for reader in READERS)
    for at, reader in enumerate(READERS):
        left = -(-inputs * reader.weight // whole)
        for number in range(-(-left // CHUNK)):
            yield at, min(CHUNK, left - number * CHUNK), f"{seed}/{reader.name}/{number}"


def chunk(at: int, count: int, seed: str) -> Told:
    """Give reader number ``at`` so many spoilt files, drawn from ``seed``."""
    reader, random = READERS[at], Random(seed)
    told, folder, material = Told(reader.name), scratch(), reader.material()
    signal.signal(signal.SIGALRM, _hang)
    try:
        for _ in range(count):
            one(reader, folder, reader.spoil(random.choice(material), random), told)
    finally:
        shutil.rmtree(folder)
    return told


def one(reader: Reader, folder: Path, content: bytes, told: Told) -> None:
    """Give the reader one file, and write down what it says."""
    began = time.perf_counter()
    signal.alarm(SECONDS)
    try:
        reader.read(folder, content)
        told.read += 1
    except HarnessError:
        told.refused += 1
    except (Exception, Hang):  # noqa: BLE001 - each of them is a finding
        told.findings.append((traceback.format_exc(limit=-3), content))
    finally:
        signal.alarm(0)
        took = time.perf_counter() - began
        told.seconds += took
        told.slowest = max(told.slowest, took)


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f"longer than {SECONDS} s")


def _report(told: Sequence[Told], inputs: int, seed: int) -> str:
    rows = [
        [one.reader, one.read + one.refused + len(one.findings), one.read, one.refused, len(one.findings), one.slowest]
        for one in told
    ]
    total = sum(one.read + one.refused + len(one.findings) for one in told)
    table = tabulate(
        rows,
        ["reader", "inputs", "read", "refused", "findings", "slowest s"],
        tablefmt="github",
        floatfmt=".3f",
        intfmt=",",
    )
    about = f"""# Spoilt files

`python -m benchmarks.fuzz_readers --inputs {inputs} --seed {seed}` gave the readers {total:,} spoilt files:
shipped ones with bytes, words, lines and nests changed. A file must be read, or refused in one of harness's
own errors; a finding would be a traceback, or more than {SECONDS} s.
"""
    return f"{about}\n{table}\n"


def _keep(told: Sequence[Told]) -> int:
    """Write the inputs of findings down, one for each kind; 1 where there is any."""
    kinds: Counter[str] = Counter()
    for one in told:
        for said, content in one.findings:
            last = said.strip().splitlines()[-1][:100]
            kinds[f"{one.reader}: {last}"] += 1
            if kinds[f"{one.reader}: {last}"] == 1:
                KEPT.mkdir(parents=True, exist_ok=True)
                name = f"{one.reader.replace(' ', '-')}-{len(kinds)}"
                (KEPT / name).write_bytes(content)
                print(f"{KEPT / name}\n{said}", file=sys.stderr)
    for kind, times in kinds.most_common():
        print(f"{times:6} {kind}", file=sys.stderr)
    return 1 if kinds else 0


if __name__ == "__main__":
    raise SystemExit(main())
