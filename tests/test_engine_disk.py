"""A disk that is full, read-only, damaged or shared: a clear error or a new entry, never a wrong result."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call, Ran
from tests.misbehaving import INVALID_ENTRIES, with_checksum
from tests.running import Running, report_in, rows_of

LAYERS = """
harness: 1
layer: LeakyReLU
cases:
  - {name: good, args: {negative_slope: 0.1}, inputs: {x: {shape: [2, 3]}}}
  - {name: refused, args: {negative_slope: 1}, inputs: {x: {values: [1.0, -2.0]}}}
"""
ON = ("--no-latency", "-j", "2", "--targets", "trace/torch-cpu,script/torch-cpu,onnx-torchscript@17/ort-cpu")
EXPORTS = 6
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
IN_A_PROCESS = (*ON[:-1], "trace/torch-cpu,script/torch-cpu")  # a new process starts faster with these targets


@pytest.fixture
def specs(here: Path, spec: Callable[[str, str], Path]) -> Path:
    """Two cases, one of which an exporter refuses, and an existing cache."""
    spec("layers.yaml", LAYERS)
    (here / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)
    return here


def exports(ran: Ran) -> tuple[int, int]:
    """Return how many exports were made and how many came from the cache."""
    counts = ran.report["run"]["exports"]
    return counts["made"], counts["from_cache"]


def test_a_second_run_exports_nothing(harness: Call, specs: Path) -> None:
    first = harness("run", "specs", *ON)
    assert exports(first) == (EXPORTS, 0)
    assert first.rows["layers/refused", "script/torch-cpu"]["stage"] == "export"
    second = harness("run", "specs", *ON)
    assert exports(second) == (0, EXPORTS), "refusals of exporters are cached too"
    assert rows_of(second.report) == rows_of(first.report)
    assert "0 exports made, 6 from the cache." in second.out
    assert "0 exports made, 6 from the cache." in (specs / "reports/latest/report.md").read_text(encoding="utf-8")

    spec = specs / "specs/layers.yaml"
    spec.write_text(spec.read_text().replace("0.1", "0.2"), encoding="utf-8")
    assert exports(harness("run", "specs", *ON)) == (3, 3), "only changed cases are exported again"
    assert exports(harness("run", "specs", *ON, "--no-cache")) == (EXPORTS, 0)


def halved(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("which", "damage"),
    [
        ("entry.json", halved),
        ("entry.json", flipped),
        ("entry.json", Path.unlink),
        ("model.*", flipped),
        ("model.*", emptied),
    ],
)
def test_a_damaged_entry_is_exported_again(
    harness: Call, specs: Path, which: str, damage: Callable[[Path], None]
) -> None:
    first = harness("run", "specs", *ON)
    damaged = [path for path in (specs / "cache").rglob(which) if path.is_file()]
    assert damaged
    for path in damaged:
        damage(path)
    again = harness("run", "specs", *ON)
    assert exports(again) == (len(damaged), EXPORTS - len(damaged))
    assert rows_of(again.report) == rows_of(first.report)
    assert exports(harness("run", "specs", *ON)) == (0, EXPORTS)
    assert not list((specs / "cache/artifacts/drafts").iterdir())


def test_a_swapped_model_is_exported_again(harness: Call, specs: Path) -> None:
    """Each model is complete and valid, but one is stored under the other's key."""
    first = harness("run", "specs", *ON)
    first_model, second_model = sorted((specs / "cache").rglob("model.onnx"))
    shutil.copy(first_model, second_model)
    again = harness("run", "specs", *ON)
    assert exports(again) == (1, EXPORTS - 1)
    assert rows_of(again.report) == rows_of(first.report)


def test_a_pipe_in_the_place_of_a_file_blocks_nothing(harness: Call, specs: Path) -> None:
    first = harness("run", "specs", *ON)
    entries = sorted((specs / "cache").rglob("entry.json"))
    for path in (entries[0], next(entries[-1].parent.glob("model.*"), entries[-1])):
        path.unlink()
        os.mkfifo(path)
    again = harness("run", "specs", *ON)
    assert exports(again) == (2, EXPORTS - 2)
    assert rows_of(again.report) == rows_of(first.report)

    os.mkfifo(specs / "reports/latest/journal.jsonl")
    for more in ((), ("--resume",)):
        ran = harness("run", "specs", *ON, *more)
        assert (ran.code, ran.out) == (2, "")
        assert "journal.jsonl exists and is not a file" in ran.err
        assert len(ran.err.splitlines()) == 1


