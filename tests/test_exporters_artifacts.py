"""Each exporter writes one complete file that loads, does not change its inputs, and refuses with a clear message."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._files import staged_write
from harness.exporters._onnx import checked_artifact, default_opset
from harness.exporters.torchscript import archive_digest
from harness.model.build import Subject
from harness.registry import plugins
from tests.exporting import difference, eager, export, run_file, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")

TARGETS = [("trace", None), ("script", None), ("onnx-torchscript", 17), ("onnx-dynamo", 18), ("onnx-dynamo", 23)]


class TwoInputsTwoOutputs(nn.Module):
    """The order of inputs and of outputs matters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """A linear layer of the sum, and the difference."""
        return self.linear(left + right), left - right


class VariadicProduct(nn.Module):
    """``forward`` takes all inputs as ``*inputs``, as a module made from a graph does."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """The product of the first two."""
        return inputs[0] * inputs[1]


def test_the_registry_finds_all_exporters_with_their_opsets() -> None:
    exporters = plugins("exporters")
    assert sorted(exporters) == ["aoti", "export", "onnx-dynamo", "onnx-torchscript", "script", "trace"]
    assert len(exporters["trace"].opsets()) == len(exporters["script"].opsets()) == 0
    assert {9, 13, 17, 20} <= set(exporters["onnx-torchscript"].opsets())
    assert {17, 18, 23} <= set(exporters["onnx-dynamo"].opsets())
    assert exporters["onnx-dynamo"].opsets()[-1] == onnx.defs.onnx_opset_version()


@pytest.mark.parametrize("opset", [7, 9, 13, 20, 23])
def test_onnx_torchscript_exports_at_each_opset_that_it_lists(opset: int, tmp_path: Path) -> None:
    assert opset in plugins("exporters")["onnx-torchscript"].opsets()
    artifact = export(subject(nn.ReLU(), [torch.randn(2, 3)]), "onnx-torchscript", tmp_path / "m.onnx", opset)
    assert artifact.opset == opset


@pytest.mark.parametrize(("exporter", "opset"), TARGETS)
def test_an_artifact_computes_what_eager_does(exporter: str, opset: int | None, tmp_path: Path) -> None:
    inputs = [torch.arange(8.0).reshape(2, 4), torch.ones(2, 4)]
    example = subject(TwoInputsTwoOutputs(), inputs)
    artifact = export(example, exporter, tmp_path / "deep" / "model", opset)

    assert artifact.path.exists()
    assert (artifact.opset, artifact.checker) == (opset, None)
    actual, expected = run_file(artifact, inputs), eager(example.module, inputs)
    assert difference(expected[1:], actual[1:]) is None
    assert torch.allclose(torch.from_numpy(actual[0]), expected[0])
    if artifact.format == "onnx":
        assert artifact.digest == hashlib.sha256(artifact.path.read_bytes()).hexdigest()
        graph = onnx.load(artifact.path).graph
        assert [value.name for value in graph.input] == ["x0", "x1"]
        assert [value.name for value in graph.output] == ["output_0", "output_1"]
    assert [path.name for path in artifact.path.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("exporter", ["trace", "script"])
def test_the_digest_of_an_archive_depends_on_its_contents_only(exporter: str, tmp_path: Path) -> None:
    """torch numbers classes by what the process did before: this does not change the digest; another weight does."""
    torch.manual_seed(0)
    example = subject(TwoInputsTwoOutputs(), [torch.ones(2, 4), torch.ones(2, 4)])
    first = export(example, exporter, tmp_path / "first" / "model")
    repeated = export(example, exporter, tmp_path / "repeated" / "model")
    other_weights = export(
        subject(TwoInputsTwoOutputs(), [torch.ones(2, 4), torch.ones(2, 4)]), exporter, tmp_path / "other" / "model"
    )
    assert first.digest == repeated.digest
    assert first.digest != other_weights.digest


def test_the_digest_is_the_same_without_torchs_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's reader is a private name; if a release does not have it, the archive is read as a zip file."""
    torch.manual_seed(0)
    path = tmp_path / "model"
    digest = export(subject(TwoInputsTwoOutputs(), [torch.ones(2, 4), torch.ones(2, 4)]), "trace", path).digest
    monkeypatch.delattr(torch._C, "PyTorchFileReader")
    assert archive_digest(path) == digest


