"""Files in float16 against references in float32, references with random weights, and outputs without a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from harness import compare_models
from harness.transforms.fp16 import Fp16
from tests.conftest import Call

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

def seeded():
    torch.manual_seed(5)
    return Net()

class Undefined(nn.Module):
    def forward(self, x):
        return x * float("nan")
"""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))  # type: ignore[no-any-return]


@pytest.fixture
def net() -> Net:
    torch.manual_seed(7)
    return Net().eval()


@pytest.fixture
def files(net: Net, tmp_path: Path) -> dict[str, Path]:
    """The net in float32, in float16, and in float16 with inputs and outputs in float32."""
    plain = tmp_path / "plain.onnx"
    _export(net, plain)
    paths = {"plain": plain, "half": tmp_path / "half.onnx", "inside": tmp_path / "inside.onnx"}
    for name, keep_io in (("half", "off"), ("inside", "on")):
        _convert(plain, paths[name], keep_io)
    return paths


def _export(net: nn.Module, path: Path) -> None:
    torch.onnx.export(net, (torch.randn(6, 8),), path, dynamo=False, input_names=["x"], output_names=["y"])


def _convert(source: Path, destination: Path, keep_io: str) -> None:
    from harness.transforms import TransformRequest

    Fp16().apply(source, destination, TransformRequest("fp16", {"keep_io": keep_io}, ()))


@pytest.mark.parametrize("name", ["half", "inside"])
@pytest.mark.parametrize("reference", ["module", "file"])
def test_a_float16_file_is_judged_as_float16_and_a_note_says_so(
    net: Net, files: dict[str, Path], name: str, reference: str
) -> None:
    (row,) = compare_models(files[name], net if reference == "module" else files["plain"]).results
    assert row.status == "passed"
    (output,) = {each.tolerance for each in row.outputs}
    assert output == "3 x the reference's own error in float16 against float64"
    notes = " ".join(row.notes)
    if name == "half":
        assert "x is converted from float32 to float16 for half.onnx" in notes
        assert "y is float16 in half.onnx and float32 in the reference; it is compared in float32" in notes
    else:
        assert "inside.onnx computes in float16, and the reference does not; it is judged as float16" in notes


def test_a_float32_file_is_compared_with_a_float16_reference(files: dict[str, Path]) -> None:
    (row,) = compare_models(files["plain"], files["half"]).results
    assert row.status == "passed"
    assert "in float16" in row.outputs[0].tolerance
    assert "y is float32 in plain.onnx and float16 in the reference" in " ".join(row.notes)


@pytest.mark.parametrize(
    ("subject", "gain", "status"),
    [("plain", 1.0, "passed"), ("inside", 1.0, "passed"), ("plain", 1.02, "failed"), ("half", 1.0, "passed")],
)
def test_a_reference_that_computes_in_float16_inside_is_no_measure_in_float32(
    files: dict[str, Path], subject: str, gain: float, status: str
) -> None:
    """ONNX Runtime leaves out the roundings between its nodes, so its own error is that of float32."""
    model = onnx.load(str(files[subject]))
    weight = next(each for each in model.graph.initializer if list(each.dims) == [16, 8])
    weight.CopyFrom(
        onnx.numpy_helper.from_array(
            onnx.numpy_helper.to_array(weight) * np.array(gain, onnx.helper.tensor_dtype_to_np_dtype(weight.data_type)),
            weight.name,
        )
    )
    onnx.save(model, str(files[subject].with_name("subject.onnx")))
    (row,) = compare_models(files[subject].with_name("subject.onnx"), files["inside"]).results
    assert row.status == status, row.message
    assert "in float16" in row.outputs[0].tolerance
    notes = " ".join(row.notes)
    assert ("the reference computes in float16, and subject.onnx does not" in notes) == (subject == "plain")
    assert "does not run in float16" not in notes


def test_a_half_precision_script_is_compared_with_its_float32_module(net: Net, tmp_path: Path) -> None:
    import copy

    path = tmp_path / "half.jit"
    torch.jit.save(torch.jit.script(copy.deepcopy(net).half()), str(path))
    (row,) = compare_models(path, net, torch.randn(6, 8)).results
    assert row.status == "passed", row.message
    assert "in float16" in row.outputs[0].tolerance


