"""A pass is about the model, not about one call: a second draw, a second call, other sizes, inputs by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import harness as api
from harness.errors import Location
from harness.spec.discovery import load_specs
from harness.spec.language.case import Case, FactoryModel, Fill, TensorSpec, WeightedModel
from harness.spec.language.inputs.draws import features, input_sets
from harness.spec.language.inputs.fills import array
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


class OneLess(torch.nn.Module):
    """One of the two branches."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One less than ``x``."""
        return x - 1


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


def test_a_file_that_fails_at_another_draw_is_not_said_to_be_made_with_the_first(harness: Call, spec: Spec) -> None:
    path = spec(
        "file.yaml",
        "harness: 1\ncases: [{name: case, factory: 'nets:Branch', inputs: {x: {shape: [3]}}, seed: 1, draws: 4, "
        "files: {traced: traced.pt}}]\n",
    )
    (path.parent.parent / "nets.py").write_text(MODULES, encoding="utf-8")
    traced = torch.jit.trace(OneLess(), (torch.ones(3),))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, path.parent / "traced.pt")
    row = harness("run", "specs", "--allow-import", "--no-latency").only
    assert (row["status"], row["target"]) == ("failed", "file:traced/torch-cpu")
    assert "the file agrees at the first inputs, and not at others" in row["message"]
    assert "made with" not in row["message"]


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


def test_a_size_that_the_model_refuses_is_noted_and_does_not_fail(harness: Call, spec: Spec) -> None:
    row = run(
        harness, spec, "{name: case, factory: nets:Halves, inputs: {x: {shape: [2, 3]}}, dynamic: {x: {0: N}}}"
    ).only
    assert row["status"] == "passed"
    assert any("verified at no other size" in line for line in row["log"])


def test_no_two_sets_of_inputs_share_values(spec: Spec) -> None:
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


def test_a_forgotten_eval_is_reported_first() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    result = api.verify(module, torch.randn(4, 3), targets="trace/torch-cpu,onnx-torchscript@17/ort-cpu")
    assert not result.passed
    assert str(result).startswith("the module is in training mode (call .eval()):\nonnx-torchscript@17/ort-cpu: failed")
    traced, exported = result.results
    assert str(result).count("training mode") == 1
    assert (exported.message or "").startswith("the module is in training mode (call .eval()): ")
    assert (traced.status, exported.blame) == ("passed", None)


def test_a_pass_of_a_module_in_training_mode_is_inconclusive_and_says_so_first() -> None:
    module, x = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)), torch.randn(4, 3)
    result = api.verify(module, x, targets="trace/torch-cpu")
    assert str(result) == (
        "the module is in training mode (call .eval()):\nagrees on trace/torch-cpu (inconclusive: it answers otherwise "
        "in evaluation mode, which is what ships)"
    )
    strict = api.verify(module, x, targets="trace/torch-cpu", strict=True)
    assert (strict.passed, strict.message.splitlines()[0]) == (False, "the module is in training mode (call .eval()):")
    assert str(api.verify(module.eval(), x, targets="trace/torch-cpu")) == "agrees on trace/torch-cpu"
    harmless = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0))
    assert str(api.verify(harmless, x, targets="trace/torch-cpu")) == "agrees on trace/torch-cpu"


def test_a_module_that_cannot_be_called_in_training_mode_says_so_first_and_nobody_is_blamed() -> None:
    module, one = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)), torch.randn(1, 3)
    (row,) = api.verify(module, one, targets="trace/torch-cpu").results
    assert (row.stage, row.blame) == ("build", None)
    assert (row.message or "").startswith("the module is in training mode (call .eval()): ValueError: Expected more")
    (row,) = api.verify(module, torch.randn(1, 4), targets="trace/torch-cpu").results  # refused in either mode
    assert (row.blame, "training mode" in (row.message or "")) == ("spec", False)


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


