"""Transforms after the exporter in a target, options of exporters, and what a lower precision is held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from harness import compare_models, verify
from harness.check.judging.quantization_noise import MARGIN_DB, expected_ratio, lowest_ratio
from harness.errors import UsageError
from harness.registry import plugins
from harness.spec.targets import parse_target
from harness.transforms import TransformRequest
from harness.transforms.int8 import Int8
from tests.conftest import Call
from tests.precision_models import WIDTH, even_weights, write_chain

SPEC = """
harness: 1
cases:
  - name: mlp
    sequential:
      - {layer: Linear, args: {in_features: 32, out_features: 64}}
      - {layer: ReLU}
      - {layer: Linear, args: {in_features: 64, out_features: 16}}
    inputs: {x: {shape: [8, 32]}}
"""
EXPORTER = "onnx-torchscript@17"


@pytest.fixture
def run(harness: Call, spec: Any) -> Any:
    """Run the spec on targets; return the rows by target."""

    def run(*targets: str, text: str = SPEC, code: int | None = 0) -> dict[str, Any]:
        spec("mlp.yaml", text)
        ran = harness("run", "specs", "--no-latency", "--targets", ",".join(targets))
        assert code is None or ran.code == code, ran.out + ran.err
        return {row["target"]: row for row in ran.report["results"]}

    return run


def test_every_transform_is_applied_and_passes(run: Any) -> None:
    words = ["fp16", "int8", "int8-static", "slim", "simplify", "optimized", "opset18", "optimized+fp16"]
    rows = run(*(f"{EXPORTER}+{word}/ort-cpu" for word in words))
    ratios = {target: row["outputs"][0]["sqnr"] for target, row in rows.items()}
    assert all(row["status"] == "passed" for row in rows.values())
    assert 60 < ratios[f"{EXPORTER}+fp16/ort-cpu"] < 90
    assert 30 < ratios[f"{EXPORTER}+int8/ort-cpu"] < 60
    assert len({row["artifact"] for row in rows.values()}) >= 6


def test_the_default_tolerance_of_a_lower_precision_says_where_it_comes_from(run: Any) -> None:
    rows = run(*(f"{EXPORTER}+{word}/ort-cpu" for word in ("fp16", "int8")))
    half, quantized = (row["outputs"][0]["tolerance"] for row in rows.values())
    assert half == "3 x the reference's own error in float16 against float64"
    assert "the quantizer's step sizes predict" in quantized


def test_a_tolerance_that_the_spec_names_comes_first(run: Any) -> None:
    text = SPEC.replace("inputs:", "tolerance: {rtol: 1.0e-6, atol: 1.0e-6}\n    inputs:")
    (row,) = run(f"{EXPORTER}+int8/ort-cpu", text=text, code=1).values()
    assert row["status"] == "failed"
    assert row["blame"] == "exporter"
    assert row["evidence"][0] == "on ort-cpu, the file agrees before +int8, and not after it"


class _Coarse(Int8):
    """int8 with one weight whose scale is ``factor`` times what it should be."""

    factor = 4.0

    def apply(self, source: Path, destination: Path, request: Any) -> None:
        super().apply(source, destination, request)
        model = onnx.load(str(destination))
        scale = next(each for each in model.graph.initializer if each.name.endswith("_scale"))
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(self.factor), scale.name))
        onnx.save(model, str(destination))


@pytest.fixture
def mlp() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16)).eval()


def test_a_wrong_scale_is_found_and_its_transform_is_named(mlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", _Coarse())
    (row,) = verify(mlp, torch.randn(8, 32), targets=[f"{EXPORTER}+opset18+int8/ort-cpu"]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "before +int8, and not after it" in row.evidence[0]
    assert "SQNR" in str(row.message)


def test_a_grid_four_times_as_coarse_is_below_the_lowest_ratio(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(64, 32)).astype(np.float32)
    samples = [{"x": generator.normal(size=(16, 64)).astype(np.float32)}]
    source, quantized = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    _product(source, weights)
    Int8().apply(source, quantized, _request(samples))
    ratio = (expected_ratio(source, quantized, samples) or {})["y"]
    exact = samples[0]["x"].astype(np.float64) @ weights

    def ratio_of_grid(coarser: float) -> float:
        step = np.abs(weights).max() / 127 * coarser
        error = samples[0]["x"] @ (np.round(weights / step) * step - weights)
        return 10 * float(np.log10(np.sum(exact**2) / np.sum(error**2)))

    assert abs(ratio - ratio_of_grid(1)) < MARGIN_DB
    assert lowest_ratio(ratio, exact.size) > ratio_of_grid(4)


def _request(samples: Any) -> Any:
    return TransformRequest("int8", {}, samples)


def _product(path: Path, weights: Any, opset: int = 17) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))


def test_a_transform_that_lowers_nothing_is_an_error(run: Any) -> None:
    (row,) = run(f"{EXPORTER}+int4/ort-cpu", code=1).values()
    assert (row["status"], row["stage"], row["symptom"]) == ("error", "export", "unsupported")
    assert row["message"].startswith("+int4 lowers nothing: it needs MatMul with constant weights")


def test_a_transform_that_fails_is_named_at_the_export_stage(run: Any) -> None:
    (row,) = run(f"{EXPORTER}+opset5/ort-cpu", code=1).values()
    assert (row["status"], row["stage"], row["symptom"]) == ("error", "export", "unsupported")
    assert row["message"] == "+opset5: onnx cannot convert Relu to opset 5: it has no adapter at opset 14"


def test_an_opset_that_onnx_does_not_have_ends_the_run_before_it_starts(harness: Call, spec: Any) -> None:
    spec("mlp.yaml", SPEC)
    ran = harness("run", "specs", "--targets", f"{EXPORTER}+opset99/ort-cpu")
    assert ran.code == 2
    assert "+opset99/ort-cpu: onnx " in ran.err
    assert len(ran.err.splitlines()) == 1


def test_onnx_runtimes_format_runs_and_a_lower_precision_before_it_is_judged_as_such(run: Any) -> None:
    rows = run(
        *(f"{EXPORTER}+{word}/ort-cpu" for word in ("ort", "int8+ort")), f"{EXPORTER}+fp16+ort?keep_io=off/ort-cpu"
    )
    assert {row["status"] for row in rows.values()} == {"passed"}
    plain, quantized, half = (row["outputs"][0]["tolerance"] for row in rows.values())
    assert plain == "3 x the reference's own error against float64"
    assert "step sizes" in quantized
    assert "in float16" in half


def test_transforms_are_composed_where_a_file_can_hold_both(run: Any) -> None:
    """The sums of an integer product are beyond the range of float16, and its scales below it."""
    words = ("int8+fp16", "int8+optimized+fp16", "int8-static+fp16", "optimized+fp16+slim")
    bfloat16 = (f"{EXPORTER}+int8+bf16/reference", f"{EXPORTER}+optimized+bf16/openvino")
    rows = run(*(f"{EXPORTER}+{word}/ort-cpu" for word in words), *bfloat16)
    assert {row["status"] for row in rows.values()} == {"passed"}
    assert "step sizes and a run in bfloat16 predict" in rows[bfloat16[0]]["outputs"][0]["tolerance"]


@pytest.mark.parametrize("word", ["fp16", "bf16"])
def test_nodes_without_names_are_lowered_behind_quantized_products(tmp_path: Path, word: str) -> None:
    module = nn.Sequential(nn.Linear(32, 32, bias=False), nn.Tanh(), nn.Linear(32, 32, bias=False)).eval()
    float32, int8, lowered = (tmp_path / f"{name}.onnx" for name in ("float32", "int8", "lowered"))
    torch.onnx.export(module, (torch.randn(4, 32),), str(float32), dynamo=False, opset_version=17, verbose=False)
    model = onnx.load(str(float32))
    for node in model.graph.node:
        node.ClearField("name")
    onnx.save(model, str(float32))
    transforms = plugins("transforms")
    transforms["int8"].apply(float32, int8, TransformRequest("int8", {}, ()))
    transforms[word].apply(int8, lowered, TransformRequest(word, {}, ()))
    written = onnx.load(str(lowered))
    (tanh,) = [node for node in written.graph.node if node.op_type == "Tanh"]
    cast = next(node for node in written.graph.node if tanh.input[0] in node.output)
    assert (cast.op_type, cast.attribute[0].i) == ("Cast", {"fp16": 10, "bf16": 16}[word])


def test_transforms_that_no_file_can_hold_both_of_are_named_with_what_to_write(run: Any) -> None:
    expected = {
        "fp16+fp16": "+fp16: the file has float16 values already; +fp16 takes float32 files",
        "bf16+fp16": "+fp16: the file has bfloat16 values already; +fp16 takes float32 files",
        "fp16+bf16": "+bf16: the file has float16 values already; +bf16 takes float32 files",
        "fp16+int8": "+int8: the file has float16 values already; write +int8 before what lowers it",
        "bf16+int8-static": "+int8-static: the file has bfloat16 values already; write +int8-static before",
        "bf16+int4": "+int4: the file has bfloat16 values already; write +int4 before what lowers it",
        "int8+int8": "+int8: the file is quantized already (DynamicQuantizeLinear); apply one quantizer",
        "int8-static+int8": "+int8: the file is quantized already (DequantizeLinear); apply one quantizer",
        "bf16+optimized": "; it is optimized on a CPU, which has no kernel for it: write +optimized before +bf16",
    }
    rows = run(*(f"{EXPORTER}+{words}/ort-cpu" for words in expected), code=1)
    for (words, message), row in zip(expected.items(), rows.values(), strict=True):
        assert (row["status"], row["stage"], row["symptom"]) == ("error", "export", "unsupported"), words
        assert message in row["message"]
        assert row["message"].startswith(f"+{words.split('+')[-1]}")


@pytest.mark.parametrize("runtime", ["reference", "openvino"])
def test_bfloat16_is_held_to_eager_torch_in_bfloat16(run: Any, runtime: str) -> None:
    (row,) = run(f"{EXPORTER}+bf16/{runtime}").values()
    assert row["outputs"][0]["tolerance"] == "3 x the reference's own error in bfloat16 against float64"
    assert 35 < row["outputs"][0]["sqnr"] < 60


def test_missing_kernels_in_bfloat16_are_the_runtimes_limit_and_nobodys_fault(run: Any) -> None:
    (row,) = run(f"{EXPORTER}+bf16/ort-cpu", code=1).values()
    assert (row["stage"], row["symptom"], row["blame"]) == ("load", "unsupported", None)
    assert row["message"].endswith("; ort-cpu loads the file without +bf16, so it has no kernel for it in bfloat16")


def test_bfloat16_values_are_rounded_once_from_float32(tmp_path: Path) -> None:
    import ml_dtypes

    from harness.transforms.bf16 import Bf16

    weights = np.array([[1e-30, 70000.0, 1.00390625 + 1e-6]], np.float32).T  # below, above and between float16's
    source, destination = tmp_path / "float.onnx", tmp_path / "bf16.onnx"
    _product(source, weights)
    Bf16().apply(source, destination, _request([]))
    (stored,) = onnx.load(str(destination)).graph.initializer
    assert stored.data_type == onnx.TensorProto.BFLOAT16
    assert np.array_equal(numpy_helper.to_array(stored), weights.astype(ml_dtypes.bfloat16))
    onnx.checker.check_model(str(destination), full_check=True)


def test_an_opset_without_bfloat16_lowers_nothing(tmp_path: Path) -> None:
    from harness.errors import Unsupported
    from harness.transforms.bf16 import Bf16

    source = tmp_path / "float.onnx"
    _product(source, np.ones((3, 2), np.float32), opset=12)
    with pytest.raises(Unsupported, match="opset 12 has no bfloat16 for the operators of the file"):
        Bf16().apply(source, tmp_path / "bf16.onnx", _request([]))


def test_a_float16_file_takes_and_gives_float16_and_is_compared_in_float32(run: Any) -> None:
    rows = run(f"{EXPORTER}+fp16?keep_io=off/ort-cpu", f"{EXPORTER}+fp16/ort-cpu")
    off, on = (row["outputs"][0] for row in rows.values())
    assert off["dtype"] == on["dtype"] == "float32"
    assert off["tolerance"] == on["tolerance"]
    assert off["sqnr"] < on["sqnr"] + 6


def test_a_node_that_the_file_lacks_is_an_error(run: Any) -> None:
    rows = run(*(f"{EXPORTER}+{word}=Gem/ort-cpu" for word in ("fp16?keep_nodes", "int8?exclude")), code=1)
    assert {row["stage"] for row in rows.values()} == {"export"}
    assert all("the file has no node Gem; " in row["message"] for row in rows.values())


def test_a_missing_library_is_named_with_how_to_install_it(mlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.transforms.find_spec", lambda _name: None)
    (row,) = verify(mlp, torch.randn(8, 32), targets=[f"{EXPORTER}+slim/ort-cpu"]).results
    assert (row.stage, row.symptom) == ("export", "unavailable")
    assert row.message == "+slim: onnxslim is not installed; install with: pip install onnxslim"


def test_the_options_of_an_exporter_reach_it(run: Any) -> None:
    rows = run(
        "onnx-torchscript@17?keep_initializers_as_inputs=off/ort-cpu",
        "onnx-torchscript@17?do_constant_folding=off/ort-cpu",
        "trace?check_trace=off/torch-cpu",
        "onnx-dynamo@18?optimize=off/ort-cpu",
    )
    assert {row["status"] for row in rows.values()} == {"passed"}


def test_training_keeps_what_the_default_drops(run: Any) -> None:
    text = SPEC.replace("- {layer: ReLU}", "- {layer: BatchNorm1d, args: {num_features: 64}}")
    text = text.replace("inputs:", "mode: train\n    inputs:")
    rows = run(f"{EXPORTER}/ort-cpu", f"{EXPORTER}?training=preserve/ort-cpu", text=text, code=1)
    notes = [row["notes"] for row in rows.values()]
    assert any("training mode" in note for note in notes[0])
    assert not any("exports it in evaluation mode" in note for note in notes[1])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("onnx-dynamo@18+fp8/ort-cpu", "no transform +fp8; one of bf16, fp16, int4, int8,"),
        ("onnx-dynamo@18+fp16+fixes/ort-cpu", "+fixes belongs to the exporter; write it before the transforms, once"),
        ("trace+fp16/torch-cpu", "trace makes TorchScript, and transforms change ONNX files; remove +fp16"),
        ("onnx-dynamo@18+int8?per_channel=maybe/ort-cpu", "per_channel=maybe is unknown; write on or off"),
        ("onnx-dynamo@18?folding=on/ort-cpu", "onnx-dynamo has no option folding"),
        ("onnx-torchscript@17?training=never/ort-cpu", "training=never is unknown; write eval, preserve, training"),
        ("onnx-dynamo@18+fp16?keep_io=no/ort-cpu", "keep_io=no is unknown; write on or off"),
        ("onnx-dynamo@18+bf16?keep_io=off/ort-cpu", "onnx-dynamo and +bf16 have no option keep_io"),
        ("onnx-dynamo@18+int8?ops=a,,b/ort-cpu", "ops=a,,b has an empty name; write names separated by ; or ,"),
        ("onnx-dynamo@18+int4?symmetric=no/ort-cpu", "symmetric=no is unknown; write on or off"),
        (
            "onnx-dynamo@18+ort+fp16/ort-cpu",
            "+ort makes ONNX Runtime's own format, which no transform changes; write it last",
        ),
        (
            "onnx-dynamo@18+ort/openvino",
            "ONNX Runtime's own format, openvino runs ONNX; with +ort use",
        ),
        ("onnx-dynamo@18+int4?block_size=7/ort-cpu", "block_size=7 is unknown; write 16, 32, 64, 128 or 256"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(target: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_target(target)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "onnx-dynamo@18+fixes+optimized+int8?per_channel=on&optimize=off/ort-cpu?threads=2",
        "onnx-torchscript@17+opset18/reference",
        "trace?strict=off/torch-cpu",
        "onnx-dynamo@18+fp16+ort?keep_io=off/ort-cpu",
        "onnx-torchscript@17+int8?exclude=/0/Gemm;/2/Gemm/ort-cpu?custom_ops=a/b.so",
    ],
)
def test_a_target_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_target(text)) == text


def test_options_go_with_the_part_that_accepts_them() -> None:
    target = parse_target("onnx-dynamo@18+optimized+int8?per_channel=on&optimize=off&level=basic/ort-cpu")
    assert target.untransformed.export == "onnx-dynamo@18?optimize=off"
    assert target.with_first_transforms(1).export == "onnx-dynamo@18+optimized?optimize=off&level=basic"


def test_a_file_under_test_is_transformed_too(mlp: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    torch.onnx.export(mlp, (torch.randn(8, 32),), path, dynamo=False, input_names=["x"], output_names=["y"])
    targets = [
        "+fp16/ort-cpu",
        "+int8/ort-cpu",
        "ort-cpu",
        "+ort/ort-cpu",
        "+fp16+ort?keep_io=off/ort-cpu",
        "+bf16/openvino",
    ]
    rows = compare_models(path, mlp, torch.randn(8, 32), targets=targets).results
    assert [row.status for row in rows] == ["passed"] * 6
    assert "in float16" in rows[0].outputs[0].tolerance
    assert "step sizes" in rows[1].outputs[0].tolerance
    assert len({row.artifact for row in rows}) == 6


def test_a_fault_that_a_transform_plants_in_a_file_is_named(
    mlp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    torch.onnx.export(mlp, (torch.randn(8, 32),), path, dynamo=False, input_names=["x"], output_names=["y"])
    monkeypatch.setitem(plugins("transforms"), "int8", _Coarse())
    (row,) = compare_models(path, mlp, torch.randn(8, 32), targets=["+int8/ort-cpu"]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "before +int8, and not after it" in row.evidence[0]


def test_nodes_that_are_kept_hand_each_other_float32(tmp_path: Path) -> None:
    """ONNX Runtime's converter alone rounds the value between them to float16, in which it is infinite."""
    write_chain(tmp_path / "net.onnx", even_weights(2), scaled=(1e6, 1e-6))
    x = np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)
    net, words = str(tmp_path / "net.onnx"), ["+fp16/ort-cpu", "+fp16?keep_nodes=/up/Mul%2C/down/Mul/ort-cpu"]
    half, kept = compare_models(net, net, [x], targets=words).results
    assert (half.outputs[0].sqnr or 0) < 10
    assert (kept.outputs[0].sqnr or 0) > 60


