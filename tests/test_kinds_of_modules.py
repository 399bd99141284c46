"""Modules of kinds that users write: what they hold, return, remember, and compare their values with."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import harness as api
from harness.check.cache.artifacts import ArtifactCache
from harness.check.check import check
from harness.check.module.prepared_case import PreparedCase
from harness.check.recorded.content_store import ContentStore
from harness.check.recorded.packed import PackedCase, check_packed
from harness.check.recorded.packing import pack_export
from harness.check.settings import Settings
from harness.check.stages import Clock
from harness.engine.worker_status import fatal_error
from harness.errors import UsageError
from harness.model.tensors import copy_module
from harness.model.thresholds import reaching_inputs
from harness.model.user_modules import find_factory, type_name
from harness.runtimes._messages import informative_part
from harness.spec.bundle.entries import CaseEntry, PackedModel
from harness.spec.discovery import load_specs
from harness.spec.language.case import FactoryModel
from harness.spec.targets import parse_target

TRACED = "trace/torch-cpu"
LEGACY = "onnx-torchscript@17/ort-cpu"
DYNAMO = "onnx-dynamo@18/ort-cpu"


def module(forward: Callable[..., Any], **attributes: Any) -> Any:
    """A module in evaluation mode with ``forward`` as its method, and with the attributes or buffers."""
    built: Any = type("Built", (nn.Module,), {"forward": forward})()
    for name, value in attributes.items():
        if isinstance(value, torch.Tensor):
            built.register_buffer(name, value)
        else:
            setattr(built, name, value)
    return built.eval()


# What a module holds


class Refuses:
    """A value that cannot be copied."""

    def __deepcopy__(self, memo: object) -> Refuses:
        raise TypeError("it is not copied")


class Hooked(nn.Module):
    """A module whose hook and replaced method refer to it by their closures."""

    def __init__(self) -> None:
        super().__init__()
        layer: Any = nn.Linear(3, 3)
        self.layer = layer
        original = self.layer.forward
        layer.forward = lambda x: original(x) * 2
        self.layer.register_forward_hook(lambda _module, _inputs, output: output + self.layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the layer and its bias again."""
        output: torch.Tensor = self.layer(x)
        return output


def test_a_copy_of_hooks_and_replaced_methods_uses_the_parameters_of_the_copy() -> None:
    original, x = Hooked().eval(), torch.randn(2, 3)
    copied, expected = copy_module(original), original(x)
    with torch.no_grad():
        original.layer.weight.zero_()
        original.layer.bias.zero_()
    assert torch.equal(copied(x), expected)
    assert not original(x).any()
    assert api.verify(Hooked().eval(), x, targets=[TRACED, LEGACY]).passed


