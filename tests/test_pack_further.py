"""Bundles with other commands: explain without torch, and bench, also at the bench shapes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from harness.check.settings import Settings
from harness.packing import PackRequest, pack
from harness.spec.bundle.reader import manifest_seal, sha256_of
from tests.bundles import Silent, packed
from tests.conftest import Call
from tests.without_torch import python, without_torch

SIZES = """
harness: 1
cases:
  - name: relu
    layer: ReLU
    inputs: {x: {shape: [1, 3], layout: strided}}
    expect: {formula: "maximum(0, x)", range: [0, 20]}
    bench: [{x: [4, 3]}, {x: [600, 300]}]
  - name: linear
    layer: Linear
    args: {in_features: 16, out_features: 2}
    inputs: {x: {shape: [1, 16], fill: {uniform: [-2, 3]}}}
    bench: [{x: [9000, 16]}]
"""
TARGET = "onnx-torchscript@17/ort-cpu"
QUICK = ("--budget", "0.05", "--processes", "2", "--rounds", "2", "-j", "1")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine without torch, with a bundle."""
    context = tmp_path_factory.mktemp("context")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(context)
        packed(context)
        with_sizes(context)
    board = without_torch(tmp_path_factory.mktemp("board"))
    for name in ("bundle", "sizes"):
        shutil.copytree(context / name, board / name)
    return board


def with_sizes(context: Path) -> None:
    """A bundle of cases with bench shapes, packed into ``sizes``."""
    (context / "more").mkdir()
    (context / "more" / "of.yaml").write_text(SIZES, encoding="utf-8")
    settings = Settings(cache=context / "cache")
    pack(PackRequest(("more",), context / "sizes", (TARGET, "trace/torch-cpu"), workers=1, settings=settings), Silent())


