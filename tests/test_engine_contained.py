"""A check can do no harm: each disaster is one row, and every other row is as if it had not been."""

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
    """Put one hostile module beside one good case."""
    shutil.copy(Path(__file__).parent / "hostile.py", here / "hostile.py")

    def put(name: str) -> None:
        spec("bad.yaml", SPEC.format(name=name))
        spec("good.yaml", GOOD)

    return put


@pytest.mark.parametrize(
    ("name", "symptom", "said"),
    [
        ("Segfault", "crash", "SIGSEGV"),
        ("Hang", "timeout", "not done after 5 s"),
        ("Exit", "exception", "exit(0)"),
        ("HardExit", "crash", "exit code 0"),
        ("Hog", "out-of-memory", "memory"),
        ("Raise", "exception", "ValueError: this layer"),
        ("Corrupt", "crash", "SIG"),
    ],
)
def test_a_disaster_is_one_row(
    harness: Call, hostile: Callable[[str], None], name: str, symptom: str, said: str
) -> None:
    hostile(name)
    ran = harness("run", "specs", *ON, "--timeout", "5" if name == "Hang" else "60", "--memory", "2G")
    assert ran.code == 1
    for target in ("trace/torch-cpu", "onnx-torchscript@17/ort-cpu"):
        assert ran.rows["good/good", target]["status"] == "passed"
        row = ran.rows["bad/hostile", target]
        assert (row["status"], row["stage"], row["symptom"]) == ("error", "build", symptom)
        assert said in row["message"]
        assert "\n" not in row["message"]


def test_a_check_that_kills_the_server_takes_no_other_with_it(harness: Call, hostile: Callable[[str], None]) -> None:
    """All workers die with the server; what was at work in the others comes to its own verdict."""
    hostile("KillParent")
    ran = harness("run", "specs", "--allow-import", "--no-latency", "--targets", "trace/torch-cpu", "-j", "2")
    assert ran.code == 1
    assert ran.rows["good/good", "trace/torch-cpu"]["status"] == "passed"
    row = ran.rows["bad/hostile", "trace/torch-cpu"]
    assert (row["status"], row["symptom"]) == ("error", "crash")
    assert row["message"] == "the process that started its worker was killed while this check ran"
    assert "Traceback" not in ran.err


def test_a_server_that_was_killed_between_two_runs_is_started_anew(
    harness: Call, spec: Callable[[str, str], Path]
) -> None:
    spec("good.yaml", GOOD)
    run = ("run", "specs", "--no-latency", "--targets", "trace/torch-cpu")
    assert harness(*run).code == 0
    (server,) = [
        one for one in psutil.Process().children() if "harness.engine.processes.serving" in " ".join(one.cmdline())
    ]
    server.kill()
    assert harness(*run).code == 0


def test_rubbish_stays_with_its_row(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Rubbish")
    ran = harness("run", "specs", *ON)
    assert ran.code == 0
    assert "rubbish" not in ran.out + ran.err
    log = ran.rows["bad/hostile", "trace/torch-cpu"]["log"]
    assert {"rubbish on stdout", "rubbish on stderr"} <= set(log)
    assert {"copy.py:1: rubbish of Python", "torch/__init__.py:1: rubbish of a package"} <= set(log)
    assert not any("rubbish" in line for line in ran.rows["good/good", "trace/torch-cpu"]["log"])


def test_what_a_library_leaves_behind_is_put_back(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Messy")
    ran = harness("run", "specs", *ON, "-j", "1")
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4
    asked = next(line for line in ran.rows["bad/hostile", "trace/torch-cpu"]["log"] if line.startswith("asked: "))
    log = ran.rows["bad/hostile", "onnx-torchscript@17/ort-cpu"]["log"]
    exporting = next(line for line in log if line.startswith("exporting: "))
    assert exporting.removeprefix("exporting") == asked.removeprefix("asked")
    assert "torch.float32" in asked
    assert "None" in asked
    assert "False True" in asked


def test_a_crash_is_believed_of_a_fresh_worker_only(harness: Call, hostile: Callable[[str], None]) -> None:
    """What one check broke, without a sign of it, does not fall on the next."""
    hostile("Poison")
    ran = harness("run", "specs", *ON)
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4


def test_a_flood_of_words_is_cut_short(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Flood")
    ran = harness("run", "specs", *ON)
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4
    assert sum(map(len, ran.rows["bad/hostile", "trace/torch-cpu"]["log"])) < 10_000


def test_a_library_may_close_what_others_print_to(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("NullCapture")
    ran = harness("run", "specs", *ON)
    assert [row["status"] for row in ran.rows.values()] == ["passed"] * 4


def test_a_library_that_closes_all_files_harms_itself_alone(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Closer")
    ran = harness("run", "specs", *ON)
    assert ran.code in {0, 1}
    assert len(ran.rows) == 4
    for target in ("trace/torch-cpu", "onnx-torchscript@17/ort-cpu"):
        assert ran.rows["good/good", target]["status"] == "passed"


def test_what_was_in_flight_is_told_by_its_stage(harness: Call, hostile: Callable[[str], None]) -> None:
    """Harmless when it is built and asked, and its end when it is exported."""
    hostile("CrashInExport")
    ran = harness("run", "specs", *ON)
    row = ran.rows["bad/hostile", "onnx-torchscript@17/ort-cpu"]
    assert (row["stage"], row["symptom"], row["message"]) == ("export", "crash", "the process was ended by SIGSEGV")
    assert ran.rows["bad/hostile", "trace/torch-cpu"]["status"] == "passed"