KEPT = {
    # name: module, inputs, first words of the message after the file
    "sum": ("Sign", "x: {shape: [2, 3]}", "11: `return x * 2 if float(x.sum()) > 0 else x - 1`)"),
    "first": ("First", "x: {shape: [2, 3]}", "16: `return x * 2 if x.flatten()[0] > 0 else x - 1`)"),
    "last": ("Last", "x: {shape: [2, 3]}", "21: `"),
    "index": ("LargestIndex", "x: {shape: [2, 3]}", "26: `return x + int(x.argmax())`)"),
    "length": ("Positives", "x: {shape: [2, 3]}", "31: `return x + len(x[x > 0])`)"),
    "numpy": ("Whole", "x: {shape: [2, 3]}", "36: `return x + x.numpy().sum().item()`)"),
    "positive-only": ("Sign", "x: {shape: [4], fill: {uniform: [0.5, 1]}}", "11: `"),
    "literal": ("Sign", "x: {values: [1.0, 2.0]}", "11: `"),
    "constant": ("Sign", "x: {shape: [4], fill: ones}", "11: `"),
    "mask": ("Masked", "x: {shape: [2, 3]}, mask: {shape: [2, 3], fill: ones}", "56: `if mask is not None and torch"),
    "ids": (
        "Unpadded",
        "x: {values: [[3, 4, 5, 0, 0]], dtype: int64}",
        "63: `return x[:, : int((x != 0).sum())] * 2`)",
    ),
}
"""Modules of which an export keeps a value of its example inputs."""


def test_a_value_that_an_export_keeps_is_found_and_named_with_its_line(harness: Call, spec: Spec) -> None:
    cases = [
        f"{{name: {name}, factory: nets:{module}, inputs: {{{inputs}}}}}" for name, (module, inputs, _) in KEPT.items()
    ]
    rows = run(harness, spec, "\n  - ".join(cases)).rows
    for name, (_, _, words) in KEPT.items():
        row = rows["nets/" + name, "trace/torch-cpu"]
        assert row["status"] == "failed", name
        assert row["message"].startswith(f"the export keeps a value of its example inputs (nets.py:{words}"), name
        assert row["blame"] == "exporter", name
        assert any(f"nets.py:{words}"[:20] in line for line in row["evidence"]), name
        assert "and it gives the right answer there" in row["evidence"], name
        assert name in {"positive-only", "literal", "constant", "mask", "ids"} or "at draw 2" in row["message"], name


def test_an_onnx_file_that_keeps_a_value_is_found_with_the_node(harness: Call, spec: Spec) -> None:
    case = "{name: case, factory: nets:Sign, inputs: {x: {shape: [4], fill: {uniform: [0.5, 1]}}}}"
    row = run(harness, spec, case, "onnx-torchscript@17/ort-cpu").only
    assert row["status"] == "failed"
    assert row["message"].startswith("the export keeps a value of its example inputs (nets.py:11:")
    assert any("another operation: Mul at /Mul with the first inputs" in line for line in row["evidence"])


OTHERS = {
    # name: module, further keys, first words of the message; None if the check passes
    "constant": ("Hidden", "", "the export keeps a value of its example inputs (the constant at /Mul: "),
    "checks": ("Checks", "", None),
    "noise": (
        "Noise",
        "expect: {range: [-99, 99]}",
        "the module draws random numbers at each call in evaluation mode too",
    ),
    "torch-noise": ("TorchNoise", "expect: {range: [-99, 99]}", None),
    "state": ("Average", "", "the module keeps state between calls, and the export does not keep the same"),
}


def test_constants_state_and_random_numbers_are_told_apart(harness: Call, spec: Spec) -> None:
    cases = [
        f"{{name: {name}, factory: nets:{module}, inputs: {{x: {{shape: [2, 3]}}}}, {keys}}}".replace(", }", "}")
        for name, (module, keys, _) in OTHERS.items()
    ]
    rows = run(harness, spec, "\n  - ".join(cases), "onnx-torchscript@17/ort-cpu").rows
    for name, (_, _, words) in OTHERS.items():
        row = rows["nets/" + name, "onnx-torchscript@17/ort-cpu"]
        assert row["status"] == ("passed" if words is None else "failed"), name
        assert (row["message"] or "").startswith(words or ""), name
    assert any("TracerWarning" in line for line in rows["nets/checks", "onnx-torchscript@17/ort-cpu"]["log"])


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