def test_what_deepcopy_refuses_is_shared_between_copies(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("", encoding="utf-8")
    with (tmp_path / "text").open(encoding="utf-8") as file:
        original = module(lambda self, x: self.layer(x), layer=nn.Linear(3, 2), lock=threading.Lock(), file=file)
        original.nested = {"refuses": [Refuses()], "numbers": (i for i in range(3)), "self": original}
        copied = copy_module(original)
        assert copied.lock is original.lock
        assert copied.nested["self"] is copied
        assert copied.layer.weight is not original.layer.weight
        assert api.verify(original, torch.randn(2, 3), targets=[TRACED, LEGACY]).passed


def test_a_module_that_cannot_be_copied_at_all_says_why() -> None:
    class Whole(nn.Module):
        def __deepcopy__(self, memo: object) -> Whole:
            raise TypeError("it is not copied")

    with pytest.raises(TypeError, match="it is not copied"):
        copy_module(Whole())


def test_a_lazy_layer_is_initialised_first() -> None:
    result = api.verify(nn.Sequential(nn.LazyLinear(4), nn.ReLU()).eval(), torch.randn(2, 3), targets=[TRACED, LEGACY])
    assert result.passed, result.message


# What it takes and returns


def test_inputs_that_only_kwargs_take_are_bound_by_name() -> None:
    a, b = torch.randn(3), torch.randn(3)
    keywords = module(lambda _, **named: named["a"] - named["b"])
    mixed = module(lambda _, x, **named: x - 2 * named["bias"])
    first_only = module(lambda _, a, b, /: a - b)
    for each, inputs in ((keywords, {"b": b, "a": a}), (mixed, {"x": a, "bias": b}), (first_only, {"b": b, "a": a})):
        (row,) = api.verify(each, inputs, targets=[TRACED]).results
        assert row.status == "passed", row.message


class Opaque:
    """A container that torch does not know."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_an_answer_without_tensors_is_said_to_be_one() -> None:
    for returned, words in ((float, "returns float"), (Opaque, "Opaque, in which torch finds no tensor")):
        (row,) = api.verify(module(lambda _, x, made=returned: made(x.sum())), torch.randn(3), targets=[LEGACY]).results
        assert (row.status, row.stage, row.blame) == ("error", "build", "spec")
        assert words in (row.message or "")


def test_a_class_of_a_file_has_the_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the folder of the file becomes a part of it
    (tmp_path / "net.py").write_text("class Out: ...\n\n\ndef made(): return Out()\n", encoding="utf-8")
    factory = FactoryModel(f"{tmp_path / 'net.py'}:made")
    assert type_name(type(find_factory(factory)())) == "net.Out"
    assert type_name(Opaque) == f"{__name__}.Opaque"
    with pytest.raises(UsageError, match="has no attribute 'zzz'; it defines Out, made"):
        find_factory(replace(factory, factory=f"{tmp_path / 'net.py'}:zzz"))


def test_an_object_beside_tensors_is_noted() -> None:
    (row,) = api.verify(module(lambda _, x: (x * 2, Opaque(x))), torch.randn(3), targets=[TRACED]).results
    assert any("Opaque beside tensors" in line for line in row.log)


def test_complex_numbers_are_refused_with_a_remedy() -> None:
    (row,) = api.verify(module(lambda _, x: torch.fft.rfft(x)), torch.randn(4), targets=[TRACED]).results
    assert (row.status, row.symptom, row.blame) == ("error", "unsupported", None)
    assert "return torch.view_as_real(...)" in (row.message or "")


# What it remembers


class LargestSoFar(nn.Module):
    """State that no second call with the same inputs shows."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: torch.Tensor
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs in units of the largest one so far."""
        self.largest = torch.maximum(self.largest, x.abs().max())
        return x / self.largest


class FirstMask(nn.Module):
    """A mask of the first inputs, kept for all others."""

    mask: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs that were positive at the first call."""
        if self.mask is None:
            self.mask = (x > 0).float()
        return x * self.mask


class Average(nn.Module):
    """A moving average, added to bounded inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.average: torch.Tensor
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The bounds are far outside usual inputs."""
        self.average.mul_(0.9).add_(x.mean())
        return x.clamp(-30, 30) + self.average


class OneSided(Average):
    """What an export must not make of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The lower bound is missing."""
        self.average.mul_(0.9).add_(x.mean())
        return x.clamp(max=30) + self.average


def test_state_that_only_other_inputs_show_fails_a_file_that_forgets_it() -> None:
    x, other = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([-1.0, 0.5, -0.25])
    for each in (LargestSoFar(), FirstMask()):
        (row,) = api.verify(each.eval(), x, targets=[LEGACY], also=[other]).results
        assert row.status == "failed"
        assert (row.message or "").startswith("the module keeps state between calls")
    assert "a call that follows calls with other inputs" in (row.message or "")
    assert not api.verify(FirstMask().eval(), x, targets=[LEGACY]).passed  # one set of inputs shows it too


class Alarm(nn.Module):
    """A flag that only a value beyond a threshold sets, and that stays set."""

    def __init__(self) -> None:
        super().__init__()
        self.flag: torch.Tensor
        self.register_buffer("flag", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs, raised by one since the first alarm."""
        if bool(x.max() > 30.0):
            self.flag.fill_(1.0)
        return x + self.flag


def scripted_alarm() -> Any:
    """An alarm whose export keeps the branch and forgets the flag."""
    return torch.jit.script(Alarm())


class Loud(nn.Module):
    """A branch beyond the drawn values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the inputs where one is loud."""
        return x * 2 if x.max() > 30.0 else x


class Closing(nn.Module):
    """A bound that an export loses, and no answer to usual values after larger ones."""

    is_open = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs, at most 30; in an export, as they are."""
        if torch.onnx.is_in_onnx_export():
            return x
        is_large = bool(x.max() > 30.0)
        if not (self.is_open or is_large):
            raise ValueError("closed")
        self.is_open = not is_large
        return x.clamp(max=30)


class Counting(nn.Module):
    """State that an exporter leaves in the module, beside an export that differs by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.count: torch.Tensor
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs and the number of calls; in an export, something else."""
        self.count += 1
        return (x + self.count).square() if torch.onnx.is_in_onnx_export() else x + self.count


class Peak(nn.Module):
    """An integer that is read once by NumPy."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The inputs times the largest of them."""
        return x * int(x.numpy().max())


class Alone(nn.Module):
    """What a batch of one changes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Half of one input, the others times three."""
        return x / 2 if x.shape[0] == 1 else x * 3


def test_state_that_only_values_beyond_a_threshold_leave_fails_a_file_that_forgets_it() -> None:
    (row,) = api.verify(scripted_alarm(), torch.randn(2, 4), targets=[LEGACY]).results
    assert (row.status, row.blame) == ("failed", "exporter"), row.message
    assert (row.message or "").startswith("the module keeps state between calls")
    assert "where gt reaches 30)" in (row.message or "")
    (row,) = api.verify(scripted_alarm(), torch.randn(2, 4), targets=["script/torch-cpu"]).results
    assert row.status == "passed", row.message


def test_a_module_that_refuses_the_first_inputs_after_a_threshold_is_compared_beyond_it() -> None:
    (row,) = api.verify(Closing(), torch.randn(2, 4), targets=[LEGACY]).results
    assert row.status == "failed"
    assert "times as large, where gt reaches 30" in (row.message or "")


def test_state_is_a_cause_only_of_what_it_explains() -> None:
    (lost,) = api.verify(Average(), torch.randn(4), targets=[LEGACY]).results
    assert (lost.message or "").startswith("the module keeps state between calls")
    (other,) = api.verify(Counting(), torch.randn(4), targets=[LEGACY]).results
    assert other.status == "failed"
    assert "keeps state" not in (other.message or "")


def test_the_largest_integer_of_the_example_inputs_is_no_constant() -> None:
    (row,) = api.verify(Peak(), torch.tensor([[3, 0, 8], [1, 8, 2]]), targets=[LEGACY]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "integers from the lower half of their range" in (row.message or "")


MODULES = """
harness: 1
cases:
  - {name: largest, factory: "tests.test_kinds_of_modules:LargestSoFar", inputs: {x: {shape: [2, 4]}}}
  - {name: alarm, factory: "tests.test_kinds_of_modules:scripted_alarm", inputs: {x: {shape: [2, 4]}}}
  - {name: loud, factory: "tests.test_kinds_of_modules:Loud", inputs: {x: {shape: [2, 4]}}}
  - {name: right, factory: "torch.nn:Hardswish", inputs: {x: {shape: [2, 4]}}}
  - {name: stuck, factory: "tests.test_kinds_of_modules:StuckInTraining", inputs: {x: {shape: [2, 4]}}}
  - {name: asked, factory: "torch.nn:BatchNorm1d", args: {num_features: 4}, mode: train, inputs: {x: {shape: [2, 4]}}}
  - {name: alone, factory: "tests.test_kinds_of_modules:Alone", inputs: {x: {shape: [2, 4]}}, dynamic: {x: {0: N}}}
"""


class StuckInTraining(nn.Module):
    """``eval`` does not reach its part, and the exporter writes something else."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [nn.Identity()]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x``, three times ``x`` in training, and twice ``x`` in a file."""
        return x * (2 if torch.onnx.is_in_onnx_export() else 3 if self.parts[0].training else 1)


def test_a_bundle_has_the_verdicts_of_the_machine_that_packed_it(spec: Any, tmp_path: Path) -> None:
    verdicts = {}
    target = parse_target(LEGACY)
    for case in load_specs([str(spec("modules.yaml", MODULES).parent)], allow_import=True).cases:
        name = case.id.rpartition("/")[2]
        store, prepared = ContentStore(tmp_path / name), PreparedCase(case, ArtifactCache(None, tmp_path))
        with warnings.catch_warnings(record=True):  # torch warns of what it exports
            warnings.simplefilter("always")
            packing = pack_export(prepared, target, tmp_path / name, Clock())
            desk = check(prepared, target, Settings(latency=False), Clock())
        assert packing.status == "passed", packing.message
        exports = {target.export: store.get_entry(case.id, target.export)}
        entry = CaseEntry.model_validate({**(store.get_entry(case.id) or {}), "exports": exports})
        model = replace(case.model, model=PackedModel(str(tmp_path / name), seal="", entry=entry))
        board = check_packed(PackedCase(replace(case, model=model)), target, Settings(latency=False), Clock())
        assert (board.status, board.blame) == (desk.status, desk.blame), board.message
        written = store.get_entry(case.id) or {}
        further = name in {"alarm", "loud", "right", "alone"}
        assert ("further" in written) == further, "earlier releases read a bundle without the key"
        assert ("after_others" in written["rounds"][0]) == (name == "largest")
        assert ("training" in written, "undecidable" in written["rounds"][0]) == (name == "stuck", name == "asked")
        assert "in_training" not in (exports[target.export] or {})
        if name in {"stuck", "asked"}:
            assert (board.blame, board.message, board.evidence) == (None, desk.message, desk.evidence)
            assert (board.message or "").startswith("parts of the module are in training") == (name == "stuck")
        verdicts[name] = board.status
    failing = ["largest", "alarm", "loud", "stuck", "asked", "alone"]
    assert verdicts == {**dict.fromkeys(failing, "failed"), "right": "passed"}


def test_state_that_an_export_keeps_passes() -> None:
    x, other = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([-1.0, 0.5, -0.25])
    result = api.verify(LargestSoFar().eval(), x, targets=["script/torch-cpu"], also=[other])
    assert result.passed, result.message


def test_each_inputs_that_reach_a_threshold_are_a_first_call(tmp_path: Path) -> None:
    x = torch.tensor([1.0, -2.0, 3.0])
    rows: list[Any] = []
    for each in (Average(), OneSided()):
        path = tmp_path / f"{type(each).__name__}.pt"
        torch.jit.script(each.eval()).save(path)  # type: ignore[no-untyped-call]
        rows += api.compare_models(path, Average().eval(), inputs={"x": x}).results
    right, wrong = rows
    assert right.status == "passed", right.message
    assert wrong.status == "failed"
    assert "where clamp reaches -30" in (wrong.message or "")


COUNT = [0]


def _counted(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    COUNT[0] += 1
    return COUNT[0] * x


def _noise_of_first_call(self: Any, x: torch.Tensor) -> torch.Tensor:
    if self.noise is None:
        self.noise = torch.randn(3)
    return torch.add(x, self.noise)


def test_why_answers_differ_from_call_to_call_is_told() -> None:
    reasons = {
        "it keeps state outside itself (a global": module(_counted),
        "draws random numbers at its first call and keeps them": module(_noise_of_first_call, noise=None),
        "in evaluation mode too (aten.rand_like)": module(lambda _, x: x + torch.rand_like(x)),
        "call it with training=self.training": module(lambda _, x: nn.functional.dropout(x)),
    }
    for words, each in reasons.items():
        (row,) = api.verify(each, torch.randn(3), targets=[LEGACY]).results
        assert row.status == "failed"
        assert words in (row.message or ""), row.message


# What it compares its values with


def test_a_branch_beyond_the_drawn_values_is_found() -> None:
    branches = (
        lambda _, x: x * 0.5 if x.abs().max() > 1e4 else x,
        lambda self, x: x * 2 if x.mean() > self.at else x,
        lambda _, x: x if len(x[x > 0]) == 0 else x * 2,
        lambda _, x: x + 1 if torch.equal(x, torch.zeros_like(x)) else x * 2,
        lambda _, x: torch.zeros_like(x) if torch.isnan(x).any() else x * 2,
    )
    for number, branch in enumerate(branches):
        (row,) = api.verify(module(branch, at=torch.tensor(20.0)), torch.randn(2, 5), targets=[TRACED]).results
        assert (row.status, row.blame) == ("failed", "exporter"), number
        assert (row.message or "").startswith("the export keeps a value of its example inputs"), row.message


def test_a_size_beyond_the_next_is_tried_for_dynamic_axes() -> None:
    for at in (4, 100):
        each = module(lambda _, x, at=at: x * 2 if x.shape[0] > at else x)
        (row,) = api.verify(each, torch.randn(3, 4), targets=[LEGACY], dynamic={"x": {0: "N"}}).results
        assert (row.status, row.blame) == ("failed", "exporter")
        assert "at x=[129, 4]" in (row.message or "")
    table = module(lambda self, x: x + self.table[: x.shape[0]], table=torch.randn(16, 4))
    assert api.verify(table, torch.randn(3, 4), targets=[LEGACY], dynamic={"x": {0: "N"}}).passed


def test_an_export_that_stops_at_another_size_names_the_length_that_it_keeps() -> None:
    fixed = module(lambda _, x: x.reshape(int(x.shape[0]) * 4))
    (row,) = api.verify(
        fixed, torch.randn(3, 4), targets=[TRACED], dynamic={"x": {0: "N"}}, also=[torch.randn(5, 4)]
    ).results
    assert (row.status, row.stage, row.blame) == ("error", "run", "exporter")
    assert (row.message or "").startswith("the export keeps a value of its example inputs (")
    assert "shape '[12]' is invalid for input of size 20" in (row.message or "")


@pytest.fixture(scope="module")
def clipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A module whose clamp no drawn input reaches, and its ONNX file."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 6)
    built = module(lambda self, x: self.last(self.layer(x).clamp(-8, 8)), layer=layer, last=nn.Linear(6, 3))
    path = tmp_path_factory.mktemp("clipped") / "model.onnx"
    torch.onnx.export(built, (torch.randn(2, 4),), path, dynamo=False, opset_version=17, input_names=["x"])
    return built, path


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """The model at ``path`` after ``change``, in a file beside it."""
    model = onnx.load(str(path))
    change(model)
    onnx.save(model, str(path.with_name("changed.onnx")))
    return path.with_name("changed.onnx")


def _drop_clip(model: onnx.ModelProto) -> None:
    clip = next(node for node in model.graph.node if node.op_type == "Clip")
    del clip.input[1:]


def _round_in_the_middle(model: onnx.ModelProto) -> None:
    at, node = next((at, node) for at, node in enumerate(model.graph.node) if node.op_type == "Clip")
    source, node.input[0] = node.input[0], "wide"
    model.graph.node.insert(at, helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT))
    model.graph.node.insert(at, helper.make_node("Cast", [source], ["half"], to=TensorProto.FLOAT16))


def test_a_bound_that_no_drawn_input_reaches_is_reached(clipped: tuple[nn.Module, Path]) -> None:
    built, path = clipped
    assert api.compare_models(path, built).passed
    (row,) = api.compare_models(changed(path, _drop_clip), built).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "where clamp reaches" in (row.message or "")


def test_a_cast_to_half_precision_in_a_file_is_blamed_on_the_file(clipped: tuple[nn.Module, Path]) -> None:
    built, path = clipped
    (row,) = api.compare_models(changed(path, _round_in_the_middle), built).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert any("rounds to a narrower type at Cast" in line for line in row.evidence)


class WholeDivision(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.div(x, y, rounding_mode="trunc")


def test_a_cast_of_integers_that_a_float_cannot_hold_is_blamed_on_the_file() -> None:
    """torch's dynamo exporter divides int64 in float32, and float64 does not show what that loses."""
    large, small = torch.tensor([2831071970933, -9007199254740]), torch.tensor([1, 3])
    (row,) = api.verify(WholeDivision(), (large, small), targets=[DYNAMO]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert any("rounds to a narrower type at Cast" in line for line in row.evidence)


def test_a_pass_of_a_model_that_only_gives_zeros_is_inconclusive() -> None:
    head = nn.Linear(8, 2)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), head).eval()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    (row,) = api.verify(net, torch.randn(3, 4), targets=[TRACED]).results
    assert row.status == "passed"
    assert row.outputs[0].inconclusive == "every output is zero: a file that only gives zeros would pass too"
    nn.init.ones_(head.bias)
    (row,) = api.verify(net, torch.randn(3, 4), targets=[TRACED]).results
    assert (row.outputs[0].inconclusive or "").startswith("the reference's outputs are the same at other inputs")
    nn.init.eye_(head.weight)
    (row,) = api.verify(net, torch.randn(3, 4), targets=[TRACED]).results
    assert row.outputs[0].inconclusive is None


@pytest.mark.parametrize("weight", ["zeros", "normal"])
def test_a_pass_with_the_same_outputs_at_each_draw_is_inconclusive(
    harness: Callable[..., Any], tmp_path: Path, weight: str
) -> None:
    (tmp_path / "dull.yaml").write_text(
        "harness: 1\nsequential: [{layer: Linear, args: {in_features: 3, out_features: 2}}]\n"
        f"cases: [{{name: dull, inputs: {{x: {{shape: [2, 3]}}}}, weights: {{0.weight: {{fill: {weight}}}}}}}]\n"
    )
    ran = harness("run", "dull.yaml", "--targets", TRACED, "--no-latency")
    assert ran.code == 0, ran.err
    assert ("the outputs are the same at every set of inputs" in ran.out) is (weight == "zeros")


class OwnLoss(nn.CrossEntropyLoss):
    """A layer of torch with a name of its own, whose ``forward`` is torch's."""


def test_a_layer_that_inherits_the_forward_of_torch_takes_labels_of_ones_own() -> None:
    labelled = {"x": torch.randn(5, 4), "target": torch.tensor([0, 3, 2, 1, 2])}
    assert api.verify(OwnLoss(), labelled, targets=[TRACED]).passed


# Whose fault it is


def test_a_chaotic_map_is_rounding_and_a_wrong_one_is_not() -> None:
    def chaos(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = x.sigmoid()
        for _ in range(100):
            x = 3.9 * x * (1 - x)
        return x

    (row,) = api.verify(module(chaos), torch.randn(2, 5), targets=[LEGACY]).results
    assert (row.status, row.blame) == ("failed", "rounding")
    assert "when its inputs change by one unit in the last place" in row.evidence[0]


def test_nobody_is_blamed_for_the_order_of_equal_values() -> None:
    tied = torch.tensor([[3.0, 1.0, 3.0, 3.0, 0.0, 3.0, 1.0, 1.0] * 4])
    best = module(lambda _, x: tuple(x.topk(6)))
    (row,) = api.verify(best, tied, targets=[LEGACY]).results
    if row.status == "failed":  # which of them come first depends on the kernel
        assert row.blame is None
        assert "sorts equal values" in row.evidence[0]
    untied = torch.arange(32.0).flip(0)[None]
    assert api.verify(best, untied, targets=[LEGACY]).passed


# Messages of libraries


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("matmul_helper.h:59 Compute MatMul dimension mismatch", "MatMul dimension mismatch"),
        ("concatbase.h:135 Compute axis (1) does not match", "axis (1) does not match"),
        ("Input channels C is not equal to kernel channels", "Input channels C is not equal to kernel channels"),
        (
            "/a.h:91 Status ort::Helper<T>::Check(const ort::Shape&, bool) const [with T = float] n(0) was false. No",
            "No (n(0) was false)",
        ),
        ("/src/core/a.cc:5 void ort::Init(long) axis == 1 was false.", "axis == 1 was false"),
        ("/src/core/a.cc:5 operator() axis == 1 was false.", "axis == 1 was false"),
    ],
)
def test_the_informative_part_of_messages_of_onnx_runtime(reason: str, shown: str) -> None:
    before = "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running"
    assert (
        informative_part(f"{before} Conv node. Name:'/net/c' Status Message: {reason}")
        == f"Conv node '/net/c': {shown}"
    )
    assert informative_part(f"{before} Conv node. Name:'' Status Message: {reason}") == f"Conv node: {shown}"


CODE = "[ONNXRuntimeError] : 10 : INVALID_GRAPH : "
PLACE = "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 "


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"{CODE}Load model from a b/m.onnx failed:This is an invalid model. Error No Op", "Error No Op"),
        (f"Load model from m.onnx failed:{PLACE}void ort::Model(const T<int, int>&) Opset 99", "Opset 99"),
        (f"{CODE}Invalid rank for input: x Got: 2 Expected: 3 Please fix the model.", "Invalid rank for "),
        (f"{CODE}Wrong x for the following indices\n index: 0 Got: 3 Expected: 2\n Please fix it.", "Wrong x for the"),
        ("Exception from src/core.cpp:84:\nCheck 'false' failed at f.cpp:47:\nLoading input model\nNo 'n'", "No 'n'"),
        (CODE, CODE.strip()),
    ],
)
def test_the_informative_part_of_a_file_that_does_not_load(message: str, shown: str) -> None:
    found = informative_part(message)
    assert found.startswith(shown)
    assert "Please" not in found
    assert "index" not in shown or "index: 0 Got: 3 Expected: 2" in found


