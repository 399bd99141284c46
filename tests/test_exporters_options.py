"""Options of an exporter in a target: they reach the exporter, and an export with other options is another export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.conftest import Call

Spec = Callable[[str, str], Path]
LINEAR = """
harness: 1
layer: Linear
cases:
  - {name: case, args: {in_features: 3, out_features: 2}, inputs: {x: {shape: [2, 3]}}}
"""
NORM = """
harness: 1
layer: BatchNorm1d
cases:
  - {name: case, mode: train, args: {num_features: 3}, inputs: {x: {shape: [4, 3]}}}
"""


def test_options_reach_the_exporter_and_make_another_export(harness: Call, spec: Spec) -> None:
    spec("linear.yaml", LINEAR)
    stock, kept = "onnx-torchscript@17/ort-cpu", "onnx-torchscript@17?keep_initializers_as_inputs=true/ort-cpu"
    trace = "trace?check_trace=false&strict=false/torch-cpu"
    ran = harness("run", "specs", "--no-latency", "--targets", f"{stock},{kept},{trace}")
    assert ran.code == 0
    assert [row["target"] for row in ran.report["results"]] == [stock, kept, trace]
    digests = {row["target"]: row["artifact"] for row in ran.report["results"]}
    assert digests[stock] != digests[kept]
    # From the cache, under its own key.
    again = harness("run", "specs", "--no-latency", "--targets", f"{kept},{stock}")
    assert {row["target"]: row["artifact"] for row in again.report["results"]} == {
        stock: digests[stock],
        kept: digests[kept],
    }


def test_the_mode_of_a_legacy_export_can_be_kept(harness: Call, spec: Spec) -> None:
    spec("norm.yaml", NORM)
    stock, preserved = (f"onnx-torchscript@17{options}/ort-cpu" for options in ("", "?training=PRESERVE"))
    ran = harness("run", "specs", "--no-latency", "--targets", f"{stock},{preserved}")
    assert {row["target"]: row["status"] for row in ran.report["results"]} == {stock: "failed", preserved: "passed"}


def test_a_script_has_the_options(harness: Call, spec: Spec) -> None:
    path = spec("pool.yaml", LINEAR.replace("Linear", "AvgPool2d").replace("shape: [2, 3]", "shape: [1, 1, 4, 4]"))
    pool = "args: {kernel_size: 2, divisor_override: 3}"
    path.write_text(path.read_text().replace("args: {in_features: 3, out_features: 2}", pool))
    target = "onnx-torchscript@17?do_constant_folding=false&training=PRESERVE/ort-cpu"
    script = harness("run", "specs", "--no-latency", "--targets", target).only["reproduction"]
    assert "do_constant_folding=False," in script
    assert "training=torch.onnx.TrainingMode.PRESERVE," in script


def test_an_unknown_option_ends_the_run_with_the_known_ones(harness: Call, spec: Spec) -> None:
    spec("linear.yaml", LINEAR)
    ran = harness("run", "specs", "--targets", "onnx-dynamo@18?folding=false/ort-cpu")
    assert ran.code == 2
    assert (
        "onnx-dynamo has no option folding; it has optimize, keep_initializers_as_inputs, external_data, verify"
        in ran.err
    )


def test_a_bundle_keeps_the_options(harness: Call, spec: Spec) -> None:
    spec("linear.yaml", LINEAR)
    target = "onnx-torchscript@17?keep_initializers_as_inputs=true/ort-cpu"
    assert harness("pack", "specs", "-o", "bundle", "--targets", target).code == 0
    ran = harness("run", "bundle", "--no-latency")
    assert (ran.code, ran.only["target"]) == (0, target)
