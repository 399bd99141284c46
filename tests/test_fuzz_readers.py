"""The benchmark of spoilt files, in small: every reader bears some, and what is no error of harness's own is found."""

from __future__ import annotations

import pytest

from benchmarks.fuzz_readers import Told, chunk, one
from benchmarks.fuzzing.readers import READERS, Reader, scratch


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_every_reader_bears_spoilt_files(reader: Reader) -> None:
    told = chunk(READERS.index(reader), 40, "in small")
    assert told.findings == []
    assert told.read + told.refused == 40


def test_a_readers_traceback_is_a_finding() -> None:
    def stumbles(_folder: object, content: bytes) -> object:
        return content.decode("ascii")

    told = Told("stumbles")
    one(Reader("stumbles", 1, list, stumbles), scratch(), b"\xff", told)
    assert "UnicodeDecodeError" in told.findings[0][0]