def test_a_panic_of_a_library_says_its_reason() -> None:
    panic = ("thread '<unnamed>' (12) panicked at core/gather.rs:85:59:", "index 20 out of range", "stack backtrace:")
    assert fatal_error(panic) == ": index 20 out of range"
    assert (
        fatal_error(("terminate called after throwing an instance of 'Error'", "  what():  no memory")) == ": no memory"
    )
    assert fatal_error(("no panic", "nor its reason")) == fatal_error(panic[:1]) == ""


def test_the_informative_part_of_messages_of_torchscript() -> None:
    trace = (
        "Tracing failed sanity checks!\nERROR: Graphs differed across invocations!\n\tGraph diff:\n"
        "\tTrace source location:\n\t\t/a/b/nets.py(11): forward\n\t\t/c/torch/module.py(3): call"
    )
    assert informative_part(trace).startswith(
        "Tracing failed sanity checks! Graphs differed across invocations! (nets.py:11) This means that a second call"
    )
    assert "it keeps state between calls" in informative_part("Tracing failed sanity checks!\n")
    interpreter = "The following operation failed in the TorchScript interpreter.\nTraceback:\nRuntimeError: shape"
    assert informative_part(interpreter).endswith("interpreter: RuntimeError: shape")
    inferred = "Tracer cannot infer type of [tensor([[1.0]])]\n:List inputs must have one type"
    assert informative_part(inferred) == (
        "Tracer cannot infer the type of what forward returns: List inputs must have one type"
    )
    region = "output 1 (3\n[ LongTensor{} ]) of traced region did not have observable data dependence"
    assert "of traced region did not have" in informative_part(region)


