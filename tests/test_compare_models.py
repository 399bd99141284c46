"""``harness.compare_models``: pairs of models, how inputs and outputs are matched, and what is told."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import harness
from harness.errors import UsageError
from tests.compared_models import (
    Net,
    changed,
    sigmoid,
    two_by_two,
    with_channels_last,
    with_converted_input,
    with_extra_output,
    with_input_named,
    with_other_weight,
    write_net,
)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    write_net(folder)
    return folder


@pytest.fixture(scope="module")
def net(nets: Path) -> nn.Module:
    module = Net()
    module.load_state_dict(torch.load(nets / "weights.pt"))
    return module.eval()


@pytest.mark.parametrize("name", ["net.onnx", "dynamo.onnx", "net.ort", "net.jit", "traced.pt", "net.pt2"])
def test_every_form_of_a_net_is_still_the_net(nets: Path, net: nn.Module, name: str) -> None:
    inputs = torch.randn(2, 3, 8, 8)
    verdict = harness.compare_models(nets / name, net, inputs)
    verdict.assert_passed()
    (output,) = verdict.results[0].outputs
    assert output.tolerance.startswith("3 x the reference's own error")
    assert output.of == 6
    unread = "the weights were not compared: those in ONNX Runtime's own format (net.ort) are not read"
    assert (unread in verdict.results[0].notes) is (name == "net.ort")


@pytest.mark.parametrize("reference", ["fixed.onnx", "net.ort", "net.jit", "net.pt2"])
def test_a_file_may_be_the_reference_of_a_file_and_of_a_module(nets: Path, net: nn.Module, reference: str) -> None:
    harness.compare_models(
        str(nets / "net.onnx"), str(nets / reference), np.ones((2, 3, 8, 8), "float32")
    ).assert_passed()
    harness.compare_models(net, nets / reference, {"x": torch.ones(2, 3, 8, 8)}).assert_passed()


def test_inputs_are_drawn_in_the_declared_shapes_with_small_sizes_for_open_axes(nets: Path, net: nn.Module) -> None:
    verdict = harness.compare_models(nets / "net.onnx", net)
    verdict.assert_passed()
    assert {output.shape for output in verdict.results[0].outputs} == {(3, 3)}
    with pytest.raises(UsageError, match="inputs: x: no shape is declared; give inputs"):
        harness.compare_models(nets / "net.jit", net)


def test_a_changed_weight_is_found_and_blamed_on_the_file(nets: Path, net: nn.Module) -> None:
    subject = changed(nets, with_other_weight, "off.onnx")
    for reference in (net, nets / "fixed.onnx"):
        (result,) = harness.compare_models(subject, reference).results
        assert (result.status, result.blame) == ("failed", "exporter")
        assert result.outputs[0].worst is not None
        assert any("the exported file itself is wrong" in line for line in result.evidence)


@pytest.mark.parametrize("operator", ["Dropout", "BatchNormalization"])
def test_a_file_that_was_exported_in_training_mode_says_so_first_and_nobody_is_blamed(
    tmp_path: Path, operator: str
) -> None:
    layer: nn.Module = nn.Dropout() if operator == "Dropout" else nn.BatchNorm1d(4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for mode in (torch.onnx.TrainingMode.TRAINING, torch.onnx.TrainingMode.EVAL):
            torch.onnx.export(
                layer,
                (torch.randn(3, 4),),
                tmp_path / f"{mode.name}.onnx",
                dynamo=False,
                training=mode,
                do_constant_folding=False,
                input_names=["x"],
                output_names=["y"],
            )
    inputs = torch.randn(3, 4)
    (result,) = harness.compare_models(tmp_path / "TRAINING.onnx", layer.eval(), inputs).results
    assert (result.status, result.blame, result.evidence) == ("failed", None, ())
    assert result.message is not None
    assert result.message.startswith(f"TRAINING.onnx was exported in training mode ({operator}): call .eval()")
    harness.compare_models(tmp_path / "EVAL.onnx", layer.eval(), inputs).assert_passed()


def test_a_changed_weight_is_found_in_formats_of_torch(nets: Path, net: nn.Module) -> None:
    other = torch.jit.script(copy.deepcopy(net))
    other.head.bias.data[0] += 1e-3
    torch.jit.save(other, nets / "off.jit")
    (result,) = harness.compare_models(nets / "off.jit", net, torch.ones(2, 3, 8, 8)).results
    assert (result.status, result.blame) == ("failed", "exporter")
    verdict = harness.compare_models(net, nets / "off.jit", torch.ones(2, 3, 8, 8))
    assert not verdict
    assert verdict.results[0].blame is None


def test_nobody_is_blamed_by_an_evaluation_that_the_reference_itself_contradicts(nets: Path) -> None:
    # onnxruntime's Sigmoid is off by a third where it is near zero, and the float64 evaluation is not.
    x = np.full(8, -16.9, "float32")
    (result,) = harness.compare_models(sigmoid(nets, "shifted.onnx", 0.5), sigmoid(nets, "sigmoid.onnx"), x).results
    assert (result.status, result.blame) == ("failed", None)
    assert "one of the two is wrong, so the evaluation decides nothing" in result.evidence[0]
    (near,) = harness.compare_models(nets / "shifted.onnx", nets / "sigmoid.onnx", np.zeros(8, "float32")).results
    assert (near.status, near.blame) == ("failed", "exporter")


def test_evidence_about_two_files_does_not_speak_of_torch(nets: Path) -> None:
    def with_wide_output(model: onnx.ModelProto) -> None:
        model.graph.output[0].name, model.graph.output[0].type.tensor_type.elem_type = "wide", TensorProto.DOUBLE
        model.graph.node.append(helper.make_node("Cast", ["y"], ["wide"], to=TensorProto.DOUBLE))

    x = torch.randn(2, 3, 8, 8)
    for change, said in (
        (with_wide_output, "the file declares wide as float64; the reference's answer has float32"),
        (with_other_weight, "evaluated in float64, the exported file itself is wrong"),
    ):
        (row,) = harness.compare_models(changed(nets, change, "changed.onnx"), nets / "fixed.onnx", x).results
        assert row.blame == "exporter"
        assert any(said in line for line in row.evidence), row.evidence
        assert not any("torch" in line for line in row.evidence), row.evidence


def test_the_tolerance_is_that_of_the_call(nets: Path, net: nn.Module) -> None:
    subject = changed(nets, with_other_weight, "off.onnx")
    harness.compare_models(subject, net, tolerance={"rtol": 0.1, "atol": 0.1}).assert_passed()


def test_a_second_call_with_the_same_inputs_does_not_show_constant_outputs(nets: Path, net: nn.Module) -> None:
    def with_noise(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = "noisy"
        model.graph.node.append(helper.make_node("RandomUniformLike", ["y"], ["noise"], low=0.0, high=1e-3))
        model.graph.node.append(helper.make_node("Add", ["y", "noise"], ["noisy"]))

    subject = changed(nets, with_noise, "noisy.onnx")
    (row,) = harness.compare_models(subject, net, torch.randn(2, 3, 8, 8), tolerance={"atol": 0.01}).results
    assert (row.status, row.outputs[0].inconclusive) == ("passed", None)


def test_an_input_with_another_name_is_matched_by_dtype_and_rank_and_told(nets: Path) -> None:
    subject = changed(nets, with_input_named("input.1"), "renamed.onnx")
    verdict = harness.compare_models(subject, nets / "fixed.onnx", {"x": np.ones((2, 3, 8, 8), "float32")})
    verdict.assert_passed()
    assert "x is input.1 in renamed.onnx, the only float32 input with 4 axes" in verdict.results[0].notes


def test_inputs_that_cannot_be_told_apart_are_asked_for_with_both_signatures(nets: Path) -> None:
    subject = two_by_two(nets, "other.onnx", inputs=("p", "q"))
    reference = two_by_two(nets, "two.onnx")
    inputs = {"a": np.ones((2, 4), "float32"), "b": np.zeros((2, 4), "float32")}
    (result,) = harness.compare_models(subject, reference, inputs).results
    assert (result.status, result.stage) == ("error", "build")
    assert "cannot tell which of a, b is p, q" in str(result.message)
    assert "the inputs are (a float32[2, 4], b float32[2, 4])" in str(result.message)
    assert "other.onnx takes (p float32[N, 4], q float32[N, 4])" in str(result.message)


def test_all_that_does_not_fit_is_said_at_once(nets: Path) -> None:
    reference = two_by_two(nets, "two.onnx")
    inputs = {"a": np.ones((2, 4), "int64"), "b": np.zeros((3, 5), "float32")}
    (result,) = harness.compare_models(reference, reference, inputs).results
    message = str(result.message)
    assert "a is int64, and two.onnx takes a float32[N, 4]" in message
    assert "b has shape [3, 5], and two.onnx takes b float32[N, 4]" in message
    assert "axis N of two.onnx is 2 in a and 3 in b" in message


def test_what_does_not_fit_the_file_is_said_before_the_module_refuses_it(nets: Path, net: nn.Module) -> None:
    (result,) = harness.compare_models(nets / "fixed.onnx", net, torch.ones(2, 4, 8, 8, dtype=torch.int64)).results
    assert (result.status, result.stage) == ("error", "build")
    assert "x is int64[2, 4, 8, 8], and fixed.onnx takes x float32[2, 3, 8, 8]" in str(result.message)


def test_float16_inputs_are_converted_and_told(nets: Path, net: nn.Module) -> None:
    subject = changed(nets, with_converted_input(TensorProto.FLOAT16), "half.onnx")
    verdict = harness.compare_models(subject, net, torch.ones(2, 3, 8, 8))
    verdict.assert_passed()
    assert "x is converted from float32 to float16 for half.onnx" in verdict.results[0].notes
    wrong = changed(nets, with_converted_input(TensorProto.INT32), "whole.onnx")
    (result,) = harness.compare_models(wrong, net, torch.ones(2, 3, 8, 8)).results
    assert (result.status, result.stage) == ("error", "build")


def test_channels_last_is_transposed_and_told(nets: Path, net: nn.Module) -> None:
    subject = changed(nets, with_channels_last, "nhwc.onnx")
    verdict = harness.compare_models(subject, net, torch.randn(2, 3, 8, 8))
    verdict.assert_passed()
    assert "x is transposed from [2, 3, 8, 8] (NCHW) to [2, 8, 8, 3] (NHWC) for nhwc.onnx" in verdict.results[0].notes


def test_an_extra_output_fails_and_the_others_are_compared(nets: Path) -> None:
    subject = changed(nets, with_extra_output, "extra.onnx")
    (result,) = harness.compare_models(subject, nets / "fixed.onnx").results
    assert result.status == "failed"
    assert "2 outputs, expected 1" in str(result.message)
    assert {(output.name, output.passed) for output in result.outputs} == {("y", True)}
    assert "extra.onnx has outputs that the reference lacks: debug" in result.notes
    (lacking,) = harness.compare_models(nets / "fixed.onnx", subject).results
    assert (lacking.status, lacking.notes) == ("failed", ("fixed.onnx lacks outputs of the reference: debug",))


def test_another_order_of_outputs_is_paired_by_name_and_told(nets: Path) -> None:
    subject, reference = two_by_two(nets, "swapped.onnx", outputs=("d", "s")), two_by_two(nets, "two.onnx")
    verdict = harness.compare_models(subject, reference)
    verdict.assert_passed()
    assert any("in another order (d, s) than the reference (s, d)" in note for note in verdict.results[0].notes)


def test_outputs_with_other_names_are_paired_by_order_and_told(nets: Path) -> None:
    reference = two_by_two(nets, "two.onnx")
    right = two_by_two(nets, "named.onnx", outputs=("sum", "difference"))
    verdict = harness.compare_models(right, reference)
    verdict.assert_passed()
    assert any("paired by order: sum with s, difference with d" in note for note in verdict.results[0].notes)
    assert not harness.compare_models(two_by_two(nets, "wrong.onnx", outputs=("difference", "sum")), reference)


def test_what_is_no_model_is_refused_in_one_line(nets: Path, net: nn.Module) -> None:
    torch.save(net, nets / "pickled.pt")
    (nets / "empty.onnx").touch()
    (nets / "text.pt").write_text("no model", encoding="utf-8")
    (nets / "text.ort").write_text("no model", encoding="utf-8")
    refusals = {
        "absent.onnx": "no such file",
        "empty.onnx": "an empty file is no model",
        "net.py": "not a model file",
        "text.pt": "not a model that torch wrote",
        "text.ort": "not a model in ONNX Runtime's format",
        "weights.pt": "holds weights, not a model; name the module as the reference",
        "pickled.pt": "a pickle that runs code when it is loaded.*torch.jit.save",
    }
    for name, message in refusals.items():
        with pytest.raises(UsageError, match=f"{re.escape(name)}: .*{message}"):
            harness.compare_models(nets / name, net)
    with pytest.raises(UsageError, match=r"subject: int is neither a torch\.nn\.Module nor a path"):
        harness.compare_models(3, net)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="inputs: x is str, not an array"):
        harness.compare_models(nets / "net.onnx", net, "x")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="inputs: x has dtype object"):
        harness.compare_models(nets / "net.onnx", net, {"x": np.array([None])})
    with pytest.raises(UsageError, match=r"reference: net\.py:Net names a callable; give the module that it returns"):
        harness.compare_models(nets / "net.onnx", "net.py:Net")
    with pytest.raises(UsageError, match=r"targets: torch-cpu does not run .*net\.onnx, which is ONNX"):
        harness.compare_models(nets / "net.onnx", net, targets="torch-cpu")


class Rated(nn.Module):
    """A module that takes a number beside a tensor."""

    def forward(self, x: torch.Tensor, rate: int) -> torch.Tensor:
        """The tensor, as many times."""
        return x * rate


def test_a_number_of_torchscript_is_given_as_a_tensor_of_one_element(nets: Path) -> None:
    path = nets / "rated.pt"
    torch.jit.save(torch.jit.script(Rated()), path)
    inputs = {"x": np.ones(3, "float32"), "rate": np.array(16000)}
    verdict = harness.compare_models(path, path, inputs)
    verdict.assert_passed()
    assert verdict.results[0].outputs[0].of == 3


def test_a_module_is_neither_changed_nor_trained(nets: Path, net: nn.Module) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    harness.compare_models(nets / "net.onnx", net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Dropping(nn.Module):
    """A layer, dropout and a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.drop, self.norm = nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As many numbers as ``x`` has."""
        out: torch.Tensor = self.norm(self.drop(self.layer(x)))
        return out


def test_a_module_in_training_mode_is_said_first_and_nobody_is_blamed(tmp_path: Path) -> None:
    module, x = Dropping().eval(), torch.randn(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), tmp_path / "net.onnx", dynamo=False, input_names=["x"], output_names=["y"])
    harness.compare_models(tmp_path / "net.onnx", module, x).assert_passed()
    harness.compare_models(module, tmp_path / "net.onnx", x).assert_passed()
    trained = copy.deepcopy(module).train()
    normalising = copy.deepcopy(module)
    normalising.norm.train()
    cases: list[tuple[Path | nn.Module, Path | nn.Module]] = [
        (tmp_path / "net.onnx", trained),
        (trained, tmp_path / "net.onnx"),
        (trained, module),
        (module, trained),
    ]
    for subject, reference in cases:
        (result,) = harness.compare_models(subject, reference, x).results
        assert result.message is not None
        assert result.message.startswith("the module is in training mode (call .eval())"), result.message
        assert (result.status, result.blame, result.evidence) == ("failed", None, ())
    verified = harness.compare_models(tmp_path / "net.onnx", trained, torch.randn(1, 4))
    assert str(verified).startswith(
        "the module is in training mode (call .eval()):\nfile:subject/ort-cpu: error, build"
    )
    (result,) = harness.compare_models(trained, module, torch.randn(1, 4)).results
    assert (result.stage, result.blame) == ("run", None)
    (result,) = harness.compare_models(tmp_path / "net.onnx", normalising, x).results
    assert (result.blame, "parts of the module are in training mode" in (result.message or "")) == (None, True)
    assert trained.training
    harness.compare_models(tmp_path / "net.onnx", module.eval(), x).assert_passed()


def test_a_mode_that_changes_nothing_is_not_blamed_for_a_wrong_weight(nets: Path, net: nn.Module) -> None:
    (result,) = harness.compare_models(changed(nets, with_other_weight, "off.onnx"), net.train()).results
    assert (result.blame, "training" in (result.message or "")) == ("exporter", False)


class Text(nn.Module):
    """Reads ids and a mask, and the kinds only with ``reads_kinds``."""

    def __init__(self, *, reads_kinds: bool = False) -> None:
        super().__init__()
        self.embedding, self.reads_kinds = nn.Embedding(30, 8), reads_kinds

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """The embeddings of what the mask lets through."""
        weights = mask + kinds if self.reads_kinds else mask
        out: torch.Tensor = (self.embedding(ids) * weights[..., None]).sum(1)
        return out


class Scale(nn.Module):
    """Gives ``x`` once or as often as a number says."""

    def forward(self, x: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """A trace keeps ``times`` as a number."""
        return torch.tanh(x) * int(times)


class Renamed(Scale):
    """The same with another name for ``x``."""

    def forward(self, value: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """As above."""
        return super().forward(value, times)


IDS = {
    "ids": np.arange(12, dtype="int64").reshape(2, 6),
    "mask": np.ones((2, 6), "int64"),
    "kinds": np.zeros((2, 6), "int64"),
}


@pytest.fixture(scope="module")
def text(nets: Path) -> nn.Module:
    """A module whose exports without one of its inputs, or with other names, are in the folder of nets."""
    torch.manual_seed(2)
    module, values = Text().eval(), tuple(map(torch.from_numpy, IDS.values()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, names in (("text.onnx", list(IDS)), ("renamed_text.onnx", ["in_0", "in_1", "in_2"])):
            torch.onnx.export(module, values, nets / name, dynamo=False, input_names=names, output_names=["y"])
        torch.jit.save(torch.jit.trace(module, values), nets / "text.pt")  # type: ignore[no-untyped-call]
        module.reads_kinds = True
        torch.onnx.export(module, values, nets / "kinds.onnx", dynamo=False, input_names=list(IDS), output_names=["y"])
        module.reads_kinds = False
        scale = (torch.randn(2, 3), torch.tensor(3))
        names = ["x", "times"]
        torch.onnx.export(Scale(), scale, nets / "scale.onnx", dynamo=False, input_names=names, output_names=["y"])
    return module


def test_a_file_without_an_input_that_its_reference_does_not_read_is_still_the_same(
    nets: Path, text: nn.Module
) -> None:
    for reference in (text, nets / "text.pt"):
        for inputs in (IDS, list(IDS.values())):
            verdict = harness.compare_models(nets / "text.onnx", reference, inputs)
            verdict.assert_passed()
            note = "kinds is no input of text.onnx: an exporter drops inputs that it does not read"
            assert note in verdict.results[0].notes
    drawn = harness.compare_models(nets / "text.onnx", text)
    assert drawn.results[0].status == "passed", drawn


def test_a_file_that_lost_an_input_which_its_reference_reads_fails_also_at_inputs_where_it_agrees(
    nets: Path, text: nn.Module
) -> None:
    reads = Text(reads_kinds=True).eval()
    reads.load_state_dict(text.state_dict())
    lost = "text.onnx has no input kinds, and the outputs depend on it"
    for reference in (reads, nets / "kinds.onnx"):
        (row,) = harness.compare_models(nets / "text.onnx", reference, IDS).results  # kinds are zeros: it agrees
        assert (row.status, row.symptom, row.blame, row.message) == ("failed", "mismatch", "exporter", lost)
        assert all(output.passed for output in row.outputs)
        assert "the reference gives other outputs at other values of kinds: y: " in row.evidence[0]
        (row,) = harness.compare_models(nets / "text.onnx", reference, {**IDS, "kinds": IDS["mask"]}).results
        assert (row.status, row.blame) == ("failed", "exporter")
        assert str(row.message).startswith(f"{lost}: y: ")


def test_an_input_that_only_other_values_reach_is_lost_too(nets: Path, text: nn.Module) -> None:
    assert text is not None
    for times in (3, 2):
        inputs = {"x": np.ones((2, 3), "float32"), "times": np.array(times)}
        (row,) = harness.compare_models(nets / "scale.onnx", Scale().eval(), inputs).results
        assert (row.status, row.blame) == ("failed", "exporter")
        assert "scale.onnx has no input times, and the outputs depend on it" in str(row.message)


def test_which_input_is_missing_is_asked_for_where_no_names_agree(nets: Path, text: nn.Module) -> None:
    (row,) = harness.compare_models(nets / "renamed_text.onnx", text, IDS).results
    assert (row.status, row.stage) == ("error", "build")
    assert "cannot tell which of ids, mask, kinds is in_0, in_1" in str(row.message)
    assert "export the file again with the reference's names (input_names), which show what it lacks" in str(
        row.message
    )
    inputs = {"value": np.ones((2, 3), "float32"), "times": np.array(3)}
    (row,) = harness.compare_models(nets / "scale.onnx", Renamed().eval(), inputs).results  # x is value by its kind
    assert "scale.onnx has no input times: " in str(row.message)
    assert "export the file again with the reference's names" in str(row.message)
    (row,) = harness.compare_models(nets / "kinds.onnx", nets / "text.onnx", IDS).results
    assert "text.onnx has no input kinds" in str(row.message), "an input that the reference lacks"
    assert row.status == "error"
    with pytest.raises(UsageError, match="kinds: the reference has no such input, and the file takes it"):
        harness.compare_models(nets / "kinds.onnx", nets / "text.onnx")


def file_of(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, list[Any]], *constants: Any) -> Path:
    """An ONNX file with float inputs of the shapes, and with the output ``y``, whose shape it does not declare."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", given, [result], list(constants))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Function(nn.Module):
    """A module of one function."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """What the function returns."""
        return self.function(*inputs)


def test_a_file_is_tried_at_other_sizes_of_the_axes_that_it_declares_open(tmp_path: Path) -> None:
    doubled = helper.make_node("Add", ["x", "x"], ["y"])
    x = torch.randn(3, 4)
    alone = Function(lambda x: x * 2 if x.shape[0] > 1 else x * 3).eval()
    larger = Function(lambda x: x * 2 if x.shape[1] < 5 else x * 3).eval()
    for module, at in ((alone, "x=[1, 4]"), (larger, "x=[4, 5]")):
        verdict = harness.compare_models(file_of(tmp_path / "open.onnx", [doubled], {"x": ["N", "T"]}), module, x)
        assert not verdict.passed
        (row,) = verdict.results
        assert (row.outputs[-1].at, row.blame) == (at, "exporter")
        assert "the file agrees at the first inputs, and not at others" in (row.message or "")
        assert harness.compare_models(file_of(tmp_path / "closed.onnx", [doubled], {"x": [3, 4]}), module, x).passed
    image = Function(lambda x: x * 2 if x.shape[1] == 6 else x * 3).eval()  # as of a detector, at its own sizes
    path = file_of(tmp_path / "image.onnx", [doubled], {"x": [3, "H", "W"]})
    assert harness.compare_models(path, image, torch.randn(3, 6, 6)).passed
    refusing = Function(lambda x: x * 2 if x.shape[0] == 3 else x.reshape(-1, 7)).eval()
    assert harness.compare_models(tmp_path / "open.onnx", refusing, x).passed


def test_a_file_that_stops_at_a_size_of_an_axis_that_it_declares_open_fails(tmp_path: Path) -> None:
    second = helper.make_tensor("second", TensorProto.INT64, [], [1])
    nodes = [helper.make_node("Gather", ["x", "second"], ["row"], axis=0), helper.make_node("Add", ["x", "row"], ["y"])]
    path = file_of(tmp_path / "second.onnx", nodes, {"x": ["N", 4]}, second)
    module = Function(lambda x: x + x[min(1, len(x) - 1)]).eval()
    verdict = harness.compare_models(path, module, torch.randn(3, 4))
    assert not verdict.passed
    (row,) = verdict.results
    words = "the file agrees at the first inputs, and not at others: at x=[1, 4]: the file stops: "
    assert (row.status, row.blame) == ("failed", None)
    assert (row.message or "").startswith(words)
    assert any("declares the axes open" in line for line in row.evidence)


def test_axes_of_one_size_change_together_whatever_their_names(tmp_path: Path) -> None:
    """The legacy exporter names the axes of two inputs differently, although they are one."""
    both = helper.make_node("Concat", ["a", "b"], ["y"], axis=1)
    path = file_of(tmp_path / "both.onnx", [both], {"a": ["a_0", 2], "b": ["b_0", 2]})
    module = Function(
        lambda a, b: torch.cat((a.expand(max(len(a), len(b)), 2), b.expand(max(len(a), len(b)), 2)), 1)
    ).eval()
    verdict = harness.compare_models(path, module, (torch.randn(3, 2), torch.randn(3, 2)))
    assert verdict.passed, verdict.message


def number(name: str, value: float) -> Any:
    return helper.make_tensor(name, TensorProto.FLOAT, [], [value])


LINEAR = {
    # name: nodes from x to y, constants; all but the first do something else beyond a bound that drawn inputs are below
    "linear": ([helper.make_node("Mul", ["x", "half"], ["y"])], ()),
    "clip": (
        [helper.make_node("Clip", ["x", "", "nine"], ["z"]), helper.make_node("Mul", ["z", "half"], ["y"])],
        (number("nine", 9),),
    ),
    "min": (
        [helper.make_node("Mul", ["x", "half"], ["z"]), helper.make_node("Min", ["nine", "z"], ["y"])],
        (number("nine", 9),),
    ),
    "branch": (
        [
            helper.make_node("Constant", [], ["low"], value_float=-9.0),
            helper.make_node("Less", ["x", "low"], ["is_low"]),
            helper.make_node("Mul", ["x", "half"], ["z"]),
            helper.make_node("Where", ["is_low", "low", "z"], ["y"]),
        ],
        (),
    ),
    "hard-sigmoid": (
        [
            helper.make_node("HardSigmoid", ["x"], ["z"], alpha=1 / 32, beta=0.5),
            helper.make_node("Sub", ["z", "half"], ["w"]),
            helper.make_node("Mul", ["w", "sixteen"], ["y"]),
        ],
        (number("sixteen", 16),),
    ),
}


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("linear")
    return {
        name: file_of(folder / f"{name}.onnx", nodes, {"x": [3, 4]}, number("half", 0.5), *constants)
        for name, (nodes, constants) in LINEAR.items()
    }


@pytest.mark.parametrize("name", [name for name in LINEAR if name != "linear"])
def test_a_bound_that_only_one_of_two_models_has_is_reached(linear: dict[str, Path], name: str) -> None:
    bounded, module = linear[name], Function(lambda x: x * 0.5).eval()
    for subject, reference in ((bounded, module), (bounded, linear["linear"]), (linear["linear"], bounded)):
        verdict = harness.compare_models(subject, reference)
        (row,) = verdict.results
        assert (row.status, row.blame) == ("failed", "exporter"), row.message
        assert re.search(r"at (negative )?inputs .*times as large, where \w+ reaches -?[0-9.]+", row.message or "")
    assert harness.compare_models(linear["linear"], module).passed
    assert harness.compare_models(bounded, bounded).passed


def test_a_bound_that_both_models_have_in_another_form_is_no_difference(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "three"], ["shifted"]),
        helper.make_node("Max", ["shifted", "zero"], ["above"]),
        helper.make_node("Min", ["above", "six"], ["between"]),
        helper.make_node("Mul", ["x", "between"], ["product"]),
        helper.make_node("Div", ["product", "six"], ["y"]),
    ]
    constants = number("three", 3), number("zero", 0), number("six", 6)
    forms = file_of(tmp_path / "forms.onnx", nodes, {"x": [2, 3]}, *constants)
    one = file_of(tmp_path / "one.onnx", [helper.make_node("HardSwish", ["x"], ["y"])], {"x": [2, 3]})
    for subject, reference in ((forms, one), (one, forms), (forms, nn.Hardswish()), (one, nn.Hardswish())):
        assert harness.compare_models(subject, reference).passed


def test_the_threshold_of_softplus_is_reached(tmp_path: Path) -> None:
    path = file_of(tmp_path / "soft.onnx", [helper.make_node("Softplus", ["x"], ["y"])], {"x": [2, 3]})
    assert harness.compare_models(path, nn.Softplus().eval()).passed
    verdict = harness.compare_models(path, nn.Softplus(threshold=5).eval())
    assert "where softplus reaches 5" in verdict.message
