"""harness pack --layers: a machine without torch makes the layer table of a whole model from the bundle."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness.check.recorded.packed_layers import difference_from, restored
from harness.check.settings import Settings
from harness.packing import PackRequest, PackSummary, pack
from harness.spec.bundle.reader import manifest_seal, sha256_of
from tests.bundles import Silent
from tests.conftest import Call
from tests.inside_nets import changed, scaled
from tests.without_torch import python, without_torch

LEGACY = "onnx-torchscript@17/ort-cpu"
TRACED = "trace/torch-cpu"
SPEC = """
harness: 1
cases:
  - name: right
    sequential: &net
      - {layer: Conv2d, args: {in_channels: 3, out_channels: 4, kernel_size: 3}}
      - {layer: AvgPool2d, args: {kernel_size: 2}}
      - {layer: LayerNorm, args: {normalized_shape: [4, 3, 3]}}
      - {layer: Linear, args: {in_features: 3, out_features: 5}}
    inputs: {x: &x {shape: [2, 3, 8, 8]}}
  - name: hidden
    about: The exporter drops the divisor, and the normalization behind it hides that.
    sequential:
      - {layer: Conv2d, args: {in_channels: 3, out_channels: 4, kernel_size: 3}}
      - {layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3}}
      - {layer: LayerNorm, args: {normalized_shape: [4, 3, 3], eps: 1.0e-12}}
      - {layer: Linear, args: {in_features: 3, out_features: 5}}
    inputs: {x: *x}
  - name: shown
    sequential:
      - {layer: Conv2d, args: {in_channels: 3, out_channels: 4, kernel_size: 3}}
      - {layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3}}
      - {layer: Linear, args: {in_features: 3, out_features: 5}}
    inputs: {x: *x}
  - name: single
    layer: ReLU
    inputs: {x: *x}
"""
PATHS = ["0", "1", "2", "3"]
OF_THE_MACHINE = ("seconds", "provider")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Specs, and their bundle with layers."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "specs").mkdir()
    (folder / "specs" / "nets.yaml").write_text(SPEC, encoding="utf-8")
    settings = Settings(cache=folder / "cache", pack_layers=2**20)

    def pack_into(name: str) -> PackSummary:
        return pack(PackRequest(("specs",), folder / name, (LEGACY, TRACED), workers=1, settings=settings), Silent())

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        packed, again = pack_into("bundle"), pack_into("again")
    assert not packed.not_packed
    assert packed == again
    assert manifest(folder / "bundle") == manifest(folder / "again"), "packing again gives another bundle"
    assert packed.layers is not None
    assert (packed.layers.exports, packed.layers.rows, packed.layers.remarks) == (6, 22, ())
    assert 0 < packed.layers.bytes < 2**20
    return folder


@pytest.fixture(scope="module")
def board(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine without torch; the bundle was copied to it and run there with its layers."""
    board = without_torch(tmp_path_factory.mktemp("board"))
    shutil.copytree(context / "bundle", board / "bundle")
    command = ("run", "bundle", "--targets", "ort-cpu", "--layers", "-j", "1", "--no-latency")
    done = python(board, "-m", "harness", *command, "--format", "json,md,html,csv")
    (board / "output").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 1, done.stderr
    assert not (board / "tried").exists(), "torch was imported: " + (board / "tried").read_text()
    return board


@pytest.fixture
def bundle(context: Path, here: Path) -> Path:
    """A copy of the bundle that a test may change."""
    shutil.copytree(context / "bundle", here / "bundle")
    return here / "bundle"


