"""Weights of a file under test that differ from the reference's: proven to be the cause, not reached, or folded."""

from __future__ import annotations

import inspect
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import harness as package
from harness.data_files.onnx_files import stored_tensors, to_array
from tests.conftest import Call


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body, self.head = nn.Embedding(200, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.body(self.embedding(tokens).mean(1))))
        return out


MODULE = f"import torch\nfrom torch import nn\n\n\n{inspect.getsource(Tokens)}"
TOKENS = np.arange(12).reshape(2, 6)
Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    (folder / "net.py").write_text(MODULE, encoding="utf-8")
    torch.manual_seed(3)
    net = Tokens().eval()
    torch.save(net.state_dict(), folder / "net.pt")
    np.savez(folder / "tokens.npz", tokens=TOKENS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, dynamo in (("net.onnx", False), ("dynamo.onnx", True)):
            more: dict[str, Any] = {"external_data": False} if dynamo else {}
            args = (torch.from_numpy(TOKENS),)
            torch.onnx.export(net, args, folder / name, dynamo=dynamo, input_names=["tokens"], verbose=False, **more)
        torch.jit.save(torch.jit.script(net), folder / "net.jit")
        torch.export.save(torch.export.export(net, args), folder / "net.pt2")
    return folder


@pytest.fixture(scope="module")
def net(made: Path) -> nn.Module:
    module: nn.Module = Tokens()
    module.load_state_dict(torch.load(made / "net.pt"))
    return module.eval()


@pytest.fixture
def nets(made: Path, here: Path) -> Path:
    shutil.copytree(made, here, dirs_exist_ok=True)
    return here


def edited(folder: Path, name: str, weight: str, change: Change, to: str = "edited.onnx") -> Path:
    """A copy of an ONNX file in which ``change`` was made to the values of a weight."""
    model = onnx.load(folder / name)
    tensor = next(each for each in model.graph.initializer if each.name == weight)
    values = to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, weight))
    onnx.save(model, folder / to)
    return folder / to


def row(number: int, factor: float = 1.01) -> Change:
    def change(values: Any) -> None:
        values[number] *= factor

    return change


COMPARE = ("net.py:Tokens", "--weights", "net.pt", "--inputs", "tokens.npz")
NOT_REACHED = (
    "embedding.weight differs from the reference's in row 137 of 200 (by 1 %), which these inputs do not reach"
)
PROVEN = "head.weight differs from the reference's in row 2 of 5 (by 1 %); with the reference's weight the file agrees"


@pytest.mark.parametrize("name", ["net.onnx", "dynamo.onnx"])
def test_a_row_that_no_token_uses_makes_the_pass_inconclusive(harness: Call, nets: Path, name: str) -> None:
    edited(nets, name, "embedding.weight", row(137))
    ran = harness("compare", "edited.onnx", *COMPARE)
    assert "INCONCLUSIVE: edited.onnx and net.py:Tokens agree, but a wrong file would too" in ran.out
    assert f"caution    the pass is inconclusive: {NOT_REACHED}" in ran.out
    assert ran.only["status"] == "passed"


def test_strict_fails_a_pass_that_does_not_reach_the_weight(harness: Call, nets: Path) -> None:
    edited(nets, "net.onnx", "embedding.weight", row(137))
    words = ("compare", "edited.onnx", *COMPARE, "--save-spec", "asked.yaml")
    harness(*words)
    ran = harness("run", "asked.yaml", "--allow-import", "--no-latency", "--strict")
    assert (ran.code, ran.only["status"]) == (1, "failed")
    assert NOT_REACHED in ran.only["message"]
    assert harness("compare", "net.onnx", *COMPARE).code == 0


@pytest.mark.parametrize("name", ["net.onnx", "dynamo.onnx"])
def test_a_row_that_makes_the_file_fail_is_the_proven_cause(harness: Call, nets: Path, name: str) -> None:
    edited(nets, name, "head.weight", row(2))
    ran = harness("compare", "edited.onnx", *COMPARE)
    assert ran.code == 1, ran.err
    assert "blame      the file" in ran.out
    assert f"evidence   {PROVEN}" in ran.out
    assert "xporter" not in ran.out
    assert ran.only["blame"] == "exporter"


