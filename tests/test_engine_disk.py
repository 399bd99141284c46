"""A disk that is full, closed, damaged or shared: a clear error or an entry made anew, never a wrong verdict."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Call, Ran
from tests.misbehaving import NO_ENTRIES, sealed
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
ELSEWHERE = (*ON[:-1], "trace/torch-cpu,script/torch-cpu")  # in a process of its own, which starts quicker with these


@pytest.fixture
def specs(here: Path, spec: Callable[[str, str], Path]) -> Path:
    """Two cases, one of which an exporter refuses, and a cache that is not new."""
    spec("layers.yaml", LAYERS)
    (here / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)
    return here


def exports(ran: Ran) -> tuple[int, int]:
    """How many were made, and how many taken from the cache."""
    counts = ran.report["run"]["exports"]
    return counts["made"], counts["from_cache"]


def test_a_second_run_exports_nothing(harness: Call, specs: Path) -> None:
    first = harness("run", "specs", *ON)
    assert exports(first) == (EXPORTS, 0)
    assert first.rows["layers/refused", "script/torch-cpu"]["stage"] == "export"
    second = harness("run", "specs", *ON)
    assert exports(second) == (0, EXPORTS), "how an exporter refused is kept too"
    assert rows_of(second.report) == rows_of(first.report)
    assert "0 exports made, 6 from the cache." in second.out
    assert "0 exports made, 6 from the cache." in (specs / "reports/latest/report.md").read_text(encoding="utf-8")

    spec = specs / "specs/layers.yaml"
    spec.write_text(spec.read_text().replace("0.1", "0.2"), encoding="utf-8")
    assert exports(harness("run", "specs", *ON)) == (3, 3), "what was changed is exported anew, and nothing else"
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
def test_a_damaged_entry_is_made_anew(harness: Call, specs: Path, which: str, damage: Callable[[Path], None]) -> None:
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


def test_a_model_that_was_swapped_for_another_is_no_answer(harness: Call, specs: Path) -> None:
    """Each is whole and well-formed; one stands where the other belongs."""
    first = harness("run", "specs", *ON)
    one, other = sorted((specs / "cache").rglob("model.onnx"))
    shutil.copy(one, other)
    again = harness("run", "specs", *ON)
    assert exports(again) == (1, EXPORTS - 1)
    assert rows_of(again.report) == rows_of(first.report)


def test_a_pipe_where_a_file_should_be_is_waited_for_by_nobody(harness: Call, specs: Path) -> None:
    first = harness("run", "specs", *ON)
    noted = sorted((specs / "cache").rglob("entry.json"))
    for path in (noted[0], next(noted[-1].parent.glob("model.*"), noted[-1])):
        path.unlink()
        os.mkfifo(path)
    again = harness("run", "specs", *ON)
    assert exports(again) == (2, EXPORTS - 2)
    assert rows_of(again.report) == rows_of(first.report)

    os.mkfifo(specs / "reports/latest/journal.jsonl")
    for more in ((), ("--resume",)):
        ran = harness("run", "specs", *ON, *more)
        assert (ran.code, ran.out) == (2, "")
        assert "journal.jsonl is there and is no file" in ran.err
        assert len(ran.err.splitlines()) == 1


def test_a_sealed_line_of_another_structure_does_not_count(harness: Call, specs: Path) -> None:
    first = harness("run", "specs", *ON)
    journal = specs / "reports/latest/journal.jsonl"
    journal.write_bytes(b"".join(map(sealed, NO_ENTRIES)))
    again = harness("run", "specs", *ON, "--resume")
    assert (again.code, again.err) == (first.code, first.err)
    assert rows_of(again.report) == rows_of(first.report)


def test_two_runs_over_one_cache_at_once(harness: Call, specs: Path) -> None:
    runs = [Running(specs, "run", "specs", *ELSEWHERE, "--report-dir", name) for name in ("one", "other")]
    ended = [run.end() for run in runs]
    assert [(code, err) for code, _, err in ended] == [(1, ""), (1, "")]
    one, other = report_in(specs / "one"), report_in(specs / "other")
    assert rows_of(one) == rows_of(other)
    third = harness("run", "specs", *ELSEWHERE)
    assert exports(third) == (0, 4)
    assert rows_of(third.report) == rows_of(one)


@pytest.mark.parametrize("most", [300, 2_000])
def test_a_disk_that_takes_no_more_is_no_verdict(harness: Call, specs: Path, most: int) -> None:
    """The kernel refuses to let any file of the run grow beyond ``most`` bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    code, out, err = Running(specs, "run", "specs", *ELSEWHERE, limit=limit).end()
    assert code == 3
    assert len(err.splitlines()) == 1
    assert "make room" in err
    assert "expected" not in out
    assert not (specs / "reports/latest/report.json").exists()

    resumed = harness("run", "specs", *ELSEWHERE, "--resume")
    whole = harness("run", "specs", *ELSEWHERE, "--no-cache", "--report-dir", "whole")
    assert resumed.code == whole.code == 1
    assert rows_of(resumed.report) == rows_of(report_in(specs / "whole"))


@pytest.mark.parametrize("folder", ["specs/layers.yaml/reports", "/proc/reports"])
def test_a_report_folder_that_cannot_be_written_is_told_before_anything_runs(
    harness: Call, specs: Path, folder: str
) -> None:
    ran = harness("run", "specs", *ON, "--report-dir", folder)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"harness: --report-dir {folder}: ") or f"--report-dir {folder}: " in ran.err
    assert "name a folder that can be written" in ran.err
    assert len(ran.err.splitlines()) == 1


def without_privileges() -> None:
    """Let permissions hold for this process and what it starts, also where it is root's."""
    if os.geteuid() == 0:
        drop = ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
        assert drop == 0, os.strerror(ctypes.get_errno())


@pytest.mark.parametrize(
    ("closed", "said"),
    [
        ("reports/latest", "--report-dir reports/latest: Permission denied; name a folder that can be written"),
        ("reports", "--report-dir reports/latest: Permission denied; name a folder that can be written"),
        (
            "cache/artifacts/drafts",
            "artifacts: Permission denied; set HARNESS_CACHE to a folder that can be written, or",
        ),
    ],
)
def test_a_folder_that_may_only_be_read_is_told_before_anything_runs(specs: Path, closed: str, said: str) -> None:
    folder = specs / closed
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    code, out, err = Running(specs, "run", "specs", *ELSEWHERE, limit=without_privileges).end()
    folder.chmod(0o755)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    assert not list(folder.iterdir())


def test_a_report_that_cannot_be_written_keeps_what_was_found(harness: Call, specs: Path) -> None:
    in_the_way = specs / "reports/latest/report.md"
    in_the_way.mkdir(parents=True)
    ran = harness("run", "specs", *ON, "--format", "md")
    assert ran.code == 3
    assert ran.err.startswith("cannot write reports/latest/report.md: ")
    assert len(ran.err.splitlines()) == 1
    in_the_way.rmdir()
    resumed = harness("run", "specs", *ON, "--resume")
    assert len(resumed.rows) == EXPORTS
    assert exports(resumed) == (0, 0), "nothing was run again"


def test_a_cache_that_cannot_be_written_is_told_before_anything_runs(
    harness: Call, specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "/proc/cache")
    ran = harness("run", "specs", *ON)
    assert (ran.code, ran.out) == (2, "")
    assert "use --no-cache" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert harness("run", "specs", *ON, "--no-cache").code == 1