def manifest(bundle: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return content


def reseal(bundle: Path, content: dict[str, Any]) -> None:
    """Write the manifest with the checksums of the files that there are, and a matching seal."""
    content["files"] = {name: sha256_of(bundle / name) for name in content["files"] if (bundle / name).exists()}
    (bundle / "manifest.json").write_text(json.dumps({**content, "seal": manifest_seal(content)}), encoding="utf-8")


def layers_file(bundle: Path, case: str, export: str = "onnx-torchscript@17") -> Path:
    (entry,) = (each for each in manifest(bundle)["cases"] if each["id"] == f"nets/{case}")
    return bundle / str(entry["exports"][export]["layers"][0])


def rows_of(report: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((report / "report.json").read_text(encoding="utf-8"))
    return {row["case"].removeprefix("nets/"): row for row in content["results"]}


def wrong(row: dict[str, Any]) -> list[str]:
    return [layer["path"] for layer in row["layers"] if layer["wrong"]]


def check_same_layers(row: dict[str, Any], host: dict[str, Any]) -> None:
    """Both have the same layers; figures are those of other runs of the same kernels, so they may differ a little."""
    for key in ("status", "stage", "symptom", "blame", "layers_alone", "layers_uncovered"):
        assert row[key] == host[key], key
    assert row["evidence"][:1] == host["evidence"][:1]  # the host has other exporters to ask, too
    for layer, expected in zip(row["layers"], host["layers"], strict=True):
        assert (layer["picture"] is None) == (expected["picture"] is None), layer["path"]
        for key in layer.keys() - {*OF_THE_MACHINE, "picture"}:
            same = math.isclose(layer[key], expected[key], rel_tol=0.2) if isinstance(layer[key], float) else None
            assert layer[key] == expected[key] if same is None else same, (layer["path"], key)


def test_the_board_has_the_layer_tables_of_the_host(context: Path, board: Path, harness: Call, here: Path) -> None:
    shutil.copytree(context / "specs", here / "specs")
    host = harness("run", "specs", "--targets", LEGACY, "--layers", "-j", "1", "--no-latency")
    on_board = rows_of(board / "reports" / "latest")
    for case in ("right", "hidden", "shown"):
        check_same_layers(on_board[case], host.rows[f"nets/{case}", LEGACY])
        assert [layer["path"] for layer in on_board[case]["layers"]] == PATHS[: len(on_board[case]["layers"])]


def test_a_layer_that_is_wrong_by_itself_fails_the_check_on_the_board_and_is_named(board: Path) -> None:
    row = rows_of(board / "reports" / "latest")["hidden"]
    assert (row["status"], row["stage"], row["symptom"], row["blame"]) == ("failed", "compare", "mismatch", "exporter")
    assert row["message"].startswith("the outputs agree, but a layer is wrong by itself: one step at 1, ")
    assert wrong(row) == ["1"]
    pool = row["layers"][1]
    assert (pool["type"], pool["shape"]) == ("AvgPool2d", [2, 4, 3, 3])
    assert "divisor_override=3" in pool["arguments"]
    assert pool["seconds"] > 0
    assert pool["provider"] == "CPUExecutionProvider"
    assert "/1/AveragePool" in pool["nodes"]
    assert pool["reference"] < 1e-6


def test_no_layer_of_a_right_model_is_wrong_on_the_board(board: Path) -> None:
    row = rows_of(board / "reports" / "latest")["right"]
    assert row["status"] == "passed"
    assert not wrong(row)
    assert row["layers_show"].startswith("no step: no error of 4 layers is larger")


def test_every_report_of_the_board_has_the_layers(board: Path) -> None:
    folder = board / "reports" / "latest"
    output = (board / "output").read_text(encoding="utf-8")
    assert "AvgPool2d(kernel_size=2" in output
    assert "WRONG" in output
    assert "no layers: the bundle has no layers of this case; harness pack --layers adds those of whole" in output
    assert "one step at 1" in (folder / "report.md").read_text(encoding="utf-8")
    assert "AvgPool2d" in (folder / "report.layers.csv").read_text(encoding="utf-8")
    assert "divisor_override=3" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_whole_model_of_a_bundle_that_fails_shows_its_layers_by_itself(bundle: Path, harness: Call) -> None:
    ran = harness("run", str(bundle), "--targets", "ort-cpu", "-k", "shown", "-k", "hidden", "-j", "1", "--no-latency")
    assert wrong(ran.rows["nets/shown", LEGACY]) == ["1"]
    assert ran.rows["nets/shown", LEGACY]["layers_show"].startswith("one step at 1, ")
    hidden = ran.rows["nets/hidden", LEGACY]
    assert (hidden["status"], hidden["layers"]) == ("passed", [])


@pytest.mark.parametrize(("node", "factor", "path"), [("/0/Conv", math.nan, "0"), ("/3/MatMul", 1.01, "3")])
def test_a_fault_that_is_in_the_file_on_the_board_alone_is_found_at_its_layer(
    node: str, factor: float, path: str, bundle: Path, harness: Call
) -> None:
    (file,) = (each for each in bundle.glob("onnx/*/model.onnx") if "right" in str(each))
    whole = changed(file, bundle / "changed.onnx", lambda graph: scaled(graph, node, factor))
    file.unlink()
    whole.rename(file)
    reseal(bundle, manifest(bundle))
    row = harness("run", str(bundle), "--targets", "ort-cpu", "-k", "right", "-j", "1", "--no-latency").only
    assert (row["status"], wrong(row)) == ("failed", [path])
    first = next((layer for layer in row["layers"] if layer["nonfinite_new"]), None)
    assert (first is None) == math.isfinite(factor)
    assert first is None or (first["path"], first["nonfinite_node"]) == (path, node)


def test_a_traced_file_of_a_bundle_shows_its_layers_and_its_fault_without_the_module(
    context: Path, bundle: Path, harness: Call, here: Path
) -> None:
    options = ("--targets", TRACED, "--layers", "-j", "1", "--no-latency", "-k", "right", "-k", "hidden")
    packed = harness("run", str(bundle), *options).rows
    shutil.copytree(context / "specs", here / "specs")
    host = harness("run", "specs", *options).rows
    for case in ("right", "hidden"):
        check_same_layers(packed[f"nets/{case}", TRACED], host[f"nets/{case}", TRACED])
        assert len(packed[f"nets/{case}", TRACED]["layers"]) == len(PATHS)
    (file,) = (each for each in bundle.glob("torchscript/*/model.pt") if "right" in str(each))
    script = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    with torch.no_grad():
        dict(script.named_parameters())["0.weight"].mul_(1.01)
    file.unlink()
    torch.jit.save(script, str(file))
    reseal(bundle, manifest(bundle))
    row = harness("run", str(bundle), *options[:-2]).rows["nets/right", TRACED]
    assert (row["status"], wrong(row), row["blame"]) == ("failed", ["0"], "exporter")


def test_explain_names_and_cuts_out_the_layer_on_the_board(board: Path) -> None:
    done = python(board, "-m", "harness", "explain", "nets/shown", "bundle", "--target", LEGACY)
    assert done.returncode == 1, done.stderr
    assert "one step at 1, " in done.stdout
    assert "nets-shown-nodes/run.py was run and shows the failure" in done.stdout
    assert not (board / "tried").exists()


def test_values_that_do_not_fit_are_left_out_counted_and_listed(context: Path, harness: Call, here: Path) -> None:
    shutil.copytree(context / "specs", here / "specs")
    options = ("--layers", "--layers-limit", "5K", "-k", "right", "-k", "hidden", "-j", "1")
    packed = harness("pack", "specs", "-o", "small", "--targets", LEGACY, *options)
    assert packed.code == 0, packed.err
    text = "the values of 1 of 4 rows are not in the bundle, since they did not fit into 5,120 bytes "
    assert f"not all layers: nets/hidden on onnx-torchscript@17 | {text}(harness pack --layers-limit): 0" in packed.out
    assert "Layers: 8 rows of 2 exports, 0.0 MiB; whoever has the bundle can read the values inside" in packed.out
    ran = harness("run", "small", "--layers", "-j", "1", "--no-latency")
    right, hidden = (ran.rows[f"nets/{case}", LEGACY] for case in ("right", "hidden"))
    assert (right["status"], wrong(right)) == ("passed", [])
    assert (hidden["status"], wrong(hidden)) == ("failed", ["1"])
    assert hidden["layers"][0]["judged_with"] == "1"
    assert any(note.startswith(text) for note in hidden["notes"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--layers", "--layers-limit", "much"), "--layers-limit much: not a size; write bytes, or"),
        (("--layers-limit", "1G"), "--layers-limit: no layers are packed; add --layers"),
    ],
)
def test_a_limit_that_limits_nothing_is_refused(options: tuple[str, ...], words: str, harness: Call) -> None:
    refused = harness("pack", "specs", "-o", "bundle", *options)
    assert refused.code == 2
    assert words in refused.err


def test_a_bundle_without_layers_says_in_one_line_what_to_do(bundle: Path, harness: Call) -> None:
    content = manifest(bundle)
    for case in content["cases"]:
        for export in case["exports"].values():
            for path in export.pop("layers", ()):
                (bundle / path).unlink(missing_ok=True)
    reseal(bundle, content)
    words = ("run", str(bundle), "--targets", "ort-cpu", "-k", "right", "-j", "1", "--no-latency")
    assert harness(*words).code == 0
    ran = harness(*words, "--layers")
    assert ran.code == 1, "layers were asked for, and none was compared"
    note = "no layers: the bundle has no layers of this case; harness pack --layers adds those of whole models"
    assert ran.only["notes"] == [note]
    check = f"{ran.only['case']} on {ran.only['target']}"
    assert f"{note} (1 check: {check})" in ran.out
    verdict = f"No verdict: layers were asked for, and no layer of any check was compared; {check}: the bundle has no"
    assert verdict in " ".join(ran.out.splitlines())
    assert " ".join(harness(*words, "--layers", "-q").out.splitlines()).startswith(verdict)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_packed_value_that_is_damaged_is_refused_in_one_line(damage: str, bundle: Path, harness: Call) -> None:
    value = bundle / json.loads(layers_file(bundle, "right").read_text(encoding="utf-8"))["values"][1]["alone"]
    value.write_bytes(value.read_bytes()[:-1] + b"\x55") if damage == "changed" else value.unlink()
    ran = harness("run", str(bundle), "--targets", "ort-cpu", "--layers")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    words = {"changed": "is not the file that was packed", "missing": "is in the manifest, but missing"}
    assert words[damage] in ran.err


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("results", [99], "there are 5 tensors, and number 99 is used"),
        ("calls", 1, "calls: Input should be a valid list"),
        ("shapes", [[1], [1], [1], [1], [1]], "its shape is not the one of the layer's output"),
        ("values", [{"number": 1, "name": "x", "how": "", "values": "../x"}], "points outside the bundle"),
    ],
)
def test_layers_that_contradict_themselves_are_no_table_and_one_line(
    key: str, value: Any, words: str, bundle: Path, harness: Call
) -> None:
    path = layers_file(bundle, "right")
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), key: value}), encoding="utf-8")
    reseal(bundle, manifest(bundle))
    ran = harness("run", str(bundle), "--targets", "ort-cpu", "--layers", "-k", "right", "-j", "1", "--no-latency")
    (note,) = ran.only["notes"]
    assert note.startswith("no layers: ")
    assert words in note
    assert "\n" not in note