# Names


def test_names_of_inputs_that_only_partly_fit_the_module_are_refused(clipped: tuple[nn.Module, Path]) -> None:
    _, path = clipped
    two = module(lambda _, x, y: x - y)
    one, other = np.ones((2, 4), np.float32), np.zeros((2, 4), np.float32)
    with pytest.raises(UsageError, match=r"x must be bound by name, and mask is no parameter .*\(x, y\); name every"):
        api.compare_models(path, two, inputs={"x": one, "mask": other})
    same = api.compare_models(module(lambda _, x, y: x - y), two, inputs={"y": one, "x": other})
    assert same.passed, same.message


def _returns_two() -> nn.Module:
    class Out(NamedTuple):
        first: torch.Tensor
        second: torch.Tensor

    class Two(nn.Module):
        def forward(self, x: torch.Tensor) -> Out:
            return Out(x, x * 2)

    return Two()


def _returns_one() -> nn.Module:
    class Out(NamedTuple):
        first: torch.Tensor

    class One(nn.Module):
        def forward(self, x: torch.Tensor) -> Out:
            return Out(x * 3)

    return One()


def _compared_with_enum() -> nn.Module:
    class Kind(Enum):
        A = 1
        B = 2

    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind = Kind.B

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if self.kind == Kind.B else x

    return Double()