def manifest(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return content


def test_a_failure_is_explained_from_the_bundle_alone(board: Path) -> None:
    """Explain walks the graph and runs the other exports of the bundle without importing torch."""
    done = python(board, "-m", "harness", "explain", "divisor", "bundle", "--target", "onnx-dynamo@23/ort-cpu")
    assert done.returncode == 0, done.stderr
    assert "known (compare: mismatch): dropped" in done.stdout
    assert "Blame: exporter" in done.stdout
    other_targets = done.stdout.partition("Other targets\n")[2].partition("\n\n")[0]
    assert "fails   onnx-torchscript@17/ort-cpu" in other_targets
    assert "onnx-dynamo@18" not in other_targets, "the bundle holds no such export"
    assert "compared with the graph's float64 evaluation: no node differs" in done.stdout
    assert "none: the model is a file, which a script cannot contain" in done.stdout
    assert not (board / "tried").exists()


def test_a_missing_export_of_a_bundle_is_reported(board: Path) -> None:
    done = python(board, "-m", "harness", "explain", "unpool", "bundle", "--target", "onnx-torchscript@17/ort-cpu")
    assert done.returncode == 0, done.stderr
    assert "known (export: exception)" in done.stdout
    missing = python(board, "-m", "harness", "explain", "divisor", "bundle", "--target", "onnx-dynamo@18/ort-cpu")
    assert missing.returncode == 2
    assert missing.stderr.count("\n") == 1
    assert "the bundle has no export onnx-dynamo@18" in missing.stderr


def test_latency_by_shape_is_measured_on_the_board(board: Path) -> None:
    done = python(board, "-m", "harness", "bench", "sizes", "--targets", "ort-cpu", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = board / "reports" / "latest"
    rows = json.loads((folder / "report.json").read_text(encoding="utf-8"))["results"]
    assert [(row["case"], row["target"], row["status"]) for row in rows] == [
        ("of/relu", TARGET, "passed"),
        ("of/linear", TARGET, "passed"),
    ]
    relu, linear = (row["latency"]["by_shape"] for row in rows)
    assert [each["shapes"] for each in relu] == ["x=[1,3]", "x=[4,3]", "x=[600,300]"]
    assert [each["shapes"] for each in linear] == ["x=[1,16]", "x=[9000,16]"]
    assert all(each["median_us"] > 0 and each["ratio"] is None for each in (*relu, *linear))
    assert "### Latency by input size" in (folder / "report.md").read_text(encoding="utf-8")
    assert not (board / "tried").exists()


def test_a_large_shape_takes_little_disk_space(board: Path) -> None:
    """Inputs of bench shapes are generated again and outputs are sampled; the case's arrays are stored whole."""
    small, large = (entry["rounds"][0] for entry in manifest(board / "sizes")["cases"][0]["bench"])
    assert (small["sample"], sorted(small["inputs"])) == (None, ["x"])
    assert (large["sample"], large["inputs"]) == ({"every": 3, "shapes": [[600, 300]]}, {})
    samples = [entry["rounds"][0]["sample"] for entry in manifest(board / "sizes")["cases"]]
    assert samples == [None, None]
    files = [file for file in (board / "sizes").rglob("*") if file.is_file()]
    assert sum({file.stat().st_ino: file.stat().st_size for file in files}.values()) < 1.5e6


def test_a_wrong_output_at_a_large_shape_fails_on_the_board(board: Path, harness: Call, here: Path) -> None:
    """The file of one shape is replaced by one that computes magnitudes: nothing is timed, and no blame is assigned."""
    shutil.copytree(board / "sizes", here / "sizes")
    content = manifest(here / "sizes")
    path = content["cases"][0]["bench"][1]["exports"]["onnx-torchscript@17"]["path"]
    model = onnx.load(here / "sizes" / path)
    model.graph.node[0].op_type = "Abs"
    (here / "sizes" / path).unlink()
    onnx.save(model, here / "sizes" / path)
    content["files"][path] = sha256_of(here / "sizes" / path)
    (here / "sizes" / "manifest.json").write_text(
        json.dumps({**content, "seal": manifest_seal(content)}), encoding="utf-8"
    )
    ran = harness("bench", "sizes", "--targets", "ort-cpu", "-k", "relu", *QUICK)
    assert ran.code == 1
    row = ran.rows["of/relu", TARGET]
    assert (row["status"], row["symptom"], row["blame"], row["latency"]) == ("failed", "mismatch", None, None)
    assert row["message"].startswith("at x=[600,300]: at one element in 3: output_0:")
    assert any("the bundle holds only a sample" in line for line in row["evidence"])


def test_the_layout_of_an_input_is_packed(board: Path) -> None:
    (entry,) = manifest(board / "sizes")["cases"][0]["inputs"]
    assert entry["layout"] == "strided"


def test_bench_shapes_can_be_excluded(harness: Call, here: Path) -> None:
    (here / "more").mkdir()
    (here / "more" / "of.yaml").write_text(SIZES, encoding="utf-8")
    ran = harness("pack", "more", "-o", "bundle", "--targets", TARGET, "--no-bench", "-j", "1")
    assert ran.code == 0, ran.err
    assert "Packed: 2 cases, 2 exports;" in ran.out


def test_a_sample_without_a_fill_for_its_inputs_is_refused(board: Path, harness: Call, here: Path) -> None:
    shutil.copytree(board / "sizes", here / "sizes")
    content = manifest(here / "sizes")
    content["cases"][0]["bench"][1]["inputs"][0]["fill"] = None
    (here / "sizes" / "manifest.json").write_text(
        json.dumps({**content, "seal": manifest_seal(content)}), encoding="utf-8"
    )
    ran = harness("bench", "sizes", "--targets", "ort-cpu", *QUICK)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "the fill of its inputs is missing" in ran.err


def test_a_board_without_any_runtime_is_reported(board: Path) -> None:
    """The message is one line before anything runs, not hundreds of skipped checks."""
    code = "import sys; sys.modules['onnxruntime'] = None; import importlib.util as u; find = u.find_spec; "
    code += "u.find_spec = lambda name, *more: None if name == 'onnxruntime' else find(name, *more); "
    done = python(board, "-c", code + "from harness.cli import main; main(['run', 'bundle', '--targets', 'ort-*'])")
    assert done.returncode == 3
    assert done.stderr == (
        "ort-*: none of these runtimes is available; ort-cpu: onnxruntime is not installed; "
        "install with: pip install onnxruntime, or the build of it for this machine\n"
    )
