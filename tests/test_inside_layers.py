"""The layer table: every layer beside its part of an export, and which of them is wrong by itself."""

from __future__ import annotations

import copy
import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
from torch import nn

import harness
from harness.inside.calls import ValueStore
from harness.inside.judging import measure, sentence, times_text
from harness.report.json_report import JsonReport, read_report
from harness.report.layers import LayersReport, layer_lines, worst_layers
from harness.report.model_explorer import ModelExplorerReport
from harness.result import Layer, Report, Result, to_json
from tests.inside_nets import (
    Branches,
    Dicts,
    Positive,
    Residuals,
    changed,
    inputs,
    net,
    onnx_file,
    scaled,
    without_names,
)

LEGACY = "onnx-torchscript@17/ort-cpu"
LAYERS = [
    *("stem", "body.0.conv", "body.0.bn", "body.0.act", "body.1.conv", "body.1.bn", "body.1.act", "pool"),
    *("norm", "attention", "drop", "gelu", "head"),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net as ONNX."""
    return onnx_file(net(), tmp_path_factory.mktemp("nets") / "net.onnx")


def compared(subject: Path, reference: Any = None) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = harness.compare_models(subject, net() if reference is None else reference, inputs(), layers=True)
    (result,) = verdict.results
    return result


def wrong(result: Result) -> list[str]:
    return [layer.path for layer in result.layers if layer.wrong]


def by_path(result: Result) -> dict[str, Layer]:
    return {layer.path: layer for layer in result.layers if layer.type != "functional"}


@pytest.mark.parametrize("target", [LEGACY, "onnx-dynamo@18/ort-cpu", "trace/torch-cpu"])
def test_every_layer_of_a_right_export_is_compared_and_none_is_wrong(target: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (result,) = harness.verify(net(), inputs(), targets=target, layers=True).results
    assert result.status == "passed", result.message
    assert [layer.path for layer in result.layers if layer.type != "functional"] == LAYERS
    assert not wrong(result)
    assert result.layers_uncovered == ()
    assert (result.layers_show or "").startswith("no step: no error of")
    for layer in result.layers:
        if layer.judged_with is None:
            assert layer.local is not None
            assert layer.local < 1e-5
            assert layer.accumulated is not None
            assert layer.accumulated < 1e-5
            assert layer.reference is not None
            assert layer.nodes
            assert layer.seconds is None or layer.seconds >= 0
    layers = by_path(result)
    assert (layers["stem"].type, layers["stem"].call) == ("Conv2d", 0)
    assert layers["stem"].shape == (2, 8, 4, 4)
    assert layers["stem"].seconds is not None
    assert "kernel_size=(3, 3)" in layers["stem"].arguments
    assert layers["drop"].judged_with == "nothing: it returns its input"


def test_a_layer_that_the_output_hides_fails_the_check_where_layers_are_asked_for() -> None:
    module = net(gate=1e-8, divisor=5)  # exporters drop the divisor, and the gate hides it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (plain,) = harness.verify(module, inputs(), targets=LEGACY).results
        (result,) = harness.verify(module, inputs(), targets=LEGACY, layers=True).results
    assert plain.status == "passed"
    assert not plain.layers
    assert result.status == "failed"
    assert (result.stage, result.symptom, result.blame) == ("compare", "mismatch", "exporter")
    assert (result.message or "").startswith("the outputs agree, but a layer is wrong by itself: one step at pool, ")
    assert result.layers_alone
    assert wrong(result) == ["pool"]
    assert "divisor_override=5" in by_path(result)["pool"].arguments


def test_layers_that_were_asked_for_and_not_compared_are_no_pass() -> None:
    verdict = harness.verify(nn.Dropout().eval(), torch.ones(2, 3), targets="trace/torch-cpu", layers=True)
    assert [result.status for result in verdict.results] == ["passed"]
    assert not verdict
    assert verdict.message.startswith("layers were asked for, and no layer of any check was compared; ")
    with pytest.raises(AssertionError, match="no layer of any check was compared"):
        verdict.assert_passed()


def test_a_layer_whose_nodes_cannot_be_evaluated_is_blamed_on_nobody_and_the_reason_is_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("harness.inside.onnx_file.evaluate_model", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (result,) = harness.verify(net(gate=1e-8, divisor=5), inputs(), targets=LEGACY, layers=True).results
    assert (result.status, result.blame, wrong(result)) == ("failed", None, ["pool"])
    reason = "the layer's part of the file could not be evaluated in float64: RuntimeError: no such operator"
    assert result.evidence == (reason,)


def another_operator(graph: onnx.GraphProto, operator: str, number: int, other: str) -> None:
    [node for node in graph.node if node.op_type == operator][number].op_type = other


@pytest.mark.parametrize(
    ("node", "path"), [("/norm_1/LayerNormalization", "layers.1.norm"), ("/up/MatMul", "layers.0.up")]
)
def test_layers_with_one_name_in_dicts_are_told_apart(tmp_path: Path, node: str, path: str) -> None:
    torch.manual_seed(0)
    module = Dicts(gate=1e-6).eval()
    plain = onnx_file(module, tmp_path / "plain.onnx")
    assert not wrong(compared(plain, module))
    result = compared(changed(plain, tmp_path / "faulty.onnx", lambda graph: scaled(graph, node, 1.05)), module)
    assert (result.status, wrong(result)) == ("failed", [path]), result.layers_show


def test_a_function_is_not_taken_for_another_because_a_later_value_looks_like_a_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Positive().eval()
    plain = onnx_file(module, tmp_path / "plain.onnx", dynamo=True)
    faulty = changed(plain, tmp_path / "faulty.onnx", lambda graph: another_operator(graph, "Relu", 2, "Softplus"))
    result = compared(faulty, module)
    (layer,) = [layer for layer in result.layers if layer.wrong]
    assert (layer.type, layer.nodes) == ("functional", ("node_relu_2",)), result.layers_show


def test_in_a_file_without_names_a_layer_is_found_by_those_that_read_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Branches().eval()
    plain = onnx_file(module, tmp_path / "plain.onnx")

    def fault(graph: onnx.GraphProto) -> None:
        another_operator(graph, "Tanh", 0, "Softsign")
        without_names(graph)

    result = compared(changed(plain, tmp_path / "faulty.onnx", fault), module)
    assert wrong(result) == ["act"], result.layers_show


def test_in_a_file_without_names_a_wrong_last_layer_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4)).eval()
    plain = onnx_file(module, tmp_path / "plain.onnx")

    def fault(graph: onnx.GraphProto) -> None:
        scaled(graph, [node.name for node in graph.node if node.op_type == "MatMul"][-1], 1.05)
        without_names(graph)

    result = compared(changed(plain, tmp_path / "faulty.onnx", fault), module)
    assert (result.status, wrong(result)) == ("failed", ["2"]), result.layers_show
    assert (result.layers_show or "").startswith("one step at 2, ")


def test_a_fault_is_a_step_at_the_layer_that_has_it(exported: Path, tmp_path: Path) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/head/MatMul", 1.01))
    result = compared(faulty)
    assert result.status == "failed"
    assert wrong(result) == ["head"]
    assert (result.layers_show or "").startswith("one step at head, ")
    assert "/head/MatMul" in by_path(result)["head"].nodes
    layers = by_path(result)
    assert (layers["gelu"].accumulated or 0) < 1e-5 < (layers["head"].accumulated or 0)
    assert [path for path, layer in layers.items() if layer.picture is not None] == ["head"]
    shown = layers["head"].picture or {}
    row, column = shown["worst"]
    assert shown["actual"][row][column] == pytest.approx(1.01 * shown["expected"][row][column], rel=0.01)


def test_the_first_three_wrong_layers_have_a_picture(exported: Path, tmp_path: Path) -> None:
    def faults(graph: onnx.GraphProto) -> None:
        for node in ("/stem/Conv", "/body/body.0/conv/Conv", "/body/body.1/conv/Conv", "/head/MatMul"):
            scaled(graph, node, 1.01)

    result = compared(changed(exported, tmp_path / "faulty.onnx", faults))
    assert len(wrong(result)) == 4
    assert [layer.path for layer in result.layers if layer.picture is not None] == wrong(result)[:3]


def test_a_fault_before_other_layers_is_in_their_accumulated_error_only(exported: Path, tmp_path: Path) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/stem/Conv", 1.01))
    result = compared(faulty)
    assert wrong(result) == ["stem"]
    for path in ("body.1.bn", "norm", "attention", "gelu", "head"):
        layer = by_path(result)[path]
        assert (layer.local or 0) < 1e-5 < (layer.accumulated or 0), path


def test_a_normalization_whose_converted_input_is_read_behind_it_is_not_taken_for_the_copy(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Residuals().eval()
    right = onnx_file(module, tmp_path / "right.onnx")
    faulty = changed(right, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/linears.0/MatMul", 3.0))
    result = compared(faulty, module)
    assert wrong(result) == ["linears.0"]
    assert "/norms.1/Mul_1" in by_path(result)["norms.1"].nodes


def test_a_convolution_and_the_normalization_folded_into_it_are_one_group(exported: Path, tmp_path: Path) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/body/body.1/conv/Conv", 1.01))
    result = compared(faulty)
    assert wrong(result) == ["body.1.bn"]
    assert by_path(result)["body.1.conv"].judged_with == "body.1.bn"
    assert (result.layers_show or "").startswith("one step at body.1.bn with body.1.conv, ")


@pytest.mark.parametrize(
    ("node", "layer"), [("/stem/Conv", "stem"), ("/body/body.0/conv/Conv", "body.0.bn"), ("/head/MatMul", "head")]
)
def test_a_file_without_names_is_matched_by_values_and_by_what_follows(
    exported: Path, tmp_path: Path, node: str, layer: str
) -> None:
    def change(graph: onnx.GraphProto) -> None:
        scaled(graph, node, 1.5)
        without_names(graph)

    result = compared(changed(exported, tmp_path / "nameless.onnx", change))
    assert wrong(result) == [layer]
    assert result.layers_uncovered == ()
    assert (by_path(result)[layer].matched_by or "").startswith(("place", "value", "output"))


def test_a_right_file_without_names_has_no_wrong_layer_and_its_times(exported: Path, tmp_path: Path) -> None:
    result = compared(changed(exported, tmp_path / "nameless.onnx", without_names))
    assert result.status == "passed", result.message
    assert by_path(result)["attention"].matched_by == "value"
    assert by_path(result)["norm"].seconds


def test_fresh_statistics_make_a_normalization_no_other_layer(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()
    path = onnx_file(module, tmp_path / "net.onnx")
    for file in (path, changed(path, tmp_path / "nameless.onnx", without_names)):
        result = compared(file, module)
        assert result.status == "passed", result.message
        assert by_path(result)["0"].judged_with == "1"


def test_a_file_is_compared_with_another_file_node_by_node(exported: Path, tmp_path: Path) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/head/MatMul", 1.01))
    result = compared(faulty, exported)
    assert wrong(result) == ["/head/MatMul"]
    assert by_path(result)["/head/MatMul"].type == "MatMul"
    assert not wrong(compared(exported, exported))


def test_a_fault_in_torchscript_is_found_by_the_operations_that_torch_runs(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(net(), inputs(), check_trace=False)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            getattr(traced.body, "1").conv.weight[0] *= 1.01
        traced.save(str(tmp_path / "net.pt"))
    result = compared(tmp_path / "net.pt")
    assert wrong(result) == ["body.1.conv"]
    assert by_path(result)["body.1.conv"].seconds is not None


def test_an_output_that_differs_by_rounding_alone_is_no_step() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdict = harness.verify(net(), inputs(), targets=LEGACY, tolerance="exact", layers=True)
    (result,) = verdict.results
    assert result.status == "failed"
    assert not wrong(result)
    assert (result.layers_show or "").startswith("no step: ")


def test_the_first_nan_is_named(exported: Path, tmp_path: Path) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/stem/Conv", math.nan))
    result = compared(faulty)
    new = "; NaN or infinity that the reference does not have first at stem (node /stem/Conv)"
    assert (result.layers_show or "").endswith(new)
    assert by_path(result)["stem"].nonfinite_new > 0


def test_a_nan_that_the_file_loses_is_no_nan_that_it_has(tmp_path: Path) -> None:
    class Logarithm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x)

    module = nn.Sequential(Logarithm(), nn.Linear(6, 2))
    right = onnx_file(module, tmp_path / "right.onnx")

    def absolute(graph: onnx.GraphProto) -> None:
        graph.node.insert(0, onnx.helper.make_node("Abs", ["x"], ["positive"]))
        (node,) = (each for each in graph.node if each.op_type == "Log")
        node.input[0] = "positive"

    result = compared(changed(right, tmp_path / "faulty.onnx", absolute), module)
    assert (result.layers_show or "").endswith("; NaN or infinity of the reference first missing at 0")
    assert by_path(result)["0"].nonfinite_new == 0


def test_each_layer_has_the_provider_that_ran_it_and_a_column_where_there_are_several(exported: Path) -> None:
    result = compared(exported)
    assert {layer.provider for layer in result.layers if layer.nodes} == {"CPUExecutionProvider"}
    assert "provider" not in "\n".join(layer_lines(result))
    assert "  us" in "\n".join(layer_lines(result))
    mixed = replace(result, layers=(replace(result.layers[0], provider="CUDAExecutionProvider"), *result.layers[1:]))
    header, first, *_ = list(layer_lines(mixed, 100))[1:]
    assert header.endswith("  provider")
    assert first.endswith("  CUDA")
    csv = LayersReport().render(Report({}, (mixed,)))
    assert ",CUDAExecutionProvider," in csv


@pytest.mark.parametrize("named", [True, False])
def test_the_layers_of_a_quantized_file_are_compared_and_none_is_called_wrong(
    named: bool, exported: Path, tmp_path: Path
) -> None:
    path = tmp_path / "quantized.onnx"
    quantize_dynamic(str(exported), str(path))
    result = compared(path if named else changed(path, tmp_path / "nameless.onnx", without_names))
    show = result.layers_show or ""
    assert show.startswith(
        "the file is quantized, so no layer is called wrong; the largest error by itself of 15 layers"
    )
    rows = by_path(result)
    assert all(layer.local is None or layer.local < 0.02 for layer in rows.values())
    assert rows["body.0.conv"].judged_with == "body.0.bn"
    assert (rows["head"].local or 0) > 1e-3 > (rows["norm"].local or 0)
    assert not result.layers_uncovered


def test_the_integers_of_a_quantized_file_are_no_values_of_layers() -> None:
    rows = [Layer("a", "Linear", 0, local=0.01, accumulated=0.01, reference=1e-7), Layer("b", "Linear", 0)]
    assert sentence(rows, passed=True) == (
        "the file is quantized, so no layer is called wrong; the largest error by itself of 1 layer is 1 % of the "
        "values, at a; 1 of 2 rows has no floating-point value in the file"
    )


class Folds(nn.Module):
    """A scale behind each of two layers whose product is taken, and a small one that hides a third."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.fc, self.o = (nn.Linear(8, 8) for _ in range(5))
        self.gamma = nn.Parameter(torch.full((8,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = (self.q(x) * 0.5) @ (self.k(x) * 0.5).transpose(0, 1)
        x = x + scores.softmax(-1) @ self.v(x)
        answer: torch.Tensor = self.o(x + self.gamma * self.fc(x))
        return answer


def fold_scales(graph: onnx.GraphProto) -> None:
    """Fold each scale behind a Gemm into its weights, as onnxslim does: its output keeps its name."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    makers = {node.output[0]: node for node in graph.node}
    for mul in [node for node in graph.node if node.op_type == "Mul"]:
        (gemm,) = (makers[name] for name in mul.input if name in makers and makers[name].op_type == "Gemm")
        (scale,) = (name for name in mul.input if name != gemm.output[0])
        factor = onnx.numpy_helper.to_array(tensors[scale] if scale in tensors else constants[scale])
        for name in gemm.input[1:]:
            values = onnx.numpy_helper.to_array(tensors[name])
            folded = (values * (factor[:, None] if factor.ndim and values.ndim > 1 else factor)).astype(np.float32)
            tensors[name].CopyFrom(onnx.numpy_helper.from_array(folded, name))
        for node in graph.node:
            node.input[:] = [gemm.output[0] if name == mul.output[0] else name for name in node.input]
        graph.node.remove(mul)


def exported_by_name(module: nn.Module, example: torch.Tensor, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=False, opset_version=17, input_names=["x"])
    return path


def layers_of(subject: Path, reference: Any, example: torch.Tensor) -> Result:
    (result,) = harness.compare_models(subject, reference, example, layers=True).results
    return result


def test_a_layer_that_a_scale_is_folded_into_is_not_called_wrong_and_faults_beside_it_are(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, example = Folds().eval(), torch.randn(5, 8)
    plain = exported_by_name(module, example, tmp_path / "plain.onnx")
    folded = changed(plain, tmp_path / "folded.onnx", fold_scales)
    for file, reference in ((folded, module), (folded, plain), (plain, folded)):
        result = layers_of(file, reference, example)
        assert result.status == "passed", result.layers_show
        assert not wrong(result)
    assert by_path(layers_of(folded, module, example))["q"].local is None
    # A fault in what is folded is hidden by the scale of 1e-6.
    for node, by in (("/fc/Gemm", 1.05), ("/v/Gemm", 1.05), ("/q/Gemm", 1.05), ("/q/Gemm", 1.5)):
        faulty = changed(folded, tmp_path / "faulty.onnx", lambda graph, node=node, by=by: scaled(graph, node, by))  # type: ignore[misc]
        (layer,) = [layer for layer in layers_of(faulty, plain, example).layers if layer.wrong]
        assert node in layer.nodes
    assert wrong(layers_of(changed(folded, faulty, lambda graph: scaled(graph, "/v/Gemm", 1.05)), module, example)) == [
        "v"
    ]


@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_what_torch_folds_into_a_layer_of_a_frozen_file_makes_it_no_wrong_one(factor: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).eval()
    nn.init.uniform_(module[1].running_var, 1, 4)  # type: ignore[arg-type]
    changed_module: Any = copy.deepcopy(module)
    with torch.no_grad():
        changed_module[3].weight[0] *= factor
    example = torch.randn(5, 6)
    frozen = torch.jit.freeze(torch.jit.trace(changed_module, example))  # type: ignore[no-untyped-call]
    frozen.save(str(tmp_path / "frozen.pt"))
    result = layers_of(tmp_path / "frozen.pt", module, example)
    assert wrong(result) == ([] if factor == 1 else ["3"]), result.layers_show
    assert by_path(result)["0"].local is None


class Formula(nn.Module):
    """GELU between two layers; the same in another order of multiplications if ``late``."""

    def __init__(self, *, late: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.late = nn.Linear(8, 16), nn.Linear(16, 5), late

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        x = x * (1 + torch.erf(x * 0.5**0.5)) * 0.5 if self.late else x * 0.5 * (1 + torch.erf(x * 0.5**0.5))
        answer: torch.Tensor = self.b(x)
        return answer


def test_another_order_of_operations_is_no_wrong_layer_though_values_have_the_same_names(tmp_path: Path) -> None:
    example = torch.randn(2, 8, generator=torch.Generator().manual_seed(1))
    early, late = (
        exported_by_name(Formula(late=late).eval(), example, tmp_path / f"{late}.onnx") for late in (False, True)
    )
    for file, reference in ((early, late), (late, early)):
        result = layers_of(file, reference, example)
        assert result.status == "passed", result.layers_show
        assert not wrong(result)
        for node in ("/a/Gemm", "/b/Gemm"):
            faulty = changed(file, tmp_path / "faulty.onnx", lambda graph, node=node: scaled(graph, node, 1.5))  # type: ignore[misc]
            assert wrong(layers_of(faulty, reference, example)) == [node]


class Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[np.ndarray]) -> None:
        self.left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.left, None)
        return None if batch is None else {"x": batch}


def test_a_value_before_the_clamp_of_a_quantized_file_is_not_taken_for_the_one_behind_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))
    plain = onnx_file(module.eval(), tmp_path / "plain.onnx")
    path = tmp_path / "quantized.onnx"
    quantize_static(str(plain), str(path), Batches([inputs().numpy()]))
    result = layers_of(path, plain, inputs())
    rows = [layer for layer in result.layers if layer.type == "Relu"]
    assert len(rows) == 2
    assert all(layer.local is not None and layer.local < 0.05 for layer in rows), [layer.local for layer in rows]


def test_a_wrong_layer_of_a_quantized_file_is_not_taken_for_the_block_behind_it_that_adds_little(
    tmp_path: Path,
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.fc, self.head = nn.AvgPool2d(2, divisor_override=3), nn.Linear(3, 3), nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.pool(x)
            answer: torch.Tensor = self.head(x + 1e-4 * self.fc(x))
            return answer

    torch.manual_seed(0)
    module, path = Block().eval(), tmp_path / "quantized.onnx"
    quantize_dynamic(str(onnx_file(module, tmp_path / "plain.onnx")), str(path))  # the divisor is lost
    result = compared(path, module)
    assert by_path(result)["pool"].nodes == ("/pool/AveragePool",)
    assert (result.layers_show or "").endswith("is 25 % of the values, at pool"), result.layers_show


def test_the_rows_of_a_quantized_file_are_those_with_the_largest_error_by_itself() -> None:
    late = [Layer(f"late{at}", "ReLU", 0, local=1e-8, accumulated=0.3, reference=1e-7) for at in range(6)]
    rows = [Layer("pool", "MaxPool2d", 0, local=0.25, accumulated=0.25, reference=1e-7), *late]
    assert "at pool" in sentence(rows, passed=False)
    assert worst_layers(rows, 5)[0].path == "pool"
    judged = [replace(rows[0], times=0.1), *(replace(layer, times=0.2) for layer in late)]
    assert "pool" not in [layer.path for layer in worst_layers(judged, 5)]


def test_each_call_of_a_layer_is_a_row() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(4, 4), nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            once = self.act(self.linear(x))
            answer: torch.Tensor = self.act(self.linear(once))
            return answer

    for target in (LEGACY, "trace/torch-cpu"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (result,) = harness.verify(Twice(), torch.randn(3, 4), targets=target, layers=True).results
        assert [(layer.path, layer.call) for layer in result.layers] == [
            ("linear", 0),
            ("act", 0),
            ("linear", 1),
            ("act", 1),
        ]
        assert all(layer.local is not None for layer in result.layers)


def test_a_random_model_has_no_layers_and_a_note() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    (result,) = harness.verify(module, torch.randn(2, 4), targets="trace/torch-cpu", layers=True).results
    assert result.layers == ()
    assert any("stochastic" in note for note in result.notes)


def test_values_beyond_the_bound_are_on_disk_and_the_same(tmp_path: Path) -> None:
    store = ValueStore(tmp_path, max_bytes=100)
    arrays = [np.full((10,), value, np.float32) for value in range(5)]
    keys = [store.put(each) for each in arrays]
    assert [store[key].tolist() for key in keys] == [each.tolist() for each in arrays]
    assert len(list(tmp_path.iterdir())) == 3
    assert store.put(arrays[4].copy()) == keys[4]


def test_a_graph_that_is_run_in_parts_gives_the_same_table(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/stem/Conv", 1.01))
    whole = compared(faulty)
    monkeypatch.setattr(ValueStore.__init__, "__defaults__", (2000,))
    parts = compared(faulty)
    assert wrong(parts) == wrong(whole) == ["stem"]
    assert [layer.path for layer in parts.layers] == [layer.path for layer in whole.layers]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rounding_is_no_fault_and_a_hundredth_is(dtype: str) -> None:
    exact = np.random.default_rng(0).normal(size=1000)
    rounded = exact.astype(dtype)
    assert (measure(rounded, rounded, exact).times or 0) < 0.5
    assert (measure((exact * 1.05).astype(dtype), rounded, exact).times or 0) > 1


def test_a_value_that_is_nan_on_one_side_is_a_fault() -> None:
    exact = np.ones(8)
    actual = exact.astype(np.float32)
    actual[3] = np.nan
    found = measure(actual, exact.astype(np.float32), exact)
    assert (found.times, found.nonfinite) == (math.inf, 1)


def test_the_error_of_the_reference_does_not_depend_on_where_the_file_is_nan() -> None:
    exact = np.arange(1.0, 9.0)
    reference = (exact * (1 + 1e-6)).astype(np.float32)
    right = measure(reference, reference, exact).reference_error
    assert right is not None
    assert measure(np.full(8, np.nan, np.float32), reference, exact).reference_error == right > 0


def rows(errors: list[float], wrong: dict[int, float] | None = None) -> list[Layer]:
    """A row for each accumulated error; ``wrong`` has the local error of those that are wrong, in times."""
    steps = wrong or {}
    return [
        Layer(
            f"layer{at}", "Linear", 0, local=1e-7, accumulated=error, reference=1e-7,
            times=steps.get(at, 0.2), wrong=at in steps,
        )
        for at, error in enumerate(errors)
    ]  # fmt: skip


def test_one_sentence_tells_a_step_from_a_slope_and_from_a_jump() -> None:
    slope = [1e-6 * 2**at for at in range(12)]
    assert sentence(rows(slope), passed=False) == "no step: error grows evenly over 12 layers"
    jump = [1e-7] * 6 + [0.1] * 6
    assert "the error jumps between layer5 and layer6" in sentence(rows(jump), passed=False)
    assert sentence(rows(jump, {6: 2917.0}), passed=False) == ("one step at layer6, 2,900 times what rounding explains")
    steps = sentence(rows(jump, {3: 2.0, 6: 2917.0}), passed=False)
    assert steps.startswith(
        "2 steps, the first at layer3, 2 times what rounding explains; the largest at layer6, 2,900"
    )
    assert sentence(rows([1e-7] * 3), passed=True) == "no step: no error of 3 layers is larger than rounding explains"
    without = [*rows([1e-7] * 3), Layer("lost", "Linear", 0)]
    assert sentence(without, passed=True).endswith("; 1 of 4 rows has no value in the file")
    assert sentence([Layer("lost", "Linear", 0)], passed=True).startswith("no layer could be compared")


@pytest.mark.parametrize(
    ("times", "text"),
    [(1.234, "1.2"), (9.96, "10"), (99.6, "100"), (1234.5, "1,200"), (2.5e6, "2,500,000"), (2.5e9, "2.5e+09")],
)
def test_how_large_an_error_is_has_two_digits(times: float, text: str) -> None:
    assert times_text(Layer("head", "Linear", 0, times=times)) == f"{text} times what rounding explains"


def test_reports_have_the_layers(exported: Path, tmp_path: Path) -> None:
    faulty = changed(exported, tmp_path / "faulty.onnx", lambda graph: scaled(graph, "/stem/Conv", math.nan))
    result = compared(faulty)
    report = Report({}, (result,))
    path = tmp_path / "report.json"
    path.write_text(JsonReport().render(report), encoding="utf-8")
    assert to_json(read_report(path).results[0].layers) == to_json(result.layers)
    rows = LayersReport().render(report).splitlines()
    assert len(rows) == 1 + len(result.layers)
    nodes = json.loads(ModelExplorerReport().render(report))["results"]
    assert nodes[by_path(result)["stem"].value]["value"] == 1e9
    assert nodes[by_path(result)["head"].value]["value"] < 1
    lines = list(layer_lines(result))
    assert lines[0] == result.layers_show
    assert len(lines) == 1 + 1 + 5


def test_the_command_line_compares_layers(harness: Any, exported: Path, here: Path) -> None:
    faulty = changed(exported, here / "faulty.onnx", lambda graph: scaled(graph, "/head/MatMul", 1 + 1e-4))
    changed(exported, here / "right.onnx", lambda _graph: None)
    words = ("compare", faulty.name, "right.onnx", "--tolerance", "{atol: 0.1}")
    ran = harness(*words, "--layers", "--save-spec", "asked.yaml")
    assert ran.code == 1, ran.err
    assert "layers     one step at /head/MatMul, " in ran.out
    (layer,) = (layer for layer in ran.only["layers"] if layer["wrong"])
    expected = {"path", "type", "call", "local", "accumulated", "reference", "sqnr", "nodes", "seconds"}
    assert expected <= layer.keys()
    assert (layer["path"], layer["type"], layer["nodes"]) == ("/head/MatMul", "MatMul", ["/head/MatMul"])
    explained = harness("explain", "faulty", "asked.yaml", "--layers")
    assert explained.code == 1, explained.err
    assert "Layers\n  one step at /head/MatMul, " in explained.out
    assert "asked-faulty-nodes/run.py was run and shows the failure" in explained.out
    ran = harness("run", "asked.yaml", "--layers", "--no-latency", "--format", "json,md,csv")
    assert ran.code == 1, ran.err
    assert ran.only["message"].startswith("the outputs agree, but a layer is wrong by itself: one step at /head/MatMul")
    assert ran.only["layers_alone"] is True
    assert "one step at /head/MatMul, " in ran.out
    assert "| /head/MatMul" in (here / "reports/latest/report.md").read_text(encoding="utf-8")
    rows = (here / "reports/latest/report.layers.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(ran.only["layers"])


def test_an_expectation_that_is_not_met_is_no_failure_of_a_layer(harness: Any, here: Path) -> None:
    case = "{name: relu, layer: ReLU, inputs: {x: {values: [-1.0, 2.0]}}, expect: {formula: x}}"
    (here / "relu.yaml").write_text(f"harness: 1\ncases:\n  - {case}\n")
    ran = harness("explain", "relu", "relu.yaml", "--layers", "--target", LEGACY, "--budget", "0.1")
    assert ran.code == 1, ran.err
    assert "Layers\n  no step: " in ran.out
    assert "only a layer is wrong" not in ran.out


class Heads(nn.Module):
    """Views of tensors, as attention makes them."""

    positions: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.layer = nn.Embedding(9, 8), nn.Linear(8, 8)
        self.register_buffer("positions", torch.arange(8).expand((1, -1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(self.embed(x) + self.embed(self.positions[:, : x.shape[1]]))
        heads = hidden.view(2, 5, 2, 4).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads)


def test_a_traced_model_that_takes_views_shows_its_layers() -> None:
    tokens = torch.arange(10).view(2, 5) % 9
    (row,) = harness.verify(Heads().eval(), tokens, targets=["trace/torch-cpu"], layers=True).results
    assert not [note for note in row.notes if note.startswith("no layers")]
    assert "layer" in [layer.path for layer in row.layers]
