"""One fault in one hop at a time: that hop is blamed, even if a simpler rule would blame another hop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from harness.blame import file_evaluation, file_runs
from harness.blame.attribute import attribute
from harness.blame.disagreement import Disagreement
from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.module import eager
from harness.check.module.prepared_case import PreparedCase
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.exporters import Artifact
from harness.model import running
from harness.model.answer import Reference
from harness.registry import plugins
from harness.result import Blame, Result
from harness.runtimes import Session
from harness.spec.discovery import load_specs
from harness.spec.language.tolerances import Close, Exact, Rule, Tolerance, Ulp
from harness.spec.targets import parse_target

Array = NDArray[Any]
Answer = Mapping[str, Array]
Change = Callable[[Answer, bool], Answer]

pytestmark = pytest.mark.filterwarnings("ignore:::torch", "ignore:::copyreg")
TARGET = parse_target("onnx-torchscript@17/ort-cpu")
WIDE = torch.linspace(-3, 3, 600).reshape(2, 300)
CLOSE = Close(1e-4, 1e-5)


def linear(seed: int = 0) -> nn.Linear:
    """A layer with seeded weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(300, 4)


LINEAR = linear()


def unchanged(answer: Answer, _optimized: bool) -> Answer:
    return answer


def off_by(share: float) -> Change:
    return lambda answer, _optimized: {name: values * np.float32(1 + share) for name, values in answer.items()}


def off_when_optimized(answer: Answer, optimized: bool) -> Answer:
    return off_by(0.01)(answer, optimized) if optimized else answer


class ChangedRuntime:
    """ONNX Runtime with changed outputs."""

    def __init__(self, change: Change) -> None:
        self._runtime, self._change = plugins("runtimes")["ort-cpu"], change
        self.options, self.availability = self._runtime.options, self._runtime.availability

    def load(self, artifact: Artifact, options: Mapping[str, str]) -> Any:
        session, optimized = self._runtime.load(artifact, options), options.get("optimization") != "disabled"
        return _Session(session, lambda answer: self._change(answer, optimized))


class _Session:
    def __init__(self, session: Session, change: Callable[[Answer], Answer]) -> None:
        self._session, self._change, self.close = session, change, session.close

    def run(self, inputs: Answer) -> Answer:
        return self._change(self._session.run(inputs))


@pytest.fixture
def blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Blame | None, str]]:
    """``blamed(module, x, rule, tamper, change)``: return the blame, and the evidence as one text."""

    def attributed(
        module: nn.Module,
        x: torch.Tensor,
        rule: Rule,
        tamper: Callable[[Any], None] = lambda _model: None,
        change: Change = unchanged,
    ) -> tuple[Blame | None, str]:
        path = tmp_path / "model.onnx"
        torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17, input_names=["x"])
        model = onnx.load(path)
        model.graph.output[0].name, name = "y", model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["y" if out == name else out for out in node.output]
        tamper(model)
        onnx.save(model, path)
        artifact, inputs = Artifact("onnx", path, "", 17), {"x": x.numpy()}
        with torch.no_grad():
            eager, float64 = module(x).numpy(), module.double()(x.double()).numpy()
        module.float()
        reference = Reference(inputs, {"y": eager}, {"y": float64}, (), (), stochastic=False)
        runtime = ChangedRuntime(change)
        monkeypatch.setitem(plugins("runtimes"), "ort-cpu", runtime)
        session = runtime.load(artifact, {})
        blame, evidence = attribute(Disagreement(TARGET, artifact, reference, session.run(inputs), Tolerance(rule)))
        session.close()
        return blame, "\n".join(evidence)

    return attributed


SMALL_ERROR, AT_A_TIE = 299, 200


def another_weight(model: Any) -> None:
    weight = model.graph.initializer[0]
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))


