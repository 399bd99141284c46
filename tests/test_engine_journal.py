"""The journal: an entry is read as it was written, and nothing else is ever taken for one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.journal import Entry, JournalReader, JournalWriter, read_journal
from harness.result import Distance, Finding, Result
from tests.report_samples import AGREES, DIFFERS, FAILED, LATENCY, NOT_A_NUMBER, PASSED

COMPLETE = replace(
    FAILED,
    outputs=(AGREES, DIFFERS, replace(NOT_A_NUMBER, actual_at_worst=1.0, extra={"snr": 3.5})),
    findings=(Finding("shape", passed=True, message="as expected", comparison=DIFFERS),),
    distances=(Distance(0, 0.5, 1.5, "eager"),),
    latency=LATENCY,
    seconds={"export": 1, "load": 0.25},
    notes=("one", "two"),
    placement={"nodes": {"CPU": 3}},
    pictures=({"name": "y"},),
)
ENTRIES = [Entry(COMPLETE, "print", 2, 3), Entry(PASSED, "other")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


@pytest.fixture
def writer(path: Path) -> Iterator[JournalWriter]:
    opened = JournalWriter(path)
    yield opened
    opened.close()


def by_check(*entries: Entry) -> dict[tuple[str, str], Entry]:
    return {(entry.result.case, entry.result.target): entry for entry in entries}


def sealed(record: Any) -> bytes:
    text = json.dumps(record).encode()
    return hashlib.sha256(text).hexdigest()[:16].encode() + b" " + text + b"\n"


def record_of(path: Path) -> dict[str, Any]:
    """The first entry as it is stored."""
    record: dict[str, Any] = json.loads(path.read_bytes().split(b"\n")[0].partition(b" ")[2])
    return record


def test_entries_are_read_as_they_were_written(path: Path, writer: JournalWriter) -> None:
    for entry in ENTRIES:
        writer.add(entry)
    assert read_journal(path) == by_check(*ENTRIES)
    assert read_journal(path.with_name("another")) == {}


def test_the_last_entry_of_a_check_counts(path: Path, writer: JournalWriter) -> None:
    for entry in (Entry(PASSED, "first"), Entry(PASSED, "second")):
        writer.add(entry)
    assert read_journal(path) == by_check(Entry(PASSED, "second"))


def test_two_writers_append_to_one_file(path: Path, writer: JournalWriter) -> None:
    other = JournalWriter(path)
    for entry, by in zip(ENTRIES, (writer, other), strict=True):
        by.add(entry)
    other.close()
    assert read_journal(path) == by_check(*ENTRIES)


def test_a_reader_gets_what_is_written_after_it_was_made_each_once(path: Path, writer: JournalWriter) -> None:
    writer.add(ENTRIES[0])
    reader = JournalReader(path)
    assert list(reader.new_entries()) == []
    writer.add(ENTRIES[1])
    assert list(reader.new_entries()) == [ENTRIES[1]]
    assert list(reader.new_entries()) == []
    reader.close()


def test_a_reader_waits_for_the_rest_of_a_line(path: Path, writer: JournalWriter) -> None:
    reader = JournalReader(path)
    writer.add(ENTRIES[0])
    line = path.read_bytes()
    os.truncate(path, 0)
    other = JournalReader(path)
    with path.open("ab", buffering=0) as file:
        file.write(line[:40])
        assert list(other.new_entries()) == []
        file.write(line[40:])
    assert list(other.new_entries()) == [ENTRIES[0]]
    for each in (reader, other):
        each.close()


def test_a_torn_line_is_ended_and_a_complete_one_is_left_as_it_is(path: Path, writer: JournalWriter) -> None:
    writer.end_torn_line()
    assert path.read_bytes() == b""
    writer.add(ENTRIES[0])
    complete = path.read_bytes()
    writer.end_torn_line()
    assert path.read_bytes() == complete
    with path.open("ab") as file:
        file.write(complete[:50])
    writer.end_torn_line()
    writer.add(ENTRIES[1])
    assert read_journal(path) == by_check(*ENTRIES)


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_line_with_one_bit_changed_does_not_count(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.jsonl"
    path.unlink(missing_ok=True)
    writer = JournalWriter(path)
    writer.add(ENTRIES[0])
    writer.close()
    content = bytearray(path.read_bytes())
    content[position % (len(content) - 1)] ^= 1 << bit
    path.write_bytes(content)
    assert read_journal(path) == {}


RESULT_CHANGES: list[dict[str, Any]] = [
    {"case": 1},
    {"case": None},
    {"status": "right"},
    {"status": 1},
    {"stage": "fly"},
    {"message": ["text"]},
    {"seconds": {"export": "long"}},
    {"seconds": [1.0]},
    {"notes": [1]},
    {"notes": "text"},
    {"outputs": [{"index": 0}]},
    {"findings": [{"what": "shape", "passed": 1, "message": "m", "comparison": None}]},
    {"distances": [{"index": 0, "eager_max_abs": 0.0, "target_max_abs": 0.0, "nearer": "both"}]},
    {"distances": [{"index": 0.5, "eager_max_abs": 0.0, "target_max_abs": 0.0, "nearer": "eager"}]},
    {"placement": "CPU"},
    {"unknown": 1},
]


@pytest.mark.parametrize("changes", RESULT_CHANGES, ids=str)
def test_a_result_with_a_field_of_another_type_is_no_entry(
    path: Path, writer: JournalWriter, changes: dict[str, Any]
) -> None:
    writer.add(ENTRIES[0])
    record = record_of(path)
    path.write_bytes(sealed(record))
    assert read_journal(path) == by_check(ENTRIES[0]), "the unchanged record is an entry"
    path.write_bytes(sealed({**record, "result": {**record["result"], **changes}}))
    assert read_journal(path) == {}


@pytest.mark.parametrize(
    "changes", [{"exported": -1}, {"reused": -1}, {"exported": "1"}, {"exported": 1.5}, {"fingerprint": 1}, {"more": 1}]
)
def test_an_entry_with_a_wrong_field_does_not_count(path: Path, writer: JournalWriter, changes: dict[str, Any]) -> None:
    writer.add(ENTRIES[0])
    path.write_bytes(sealed({**record_of(path), **changes}))
    assert read_journal(path) == {}


def test_counts_of_zero_and_whole_numbers_for_floats_are_right(path: Path) -> None:
    entry = Entry(Result("c", "t", "passed", seconds={"export": 1}), "print", 0, 0)
    writer = JournalWriter(path)
    writer.add(entry)
    writer.close()
    assert read_journal(path) == by_check(entry)


def test_a_folder_or_a_pipe_is_no_journal(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match="exists and is not a file"):
        JournalWriter(path)
    assert read_journal(path) == {}
