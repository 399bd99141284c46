"""A check can do no harm: each failure is one row, and every other row is unaffected."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import Call

SPEC = """
harness: 1
factory: hostile:{name}
cases:
  - {{name: hostile, inputs: {{x: {{values: [1.0, -2.0]}}}}}}
"""
GOOD = """
harness: 1
layer: ReLU
cases:
  - {name: good, inputs: {x: {values: [1.0, -2.0]}}}
"""
ON = ("--allow-import", "--no-latency", "--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu")


@pytest.fixture
def hostile(here: Path, spec: Callable[[str, str], Path]) -> Callable[[str], None]:
    """Write specs with one hostile module and one good case."""
    shutil.copy(Path(__file__).parent / "hostile.py", here / "hostile.py")

    def put(name: str) -> None:
        spec("bad.yaml", SPEC.format(name=name))
        spec("good.yaml", GOOD)

    return put


@pytest.mark.parametrize(
    ("name", "symptom", "message"),
    [
        ("Segfault", "crash", "SIGSEGV"),
        ("Hang", "timeout", "not done after 5 s"),
        ("Exit", "exception", "exit(0)"),
        ("HardExit", "crash", "exit code 0"),
        ("AllocatesTooMuch", "out-of-memory", "memory"),
        ("Raise", "exception", "ValueError: this layer"),
        ("Corrupt", "crash", "SIG"),
    ],
)
def test_a_crash_is_one_row(
    harness: Call, hostile: Callable[[str], None], name: str, symptom: str, message: str
) -> None:
    hostile(name)
    ran = harness("run", "specs", *ON, "--timeout", "5" if name == "Hang" else "60", "--memory", "2G")
    assert ran.code == 1
    for target in ("trace/torch-cpu", "onnx-torchscript@17/ort-cpu"):
        assert ran.rows["good/good", target]["status"] == "passed"
        row = ran.rows["bad/hostile", target]
        assert (row["status"], row["stage"], row["symptom"]) == ("error", "build", symptom)
        assert message in row["message"]
        assert "\n" not in row["message"]


def test_a_check_that_kills_the_server_loses_no_other_check(harness: Call, hostile: Callable[[str], None]) -> None:
    """All workers end with the server; the checks of the other workers are not lost."""
    hostile("KillParent")
    ran = harness("run", "specs", "--allow-import", "--no-latency", "--targets", "trace/torch-cpu", "-j", "2")
    assert ran.code == 1
    assert ran.rows["good/good", "trace/torch-cpu"]["status"] == "passed"
    row = ran.rows["bad/hostile", "trace/torch-cpu"]
    assert (row["status"], row["symptom"]) == ("error", "crash")
    assert row["message"] == "the server that starts the workers was killed while this check ran"
    assert "Traceback" not in ran.err


def test_a_server_killed_between_two_runs_is_started_again(harness: Call, spec: Callable[[str, str], Path]) -> None:
    spec("good.yaml", GOOD)
    run = ("run", "specs", "--no-latency", "--targets", "trace/torch-cpu")
    assert harness(*run).code == 0
    (server,) = [
        one for one in psutil.Process().children() if "harness.engine.processes.serving" in " ".join(one.cmdline())
    ]
    server.kill()
    assert harness(*run).code == 0


def test_printed_text_stays_with_its_row(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Rubbish")
    ran = harness("run", "specs", *ON)
    assert ran.code == 0
    assert "rubbish" not in ran.out + ran.err
    log = ran.rows["bad/hostile", "trace/torch-cpu"]["log"]
    assert {"rubbish on stdout", "rubbish on stderr"} <= set(log)
    assert {"copy.py:1: rubbish of Python", "torch/__init__.py:1: rubbish of a package"} <= set(log)
    assert not any("rubbish" in line for line in ran.rows["good/good", "trace/torch-cpu"]["log"])


def test_the_process_state_is_restored_after_a_check(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Messy")
    ran = harness("run", "specs", *ON, "-j", "1")
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4
    eager = next(line for line in ran.rows["bad/hostile", "trace/torch-cpu"]["log"] if line.startswith("eager: "))
    log = ran.rows["bad/hostile", "onnx-torchscript@17/ort-cpu"]["log"]
    exporting = next(line for line in log if line.startswith("exporting: "))
    assert exporting.removeprefix("exporting") == eager.removeprefix("eager")
    assert "torch.float32" in eager
    assert "None" in eager
    assert "False True" in eager


def test_a_crash_counts_only_in_a_fresh_worker(harness: Call, hostile: Callable[[str], None]) -> None:
    """A check is not blamed for what an earlier check broke without failing."""
    hostile("BreaksLaterExports")
    ran = harness("run", "specs", *ON)
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4


def test_endless_output_is_cut(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Flood")
    ran = harness("run", "specs", *ON)
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4
    assert sum(map(len, ran.rows["bad/hostile", "trace/torch-cpu"]["log"])) < 10_000


def test_a_library_may_close_the_standard_streams(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("ClosesStandardStreams")
    ran = harness("run", "specs", *ON)
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4


def test_a_library_that_closes_all_files_affects_only_itself(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("ClosesAllFiles")
    ran = harness("run", "specs", *ON)
    assert ran.code in {0, 1}
    assert len(ran.rows) == 4
    for target in ("trace/torch-cpu", "onnx-torchscript@17/ort-cpu"):
        assert ran.rows["good/good", target]["status"] == "passed"


def test_a_crash_is_reported_with_its_stage(harness: Call, hostile: Callable[[str], None]) -> None:
    """The module builds and runs, but crashes on export."""
    hostile("CrashInExport")
    ran = harness("run", "specs", *ON)
    row = ran.rows["bad/hostile", "onnx-torchscript@17/ort-cpu"]
    assert (row["stage"], row["symptom"], row["message"]) == ("export", "crash", "the process was killed by SIGSEGV")
    assert ran.rows["bad/hostile", "trace/torch-cpu"]["status"] == "passed"
