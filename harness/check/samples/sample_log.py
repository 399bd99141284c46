"""The rows of the samples of one check, in a file that is added to line by line: an interrupted run goes on from it.

The first line says which check the rows are of and how many there will be, for the progress that the run shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from harness.check.samples.sample_rows import SampleRow
from harness.environment import versions
from harness.errors import DiskFull
from harness.spec.language.case import Case
from harness.spec.targets import Target


class SampleLog:
    """The file of one check's rows in ``folder``; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None, case: Case, target: Target, artifact: str) -> None:
        """``artifact`` is the digest of the file that runs. Rows of another one, or of other versions, do not count."""
        key = hashlib.sha256(f"{case!r} {target} {artifact} {sorted(versions().items())}".encode()).hexdigest()[:32]
        self._path = None if folder is None else folder / f"{key}.jsonl"
        self._head = {"case": case.id, "target": str(target), "of": len(case.samples)}

    def rows(self) -> dict[int, SampleRow]:
        """The rows that an earlier run wrote, by the number of the sample."""
        if self._path is None or not self._path.is_file():
            return {}
        with self._path.open(encoding="utf-8", errors="replace") as lines:
            found = (SampleRow.from_line(line) for line in lines)
            return {row.index: row for row in found if row is not None}

    def add(self, row: SampleRow) -> None:
        """Write one row. Raises :class:`DiskFull` where the disk is full."""
        if self._path is None:
            return
        try:
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(json.dumps(self._head) + "\n", encoding="utf-8")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{row.to_line()}\n")
        except OSError as error:
            message = f"{self._path}: {error.strerror}; make room, then continue with --resume"
            raise DiskFull(message) from error


def progress_of_samples(folder: Path) -> Iterator[str]:
    """One line for each check in ``folder`` that is not done: ``mlp on ort-cpu: 1,200 of 10,000 samples``."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            try:
                head = json.loads(next(lines, b""))
                done = sum(1 for _ in lines)
                if done < head["of"]:
                    yield f"{head['case']} on {head['target']}: {done:,} of {head['of']:,} samples"
            except (ValueError, KeyError, TypeError):
                continue  # cut off, or something else
