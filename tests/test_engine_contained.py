"""A check can do no harm: each disaster is one row, and every other row is as if it had not been."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

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
        ("Hang", "timeout", "not done after 1 s"),
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
    ran = harness("run", "specs", *ON, "--timeout", "1" if name == "Hang" else "60", "--memory", "2G")
    assert ran.code == 1
    for target in ("trace/torch-cpu", "onnx-torchscript@17/ort-cpu"):
        assert ran.rows["good/good", target]["status"] == "passed"
        row = ran.rows["bad/hostile", target]
        assert (row["status"], row["stage"], row["symptom"]) == ("error", "build", symptom)
        assert said in row["message"]
        assert "\n" not in row["message"]


def test_rubbish_stays_with_its_row(harness: Call, hostile: Callable[[str], None]) -> None:
    hostile("Rubbish")
    ran = harness("run", "specs", *ON)
    assert ran.code == 0
    assert "rubbish" not in ran.out + ran.err
    log = ran.rows["bad/hostile", "trace/torch-cpu"]["log"]
    assert {"rubbish on stdout", "rubbish on stderr"} <= set(log)
    assert not any("rubbish" in line for line in ran.rows["good/good", "trace/torch-cpu"]["log"])
