"""A failing result has pictures of the planes that differ, and a script that shows the failure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.check.results import MAX_PICTURES
from tests.conftest import Call

SPEC = """
harness: 1
cases:
  - name: divided
    layer: AvgPool2d
    args: {kernel_size: 2, stride: 2, divisor_override: 3}
    inputs: {x: {values: [[[[3.0, 0.0, 0.0, 6.0], [0.0, 0.0, 0.0, 0.0]]]]}}
  - name: lost-nan
    layer: MaxPool2d
    args: {kernel_size: [1, 2]}
    inputs: {x: {values: [[[[.nan, 1.0, 1.0, 2.0]]]]}}
  - name: open
    layer: AvgPool2d
    args: {kernel_size: 2, divisor_override: 3}
    inputs: {x: {shape: [1, 1, 2, 2], fill: ones}}
    dynamic: {x: {0: N}}
    also: [{x: [2, 1, 2, 2]}, {x: [3, 1, 2, 2]}, {x: [4, 1, 2, 2]}, {x: [5, 1, 2, 2]}, {x: [6, 1, 2, 2]}]
  - name: unbatched
    layer: MaxPool2d
    args: {kernel_size: 2}
    inputs: {x: {shape: [1, 4, 4]}}
  - name: wrong-spec
    layer: ReLU
    inputs: {x: {values: [1.0]}}
    expect: {range: [2, 3]}
"""
ORT = "onnx-torchscript@17/ort-cpu"


@pytest.fixture
def rows(harness: Call, spec: Callable[[str, str], Path]) -> dict[tuple[str, str], dict[str, Any]]:
    spec("seen.yaml", SPEC)
    return harness("run", "specs", "--targets", f"trace/torch-cpu,{ORT}", "--no-latency").rows


def test_failures_have_pictures_and_a_script_and_passes_have_none(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    (divided,) = rows["seen/divided", ORT]["pictures"]
    assert divided["output"] == 0
    assert divided["at"] is None
    assert divided["expected"] == [[1.0, 2.0]]
    assert divided["actual"] == [[0.75, 1.5]]
    assert divided["error"] == [[0.25, 0.5]]
    assert divided["worst"] == [0, 0], "both are off by a quarter; the first one is named"
    (lost,) = rows["seen/lost-nan", ORT]["pictures"]
    assert lost["expected"] == [["nan", 2.0]]
    assert lost["actual"] == [[1.0, 2.0]]
    assert lost["error"] == [["inf", 0.0]]
    dynamic = rows["seen/open", ORT]["pictures"]
    assert len(dynamic) == MAX_PICTURES < 6
    assert [picture["at"] for picture in dynamic[:2]] == [None, "x=[2, 1, 2, 2]"]
    for (_, target), row in rows.items():
        evidence = (len(row["pictures"]), row["reproduction"])
        assert (evidence == (0, None)) or row["status"] in {"failed", "error"}, target
    assert rows["seen/unbatched", ORT]["pictures"] == [], "there is no answer to draw"
    assert rows["seen/wrong-spec", ORT]["reproduction"] is None, "only the spec is wrong"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "lost-nan",
            "output 0: 1 of 2 values differ by more than the tolerance; first at [0, 0, 0, 0]: 1.0, expected nan",
        ),
        ("open", "on inputs of [1, 1, 2, 2]: 1 of 1 values differ by more than the tolerance"),
    ],
)
def test_the_script_of_a_result_shows_its_failure(
    rows: dict[tuple[str, str], dict[str, Any]], here: Path, case: str, message: str
) -> None:
    script = here / "reproduction.py"
    script.write_text(rows[f"seen/{case}", ORT]["reproduction"], encoding="utf-8")
    command = [sys.executable, "-W", "ignore", str(script)]
    ran = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    assert f"reproduced: {message}" in ran.stdout
