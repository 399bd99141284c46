"""A case that must be refused passes if the target refuses this case, and not if it refuses everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import harness as public
from harness.check import refusal
from harness.check.cache.artifacts import ArtifactCache, open_cache
from harness.check.check import check
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.errors import StageError, Unsupported, UsageError
from harness.exporters import Artifact
from harness.exporters.onnx_torchscript import OnnxTorchScript
from harness.registry import plugins
from harness.result import Result
from harness.runtimes.onnxruntime import OnnxRuntime
from harness.spec.discovery import load_specs
from harness.spec.targets import parse_target
from tests.conftest import Call

pytestmark = pytest.mark.filterwarnings("ignore:::torch")
Write = Callable[[str, str], Path]
SPEC = """
harness: 1
layer: Linear
defaults: {args: {in_features: 3, out_features: 2}}
cases:
  - {name: features, inputs: {x: {shape: [2, 5]}}, expect: {raises: cannot be multiplied}}
"""
TARGET = "onnx-torchscript@17/ort-cpu"
EXPORT = OnnxTorchScript.export


@pytest.fixture
def check_case(spec: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Result]:
    """Checks the case in this process, with an artifact cache that lasts."""
    monkeypatch.setattr(refusal, "_CONTROL_FAILURES", {})
    (case,) = load_specs([str(spec("linear.yaml", SPEC))]).cases
    cache = tmp_path / "cache"
    open_cache(cache)
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def run(target: str = TARGET) -> Result:
        prepared = PreparedCase(case, ArtifactCache(cache, scratch))
        return check(prepared, parse_target(target), Settings(latency=False), Clock())

    return run


def raising(error: Exception, *, control_too: bool) -> Callable[..., Artifact]:
    """An ``export`` that raises ``error`` for the case and, with ``control_too``, for every other module."""

    def export(self: OnnxTorchScript, subject: Any, path: Path, **options: Any) -> Artifact:
        if control_too or type(subject.module).__name__ != "ReLU":
            raise error
        return EXPORT(self, subject, path, **options)

    return export


@pytest.mark.parametrize("target", [TARGET, "trace/torch-cpu", "script/torch-cpu"])
def test_a_refusal_of_the_case_passes(check_case: Callable[..., Result], target: str) -> None:
    result = check_case(target)
    assert result.status == "passed"
    assert [finding.what for finding in result.findings] == ["raises", "raises"]


@pytest.mark.parametrize("error", [TypeError("from_torchlib() takes 1 argument"), RuntimeError("no such thing")])
def test_an_exporter_that_refuses_everything_has_refused_nothing(
    check_case: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(OnnxTorchScript, "export", raising(error, control_too=True))
    result = check_case()
    assert (result.status, result.stage, result.symptom) == ("error", "export", "exception")
    assert f"refuses a ReLU as well, so it has not refused this case: {type(error).__name__}: {error}" in str(
        result.message
    )


def test_a_runtime_that_loads_nothing_has_refused_nothing(
    check_case: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_nothing(*_: object) -> None:
        raise RuntimeError("this build loads no file")

    def export_control(self: OnnxTorchScript, subject: Any, path: Path, **options: Any) -> Artifact:
        del subject
        return EXPORT(
            self, PreparedCase(refusal.CONTROL_CASE, ArtifactCache(None, path.parent)).subject, path, **options
        )

    monkeypatch.setattr(OnnxRuntime, "load", load_nothing)
    monkeypatch.setattr(OnnxTorchScript, "export", export_control)
    result = check_case()
    assert (result.status, result.stage) == ("error", "load")


@pytest.mark.parametrize(
    ("error", "symptom"),
    [
        (ModuleNotFoundError("No module named 'onnxscript'"), "exception"),
        (MemoryError("no"), "out-of-memory"),
        (Unsupported("left it at 18; use @18 or above"), "unsupported"),
        (StageError("wrote the inputs y (dropped: x); expected x"), "exception"),
    ],
)
def test_a_missing_library_and_a_refusal_by_harness_are_no_refusal_of_the_case(
    check_case: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: Exception, symptom: str
) -> None:
    monkeypatch.setattr(OnnxTorchScript, "export", raising(error, control_too=False))
    for _ in range(2):  # the second time from the cache, if it is stored
        result = check_case()
        assert (result.status, result.stage, result.symptom) == ("error", "export", symptom)
        assert str(error) in str(result.message)


@pytest.mark.parametrize("error", [Unsupported("no linear", from_library=True), ValueError("five features, not three")])
def test_the_exporter_refusal_passes_from_the_cache_too(
    check_case: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(OnnxTorchScript, "export", raising(error, control_too=False))
    first, again = check_case(), check_case()
    assert first.status == again.status == "passed"
    assert first.findings == again.findings


@pytest.mark.parametrize("exporter", ["onnx-dynamo", "onnx-torchscript"])
@pytest.mark.parametrize("opset", [1, 99])
def test_an_opset_that_is_not_installed_is_a_usage_error_with_the_range(
    harness: Call, spec: Write, exporter: str, opset: int
) -> None:
    spec("linear.yaml", SPEC)
    ran = harness("run", "specs", "--targets", f"{exporter}@{opset}/ort-cpu", "--no-latency")
    opsets: range = plugins("exporters")[exporter].opsets()
    assert ran.code == 2
    known_at_once = exporter == "onnx-dynamo" and opset > opsets[-1]  # without torch, by what onnx knows
    problem = f"knows opsets up to {opsets[-1]}" if known_at_once else f"takes opsets {opsets[0]} to {opsets[-1]} here"
    assert problem in ran.err
    assert f"write {exporter}@{opsets[0] if opset == 1 else opsets[-1]}" in ran.err
    assert "Traceback" not in ran.err
    assert not ran.report


def test_the_python_api_rejects_the_opset_before_it_exports() -> None:
    import torch

    with pytest.raises(UsageError, match=r"onnx-dynamo@99/ort-cpu: onnx-dynamo takes opsets \d+ to \d+ here"):
        public.verify(torch.nn.ReLU(), torch.zeros(1), targets="onnx-dynamo@99/ort-cpu")


def test_the_control_of_a_machine_without_an_exporter_is_a_relu_of_six_numbers() -> None:
    model = onnx.load(str(refusal.control_onnx_artifact(17).path))
    onnx.checker.check_model(model, full_check=True)
    shapes = [
        (value.name, [axis.dim_value for axis in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert shapes == [("x", [2, 3]), ("output_0", [2, 3])]
    assert [(node.op_type, *node.input, *node.output) for node in model.graph.node] == [("Relu", "x", "output_0")]
    assert model.opset_import[0].version == 17


def test_an_opset_out_of_range_is_answered_with_the_nearest_one() -> None:
    opsets = plugins("exporters")["onnx-torchscript"].opsets()
    lowest, highest = opsets[0], opsets[-1]
    refusal.check_opsets([parse_target(f"onnx-torchscript@{opset}/ort-cpu") for opset in (lowest, highest)])
    refusal.check_opsets([parse_target("trace/torch-cpu")])
    for opset, nearest in ((lowest - 1, lowest), (highest + 1, highest)):
        with pytest.raises(UsageError, match=f"takes opsets {lowest} to {highest} here") as raised:
            refusal.check_opsets([parse_target(f"onnx-torchscript@{opset}/ort-cpu")])
        assert str(raised.value).endswith(f"not {opset}; write onnx-torchscript@{nearest}")
