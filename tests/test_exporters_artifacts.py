"""Each exporter writes one whole, named, loadable file, leaves its inputs alone, and says plainly what it cannot do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from harness.errors import StageError, Unsupported
from harness.exporters import Artifact
from harness.exporters._onnx import default_opset, written
from harness.exporters.torchscript import digest_of
from harness.model.build import Subject
from harness.registry import plugins
from tests.exporting import answers, difference, eager, export, subject

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg", "ignore::torch.jit.TracerWarning")

TARGETS = [("trace", None), ("script", None), ("onnx-torchscript", 17), ("onnx-dynamo", 18), ("onnx-dynamo", 23)]


class Several(nn.Module):
    """Two inputs, two outputs, and an order that can be got wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The sum's image, and a difference."""
        return self.linear(left + right), left - right


class Any2(nn.Module):
    """As a graph wired by name is called: with all its inputs in one."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Their product."""
        return inputs[0] * inputs[1]


def test_the_exporters_are_found_and_know_their_opsets() -> None:
    exporters = plugins("exporters")
    assert sorted(exporters) == ["aoti", "export", "onnx-dynamo", "onnx-torchscript", "script", "trace"]
    assert len(exporters["trace"].opsets()) == len(exporters["script"].opsets()) == 0
    assert {9, 13, 17, 20} <= set(exporters["onnx-torchscript"].opsets())
    assert {17, 18, 23} <= set(exporters["onnx-dynamo"].opsets())
    assert exporters["onnx-dynamo"].opsets()[-1] == onnx.defs.onnx_opset_version()


@pytest.mark.parametrize("opset", [7, 9, 13, 20, 23])
def test_every_opset_that_torchscript_names_it_takes(opset: int, tmp_path: Path) -> None:
    assert opset in plugins("exporters")["onnx-torchscript"].opsets()
    artifact = export(subject(nn.ReLU(), [torch.randn(2, 3)]), "onnx-torchscript", tmp_path / "m.onnx", opset)
    assert artifact.opset == opset


@pytest.mark.parametrize(("exporter", "opset"), TARGETS)
def test_an_artifact_answers_as_eager_does(exporter: str, opset: int | None, tmp_path: Path) -> None:
    inputs = [torch.arange(8.0).reshape(2, 4), torch.ones(2, 4)]
    given = subject(Several(), inputs)
    artifact = export(given, exporter, tmp_path / "deep" / "model", opset)

    assert artifact.path.exists()
    assert (artifact.opset, artifact.checker) == (opset, None)
    found, right = answers(artifact, inputs), eager(given.module, inputs)
    assert difference(right[1:], found[1:]) is None
    assert torch.allclose(torch.from_numpy(found[0]), right[0])
    if artifact.format == "onnx":
        assert artifact.digest == hashlib.sha256(artifact.path.read_bytes()).hexdigest()
        graph = onnx.load(artifact.path).graph
        assert [value.name for value in graph.input] == ["x0", "x1"]
        assert [value.name for value in graph.output] == ["output_0", "output_1"]
    assert [path.name for path in artifact.path.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("exporter", ["trace", "script"])
def test_a_torchscript_archive_is_known_by_what_it_holds(exporter: str, tmp_path: Path) -> None:
    """torch numbers its classes by what the process did before; that is no difference, another weight is."""
    torch.manual_seed(0)
    given = subject(Several(), [torch.ones(2, 4), torch.ones(2, 4)])
    first = export(given, exporter, tmp_path / "first" / "model")
    again = export(given, exporter, tmp_path / "again" / "model")
    other = export(subject(Several(), [torch.ones(2, 4), torch.ones(2, 4)]), exporter, tmp_path / "other" / "model")
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_an_archive_has_one_digest_whoever_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own reader is a private name; where a release has it no more, the archive is read as any other."""
    torch.manual_seed(0)
    path = tmp_path / "model"
    digest = export(subject(Several(), [torch.ones(2, 4), torch.ones(2, 4)]), "trace", path).digest
    monkeypatch.delattr(torch._C, "PyTorchFileReader")
    assert digest_of(path) == digest


def activations(*slopes: float) -> nn.Module:
    """Several of one class, whose constants are the only difference."""
    return nn.Sequential(*(nn.LeakyReLU(slope) for slope in slopes), nn.MaxPool2d(2))


def scripted(folder: Path) -> list[str]:
    """Digests of two programs, as a process that may have scripted anything before comes to them."""
    inputs = [torch.ones(1, 1, 4, 4)]
    return [
        export(subject(activations(*slopes), inputs), "script", folder / str(slopes) / "model.pt").digest
        for slopes in ((0.1, 0.2), (0.2, 0.1))
    ]


ELSEWHERE = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
torch.jit.script(torch.nn.Sequential(torch.nn.PReLU(), torch.nn.LeakyReLU(0.3), torch.nn.LeakyReLU(0.2)))
from pathlib import Path
from tests.test_exporters_artifacts import scripted
print(*scripted(Path(sys.argv[1])))
"""


def test_a_program_has_one_digest_whatever_process_wrote_it(tmp_path: Path) -> None:
    """torch writes constants in the order of a set, which is another in each process, and tells classes by number."""
    here = scripted(tmp_path / "here")
    elsewhere = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path / "elsewhere")],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.split() == here
    assert here[0] != here[1], "which layer has which constant is no detail"
    with (
        zipfile.ZipFile(tmp_path / "elsewhere/(0.1, 0.2)/model.pt") as one,
        zipfile.ZipFile(tmp_path / "here/(0.1, 0.2)/model.pt") as other,
    ):
        assert one.namelist() != other.namelist(), "else this shows nothing"