def test_a_bundle_holds_transformed_files_and_they_pass_there(harness: Call, spec: Any) -> None:
    spec("mlp.yaml", SPEC)
    exports = [f"{EXPORTER}+{word}" for word in ("fp16+ort?keep_io=off", "int8+ort", "fp16?keep_io=off")]
    packed = harness("pack", "specs", "--targets", ",".join(f"{each}/ort-cpu" for each in exports), "-o", "bundle")
    assert packed.code == 0, packed.out + packed.err
    ran = harness("run", "bundle")
    assert ran.code == 0, ran.out + ran.err
    assert [row["target"] for row in ran.report["results"]] == [f"{each}/ort-cpu" for each in exports]
    assert all(row["latency"]["median_us"] > 0 for row in ran.report["results"])


def test_a_fault_before_onnx_runtimes_format_is_named(mlp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", _Coarse())
    (row,) = verify(mlp, torch.randn(8, 32), targets=[f"{EXPORTER}+int8+ort/ort-cpu"]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "before +int8, and not after it" in row.evidence[0]


class _Deaf(Int8):
    """int8 that quantizes excluded nodes too."""

    def apply(self, source: Path, destination: Path, request: Any) -> None:
        from dataclasses import replace

        super().apply(source, destination, replace(request, options={}))


@pytest.mark.parametrize("transform", [Int8(), _Deaf()])
def test_an_excluded_node_that_is_quantized_is_found(mlp: Any, monkeypatch: pytest.MonkeyPatch, transform: Any) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", transform)
    (row,) = verify(mlp, torch.randn(8, 32), targets=[f"{EXPORTER}+int8?exclude=/0/Gemm/ort-cpu"]).results
    if isinstance(transform, _Deaf):
        assert (row.status, row.stage) == ("error", "export")
        assert row.message == "+int8 lowered the node /0/Gemm, which was to stay in float32"
    else:
        assert row.status == "passed"


class _LikeNames(nn.Module):
    """Two weights, of which the name of one begins with that of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.w_2 = (nn.Parameter(torch.randn(32, 32)) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.w) @ self.w_2


def test_a_quantized_weight_is_not_taken_for_one_with_a_shorter_name() -> None:
    torch.manual_seed(0)
    target = f"{EXPORTER}+int8?exclude=/MatMul/ort-cpu"
    (row,) = verify(_LikeNames().eval(), torch.randn(8, 32), targets=[target]).results
    assert row.status == "passed", row.message


def test_the_expected_ratio_is_known_at_the_newest_opset(run: Any) -> None:
    (row,) = run("onnx-dynamo@23+int8/ort-cpu").values()
    assert "step sizes predict" in row["outputs"][0]["tolerance"]