@pytest.mark.parametrize("name", ["half", "inside"])
def test_a_wrong_float16_file_still_fails(net: Net, files: dict[str, Path], name: str) -> None:
    model = onnx.load(str(files[name]))
    weight = next(each for each in model.graph.initializer if len(each.dims) == 2)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] *= 1.05
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(files[name]))
    (row,) = compare_models(files[name], net).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert not any("float16; eager" in line for line in row.evidence)


def test_a_tolerance_that_is_named_holds_for_a_float16_file_too(net: Net, files: dict[str, Path]) -> None:
    (row,) = compare_models(files["half"], net, tolerance={"ulp": 4}).results
    assert row.status == "failed"
    assert row.outputs[0].tolerance == "4 ulp"


def test_a_float64_output_against_float32_is_a_difference(net: Net, tmp_path: Path) -> None:
    import copy

    path = tmp_path / "double.onnx"
    torch.onnx.export(
        copy.deepcopy(net).double(),
        (torch.randn(6, 8, dtype=torch.float64),),
        path,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
    )
    (row,) = compare_models(path, net, torch.randn(6, 8)).results
    assert (row.status, row.symptom) == ("failed", "mismatch")
    assert "dtype float64, expected float32" in str(row.message)


def test_the_command_compares_a_float16_file_with_a_module(
    harness: Call, files: dict[str, Path], net: Net, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(MODULE)
    torch.save(net.state_dict(), "net.pt")
    ran = harness("compare", "half.onnx", "net.py:Net", "--weights", "net.pt")
    assert ran.code == 0, ran.out + ran.err
    assert "SAME: half.onnx is still net.py:Net" in ran.out
    assert "x float32[6, 8], drawn" in ran.out


def test_random_weights_are_named_and_nobody_is_blamed(
    harness: Call, files: dict[str, Path], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(MODULE)
    ran = harness("compare", "plain.onnx", "net.py:Net")
    assert ran.code == 1
    assert "the callable draws its own random weights; pass --weights FILE" in ran.out
    assert "blame " not in ran.out
    ran = harness("compare", "plain.onnx", "net.py:seeded")
    assert ran.code == 1
    assert "draws its own random weights" not in ran.out
    assert "all 4 weights differ: was the reference built with its trained weights? pass --weights FILE" in ran.out
    assert "blame      nobody" in ran.out


def test_outputs_without_a_number_are_not_the_same(harness: Call, monkeypatch: Any, tmp_path: Path) -> None:
    class Undefined(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float("nan")

    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(MODULE)
    _export(Undefined(), tmp_path / "nan.onnx")
    ran = harness("compare", "nan.onnx", "net.py:Undefined")
    assert ran.code == 2
    assert ran.out.startswith("INCONCLUSIVE: ") or "\nINCONCLUSIVE: " in ran.out
    assert "no value is finite, so no number was compared" in ran.out
    assert "SAME" not in ran.out


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "float16"), (torch.bfloat16, "bfloat16")])
def test_a_checkpoint_in_half_precision_is_told_and_its_rounding_is_nobodys_fault(
    harness: Call, here: Path, net: Net, files: dict[str, Path], dtype: torch.dtype, name: str
) -> None:
    (here / "module.py").write_text(MODULE, encoding="utf-8")
    torch.save({key: each.to(dtype) for key, each in net.state_dict().items()}, here / "half.pt")
    ran = harness("compare", str(files["plain"]), "module.py:Net", "--weights", "half.pt")
    assert ran.code == 0, ran.out + ran.err
    assert f"the weights in half.pt are {name}, the module's are float32; plain.onnx is judged as {name}" in ran.out
    assert not any("differs from the reference's" in note for note in ran.only["notes"])
    with torch.no_grad():
        net.second.bias[1] += 0.5
    torch.save({key: each.to(dtype) for key, each in net.state_dict().items()}, here / "half.pt")
    wrong = harness("compare", str(files["plain"]), "module.py:Net", "--weights", "half.pt")
    assert (wrong.code, wrong.only["blame"]) == (1, "exporter"), wrong.out
    assert "second.bias differs from the reference's" in wrong.out
    torch.save(net.state_dict(), here / "full.pt")
    full = harness("compare", str(files["plain"]), "module.py:Net", "--weights", "full.pt")
    assert (full.code, "the weights in" in full.out) == (1, False)