@pytest.mark.parametrize(("exporter", "opset"), TARGETS[:4])
def test_a_layer_in_place_does_not_reach_the_callers_input(exporter: str, opset: int | None, tmp_path: Path) -> None:
    x = torch.tensor([-1.0, 2.0])
    given = Subject(nn.ReLU(inplace=True).eval(), {"x": x}, 1)
    export(given, exporter, tmp_path / "model", opset)
    assert x.tolist() == [-1.0, 2.0]


@pytest.mark.parametrize(("exporter", "opset"), [("onnx-torchscript", 17), ("onnx-dynamo", 18)])
@pytest.mark.parametrize("module", [Any2(), Several()])
def test_open_axes_carry_their_names_and_other_sizes(
    exporter: str, opset: int, module: nn.Module, tmp_path: Path
) -> None:
    axes = {"x0": {0: "rows"}, "x1": {0: "rows"}}
    given = subject(module, [torch.randn(3, 4), torch.randn(3, 4)], dynamic=axes)
    try:
        artifact = export(given, exporter, tmp_path / "m.onnx", opset)
    except torch.onnx.errors.OnnxExporterError as error:
        if "name 'L' is not defined" in str(error):  # in the guards that torch 2.9 itself writes for open axes
            pytest.skip(f"torch {torch.__version__} cannot export {type(module).__name__} with open axes")
        raise
    graph = onnx.load(artifact.path).graph
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in graph.input} == {"rows"}
    others = [torch.randn(5, 4), torch.randn(5, 4)]
    found = answers(artifact, others)
    assert all(
        torch.allclose(torch.from_numpy(array), right)
        for array, right in zip(found, eager(module, others), strict=True)
    )


def test_what_stock_refuses_is_unsupported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"^No ONNX function found for .*rrelu.*$") as refused:
        export(subject(nn.RReLU(), [torch.randn(3)]), "onnx-dynamo", tmp_path / "m.onnx", 18)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []

    class Airy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.special.airy_ai(x)
            return y

    with pytest.raises(Unsupported, match="Exporting the operator 'aten::special_airy_ai' to ONNX"):
        export(subject(Airy(), [torch.randn(3)]), "onnx-torchscript", tmp_path / "m.onnx", 17)


def test_an_opset_that_the_converter_does_not_reach_is_unsupported(tmp_path: Path) -> None:
    given = subject(nn.Upsample(scale_factor=2), [torch.randn(1, 1, 2, 2)])
    with pytest.raises(Unsupported, match="could not convert the model to opset 9 and left it at 18; ask for @18"):
        export(given, "onnx-dynamo", tmp_path / "m.onnx", 9)
    assert list(tmp_path.iterdir()) == []