def activations(*slopes: float) -> nn.Module:
    """Several layers of one class that differ only in their constants."""
    return nn.Sequential(*(nn.LeakyReLU(slope) for slope in slopes), nn.MaxPool2d(2))


def script_digests(folder: Path) -> list[str]:
    """Digests of two scripted programs, in a process that may have scripted others before."""
    inputs = [torch.ones(1, 1, 4, 4)]
    torch.manual_seed(0)
    recurrent = export(Subject(nn.LSTM(1, 1), {"x": torch.ones(1, 1, 1)}, 3), "script", folder / "lstm" / "model.pt")
    return [
        *(
            export(subject(activations(*slopes), inputs), "script", folder / str(slopes) / "model.pt").digest
            for slopes in ((0.1, 0.2), (0.2, 0.1))
        ),
        recurrent.digest,
    ]


OTHER_PROCESS = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
torch.jit.script(torch.nn.Sequential(torch.nn.PReLU(), torch.nn.LeakyReLU(0.3), torch.nn.LeakyReLU(0.2)))
torch.jit.script(torch.nn.LSTM(3, 2))
from pathlib import Path
from tests.test_exporters_artifacts import script_digests
print(*script_digests(Path(sys.argv[1])))
"""


def test_a_program_has_the_same_digest_in_another_process(tmp_path: Path) -> None:
    """torch writes constants in the order of a set, which differs in each process, and numbers equal class names."""
    this_process = script_digests(tmp_path / "here")
    other_process = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "other")],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other_process.stdout.split() == this_process
    assert this_process[0] != this_process[1], "the digest depends on which layer has which constant"
    with (
        zipfile.ZipFile(tmp_path / "other/(0.1, 0.2)/model.pt") as first,
        zipfile.ZipFile(tmp_path / "here/(0.1, 0.2)/model.pt") as second,
    ):
        assert first.namelist() != second.namelist(), "otherwise this test shows nothing"


@pytest.mark.parametrize(("exporter", "opset"), TARGETS[:4])
def test_an_in_place_layer_does_not_change_the_callers_input(exporter: str, opset: int | None, tmp_path: Path) -> None:
    x = torch.tensor([-1.0, 2.0])
    example = Subject(nn.ReLU(inplace=True).eval(), {"x": x}, 1)
    export(example, exporter, tmp_path / "model", opset)
    assert x.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize(("exporter", "opset"), [("onnx-torchscript", 17), ("onnx-dynamo", 18)])
@pytest.mark.parametrize("module", [VariadicProduct(), TwoInputsTwoOutputs()])
def test_dynamic_axes_keep_their_names_and_accept_other_sizes(
    exporter: str, opset: int, module: nn.Module, tmp_path: Path
) -> None:
    axes = {"x0": {0: "rows"}, "x1": {0: "rows"}}
    example = subject(module, [torch.randn(3, 4), torch.randn(3, 4)], dynamic=axes)
    try:
        artifact = export(example, exporter, tmp_path / "m.onnx", opset)
    except torch.onnx.errors.OnnxExporterError as error:
        if "name 'L' is not defined" in str(error):  # in the guards that torch 2.9 itself writes for dynamic axes
            pytest.skip(f"torch {torch.__version__} cannot export {type(module).__name__} with dynamic axes")
        raise
    graph = onnx.load(artifact.path).graph
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in graph.input} == {"rows"}
    other_sizes = [torch.randn(5, 4), torch.randn(5, 4)]
    actual = run_file(artifact, other_sizes)
    assert all(
        torch.allclose(torch.from_numpy(array), expected)
        for array, expected in zip(actual, eager(module, other_sizes), strict=True)
    )


def test_a_refusal_of_the_exporter_is_unsupported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"^No ONNX function found for .*rrelu.*$") as error:
        export(subject(nn.RReLU(), [torch.randn(3)]), "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []

    class Airy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.special.airy_ai(x)
            return y

    with pytest.raises(Unsupported, match="Exporting the operator 'aten::special_airy_ai' to ONNX"):
        export(subject(Airy(), [torch.randn(3)]), "onnx-torchscript", tmp_path / "m.onnx", 17)


def test_an_opset_that_the_converter_cannot_reach_is_unsupported(tmp_path: Path) -> None:
    example = subject(nn.Upsample(scale_factor=2), [torch.randn(1, 1, 2, 2)])
    with pytest.raises(Unsupported, match="could not convert the model to opset 9 and left it at 18; use @18"):
        export(example, "onnx-dynamo", tmp_path / "m.onnx", 9)
    assert list(tmp_path.iterdir()) == []


def test_other_exceptions_pass_unchanged_and_leave_no_file(tmp_path: Path) -> None:
    class Untraceable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch._C._is_tracing():
                raise TypeError("cond must be a bool")
            return x

    with pytest.raises(TypeError, match="cond must be a bool"):
        export(subject(Untraceable(), [torch.ones(2)]), "trace", tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_checker_is_kept_in_one_line(tmp_path: Path) -> None:
    artifact = export(subject(nn.MaxPool2d(2), [torch.randn(3, 4, 4)]), "onnx-torchscript", tmp_path / "m.onnx", 17)
    assert artifact.checker is not None
    assert "ShapeInferenceError" in artifact.checker
    assert "\n" not in artifact.checker


def test_dropped_or_renamed_inputs_and_outputs_are_an_error(tmp_path: Path) -> None:
    def written(inputs: list[str], outputs: list[str]) -> Artifact:
        make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
        nodes = [make("Relu", [inputs[0]], [name]) for name in outputs]
        entries, exits = ([value(name, 1, [2]) for name in names] for names in (inputs, outputs))
        with staged_write(tmp_path / "m.onnx") as path:
            onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", entries, exits)), path)
            return checked_artifact("some", path, tmp_path / "m.onnx", None, (["x"], ["output_0", "output_1"]))

    with pytest.raises(
        StageError, match=r"wrote the outputs output_0 \(dropped: output_1\); expected output_0, output_1"
    ):
        written(["x"], ["output_0"])
    with pytest.raises(StageError, match="wrote the outputs output_1, output_0; expected"):
        written(["x"], ["output_1", "output_0"])
    with pytest.raises(StageError, match=r"wrote the inputs y \(dropped: x\); expected x"):
        written(["y"], ["output_0", "output_1"])
    with pytest.raises(StageError, match="makes an input of a number that is a default of forward"):
        written(["x", "y"], ["output_0", "output_1"])
    assert list(tmp_path.iterdir()) == []
    assert isinstance(written(["x"], ["output_0", "output_1"]), Artifact)


def test_an_existing_file_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("old")
    with pytest.raises(Unsupported):
        export(subject(nn.RReLU(), [torch.randn(3)]), "onnx-dynamo", path, 18)
    assert path.read_text() == "old"
    export(subject(nn.ReLU(), [torch.randn(3)]), "onnx-torchscript", path, 17)
    onnx.checker.check_model(str(path))


def test_weights_beyond_the_protobuf_limit_are_refused_before_the_export(tmp_path: Path) -> None:
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(torch.empty(2**29, device="meta")))
    example = Subject(module, {}, 1)
    with pytest.raises(
        Unsupported, match=r"the weights take 2\.0 GiB and an ONNX file holds at most 2 GiB; use onnx-dynamo"
    ):
        export(example, "onnx-torchscript", tmp_path / "m.onnx", 17)


def test_training_mode_is_noted_without_fixes_and_kept_with_fixes(tmp_path: Path) -> None:
    example = subject(nn.RReLU(), [torch.full((64,), -1.0)], train=True)
    stock = export(example, "onnx-torchscript", tmp_path / "stock.onnx", 17)
    fixed = export(example, "onnx-torchscript", tmp_path / "fixed.onnx", 17, fixes=True)
    assert stock.notes == ("the module is in training mode, but the exporter's default exports it in evaluation mode",)
    assert fixed.notes == ()
    kinds = [{node.op_type for node in onnx.load(artifact.path).graph.node} for artifact in (stock, fixed)]
    assert kinds[0] == {"LeakyRelu"}
    assert "Dropout" in kinds[1]
    (slopes,) = run_file(fixed, [torch.full((64,), -1.0)])
    assert -1 / 3 <= slopes.min() < slopes.max() <= -1 / 8


def test_without_an_opset_torchs_default_is_written_with_and_without_fixes(tmp_path: Path) -> None:
    example = subject(nn.AvgPool2d(2, divisor_override=3), [torch.ones(1, 1, 4, 4)])
    written_opsets = {
        export(example, exporter, tmp_path / "m.onnx", fixes=fixes).opset
        for exporter in ("onnx-torchscript", "onnx-dynamo")
        for fixes in (False, True)
    }
    assert written_opsets == {default_opset()}
