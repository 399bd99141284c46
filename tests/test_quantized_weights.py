"""What a quantizer does to weights is known exactly: each is compared with the float weight that it was made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from benchmarks.precision.nets import random_net
from benchmarks.precision.planted import WrongScale
from harness import compare_models, verify
from harness.check.cache.artifacts import ArtifactCache
from harness.check.judging.quantized_weights import compare_weights, float_weights
from harness.check.module.prepared_case import PreparedCase
from harness.check.recorded.content_store import ContentStore
from harness.check.recorded.packed import PackedCase, check_packed
from harness.check.recorded.packing import pack_export
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.registry import plugins
from harness.result import Finding, Result
from harness.spec.bundle.entries import CaseEntry, PackedModel
from harness.spec.discovery import load_specs
from harness.spec.targets import parse_target
from harness.transforms import TransformRequest
from harness.transforms.int8 import Int4, Int8

EXPORTER = "onnx-torchscript@17"


class _EachKind(nn.Module):
    """A layer of each kind that the quantizers lower: a table, an LSTM, a product, a Gemm and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.recurrent = nn.Embedding(50, 16), nn.LSTM(16, 8, bidirectional=True)
        self.product, self.square, self.conv = nn.Linear(16, 40), nn.Linear(40, 40), nn.Conv1d(40, 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.product(self.recurrent(self.table(x))[0])
        y = self.square(y.reshape(-1, 40)).reshape(y.shape)
        result: torch.Tensor = self.conv(y.transpose(1, 2))
        return result


class _Branches(nn.Module):
    """Two products of which the second hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Linear(32, 16), nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.large(x) + 0.01 * self.small(x)
        return result


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return _Branches().eval()


def _finding(result: Result) -> Finding:
    (finding,) = (each for each in result.findings if each.what == "quantized_weights")
    return finding


COUNTS = {
    "int8": 6,
    "int8?per_channel=on": 4,  # those of an LSTM have a scale for each direction and channel
    "int8?per_channel=on&reduce_range=on": 4,
    "int8?reduce_range=on": 6,
    "int8-static": 5,  # not those of an LSTM, but the bias of a sum
    "int8-static?per_channel=on&reduce_range=on": 5,
    "int4": 1,
    "int4?symmetric=off&block_size=16": 1,
    "opset18+int8+ort": 6,
}


def test_what_the_quantizers_write_is_as_their_rule_says() -> None:
    torch.manual_seed(0)
    targets = [f"{EXPORTER}+{word}/ort-cpu" for word in COUNTS]
    for (word, count), row in zip(
        COUNTS.items(), verify(_EachKind().eval(), torch.randint(0, 50, (6, 5)), targets=targets).results, strict=True
    ):
        assert row.status == "passed", row.message
        name = word.partition("?")[0].removeprefix("opset18+").removesuffix("+ort")
        assert _finding(row).message == f"+{name}: {count} quantized weights are as the quantizer's rule gives them"
        assert any("2 of 6 quantized weights were not compared" in note for note in row.notes) == (
            "int8?per_channel" in word
        )


def test_a_coarser_grid_that_the_outputs_hide_is_named_with_its_layer(
    net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", WrongScale(1, requantized=True))
    (row,) = verify(net, torch.randn(8, 32), targets=[f"{EXPORTER}+opset18+int8+ort/ort-cpu"]).results
    assert (row.status, row.stage, row.symptom, row.blame) == ("failed", "compare", "mismatch", "exporter")
    assert all(output.problem is None for output in row.outputs)
    assert str(row.message).startswith(
        "quantized weights: +int8: small.weight of /small/Gemm: its step is 4 times what "
    )
    assert row.evidence == (_finding(row).message,)


def test_a_scale_four_times_too_large_is_named_beside_the_outputs(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", WrongScale(0, requantized=False))
    (row,) = verify(net, torch.randn(8, 32), targets=[f"{EXPORTER}+int8/ort-cpu"]).results
    assert "SQNR" in str(row.message)
    assert "before +int8, and not after it" in row.evidence[0]
    assert "+int8: large.weight of /large/Gemm: its step is 4 times" in row.evidence[1]
    assert "values are off by more than half a step" in row.evidence[1]


def test_a_tolerance_that_is_named_does_not_hide_it(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", WrongScale(0, requantized=True))
    (row,) = verify(net, torch.randn(8, 32), targets=[f"{EXPORTER}+int8/ort-cpu"], tolerance={"sqnr": 5}).results
    assert (row.status, row.message) == ("failed", f"quantized weights: {_finding(row).message}")


class _Shifted(Int4):
    """int4 in which one block has the scale of a range half as wide."""

    def apply(self, source: Path, destination: Path, request: TransformRequest) -> None:
        super().apply(source, destination, request)
        model = onnx.load(str(destination))
        scales = next(each for each in model.graph.initializer if each.name.endswith("_scales"))
        changed = numpy_helper.to_array(scales).copy()
        changed.reshape(-1)[3] /= 2
        scales.CopyFrom(numpy_helper.from_array(changed, scales.name))
        onnx.save(model, str(destination))


def test_one_block_of_four_bits_with_another_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net, x = nn.Linear(64, 32).eval(), torch.randn(2, 4, 64)
    monkeypatch.setitem(plugins("transforms"), "int4", _Shifted())
    (row,) = verify(net, x, targets=[f"{EXPORTER}+int4/ort-cpu"]).results
    assert row.status == "failed"
    assert "1 of 64 steps are wrong, the worst is 0.5 times" in str(row.message)


class _OtherRule(WrongScale):
    """A quantizer of another package, whose steps follow another rule."""

    min_max = False


def test_a_quantizer_whose_rule_is_not_known_fails_by_its_outputs_alone(
    net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", _OtherRule(1, requantized=True))
    (row,) = verify(net, torch.randn(8, 32), targets=[f"{EXPORTER}+int8/ort-cpu"]).results
    assert row.status == "passed"
    assert any("small.weight of /small/Gemm: its step is 4 times" in note for note in row.notes)


@pytest.fixture
def files(tmp_path: Path, net: Any) -> tuple[Path, Path]:
    """A float file and its int8 file with a coarser grid of one weight."""
    source, quantized = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    torch.onnx.export(net, (torch.randn(8, 32),), str(source), dynamo=False, opset_version=17)
    WrongScale(0, requantized=True).apply(source, quantized, TransformRequest("int8", {}, ()))
    return source, quantized


@pytest.mark.parametrize("reference", ["file", "module"])
def test_a_quantized_file_under_test_is_compared_and_its_coarse_step_is_told(
    files: tuple[Path, Path], net: Any, reference: str
) -> None:
    source, quantized = files
    (row,) = compare_models(quantized, source if reference == "file" else net, tolerance={"sqnr": 15}).results
    assert row.status == "passed", row.message
    (note,) = (each for each in row.notes if "quantized weights" in each)
    assert note.startswith("int8.onnx, quantized weights: large.weight of /large/Gemm: its step is 4 times what ")


def test_nobody_is_blamed_for_a_quantized_file_without_a_tolerance(files: tuple[Path, Path], net: Any) -> None:
    source, quantized = files
    for reference in (source, net):
        (row,) = compare_models(quantized, reference).results
        assert (row.status, row.blame) == ("failed", None), row.evidence
        assert (row.message or "").startswith(
            "the file is quantized, so it differs by its steps; say how much is allowed"
        )
    (row,) = compare_models(quantized, quantized).results
    assert row.status == "passed"


def test_a_step_that_cuts_off_half_of_the_range_is_told(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A quantizer whose rule is not known may cut off a few of the largest values, and no more."""
    source, path = files[0], tmp_path / "fine.onnx"
    floats = float_weights(onnx.load(str(source)))
    problems = {}
    for share in (1.0, 0.97, 0.5):
        Int8().apply(source, path, TransformRequest("int8", {}, ()))
        model = onnx.load(str(path))
        stored = {each.name: each for each in model.graph.initializer}
        codes, scale, zero = (
            next(each for name, each in stored.items() if name.startswith("large.weight") and name.endswith(part))
            for part in ("_quantized", "_scale", "_zero_point")
        )
        step, offset = numpy_helper.to_array(scale) * np.float32(share), int(numpy_helper.to_array(zero).item())
        values, kind = floats["large.weight"], np.iinfo(numpy_helper.to_array(codes).dtype)
        values = values.T if list(values.shape) != list(codes.dims) else values
        fine = np.clip(np.round(values / step) + offset, kind.min, kind.max).astype(kind.dtype)
        codes.CopyFrom(numpy_helper.from_array(fine, codes.name))
        scale.CopyFrom(numpy_helper.from_array(step, scale.name))
        problems[share] = compare_weights(model, floats, exact=False).problems
    assert problems[1.0] == problems[0.97] == []
    (problem,) = problems[0.5]
    assert problem.startswith("large.weight of /large/Gemm: its range is cut off: ")


def test_weights_whose_names_are_gone_are_counted_and_told(files: tuple[Path, Path]) -> None:
    source, quantized = files
    model = onnx.load(str(quantized))
    for tensor in model.graph.initializer:
        if tensor.name == "large.weight_Transposed_quantized":
            for node in model.graph.node:
                node.input[:] = ["codes" if name == tensor.name else name for name in node.input]
            tensor.name = "codes"
    onnx.save(model, str(quantized))
    (row,) = compare_models(quantized, source, tolerance={"sqnr": 15}).results
    assert row.notes[-1] == "int8.onnx: 1 of 2 quantized weights were not compared with float weights: codes"


def test_a_file_with_other_integers_has_no_quantized_weights(tmp_path: Path) -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randint(0, 200, (9, 4), dtype=torch.uint8))

        def forward(self, x: torch.Tensor) -> Any:
            return self.table[x].float()  # type: ignore[index]  # a tensor

    x, path = torch.tensor([1, 2]), tmp_path / "table.onnx"
    torch.onnx.export(Table(), (x,), str(path), dynamo=False, opset_version=17)
    (row,) = compare_models(path, path).results
    assert not [each for each in row.notes if "quantized" in each]