def test_every_other_failure_passes_unchanged_and_leaves_nothing(tmp_path: Path) -> None:
    class Untraceable(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch._C._is_tracing():
                raise TypeError("cond must be a bool")
            return x

    with pytest.raises(TypeError, match="cond must be a bool"):
        export(subject(Untraceable(), [torch.ones(2)]), "trace", tmp_path / "m.pt")
    assert list(tmp_path.iterdir()) == []


def test_what_the_checker_objects_to_is_kept_in_one_line(tmp_path: Path) -> None:
    artifact = export(subject(nn.MaxPool2d(2), [torch.randn(3, 4, 4)]), "onnx-torchscript", tmp_path / "m.onnx", 17)
    assert artifact.checker is not None
    assert "ShapeInferenceError" in artifact.checker
    assert "\n" not in artifact.checker


def test_outputs_that_are_dropped_or_renamed_are_an_error(tmp_path: Path) -> None:
    def write(inputs: list[str], outputs: list[str]) -> Callable[[Path], None]:
        def to(path: Path) -> None:
            make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
            nodes = [make("Relu", [inputs[0]], [name]) for name in outputs]
            entries, exits = ([value(name, 1, [2]) for name in names] for names in (inputs, outputs))
            onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", entries, exits)), path)

        return to

    given = Subject(nn.ReLU(), {"x": torch.ones(2)}, 2)
    with pytest.raises(
        StageError, match=r"wrote the outputs output_0 \(it dropped output_1\); right are output_0, output_1"
    ):
        written("some", given, tmp_path / "m.onnx", None, write(["x"], ["output_0"]))
    with pytest.raises(StageError, match="wrote the outputs output_1, output_0; right are"):
        written("some", given, tmp_path / "m.onnx", None, write(["x"], ["output_1", "output_0"]))
    with pytest.raises(StageError, match=r"wrote the inputs y \(it dropped x\); right are x"):
        written("some", given, tmp_path / "m.onnx", None, write(["y"], ["output_0", "output_1"]))
    assert list(tmp_path.iterdir()) == []
    right = written("some", given, tmp_path / "m.onnx", None, write(["x"], ["output_0", "output_1"]))
    assert isinstance(right, Artifact)


def test_a_file_in_the_way_stays_whole_until_the_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("old")
    with pytest.raises(Unsupported):
        export(subject(nn.RReLU(), [torch.randn(3)]), "onnx-dynamo", path, 18)
    assert path.read_text() == "old"
    export(subject(nn.ReLU(), [torch.randn(3)]), "onnx-torchscript", path, 17)
    onnx.checker.check_model(str(path))


def test_weights_beyond_protobufs_limit_are_refused_before_the_work(tmp_path: Path) -> None:
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(torch.empty(2**29, device="meta")))
    given = Subject(module, {}, 1)
    with pytest.raises(Unsupported, match=r"the weights take 2\.0 GiB and an ONNX file holds at most 2; onnx-dynamo"):
        export(given, "onnx-torchscript", tmp_path / "m.onnx", 17)


def test_training_mode_stock_evaluates_and_says_so_fixes_keep_it(tmp_path: Path) -> None:
    given = subject(nn.RReLU(), [torch.full((64,), -1.0)], train=True)
    stock = export(given, "onnx-torchscript", tmp_path / "stock.onnx", 17)
    fixed = export(given, "onnx-torchscript", tmp_path / "fixed.onnx", 17, fixes=True)
    assert stock.notes == ("the module is in training mode, and the exporter's default wrote its evaluation form",)
    assert fixed.notes == ()
    kinds = [{node.op_type for node in onnx.load(artifact.path).graph.node} for artifact in (stock, fixed)]
    assert kinds[0] == {"LeakyRelu"}
    assert "Dropout" in kinds[1]
    (drawn,) = answers(fixed, [torch.full((64,), -1.0)])
    assert -1 / 3 <= drawn.min() < drawn.max() <= -1 / 8


def test_without_an_opset_the_stacks_own_default_is_written_fixes_or_not(tmp_path: Path) -> None:
    given = subject(nn.AvgPool2d(2, divisor_override=3), [torch.ones(1, 1, 4, 4)])
    reached = {
        export(given, exporter, tmp_path / "m.onnx", fixes=fixes).opset
        for exporter in ("onnx-torchscript", "onnx-dynamo")
        for fixes in (False, True)
    }
    assert reached == {default_opset()}
