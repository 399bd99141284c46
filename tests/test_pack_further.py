"""A bundle given to the other commands: explained without torch, and timed thoroughly, bench shapes included."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bundles import packed
from tests.without_torch import python, without_torch


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine without torch, with a bundle."""
    desk = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        packed(desk)
    board = without_torch(tmp_path_factory.mktemp("board"))
    shutil.copytree(desk / "bundle", board / "bundle")
    return board


def test_a_failure_is_explained_from_the_bundle_alone(board: Path) -> None:
    """Its graph is walked, the other exports of the bundle are asked, and nobody tries to import torch."""
    done = python(board, "-m", "harness", "explain", "divisor", "bundle", "--target", "onnx-dynamo@23/ort-cpu")
    assert done.returncode == 0, done.stderr
    assert "known (compare: mismatch), as known: dropped" in done.stdout
    assert "Blame: exporter" in done.stdout
    elsewhere = done.stdout.partition("Elsewhere\n")[2].partition("\n\n")[0]
    assert "fails   onnx-torchscript@17/ort-cpu" in elsewhere
    assert "onnx-dynamo@18" not in elsewhere, "the bundle holds no such export"
    assert "against the graph's own evaluation in float64: no node is off" in done.stdout
    assert "none: the model is a file that cannot be written into a script" in done.stdout
    assert not (board / "tried").exists()


def test_what_the_bundle_does_not_hold_is_said(board: Path) -> None:
    done = python(board, "-m", "harness", "explain", "unpool", "bundle", "--target", "onnx-torchscript@17/ort-cpu")
    assert done.returncode == 0, done.stderr
    assert "known (export: exception)" in done.stdout
    missing = python(board, "-m", "harness", "explain", "divisor", "bundle", "--target", "onnx-dynamo@18/ort-cpu")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    assert "the bundle has no export onnx-dynamo@18" in missing.stderr