TRAINING = """
from torch import nn
import torch.nn.functional as F


class Hidden(nn.Module):
    def __init__(self, layer=None):
        super().__init__()
        self.layers = [nn.Identity(), layer or nn.BatchNorm1d(3, affine=False)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class Stubborn(nn.Dropout):
    def train(self, mode=True):
        self.training = True
        return self


def harmless():
    return Hidden(nn.Tanh())
"""


def test_parts_that_eval_does_not_reach_are_the_first_thing_said(harness: Call, here: Path, spec: Spec) -> None:
    (here / "modes.py").write_text(TRAINING, encoding="utf-8")
    cases = "".join(
        f"  - {{name: {name}, factory: 'modes:{name}', inputs: {{x: {{shape: [4, 3]}}}}}}\n"
        for name in ("Hidden", "Stubborn", "harmless")
    )
    spec("net.yaml", f"harness: 1\ncases:\n{cases}")
    rows = harness("run", "specs", "--allow-import", "--no-latency", "--targets", "onnx-torchscript@17/ort-cpu").rows
    hidden, stubborn, harmless = (
        rows[f"net/{name}", "onnx-torchscript@17/ort-cpu"] for name in ("Hidden", "Stubborn", "harmless")
    )
    words = "parts of the module are in training mode, which .eval() does not reach"
    assert hidden["status"] == "passed"  # neither does the exporter reach it
    assert hidden["notes"][0] == f"{words} (layers[0], layers[1])"
    assert hidden["outputs"][0]["inconclusive"].startswith(hidden["notes"][0])
    assert stubborn["status"] == "failed"
    assert stubborn["message"].startswith(f"{words} (the module itself): ")
    assert stubborn["blame"] is None
    assert harmless["status"] == "passed"
    assert not any("training mode" in note for note in harmless["notes"])


def test_a_run_says_first_that_a_module_that_passed_is_in_training_mode(harness: Call, here: Path, spec: Spec) -> None:
    (here / "modes.py").write_text(TRAINING, encoding="utf-8")
    case = "  - {{name: batch-{0}, factory: 'modes:Hidden', inputs: {{x: {{shape: [{0}, 3]}}}}}}\n"
    path = str(spec("net.yaml", f"harness: 1\ncases:\n{case.format(4)}{case.format(1)}"))
    run = ("run", path, "--allow-import", "--no-latency", "--targets", "trace/torch-cpu")
    words = "parts of the module are in training mode, which .eval() does not reach (layers[0], layers[1])"
    ran = harness(*run, "-k", "net/batch-4")
    assert (ran.code, ran.only["status"]) == (0, "passed")
    out = " ".join(ran.out.split())
    assert out.startswith(
        f"{words}: net/batch-4 on trace/torch-cpu passed, which is inconclusive: it answers otherwise"
    )
    assert out.count(words) == 1
    folder = here / "reports" / "latest"
    assert "# Parity report\n\n**parts of the module are in training mode" in (folder / "report.md").read_text("utf-8")
    assert f'<p class="caution">{words}' in (folder / "report.html").read_text("utf-8")
    strict = harness(*run, "-k", "net/batch-4", "--strict")
    assert (strict.code, strict.only["blame"]) == (1, None)
    assert words in strict.only["message"]
    one = harness(*run, "-k", "net/batch-1").only  # a batch of one, which BatchNorm refuses in training mode
    assert (one["stage"], one["blame"]) == ("build", None)
    assert one["message"].startswith(f"{words}: ValueError: Expected more than 1 value")
    from_python = api.run(path, targets="trace/torch-cpu", keywords="net/batch-4", allow_import=True, latency=False)
    assert str(from_python).startswith(f"{words}: net/batch-4")


