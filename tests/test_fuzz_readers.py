"""The benchmark of corrupted files, on a small scale: each file is read or refused. Any other exception is a bug."""

from __future__ import annotations

import pytest

from benchmarks.fuzz_readers import Tally, chunk, one
from benchmarks.fuzzing.readers import READERS, Reader, scratch


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_every_reader_reads_or_refuses_corrupted_files(reader: Reader) -> None:
    tally = chunk(READERS.index(reader), 40, "in small")
    assert tally.findings == []
    assert tally.read + tally.refused == 40


def test_a_readers_traceback_is_a_finding() -> None:
    def fails(_folder: object, content: bytes) -> object:
        return content.decode("ascii")

    tally = Tally("fails")
    one(Reader("fails", 1, list, fails), scratch(), b"\xff", tally)
    assert "UnicodeDecodeError" in tally.findings[0][0]