def test_a_line_with_a_valid_checksum_that_is_no_entry_does_not_count(harness: Call, specs: Path) -> None:
    first = harness("run", "specs", *ON)
    journal = specs / "reports/latest/journal.jsonl"
    journal.write_bytes(b"".join(map(with_checksum, INVALID_ENTRIES)))
    again = harness("run", "specs", *ON, "--resume")
    assert (again.code, again.err) == (first.code, first.err)
    assert rows_of(again.report) == rows_of(first.report)


def test_two_runs_over_one_cache_at_once(harness: Call, specs: Path) -> None:
    runs = [Running(specs, "run", "specs", *IN_A_PROCESS, "--report-dir", name) for name in ("first", "second")]
    ended = [run.end() for run in runs]
    assert [(code, err) for code, _, err in ended] == [(1, ""), (1, "")]
    first, second = report_in(specs / "first"), report_in(specs / "second")
    assert rows_of(first) == rows_of(second)
    third = harness("run", "specs", *IN_A_PROCESS)
    assert exports(third) == (0, 4)
    assert rows_of(third.report) == rows_of(first)


@pytest.mark.parametrize("max_bytes", [300, 2_000])
def test_a_full_disk_is_no_verdict(harness: Call, specs: Path, max_bytes: int) -> None:
    """No file of the run can be larger than ``max_bytes``."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))

    code, out, err = Running(specs, "run", "specs", *IN_A_PROCESS, limit=limit).end()
    assert code == 3
    assert len(err.splitlines()) == 1
    assert "make room" in err
    assert "expected" not in out
    assert not (specs / "reports/latest/report.json").exists()

    resumed = harness("run", "specs", *IN_A_PROCESS, "--resume")
    complete = harness("run", "specs", *IN_A_PROCESS, "--no-cache", "--report-dir", "complete")
    assert resumed.code == complete.code == 1
    assert rows_of(resumed.report) == rows_of(report_in(specs / "complete"))


@pytest.mark.parametrize("folder", ["specs/layers.yaml/reports", "/proc/reports"])
def test_an_unwritable_report_folder_is_reported_before_anything_runs(harness: Call, specs: Path, folder: str) -> None:
    ran = harness("run", "specs", *ON, "--report-dir", folder)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"harness: --report-dir {folder}: ") or f"--report-dir {folder}: " in ran.err
    assert "name a folder that can be written" in ran.err
    assert len(ran.err.splitlines()) == 1


def without_privileges() -> None:
    """Make permissions apply to this process and its children, also for root."""
    if os.geteuid() == 0:
        drop = ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
        assert drop == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize(
    ("read_only", "message"),
    [
        ("reports/latest", "--report-dir reports/latest: Permission denied; name a folder that can be written"),
        ("reports", "--report-dir reports/latest: Permission denied; name a folder that can be written"),
        (
            "cache/artifacts/drafts",
            "artifacts: Permission denied; set HARNESS_CACHE to a folder that can be written, or",
        ),
    ],
)
def test_a_read_only_folder_is_reported_before_anything_runs(specs: Path, read_only: str, message: str) -> None:
    folder = specs / read_only
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    code, out, err = Running(specs, "run", "specs", *IN_A_PROCESS, limit=without_privileges).end()
    folder.chmod(0o755)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(folder.iterdir())


def test_an_unwritable_report_keeps_the_journal(harness: Call, specs: Path) -> None:
    blocking = specs / "reports/latest/report.md"
    blocking.mkdir(parents=True)
    ran = harness("run", "specs", *ON, "--format", "md")
    assert ran.code == 3
    assert ran.err.startswith("cannot write reports/latest/report.md: ")
    assert len(ran.err.splitlines()) == 1
    blocking.rmdir()
    resumed = harness("run", "specs", *ON, "--resume")
    assert len(resumed.rows) == EXPORTS
    assert exports(resumed) == (0, 0), "nothing was run again"


def test_an_unwritable_cache_is_reported_before_anything_runs(
    harness: Call, specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/proc/cache")
    ran = harness("run", "specs", *ON)
    assert (ran.code, ran.out) == (2, "")
    assert "use --no-cache" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert harness("run", "specs", *ON, "--no-cache").code == 1