LINEAR = """
harness: 1
layer: Linear
cases: [{name: a, args: {in_features: 8, out_features: 8}, inputs: {x: {shape: [4, 8]}}}]
"""


def test_a_bundle_keeps_what_is_wrong_with_its_weights(
    spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(plugins("transforms"), "int8", WrongScale(0, requantized=False))
    (case,) = load_specs([spec("linear.yaml", LINEAR).parent]).cases
    target, bundle = parse_target(f"{EXPORTER}+int8/ort-cpu"), tmp_path / "bundle"
    pack_export(PreparedCase(case, ArtifactCache(None, tmp_path)), target, bundle, Clock())
    store = ContentStore(bundle)
    exports = {target.export: store.get_entry(case.id, target.export)}
    entry = CaseEntry.model_validate({**(store.get_entry(case.id) or {}), "exports": exports})
    packed = replace(case, model=replace(case.model, model=PackedModel(str(bundle), seal="", entry=entry)))
    row = check_packed(PackedCase(packed), target, Settings(latency=False), Clock())
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "+int8: weight of /Gemm: its step is 4 times" in str(row.message)


@pytest.mark.parametrize("seed", [76, 172])
def test_the_ratio_of_a_good_static_file_is_the_expected_one(seed: int) -> None:
    """The output of these nets is rounded on its own, and a mean that hardly varies is rounded alike each time."""
    _, net, x = random_net(seed)
    (row,) = verify(net, x, targets=[f"{EXPORTER}+int8-static/ort-cpu"]).results
    assert row.status == "passed", row.message
    output = row.outputs[0]
    expected = float(str(output.tolerance).rpartition("predict ")[2].split(" dB")[0])
    assert output.sqnr is not None
    assert abs(output.sqnr - expected) < 3


@pytest.mark.parametrize("word", ["int4+fp16", "fp16+int4"])
def test_the_lowest_precision_of_several_transforms_decides(net: Any, word: str) -> None:
    (row,) = verify(net, torch.randn(8, 2, 32), targets=[f"{EXPORTER}+{word}/ort-cpu"]).results
    assert "step sizes and a run in float16 predict" in str(row.outputs[0].tolerance), row.message
