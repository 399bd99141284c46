"""Recorded models are verified on a board without torch; harness never imports it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.recorded_models import X, relu
from tests.without_torch import python, without_torch


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """A folder with a ``sitecustomize`` that blocks torch in every Python process started there, workers included."""
    return without_torch(tmp_path)


def test_importing_torch_fails_on_the_board(board: Path) -> None:
    done = python(board, "-c", "import torch")
    assert "No module named 'torch'" in done.stderr
    assert (board / "tried").read_text() == "torch\n"


def test_recorded_models_are_verified_and_timed_without_torch(board: Path) -> None:
    relu(board / "suite" / "right")
    relu(board / "suite" / "wrong", output=np.abs(X))
    done = python(board, "-m", "harness", "run", "suite", "--targets", "ort-cpu,reference", "--format", "json,md,junit")
    assert done.returncode == 1, done.stderr
    report = json.loads((board / "reports" / "latest" / "report.json").read_text(encoding="utf-8"))
    rows = {(row["case"], row["target"]): row for row in report["results"]}
    assert {key: row["status"] for key, row in rows.items()} == {
        ("right", "file/ort-cpu"): "passed",
        ("right", "file/reference"): "passed",
        ("wrong", "file/ort-cpu"): "failed",
        ("wrong", "file/reference"): "failed",
    }
    assert rows["right", "file/ort-cpu"]["latency"]["median_us"] > 0
    assert rows["wrong", "file/ort-cpu"]["blame"] == "spec"
    assert not (board / "tried").exists(), "somebody tried to import " + (board / "tried").read_text()


@pytest.mark.parametrize("command", ["list", "check"])
def test_recorded_models_are_listed_and_checked_without_torch(board: Path, command: str) -> None:
    relu(board / "suite" / "right")
    done = python(board, "-m", "harness", command, "suite")
    assert done.returncode == 0, done.stderr
    assert not (board / "tried").exists()


def test_specs_without_torch_are_refused_in_one_line(board: Path) -> None:
    (board / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n", encoding="utf-8")
    spec = "{harness: 1, layer: ReLU, cases: [{name: a, inputs: {x: {values: [1.0, -2.0]}}}]}"
    (board / "relu.yaml").write_text(spec, encoding="utf-8")
    done = python(board, "-m", "harness", "run", "relu.yaml", "--targets", "onnx-dynamo@18/ort-cpu")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("specs are verified against torch, which is not installed")
    assert "Traceback" not in done.stderr