def test_the_report_and_explain_name_the_weight_and_blame_the_file(harness: Call, nets: Path) -> None:
    edited(nets, "net.onnx", "head.weight", row(2))
    harness("compare", "edited.onnx", *COMPARE, "--save-spec", "asked.yaml")
    again = harness("run", "asked.yaml", "--allow-import", "--no-latency")
    assert again.only["evidence"][0] == PROVEN
    markdown = (nets / "reports" / "latest" / "report.md").read_text(encoding="utf-8")
    assert "Blame: **the file**" in markdown
    assert "head.weight differs from the reference's in row 2 of 5" in markdown
    assert "+fixes" not in markdown
    explained = harness("explain", "asked/edited", "asked.yaml", "--allow-import")
    assert PROVEN in " ".join(explained.out.split())
    assert "Blame: the file" in explained.out


@pytest.mark.parametrize("format_", ["jit", "pt2"])
def test_a_weight_of_torchscript_and_of_a_program_is_named(made: Path, net: nn.Module, format_: str) -> None:
    path, to = made / f"net.{format_}", made / f"edited.{format_}"
    with torch.no_grad():
        if format_ == "jit":
            script = torch.jit.load(path)  # type: ignore[no-untyped-call]
            script.head.weight[2] *= 1.01
            torch.jit.save(script, to)
        else:
            program = torch.export.load(path)
            program.state_dict["head.weight"][2] *= 1.01
            torch.export.save(program, to)
    for reference in (net, made / "net.onnx", made / "net.jit"):
        (result,) = package.compare_models(to, reference, [TOKENS]).results
        assert (result.status, result.blame, result.evidence[:1]) == ("failed", "exporter", (PROVEN,)), reference


