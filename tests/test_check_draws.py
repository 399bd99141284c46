"""A pass is about the model, not about one call: a second draw, a second call, other sizes, inputs by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import harness as api
from harness.errors import Location
from harness.spec.language.case import Case, FactoryModel, Fill, TensorSpec, WeightedModel
from harness.spec.language.draws import features, input_sets
from harness.spec.language.fills import array
from tests.conftest import Call, Ran

Spec = Callable[[str, str], Path]
MODULES = """
import random
import warnings

import torch
from torch import nn


class Sign(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x - 1


class First(nn.Module):
    def forward(self, x):
        return x * 2 if x.flatten()[0] > 0 else x - 1


class Last(nn.Module):
    def forward(self, x):
        return x * 2 if x.flatten()[-1].item() > 0 else x - 1


class LargestIndex(nn.Module):
    def forward(self, x):
        return x + int(x.argmax())


class Positives(nn.Module):
    def forward(self, x):
        return x + len(x[x > 0])


class Whole(nn.Module):
    def forward(self, x):
        return x + x.numpy().sum().item()


class Hidden(nn.Module):
    def forward(self, x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x * float(x.norm())


class Checks(nn.Module):
    def forward(self, x):
        if x.shape[0] != 2 or bool((x > 1e9).any()):
            raise ValueError("not for this module")
        assert float(x.max()) < 1e6
        return torch.tanh(x)


class Masked(nn.Module):
    def forward(self, x, mask):
        if mask is not None and torch.all(mask == 1):
            return x
        return x * mask


class Unpadded(nn.Module):
    def forward(self, x):
        return x[:, : int((x != 0).sum())] * 2


class Noise(nn.Module):
    def forward(self, x):
        return x * random.random()


class TorchNoise(nn.Module):
    def forward(self, x):
        return x + torch.rand(3)


class Average(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x):
        self.average.mul_(0.9).add_(x.mean() * 0.1)
        return x - self.average


class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x - 1


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class Batch(nn.Module):
    def forward(self, x):
        return x + torch.arange(len(x.tolist()))[:, None]


class Halves(nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0] // 2, 2, 3)


class OnlyFloat32(nn.Module):
    def forward(self, x):
        if x.dtype != torch.float32:
            raise TypeError("float32 only")
        return x * 3 + 1


class KeywordOnly(nn.Module):
    def forward(self, x, *, mask):
        return x * mask


class Named(nn.Module):
    def forward(self, ids, mask=None, scale=None):
        return ids * (1 if scale is None else scale) + (0 if mask is None else 10 * mask)
"""


def run(harness: Call, spec: Spec, case: str, targets: str = "trace/torch-cpu") -> Ran:
    path = spec("nets.yaml", f"harness: 1\ncases:\n  - {case}\n")
    (path.parent.parent / "nets.py").write_text(MODULES, encoding="utf-8")
    return harness("run", "specs", "--allow-import", "--no-latency", "--targets", targets)


@pytest.mark.parametrize(("draws", "status"), [(1, "passed"), (4, "failed")])
def test_a_branch_that_the_export_keeps_shows_at_another_draw(
    harness: Call, spec: Spec, draws: int, status: str
) -> None:
    inputs = "inputs: {x: {shape: [3]}}, seed: 1"
    row = run(harness, spec, f"{{name: case, factory: nets:Branch, {inputs}, draws: {draws}}}").only
    assert row["status"] == status
    if status == "failed":
        assert "agrees at the inputs that it was made with, and not at others" in row["message"]
        assert row["blame"] == "exporter"


def test_state_that_the_export_forgets_shows_at_the_second_call(harness: Call, spec: Spec) -> None:
    path = spec("nets.yaml", "harness: 1\ncases: [{name: case, factory: 'nets:Counter', inputs: {x: {shape: [3]}}}]\n")
    (path.parent.parent / "nets.py").write_text(MODULES, encoding="utf-8")
    row = harness("run", "specs", "--allow-import", "--no-latency", "--targets", "onnx-dynamo@18/ort-cpu").only
    assert row["status"] == "failed"
    assert row["message"].startswith("the module keeps state between calls, and the export does not keep the same")
    assert row["outputs"][-1]["at"].endswith("the second call")


def test_dynamic_axes_without_also_are_verified_one_larger(harness: Call, spec: Spec) -> None:
    row = run(
        harness, spec, "{name: case, factory: nets:Batch, inputs: {x: {shape: [2, 3]}}, dynamic: {x: {0: N}}}"
    ).only
    assert row["status"] in ("failed", "error")


def test_a_size_that_the_model_refuses_is_told_and_does_not_fail(harness: Call, spec: Spec) -> None:
    row = run(
        harness, spec, "{name: case, factory: nets:Halves, inputs: {x: {shape: [2, 3]}}, dynamic: {x: {0: N}}}"
    ).only
    assert row["status"] == "passed"
    assert any("verified at no other size" in line for line in row["log"])


def test_no_two_sets_of_inputs_share_values(spec: Spec) -> None:
    from harness.spec.discovery import load_specs

    path = spec(
        "any.yaml",
        "harness: 1\nlayer: Linear\ncases: [{name: case, args: {in_features: 3, out_features: 2}, draws: 3, "
        "inputs: {x: {shape: [2, 3]}}, dynamic: {x: {0: N}}, also: [{x: [4, 3]}]}]\n",
    )
    (case,) = load_specs([str(path)], allow_import=False).cases
    sets = [array(each.inputs[0]) for each in input_sets(case)]
    assert len(sets) == 6
    values = [value for inputs in sets for value in inputs.reshape(-1).tolist()]
    assert len(set(values)) == len(values)


def test_literal_inputs_are_not_drawn_again(spec: Spec) -> None:
    from harness.spec.discovery import load_specs

    path = spec("relu.yaml", "harness: 1\nlayer: ReLU\ncases: [{name: case, inputs: {x: {values: [1, -1]}}}]\n")
    (case,) = load_specs([str(path)], allow_import=False).cases
    assert len(input_sets(case)) == 1


def test_inputs_bind_by_name_in_any_order(harness: Call, spec: Spec) -> None:
    inputs = "inputs: {scale: {values: [3.0]}, ids: {values: [1.0, 2.0]}}"
    expect = "expect: {outputs: [{values: [3.0, 6.0]}]}"
    row = run(harness, spec, f"{{name: case, factory: nets:Named, {inputs}, {expect}}}").only
    assert row["status"] == "passed"


def test_a_mixture_of_names_and_other_labels_is_refused(harness: Call, spec: Spec) -> None:
    inputs = "inputs: {x: {values: [1.0]}, scale: {values: [3.0]}}"
    row = run(harness, spec, f"{{name: case, factory: nets:Named, {inputs}}}").only
    assert (row["status"], row["stage"]) == ("error", "build")
    assert "forward(ids, mask=None, scale=None)" in row["message"]


def test_a_module_that_refuses_float64_is_still_verified(harness: Call, spec: Spec) -> None:
    row = run(harness, spec, "{name: case, factory: nets:OnlyFloat32, inputs: {x: {shape: [3]}}}").only
    assert row["status"] == "passed"
    assert any("does not run in float64" in line for line in row["log"])


def test_a_keyword_only_parameter_is_bound_by_name(harness: Call, spec: Spec) -> None:
    inputs = "inputs: {x: {shape: [3]}, mask: {shape: [3]}}"
    row = run(harness, spec, f"{{name: case, factory: nets:KeywordOnly, {inputs}}}").only
    assert row["status"] == "passed"


def test_literal_values_with_a_dynamic_axis_have_no_other_size(spec: Spec) -> None:
    from harness.spec.discovery import load_specs

    path = spec(
        "relu.yaml",
        "harness: 1\nlayer: ReLU\ncases: [{name: case, inputs: {x: {values: [1, -1]}}, dynamic: {x: {0: N}}}]\n",
    )
    (case,) = load_specs([str(path)], allow_import=False).cases
    assert len(input_sets(case)) == 1


def test_a_module_that_runs_in_training_mode_only_is_reported() -> None:
    class TrainingOnly(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert self.training
            return x + 1

    result = api.verify(TrainingOnly(), torch.randn(3), targets="trace/torch-cpu")
    (row,) = result.results
    assert any("training mode" in note for note in row.notes) or "training mode" in (row.message or "")


def test_an_expected_model_is_compared_as_the_target_is(harness: Call, spec: Spec) -> None:
    """Outputs of the order of 1000: the defaults of assert_close would fail a correct target."""
    steps = "[{layer: Linear, args: {in_features: 256, out_features: 64}}, {layer: GELU}]"
    spec(
        "net.yaml",
        f"harness: 1\nsequential: {steps}\ncases: [{{name: case, inputs: {{x: {{shape: [8, 256], "
        f"fill: {{uniform: [-1000, 1000]}}}}}}, expect: {{equals: {{sequential: {steps}}}}}}}]\n",
    )
    ran = harness("run", "specs", "--no-latency", "--targets", "onnx-dynamo@18/ort-cpu,onnx-torchscript@17/ort-cpu")
    assert [row["status"] for row in ran.report["results"]] == ["passed", "passed"]


def test_a_forgotten_eval_is_the_first_thing_said() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    result = api.verify(module, torch.randn(4, 3), targets="onnx-torchscript@17/ort-cpu")
    assert not result.passed
    assert "compare: mismatch: the module is in training mode (call .eval()" in result.message
    (row,) = result.results
    assert row.blame is None


def test_a_module_with_weight_norm_is_built_and_exported() -> None:
    with pytest.warns(FutureWarning):
        module = torch.nn.utils.weight_norm(torch.nn.Linear(3, 2)).eval()
    assert api.verify(module, torch.randn(4, 3), targets="trace/torch-cpu,onnx-torchscript@17/ort-cpu").passed


def test_a_module_that_returns_a_dict_is_traced() -> None:
    class Returns(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"double": x * 2, "half": x / 2}

    result = api.verify(Returns().eval(), torch.randn(4), targets="trace/torch-cpu")
    assert result.passed, result.message
    assert any("strict=False" in note for row in result.results for note in row.notes)


@pytest.mark.parametrize("module", ["Sign", "First", "Last", "LargestIndex", "Positives", "Whole"])
def test_two_draws_differ_in_what_a_model_branches_on(harness: Call, spec: Spec, module: str) -> None:
    row = run(harness, spec, f"{{name: case, factory: nets:{module}, inputs: {{x: {{shape: [2, 3]}}}}}}").only
    assert row["status"] == "failed"
    assert row["message"].startswith("the export keeps a value of its example inputs (nets.py:")
    assert "at draw 2" in row["message"]
    assert row["blame"] == "exporter"


@pytest.mark.parametrize("target", ["trace/torch-cpu", "onnx-torchscript@17/ort-cpu"])
@pytest.mark.parametrize(
    "inputs",
    [
        "x: {shape: [4], fill: {uniform: [0.5, 1]}}",
        "x: {values: [1.0, 2.0]}",
        "x: {shape: [4], fill: ones}",
    ],
)
def test_a_branch_that_no_declared_input_takes_shows_at_others(
    harness: Call, spec: Spec, target: str, inputs: str
) -> None:
    row = run(harness, spec, f"{{name: case, factory: nets:Sign, inputs: {{{inputs}}}}}", target).only
    assert row["status"] == "failed"
    line = "nets.py:11: `return x * 2 if float(x.sum()) > 0 else x - 1`"
    assert row["message"].startswith(f"the export keeps a value of its example inputs ({line})")
    assert row["blame"] == "exporter"
    assert any(line in evidence for evidence in row["evidence"])
    assert any("another operation" in evidence for evidence in row["evidence"])


def test_a_constant_that_the_export_computed_is_named_with_its_values(harness: Call, spec: Spec) -> None:
    inputs = "x: {shape: [3], fill: {uniform: [1, 9]}}"
    row = run(harness, spec, f"{{name: case, factory: nets:Hidden, inputs: {{{inputs}}}}}").only
    assert row["status"] == "failed"
    assert row["message"].startswith("the export keeps a value of its example inputs (the constant at nets.py:")
    assert "with the first inputs" in row["message"]


@pytest.mark.parametrize("target", ["trace/torch-cpu", "onnx-torchscript@17/ort-cpu"])
def test_a_check_of_the_inputs_is_no_kept_value(harness: Call, spec: Spec, target: str) -> None:
    """The tracer warns of a module that only checks its inputs; the module refuses or answers alike at others."""
    row = run(harness, spec, "{name: case, factory: nets:Checks, inputs: {x: {shape: [2, 3]}}}", target).only
    assert row["status"] == "passed"
    assert any("TracerWarning" in line for line in row["log"])


def test_a_mask_that_is_dropped_because_it_is_all_ones_shows(harness: Call, spec: Spec) -> None:
    inputs = "x: {shape: [2, 3]}, mask: {shape: [2, 3], fill: ones}"
    row = run(harness, spec, f"{{name: case, factory: nets:Masked, inputs: {{{inputs}}}}}").only
    assert row["status"] == "failed"
    assert "if mask is not None and torch.all(mask == 1)" in row["message"]


def test_a_number_of_token_ids_that_the_export_keeps_shows(harness: Call, spec: Spec) -> None:
    inputs = "x: {values: [[3, 4, 5, 0, 0]], dtype: int64}"
    row = run(harness, spec, f"{{name: case, factory: nets:Unpadded, inputs: {{{inputs}}}}}").only
    assert row["status"] == "failed"
    assert "int((x != 0).sum())" in row["message"]


def test_random_numbers_that_the_export_keeps_show(harness: Call, spec: Spec) -> None:
    case = "{name: case, factory: nets:Noise, inputs: {x: {shape: [3]}}, expect: {range: [-99, 99]}}"
    row = run(harness, spec, case, "onnx-torchscript@17/ort-cpu").only
    assert row["status"] == "failed"
    assert row["message"].startswith("the module draws random numbers at each call, and the export gives the same")
    assert row["blame"] == "exporter"


def test_random_numbers_that_the_export_draws_anew_pass(harness: Call, spec: Spec) -> None:
    case = "{name: case, factory: nets:TorchNoise, inputs: {x: {shape: [3]}}, expect: {range: [-99, 99]}}"
    assert run(harness, spec, case, "onnx-torchscript@17/ort-cpu").only["status"] == "passed"


def test_state_that_an_export_begins_with_is_named(harness: Call, spec: Spec) -> None:
    row = run(harness, spec, "{name: case, factory: nets:Average, inputs: {x: {shape: [3]}}}").only
    assert row["status"] == "failed"
    assert row["message"].startswith("the module keeps state between calls, and the export does not keep the same")


def test_a_module_in_memory_is_tried_at_other_inputs_too() -> None:
    class Sign(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x - 1

    result = api.verify(Sign().eval(), torch.rand(4), targets="trace/torch-cpu,onnx-torchscript@17/ort-cpu")
    assert [row.status for row in result.results] == ["failed", "failed"]
    assert all(f"{__name__.replace('.', '/')}.py:" in (row.message or "") for row in result.results)


@given(
    fill=st.sampled_from(
        [Fill("normal"), Fill("uniform", (-2, 3)), Fill("integers", (-9, 9)), Fill("choice", (-1, 2))]
    ),
    shape=st.lists(st.integers(2, 4), min_size=2, max_size=3),
    seed=st.integers(0, 99),
)
def test_a_further_draw_is_of_the_declared_fill_and_the_same_again(fill: Fill, shape: list[int], seed: int) -> None:
    spec = TensorSpec("x", "float32", tuple(shape), None, fill, seed=seed)
    case = Case("a", "", WeightedModel(FactoryModel("a:b")), (spec,), Location("a"))
    first, second = (array(each.inputs[0]) for each in input_sets(case))
    assert np.array_equal(first, array(spec))
    assert np.array_equal(second, array(input_sets(case)[1].inputs[0]))
    low, high = (min(fill.parameters), max(fill.parameters)) if fill.parameters else (-6, 6)
    assert low <= second.min() <= second.max() <= high
    different = sum(one != other for one, other in zip(features(first), features(second), strict=True))
    assert different >= 3