class AloneOtherwise(torch.nn.Module):
    """What does something else with a batch of one, or a sequence of one."""

    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Half of ``x`` where it is alone."""
        return x / 2 if x.shape[self.axis] == 1 else x * 3


@pytest.mark.parametrize("axis", [0, 1])
def test_an_export_is_tried_with_one_element_along_each_open_axis(axis: int) -> None:
    x, targets = torch.randn(2, 3), "trace/torch-cpu,onnx-torchscript@17/ort-cpu,onnx-dynamo@18/ort-cpu"
    dynamic = {"x": {0: "N", 1: "T"}}
    result = api.verify(AloneOtherwise(axis).eval(), {"x": x}, targets=targets, dynamic=dynamic)
    assert [row.status for row in result.results] == ["failed"] * 3, result.message
    assert all(row.outputs[-1].at == f"x={[[1, 3], [2, 1]][axis]}" for row in result.results)
    assert [row.blame for row in result.results] == ["exporter"] * 3
    assert api.verify(AloneOtherwise(axis).eval(), {"x": x}, targets=targets).passed  # no axis is open


def test_modules_that_squeeze_or_refuse_a_batch_of_one_pass() -> None:
    class Squeezes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(1, keepdim=True).squeeze(-1) - 1

    class Refuses(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.shape[0] > 1 else x.reshape(0, 7)

    targets = "trace/torch-cpu,onnx-torchscript@17/ort-cpu"
    for module in (Squeezes(), Refuses()):
        result = api.verify(module.eval(), {"x": torch.randn(2, 3)}, targets=targets, dynamic={"x": {0: "N"}})
        assert result.passed, result.message


class Longest(torch.nn.Module):
    """A loop over the longest of some lengths."""

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        """``x`` times each length."""
        total = torch.zeros_like(x)
        for step in range(int(n.max())):
            total = total + x * (n[:, None] > step)
        return total


def test_a_kept_length_shows_at_the_largest_one_that_the_spec_allows(harness: Call, here: Path) -> None:
    (here / "nets.py").write_text(f"import torch\n\n\n{inspect.getsource(Longest)}", encoding="utf-8")
    inputs = "x: {shape: [3, 2]}, n: {shape: [3], fill: {integers: [1, 8]}, dtype: int64}"
    cases = "".join(f"  - {{name: a{n}, factory: 'nets.py:Longest', inputs: {{{inputs}}}}}\n" for n in range(6))
    (here / "a.yaml").write_text(f"harness: 1\ncases:\n{cases}", encoding="utf-8")
    drawn = {
        case.id: [int(array(each.inputs[1]).max()) for each in input_sets(case)]
        for case in load_specs([here / "a.yaml"], allow_import=True).cases
    }
    assert any(largest[0] == max(largest) < 8 for largest in drawn.values()), drawn
    ran = harness("run", "a.yaml", "--allow-import", "--no-latency", "--targets", "trace/torch-cpu")
    for name, largest in drawn.items():
        # An export that is made with 8 steps is right for all lengths that the spec allows.
        expected = "passed" if largest[0] == 8 else "failed"
        assert ran.rows[name, "trace/torch-cpu"]["status"] == expected, (name, largest)


def test_a_kept_length_shows_at_the_next_larger_one_where_no_range_is_known() -> None:
    inputs = {"x": torch.randn(3, 2), "n": torch.tensor([3, 1, 2])}
    result = api.verify(Longest().eval(), inputs, targets="trace/torch-cpu,onnx-torchscript@17/ort-cpu")
    assert [row.status for row in result.results] == ["failed", "failed"]
    assert all(row.outputs[-1].at == "n with a larger integer" for row in result.results)


def test_larger_integers_are_no_false_alarm_for_tables_masks_and_classes() -> None:
    class Tables(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = torch.nn.Embedding(5, 3), torch.nn.Embedding(4, 3)

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
            x = x.masked_fill(mask[..., None] == 0, -1e4)
            return torch.mul(x.softmax(1), torch.nn.functional.one_hot(ids, 5)[..., :3])

    ids, mask = torch.tensor([[4, 0, 2, 1], [1, 1, 0, 3]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    for indices in (ids, ids.clamp(max=2)):
        inputs = {"ids": indices, "mask": mask}
        result = api.verify(Tables().eval(), inputs, targets="trace/torch-cpu,onnx-torchscript@17/ort-cpu")
        assert result.passed, result.message