class Moving(nn.Module):
    """A layer with a moving average added."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.average = nn.Linear(4, 5), nn.Buffer(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.average.mul_(0.9).add_(x.mean())
        out: torch.Tensor = self.head(x) + self.average
        return out


def test_a_weight_of_a_module_that_keeps_state_is_named(tmp_path: Path) -> None:
    module = Moving().eval()
    program = torch.export.export(module, (torch.ones(3, 4),))
    program.state_dict["head.weight"] = nn.Parameter(module.head.weight.detach().clone())
    with torch.no_grad():
        program.state_dict["head.weight"][2] *= 1.01
    torch.export.save(program, tmp_path / "edited.pt2")
    (result,) = package.compare_models(tmp_path / "edited.pt2", module).results
    assert (result.status, result.blame, result.evidence[:1]) == ("failed", "exporter", (PROVEN,))


def test_a_file_against_a_file_names_the_weight_and_no_exporter(harness: Call, nets: Path) -> None:
    edited(nets, "net.onnx", "head.weight", row(2))
    ran = harness("compare", "edited.onnx", "dynamo.onnx", "--inputs", "tokens.npz")
    assert (ran.code, f"evidence   {PROVEN}" in ran.out, "xporter" in ran.out) == (1, True, False)


@pytest.mark.parametrize("reached", [True, False])
def test_one_of_many_samples_may_reach_the_weight(harness: Call, nets: Path, reached: bool) -> None:
    edited(nets, "net.onnx", "embedding.weight", row(137))
    (nets / "samples").mkdir()
    for number in range(40):
        tokens = np.full((2, 6), 137 if reached and number == 35 else number)
        np.savez(nets / "samples" / f"{number:02}.npz", tokens=tokens)
    ran = harness("compare", "edited.onnx", *COMPARE[:3], "--inputs", "samples", "--tolerance", "{atol: 0.01}")
    assert ran.code == 0, ran.err
    assert (NOT_REACHED in ran.out) is not reached


def test_weights_that_cannot_be_compared_are_a_note(
    made: Path, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = edited(made, "net.onnx", "embedding.weight", row(137))

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(onnx, "save", full)
    (result,) = package.compare_models(file, net, [TOKENS]).results
    assert (result.status, result.inconclusive) == ("passed", None)
    assert "the weights were not compared: OSError: no space left" in result.notes


def test_several_weights_are_named_up_to_three(made: Path, net: nn.Module) -> None:
    def off(values: Any) -> None:
        values *= 1.01

    file = edited(made, "net.onnx", "head.weight", row(2))
    file = edited(made, file.name, "head.bias", off)
    file = edited(made, file.name, "body.bias", row(3, 2.0))
    file = edited(made, file.name, "body.weight", off)
    (result,) = package.compare_models(file, net, [TOKENS]).results
    assert result.evidence[0].endswith(", and 1 more weight; with the reference's weights the file agrees")
    assert "at [3] (by 100 %)" in result.evidence[0]
    assert "body.weight differs from the reference's in 64 of 64 values (by 1 %), " in result.evidence[0]


def test_a_weight_that_changes_too_little_to_fail_is_a_note(made: Path, net: nn.Module) -> None:
    file = edited(made, "net.onnx", "head.weight", row(2, 1.001))
    (result,) = package.compare_models(file, net, [TOKENS], tolerance={"atol": 0.1}).results
    assert (result.status, result.inconclusive) == ("passed", None)
    assert any("row 2 of 5 (by 0.1 %); with the reference's weight the outputs come nearer" in n for n in result.notes)


def test_an_untrained_reference_is_asked_about_first(harness: Call, nets: Path, made: Path) -> None:
    (nets / "seeded.py").write_text(
        MODULE + "\n\ndef untrained():\n    torch.manual_seed(1)\n    return Tokens()\n", encoding="utf-8"
    )
    ran = harness("compare", "net.onnx", "seeded.py:untrained", "--inputs", "tokens.npz")
    assert ran.code == 1
    message = ran.only["message"]
    assert message.startswith(
        "all 5 weights differ: was the reference built with its trained weights? pass --weights FILE"
    )
    assert ran.only["blame"] is None
    (result,) = package.compare_models(made / "net.onnx", Tokens(), [TOKENS]).results
    assert str(result.message).startswith("all 5 weights differ: does the module hold its trained weights?")


def test_a_transposed_weight_is_compared_and_shown_in_the_references_layout(tmp_path: Path) -> None:
    torch.manual_seed(1)
    linear = nn.Linear(4, 4, bias=False)
    stored = linear.weight.detach().numpy().T.copy()
    x = np.ones((2, 4), np.float32)
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("MatMul", ["input", "weight"], ["y"])]
    for name, factor in (("same.onnx", 1.0), ("other.onnx", 1.01)):
        values = stored.copy()
        values[:, 1] *= factor
        weight = numpy_helper.from_array(values, "weight")
        sides = [value("input", 1, [2, 4])], [value("y", 1, [2, 4])]
        graph = onnx.helper.make_graph(nodes, "g", *sides, [weight])
        opset = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / name)
    (same,) = package.compare_models(tmp_path / "same.onnx", linear, [x]).results
    assert (same.status, same.inconclusive, "differs from" in str(same.notes)) == ("passed", None, False)
    (other,) = package.compare_models(tmp_path / "other.onnx", linear, [x]).results
    assert "weight differs from the reference's in row 1 of 4 (by 1 %); with" in other.evidence[0]


def test_folding_into_a_transposed_weight_is_not_taken_for_other_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    linear, norm = nn.Linear(5, 4), nn.BatchNorm1d(4)
    with torch.no_grad():
        for each in norm.state_dict().values():
            each.copy_(torch.rand(4)[: each.numel()].reshape(each.shape) + 0.5)
    folded = torch.nn.utils.fusion.fuse_linear_bn_eval(linear.eval(), norm.eval())
    stored = {"0.weight": folded.weight.detach().numpy().T.copy(), "0.bias": folded.bias.detach().numpy()}
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    nodes = [node("MatMul", ["x", "0.weight"], ["a"]), node("Add", ["a", "0.bias"], ["b"]), node("Neg", ["b"], ["y"])]
    sides = [value("x", 1, [2, 5])], [value("y", 1, [2, 4])]
    weights = [numpy_helper.from_array(each, name) for name, each in stored.items()]
    graph = onnx.helper.make_graph(nodes, "g", *sides, weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "negated.onnx")
    net = nn.Sequential(linear, norm).eval()
    (result,) = package.compare_models(tmp_path / "negated.onnx", net, [np.ones((2, 5), np.float32)]).results
    assert (result.status, result.blame) == ("failed", "exporter")
    assert "weights differ" not in str(result.message)


def test_a_weight_that_no_node_reads_says_nothing(made: Path, net: nn.Module) -> None:
    model = onnx.load(edited(made, "net.onnx", "embedding.weight", row(137)))
    (table,) = (each for each in model.graph.initializer if each.name == "embedding.weight")
    model.graph.initializer.append(numpy_helper.from_array(to_array(table), "used"))
    for node in model.graph.node:
        node.input[:] = ["used" if each == "embedding.weight" else each for each in node.input]
    onnx.save(model, made / "unread.onnx")
    (result,) = package.compare_models(made / "unread.onnx", net, [TOKENS]).results
    assert (result.status, result.inconclusive) == ("passed", None)


def test_folded_names_and_names_that_are_gone_say_nothing(tmp_path: Path) -> None:
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(3, 4, 3).eval(), nn.BatchNorm2d(4).eval()
    net = nn.Sequential(conv, norm, nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    with torch.no_grad():
        for values in norm.buffers():
            if values.is_floating_point():
                values.uniform_(0.5, 1.5)
    x = torch.randn(1, 3, 6, 6)
    folded = nn.Sequential(torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm), nn.Identity(), nn.ReLU(), net[3])
    traced = torch.jit.trace(folded, (x,))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, tmp_path / "folded.jit")
    torch.onnx.export(folded, (x,), tmp_path / "folded.onnx", dynamo=False)
    torch.onnx.export(net, (x,), tmp_path / "gone.onnx", dynamo=False)
    assert "0.weight" in stored_tensors(tmp_path / "folded.onnx")
    assert "0.weight" not in stored_tensors(tmp_path / "gone.onnx")
    for name in ("folded.jit", "folded.onnx", "gone.onnx"):
        (result,) = package.compare_models(tmp_path / name, net, [x.numpy()]).results
        assert (result.status, result.inconclusive) == ("passed", None), name
        assert not any("differ" in note for note in result.notes), name


def test_a_float16_twin_has_the_same_weights_and_an_edited_one_has_not(made: Path, net: nn.Module) -> None:
    model = onnx.load(made / "net.onnx")
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(to_array(tensor).astype(np.float16), tensor.name))
    onnx.save(half_graph(model), made / "half.onnx")
    (twin,) = package.compare_models(made / "half.onnx", net, [TOKENS]).results
    assert (twin.status, twin.inconclusive) == ("passed", None)
    assert not any("differs from" in note for note in twin.notes)
    edited(made, "half.onnx", "embedding.weight", row(137), "half-edited.onnx")
    (other,) = package.compare_models(made / "half-edited.onnx", net, [TOKENS]).results
    assert str(other.inconclusive).startswith("embedding.weight differs from the reference's in row 137 of 200 (by ")


def half_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    del model.graph.value_info[:]
    return model


def test_weights_beside_the_file_are_read_in_place(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "h": np.ones(4, np.float16),
        "n": np.arange(3),
        "e": np.zeros((0, 2), np.float32),
    }
    tensors = [numpy_helper.from_array(each, name) for name, each in values.items()]
    fields = onnx.helper.make_tensor("fields", onnx.TensorProto.FLOAT, [2], [1.5, 2.5])
    graph = onnx.helper.make_graph([], "g", [], [], [*tensors, fields])
    model = onnx.helper.make_model(graph)
    for name, beside in (("whole.onnx", False), ("beside.onnx", True)):
        onnx.save(model, tmp_path / name, save_as_external_data=beside, size_threshold=0, location=f"{name}.data")
        found = stored_tensors(tmp_path / name)
        assert found["fields"].tolist() == [1.5, 2.5]
        for key in ("a", "h", "n"):
            np.testing.assert_array_equal(found[key], values[key])
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "whole.onnx").read_bytes()[:-9])
    with pytest.raises(ValueError, match="truncated"):
        stored_tensors(tmp_path / "cut.onnx")