DIES = """
import os
from torch import nn

class Dies(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        if self.inner._forward_hooks:
            os._exit(1)
        return self.inner(x)
"""


def test_an_export_whose_layers_end_the_process_is_packed_without_them(harness: Call, here: Path) -> None:
    (here / "dies.py").write_text(DIES, encoding="utf-8")
    spec = "{harness: 1, cases: [{name: net, factory: 'dies:Dies', inputs: {x: {shape: [1, 2]}}}]}"
    (here / "dies.yaml").write_text(spec, encoding="utf-8")
    ran = harness("pack", "dies.yaml", "-o", "bundle", "--targets", LEGACY, "--allow-import", "--layers", "-j", "1")
    assert ran.code == 0, ran.err
    assert "Packed: 1 case, 1 export;" in ran.out
    assert "no layers: dies/net on onnx-torchscript@17 | packing the layers was not finished because" in ran.out


def with_nonfinite(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
    return numbers | st.sampled_from([math.nan, math.inf, -math.inf])


@given(st.data(), array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5), st.sampled_from(["f2", "f4", "f8"]))
def test_float64_values_come_back_within_a_millionth_of_their_difference(
    data: st.DataObject, shape: tuple[int, ...], dtype: str
) -> None:
    own = data.draw(arrays(dtype, shape, elements=with_nonfinite(st.floats(-1e4, 1e4, width=16).map(float))))
    rounding = data.draw(arrays("f8", shape, elements=with_nonfinite(st.floats(-1e-3, 1e-3, width=64))))
    with np.errstate(all="ignore"):
        exact = np.where(np.isfinite(rounding), own.astype("f8") + rounding, rounding)
        found = restored(difference_from(exact, own), own)
        allowed = 1e-6 * np.abs(exact - own) + 1e-15 * np.abs(exact) + 1e-44
        finite = np.isfinite(exact)
        assert np.array_equal(found[~finite], exact[~finite], equal_nan=True)
        assert np.all((np.abs(found - exact) <= allowed)[finite & np.isfinite(own)])
        assert np.array_equal(found[finite & ~np.isfinite(own)], exact[finite & ~np.isfinite(own)])