def _compared_with_enum_of_same_name() -> nn.Module:
    class Kind(Enum):
        A = 1
        C = 3

    class Triple(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind = Kind.C

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 3 if self.kind == Kind.C else x

    Kind.__qualname__ = "_compared_with_enum.<locals>.Kind"
    return Triple()


def test_a_class_of_a_name_that_torchscript_knows_already_is_another_class() -> None:
    models = [_returns_two(), _returns_one(), _returns_two()]
    models += [_compared_with_enum(), _compared_with_enum_of_same_name(), _compared_with_enum()]
    for each in models:
        (row,) = api.verify(each.eval(), torch.randn(2, 3), targets=["script/torch-cpu"]).results
        assert row.status == "passed", row.message


def test_the_search_for_thresholds_ends_when_all_are_reached() -> None:
    called: list[torch.Tensor] = []

    def forward(_self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        called.append(x)
        return x.clamp(-3, 3)

    assert len(list(reaching_inputs(module(forward), [{"x": np.linspace(-1, 1, 8, dtype=np.float32)}], 0))) == 1
    assert len(called) == 2  # at the drawn inputs, and at larger ones


class HalfInside(nn.Module):
    """Layers in half precision between inputs and outputs in float32; an export may be made with another gain."""

    def __init__(self, dtype: torch.dtype, exported_gain: float = 1.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 64).to(dtype), nn.Linear(64, 64).to(dtype)
        self.dtype, self.exported_gain = dtype, exported_gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The last layer's answer in float32."""
        gain = self.exported_gain if torch.onnx.is_in_onnx_export() else 1.0
        result: torch.Tensor = self.last(self.first(x.to(self.dtype)).relu()).float() * gain
        return result


@pytest.mark.parametrize(
    ("dtype", "target", "gain", "status"),
    [
        (torch.float16, LEGACY, 1.0, "passed"),
        (torch.float16, LEGACY, 1.004, "failed"),
        (torch.bfloat16, "onnx-dynamo@18/reference", 1.0, "passed"),
        (torch.bfloat16, "onnx-dynamo@18/reference", 1.04, "failed"),
    ],
)
def test_half_precision_inside_is_judged_by_its_own_rounding(
    dtype: torch.dtype, target: str, gain: float, status: str
) -> None:
    """In float64 its casts would give half precision, and layers in float64 refuse that."""
    torch.manual_seed(0)
    (row,) = api.verify(HalfInside(dtype, gain).eval(), torch.randn(16, 64), targets=[target]).results
    assert row.status == status, row.message
    assert row.outputs[0].reference_rms
    assert f"own error in {str(dtype).removeprefix('torch.')}" in row.outputs[0].tolerance
    assert row.blame == ("exporter" if status == "failed" else None)


def test_a_cast_of_the_module_itself_is_no_fault_of_the_file() -> None:
    """onnx.reference adds up a mean in bfloat16, where torch adds up in float32."""
    pooled = module(lambda _self, x: x.bfloat16().mean((2, 3)).float())
    (row,) = api.verify(pooled, 1 + torch.rand(1, 4, 64, 64), targets=["onnx-dynamo@18/reference"]).results
    assert (row.status, row.blame) == ("failed", "kernel"), row.evidence


def test_a_value_kept_in_half_precision_does_not_loosen_the_tolerance() -> None:
    """Its float64 run has the same values, so eager torch is as close to it as float32 is."""
    table = torch.randn(16).half()
    looked_up = module(lambda self, x: x * self.table.float(), table=table)
    (row,) = api.verify(looked_up, torch.randn(8, 16), targets=[LEGACY]).results
    assert row.status == "passed"
    assert "float16" not in row.outputs[0].tolerance


def test_a_formula_that_loses_accuracy_is_blamed_on_the_exporter() -> None:
    """torch's dynamo exporter writes ``expm1`` as ``exp(x) - 1``: no runtime gets small values right from it."""
    near_zero = module(lambda _self, x: (x * 1e-4).expm1())
    rows = api.verify(near_zero, torch.randn(4, 50), targets=[DYNAMO, "onnx-dynamo@18/reference"]).results
    for row in rows:
        assert (row.status, row.blame) == ("failed", "exporter"), row.evidence
        assert any("as far from the expected one" in line for line in row.evidence)


class Masked(nn.Module):
    """Attention weights under a mask of -1e9, which float16 cannot hold; an export may be made with another gain."""

    def __init__(self, exported_gain: float = 1.0) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(16, 32), nn.Linear(16, 32)
        self.exported_gain = exported_gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The weights of each row."""
        gain = self.exported_gain if torch.onnx.is_in_onnx_export() else 1.0
        scores = self.query(x) @ self.key(x).transpose(1, 2) * gain
        weights: torch.Tensor = scores.masked_fill(torch.ones(8, 8).triu(1).bool(), -1e9).softmax(-1)
        return weights


@pytest.mark.parametrize(("gain", "status"), [(1.0, "passed"), (1.02, "failed")])
def test_a_module_that_does_not_run_in_float16_is_rounded_to_it(gain: float, status: str) -> None:
    """Its correct file in float16 was compared by the tolerance of float16 numbers, and failed."""
    torch.manual_seed(0)
    (row,) = api.verify(
        Masked(gain).eval(), torch.randn(4, 8, 16), targets=["onnx-torchscript@17+fp16/ort-cpu"]
    ).results
    assert row.status == status, row.message
    assert row.outputs[0].tolerance == "3 x the reference's own error in float16 against float64"


class Labels(nn.Module):
    """Labels of 10,000 rows. The first 40 have two equal scores, of which rounding decides."""

    weight: torch.Tensor
    margin: torch.Tensor

    def __init__(self, exported_rows: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.register_buffer("weight", torch.randn(64, 1, generator=generator))
        margin = torch.randn(10_000, 1, generator=generator).sign()
        margin[:40] = 0
        self.register_buffer("margin", margin)
        self.exported_rows = exported_rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The larger score of each row."""
        margin = self.margin
        if torch.onnx.is_in_onnx_export():
            margin = torch.cat([margin[: -self.exported_rows], -margin[-self.exported_rows :]])
        summed, in_another_order = x @ self.weight + margin, x.flip(1) @ self.weight.flip(0)
        return torch.cat([summed, in_another_order], 1).argmax(1)


@pytest.mark.parametrize(("rows", "status"), [(1, "passed"), (120, "failed")])
def test_labels_may_differ_where_rounding_decides(rows: int, status: str) -> None:
    """Eager torch's own labels differ from its float64 run at about 20 rows."""
    (row,) = api.verify(Labels(rows).eval(), torch.randn(10_000, 64), targets=[LEGACY]).results
    assert row.status == status, row.message
    assert any("which rounding explains" in note for note in row.notes) == (status == "passed")
    (output,) = row.outputs
    assert output.tolerance == ("3 x the reference's own error against float64" if status == "passed" else "exact")


def test_integers_that_no_rounding_decides_are_exact() -> None:
    counts = module(lambda _self, x: x + torch.onnx.is_in_onnx_export() * (torch.arange(20_000) == 7))
    (row,) = api.verify(counts, torch.arange(20_000), targets=[LEGACY]).results
    assert (row.status, row.outputs[0].mismatched) == ("failed", 1)


class Compiled(nn.Module):
    """A net with a compiled layer, a layer that was compiled in place, and a compiled net inside."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.compile(nn.Linear(4, 4))
        self.second = nn.Linear(4, 4)
        self.second.compile()
        self.last = nn.Sequential(nn.ReLU(), cast("nn.Module", torch.compile(nn.Linear(4, 2))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The last layer's answer."""
        result: torch.Tensor = self.last(self.second(self.first(x)))
        return result


@pytest.mark.parametrize("whole", [False, True])
def test_what_torch_compile_made_is_compared_as_the_module_itself(whole: bool) -> None:
    """Eager torch is the reference, and no exporter but dynamo takes a compiled module. Nothing is compiled."""
    net: Any = Compiled().eval()
    given: Any = torch.compile(net) if whole else net
    report = api.verify(given, torch.randn(3, 4), targets=[TRACED, LEGACY, DYNAMO])
    assert [(row.case, row.status) for row in report.results] == [("Compiled", "passed")] * 3
    assert type(net.first).__name__ == "OptimizedModule"  # the user's own module is as it was


def test_an_export_from_other_inputs_that_reads_none_of_them_is_proof() -> None:
    nan = module(lambda _self, x: torch.zeros_like(x) if bool(x.isnan().any()) else x + 1)
    (row,) = api.verify(nan, torch.randn(2, 4), targets=[LEGACY]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert "at inputs with a NaN" in (row.message or "")
    assert row.evidence[-1] == "and it gives the right answer there"


def test_an_input_that_only_python_reads_is_dropped_with_the_line() -> None:
    repeated = module(lambda _self, x, n: x * 2 ** int(n))
    (row,) = api.verify(repeated, (torch.randn(2, 4), torch.tensor(3)), targets=[LEGACY]).results
    assert (row.status, row.stage) == ("error", "export")
    assert "(dropped: x1)" in (row.message or "")
    assert "the export keeps a value of its example inputs (" in (row.message or "")


def test_a_quantized_module_is_refused_by_the_exporter_alone() -> None:
    """Its state holds tuples and dtypes beside tensors."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        quantize: Any = torch.ao.quantization.quantize_dynamic
        quantized = quantize(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    kept, refused = api.verify(quantized, torch.randn(2, 4), targets=[TRACED, LEGACY]).results
    assert kept.status == "passed", kept.message
    assert (refused.stage, refused.symptom) == ("export", "unsupported")
    assert "quantized::linear_dynamic" in (refused.message or "")


def test_outputs_in_another_order_are_told() -> None:
    def forward(_self: nn.Module, x: torch.Tensor) -> Any:
        outputs = x.relu(), -x, x + 1
        return (outputs[1], outputs[0], outputs[2]) if torch.onnx.is_in_onnx_export() else outputs

    (row,) = api.verify(module(forward), torch.randn(2, 4), targets=[LEGACY]).results
    assert (row.status, row.blame) == ("failed", "exporter")
    assert (row.message or "").startswith(
        "the outputs are in another order (output_0 holds what is expected of output_1, output_1 holds what is "
        "expected of output_0): output_"
    )
    wrong = module(lambda _self, x: (-x, x.abs()) if torch.onnx.is_in_onnx_export() else (x.relu(), -x))
    (row,) = api.verify(wrong, torch.randn(2, 4), targets=[LEGACY]).results
    assert (row.message or "").startswith("output_")


def test_half_precision_is_not_scaled_until_it_reaches_thresholds() -> None:
    sets = [{"x": np.linspace(-1, 1, 8, dtype=np.float32)}]
    bounded = module(lambda _self, x: x.clamp(-3, 3))
    assert [name for name, _ in reaching_inputs(bounded, sets, 0)]
    assert not list(reaching_inputs(bounded, [{"x": sets[0]["x"].astype(np.float16)}], 0))