def through_float16(model: Any) -> None:
    last = model.graph.node[-1]
    last.output[0] = "wide"
    model.graph.node.append(helper.make_node("Cast", ["wide"], ["narrow"], name="lossy", to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", ["narrow"], ["y"], name="back", to=TensorProto.FLOAT))


def unknown_to_the_evaluator(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    del model.graph.node[1:]
    model.graph.node[0].CopyFrom(helper.make_node("Gelu", ["x"], ["h"], domain="com.microsoft"))
    model.graph.node.append(helper.make_node("SampleOp", ["h"], ["y"], domain="com.microsoft"))


def test_the_exporter_is_blamed_for_a_wrong_file(blamed: Callable[..., tuple[Blame | None, str]]) -> None:
    blame, evidence = blamed(LINEAR, WIDE, CLOSE, another_weight)
    assert blame == "exporter"
    assert "evaluated in float64, the exported file itself is wrong" in evidence


@pytest.mark.parametrize("seed", [0, 10, SMALL_ERROR, AT_A_TIE])
def test_the_exporter_is_blamed_for_rounding_in_the_file(
    blamed: Callable[..., tuple[Blame | None, str]], seed: int
) -> None:
    """float64 does not show this error, so a rule of float64 alone would blame a kernel that follows the file.

    The blame must not depend on the numbers either: the file's error may be so small that it passes with one more
    rounding, or a sum may lie between two numbers of float16 and the runtime may round it to the other one.
    """
    blame, evidence = blamed(linear(seed), WIDE, CLOSE, through_float16)
    assert blame == "exporter", evidence
    assert "evaluated in float64, the exported file itself gives the right answer" in evidence
    assert "it rounds to a narrower type at Cast 'lossy' to float16" in evidence


def test_a_wrong_kernel_is_blamed_in_a_file_that_rounds(blamed: Callable[..., tuple[Blame | None, str]]) -> None:
    """The file's rounding explains only values that are as accurate as it allows."""

    def one_element(answer: Answer, _optimized: bool) -> Answer:
        values = answer["y"].copy()
        values.flat[np.abs(values).argmin()] *= np.float32(1.5)
        return {"y": values}

    blame, evidence = blamed(LINEAR, WIDE, CLOSE, through_float16, one_element)
    assert blame == "kernel", evidence


def test_a_kernel_that_errs_by_more_than_the_file_rounds_is_blamed(
    blamed: Callable[..., tuple[Blame | None, str]],
) -> None:
    """No value is further off than the file's worst; all together are."""
    exact = LINEAR(WIDE).detach().numpy()
    rounding = np.sqrt(np.mean(np.square(exact.astype(np.float16) - exact)))
    blame, evidence = blamed(LINEAR, WIDE, CLOSE, through_float16, lambda _answer, _: {"y": exact + 3 * rounding})
    assert blame == "kernel", evidence


@pytest.mark.parametrize(("share", "blame"), [(1.0, "exporter"), (1.25, "kernel")])
def test_a_single_value_may_be_off_by_as_much_as_four_roundings_of_the_file(
    blamed: Callable[..., tuple[Blame | None, str]], share: float, blame: Blame
) -> None:
    x = torch.full((2, 8), 1 + 2.0**-12)  # float16 rounds each of them to 1

    def one_further_off(_answer: Answer, _optimized: bool) -> Answer:
        answer = x.numpy().copy()
        answer[0, 0] += np.float32(4 * share * 2.0**-12)
        return {"y": answer}

    assert blamed(nn.ReLU(), x, CLOSE, through_float16, one_further_off)[0] == blame


def test_a_kernel_is_blamed_for_a_small_error(blamed: Callable[..., tuple[Blame | None, str]]) -> None:
    """With one more rounding it passes with and without the optimizer, so that does not show an optimizer error."""
    blame, evidence = blamed(LINEAR, WIDE, CLOSE, change=off_by(1.5e-4))
    assert blame == "kernel"
    assert "with graph optimization off the same file gives the same answer" in evidence


def test_the_optimizer_is_blamed_for_a_small_error(blamed: Callable[..., tuple[Blame | None, str]]) -> None:
    blame, evidence = blamed(
        LINEAR, WIDE, CLOSE, change=lambda answer, optimized: off_by(1.5e-4)(answer, optimized) if optimized else answer
    )
    assert blame == "optimizer"
    assert "with graph optimization off the same file gives the right answer" in evidence


def test_the_optimizer_is_blamed_if_the_answer_is_right_without_it(
    blamed: Callable[..., tuple[Blame | None, str]],
) -> None:
    blame, evidence = blamed(LINEAR, WIDE, CLOSE, change=off_when_optimized)
    assert blame == "optimizer"
    assert "with graph optimization off the same file gives the right answer" in evidence


def test_rounding_is_blamed_if_the_optimizer_only_sums_in_another_order(
    blamed: Callable[..., tuple[Blame | None, str]],
) -> None:
    """The unoptimized answer is right, so a simpler rule would blame the optimizer for the last bit."""
    with torch.no_grad():
        exact = LINEAR.double()(WIDE.double()).numpy().astype(np.float32)
        eager = LINEAR.float()(WIDE).numpy()

    def reordered(answer: Answer, optimized: bool) -> Answer:
        return {"y": 2 * exact - eager if optimized else exact}

    blame, evidence = blamed(LINEAR, WIDE, Ulp(0), change=reordered)
    assert "with graph optimization off the same file gives the right answer" in evidence
    assert blame == "rounding"


def test_rounding_is_blamed_for_any_number_of_ulp_if_terms_cancel(
    blamed: Callable[..., tuple[Blame | None, str]],
) -> None:
    layer = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([1e8, 1.0, -1e8])

    def in_another_order(answer: Answer, _optimized: bool) -> Answer:
        return {"y": np.full_like(answer["y"], 2.0)}

    blame, evidence = blamed(layer, torch.tensor([[1.0, 1.0, 1.0]]), Ulp(4), change=in_another_order)
    assert blame == "rounding", evidence


@pytest.mark.parametrize("share", [0.01, 3e-5])
def test_a_kernel_is_blamed_however_small_its_error(
    blamed: Callable[..., tuple[Blame | None, str]], share: float
) -> None:
    blame, evidence = blamed(nn.Tanh(), WIDE, Ulp(8), change=off_by(share))
    assert blame == "kernel"
    assert "the exported file itself gives the right answer" in evidence
    assert "with graph optimization off the same file gives the same wrong answer" in evidence


def test_a_kernel_is_blamed_if_every_export_is_wrong_on_it(blamed: Callable[..., tuple[Blame | None, str]]) -> None:
    """This is an error of ONNX Runtime. ``onnx.reference`` loses NaN too, so its answer would blame the exporter."""
    blame, _ = blamed(nn.MaxPool2d((1, 2)), torch.tensor([[[[float("nan"), 1.0, 1.0, 2.0]]]]), Exact())
    assert blame == "kernel"


def set_independent_runtime(monkeypatch: pytest.MonkeyPatch, change: Change | None) -> None:
    monkeypatch.setattr(file_runs, "INDEPENDENT_RUNTIMES", {"other": {}} if change else {})
    if change:
        monkeypatch.setitem(plugins("runtimes"), "other", ChangedRuntime(change))


def gelu_wrong(answer: Answer, _optimized: bool) -> Answer:
    return off_by(0.01)(answer, False)


@pytest.mark.parametrize(
    ("other", "expected", "line"),
    [
        (unchanged, "kernel", "other gives the right answer for the same file"),
        (gelu_wrong, "exporter", "other, an independent runtime, gives the target's wrong answer for the same file"),
        (off_by(0.5), None, "other gives a third answer for the same file"),
        (None, None, "no other runtime has confirmed it for com.microsoft.SampleOp (opset 1)"),
    ],
)
def test_a_file_that_cannot_be_evaluated_is_run_on_an_independent_runtime(
    blamed: Callable[..., tuple[Blame | None, str]],
    monkeypatch: pytest.MonkeyPatch,
    other: Change | None,
    expected: Blame | None,
    line: str,
) -> None:
    """Without one the error may be the exporter's or a kernel's; blaming either would be a guess."""
    set_independent_runtime(monkeypatch, other)
    blame, evidence = blamed(nn.GELU(), WIDE, CLOSE, unknown_to_the_evaluator, gelu_wrong)
    assert blame == expected
    assert line in evidence


@pytest.mark.parametrize(
    ("other", "expected", "line"),
    [
        (off_by(1 / 1.01 - 1), None, "other, an independent runtime, gives the right answer for the same file"),
        (unchanged, "exporter", "other, an independent runtime, gives a wrong answer for the same file"),
        (None, "exporter", "evaluated in float64, the exported file itself is wrong"),
    ],
)
def test_the_exporter_is_not_blamed_while_another_runtime_gives_the_right_answer(
    blamed: Callable[..., tuple[Blame | None, str]],
    monkeypatch: pytest.MonkeyPatch,
    other: Change | None,
    expected: Blame | None,
    line: str,
) -> None:
    def by_a_percent(model: Any) -> None:
        model.graph.node.append(helper.make_node("Mul", ["h", "share"], ["y"]))
        model.graph.node[0].output[0] = "h"
        model.graph.initializer.append(numpy_helper.from_array(np.array(1.01, np.float32), "share"))

    set_independent_runtime(monkeypatch, other)
    blame, evidence = blamed(nn.Tanh(), WIDE, CLOSE, by_a_percent)
    assert blame == expected
    assert line in evidence


def test_the_optimizer_is_blamed_if_the_runtime_gives_the_right_answer_without_it_whatever_the_evaluation_says(
    blamed: Callable[..., tuple[Blame | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_independent_runtime(monkeypatch, None)
    monkeypatch.setattr(file_evaluation, "evaluate", lambda _path, inputs: {"y": 2 * inputs["x"]})
    blame, evidence = blamed(nn.Tanh(), WIDE, CLOSE, change=off_when_optimized)
    assert blame == "optimizer"
    assert "with graph optimization off the same file gives the right answer" in evidence


@pytest.mark.parametrize(
    ("unoptimized", "which"),
    [(off_by(0.02), "the same wrong"), (off_by(0.5), "another wrong"), (unchanged, "the right")],
)
def test_another_answer_is_one_that_differs_from_the_targets(
    blamed: Callable[..., tuple[Blame | None, str]], unoptimized: Change, which: str
) -> None:
    def change(answer: Answer, optimized: bool) -> Answer:
        return off_by(0.02)(answer, True) if optimized else unoptimized(answer, False)

    _, evidence = blamed(nn.Tanh(), WIDE, CLOSE, change=change)
    assert f"with graph optimization off the same file gives {which} answer" in evidence


def as_narrow(model: Any) -> None:
    model.graph.node.append(helper.make_node("Cast", ["h"], ["y"], to=TensorProto.FLOAT16))
    model.graph.node[0].output[0] = "h"


def declared_narrow(model: Any) -> None:
    as_narrow(model)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def declared_wide(model: Any) -> None:
    declared_narrow(model)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.node.insert(0, helper.make_node("Slice", ["x", "zero", "one"], ["part"]))
    model.graph.node[1].input[0] = "part"
    model.graph.node[2].attribute[0].i = TensorProto.FLOAT
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    for name, value in (("zero", 0), ("one", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))


@pytest.mark.parametrize(
    ("tamper", "line"),
    [
        (declared_narrow, "the file declares y as float16; eager torch's answer has float32"),
        (declared_wide, "the file declares y with the shape [1, 300]; eager torch's answer has [2, 300]"),
    ],
)
def test_the_exporter_is_blamed_for_a_dtype_or_a_shape_that_the_file_declares(
    blamed: Callable[..., tuple[Blame | None, str]],
    monkeypatch: pytest.MonkeyPatch,
    tamper: Callable[[Any], None],
    line: str,
) -> None:
    """The values agree, as far as there are any, so a comparison of values alone would blame rounding."""
    set_independent_runtime(monkeypatch, None)
    blame, evidence = blamed(nn.ReLU(), WIDE, Close(0.01, 0.01), tamper)
    assert blame == "exporter"
    assert line in evidence


def test_a_kernel_is_blamed_for_a_dtype_that_the_file_does_not_declare(
    blamed: Callable[..., tuple[Blame | None, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(answer: Answer, _optimized: bool) -> Answer:
        return {name: values.astype(np.float16) for name, values in answer.items()}

    set_independent_runtime(monkeypatch, None)
    assert blamed(nn.ReLU(), WIDE, CLOSE, change=narrow)[0] == "kernel"


SPEC = """
harness: 1
cases:
  - {name: dropout, layer: Dropout, mode: train, inputs: {x: {shape: [2, 40]}}, expect: {range: [5, 6]}}
  - {name: statistics, layer: BatchNorm1d, mode: train, args: {num_features: 3}, inputs: {x: {shape: [4, 3]}}}
  - {name: relu, layer: ReLU, inputs: {x: {values: [1.0, -1.0]}}}
  - {name: softplus, layer: Softplus, inputs: {x: {shape: [60]}}}
  - {name: closed-form, layer: Softplus, inputs: {x: {shape: [60]}}, expect: {formula: log(1 + exp(x))}}
  - {name: wrong-form, layer: Softplus, inputs: {x: {shape: [60]}}, expect: {formula: log(2 + exp(x))}}
  - {name: too-narrow, layer: Softplus, inputs: {x: {values: [0.3]}}, tolerance: exact,
     expect: {outputs: [{values: [0.8543552160263061]}]}}
  - {name: divided, layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3},
     inputs: {x: {shape: [1, 1, 2, 2], fill: ones}}, expect: {range: [1.3, 1.4]}}
  - {name: overcautious, layer: AvgPool2d, args: {kernel_size: 2, divisor_override: 3},
     inputs: {x: {shape: [1, 1, 2, 2], fill: ones}}, expect: {range: [0.9, 1.1]}}
"""


@pytest.fixture
def row(spec: Callable[[str, str], Path], tmp_path: Path) -> Callable[[str], Result]:
    cases = {case.id: case for case in load_specs([spec("a.yaml", SPEC).parent]).cases}

    def checked(name: str) -> Result:
        prepared = PreparedCase(cases[f"a/{name}"], ArtifactCache(None, tmp_path))
        return check(prepared, TARGET, Settings(latency=False), Clock())

    return checked


def test_torch_is_blamed_if_eager_itself_is_wrong_although_the_target_agrees_with_it(
    row: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison with eager alone would have passed."""
    assert row("relu").status == "passed"
    monkeypatch.setattr(nn.ReLU, "forward", lambda _self, x: torch.relu(x) * 1.5)
    wrong = row("relu")
    assert wrong.outputs[0].passed, "the target agrees with eager"
    assert (wrong.status, wrong.blame) == ("failed", "torch")
    assert "differs from the float64 reference by more than rounding" in " ".join(wrong.evidence)


def test_the_spec_is_blamed_only_if_eager_does_not_meet_it_either(row: Callable[[str], Result]) -> None:
    """An expectation that only the target fails is the target's error; one that eager fails too is the spec's."""
    assert row("divided").blame == "exporter"
    wrong = row("overcautious")
    assert wrong.blame == "spec"
    assert "does not meet the spec's expect.range" in wrong.evidence[0]


def test_nobody_is_blamed_for_a_stochastic_module(
    row: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs differ at every call, so no evaluation of the file shows who is wrong."""
    monkeypatch.setattr(eager, "check_expectations", lambda *_arguments: [])
    wrong = row("dropout")
    assert (wrong.status, wrong.symptom, wrong.blame) == ("failed", "mismatch", None)
    assert "stochastic" in wrong.evidence[0]


def test_nobody_is_blamed_for_a_module_in_training_mode(row: Callable[[str], Result]) -> None:
    """The exporter writes the evaluation form, and says so."""
    wrong = row("statistics")
    assert (wrong.status, wrong.symptom, wrong.blame) == ("failed", "mismatch", None)
    assert "training mode" in wrong.evidence[0]
    assert any("exports it in evaluation mode" in note for note in wrong.notes)


def test_nobody_is_blamed_if_harness_cannot_prepare_the_module(
    row: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_module: nn.Module) -> nn.Module:
        raise RuntimeError("only leaf tensors can be copied")

    def wrong_call(_module: nn.Module, _x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(running, "copy_module", refuse)
    assert (row("relu").stage, row("relu").blame) == ("build", None)
    monkeypatch.undo()
    monkeypatch.setattr(nn.ReLU, "forward", wrong_call)
    assert (row("relu").stage, row("relu").blame) == ("build", "spec")


def softplus_with(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    def forward(_module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        right = torch.log1p(torch.exp(x))
        return change(right) if x.dtype == torch.float32 else right

    return forward


def test_eager_is_not_failed_for_its_own_rounding(
    row: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms that cancel leave one correct digit in three. Without a closed form nothing says that this is wrong."""
    monkeypatch.setattr(nn.Softplus, "forward", softplus_with(lambda right: (right + 1e4) - 1e4))
    result = row("softplus")
    assert (result.status, result.blame) == ("passed", None)


@pytest.mark.parametrize("change", [lambda right: 1.01 * right, lambda right: (right + 1e4) - 1e4])
def test_torch_is_blamed_if_float64_and_a_closed_form_agree_against_it(
    row: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    assert row("closed-form").status == "passed"
    monkeypatch.setattr(nn.Softplus, "forward", softplus_with(change))
    wrong = row("closed-form")
    assert (wrong.status, wrong.blame) == ("failed", "torch")
    assert "the float64 reference meets expect.formula" in wrong.evidence[-1]
    assert row("wrong-form").blame == "spec"


def test_torch_is_not_blamed_for_the_last_bit_of_an_expectation(
    row: Callable[[str], Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nn.Softplus, "forward", softplus_with(lambda right: right * (1 + 2**-22)))
    assert row("too-narrow").blame == "spec"
