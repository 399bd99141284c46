"""What a factory's ``forward`` is called with: constants, keyword inputs, nested inputs and null."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Call, Ran

Spec = Callable[[str, str], Path]
MODULES = '''
import torch
from torch import nn


class Decoder(nn.Module):
    """Takes its inputs by keyword, and returns a dict unless it is told otherwise."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), scale))

    def forward(self, input_ids=None, *, mask=None, return_dict=True, steps=(1, 2)):
        y = input_ids * self.weight * steps[1]
        y = y if mask is None else y + mask
        return {"logits": y, "past": [{"key": y + 1, "value": y - 1}]} if return_dict else (y,)


class Detector(nn.Module):
    """Takes a tensor, a list of tensors, a dict whose keys are not sorted, and perhaps a mask."""

    def forward(self, pixel, boxes, cache, mask=None):
        y = pixel + boxes[0] - 2 * boxes[1] + 3 * cache["v"] - 5 * cache["k"]
        return y if mask is None else y * mask
'''


def run(harness: Call, spec: Spec, text: str, targets: str) -> Ran:
    path = spec("nets.yaml", f"harness: 1\ncases:\n  - {{name: case, {text}}}\n")
    (path.parent.parent / "my_nets.py").write_text(MODULES, encoding="utf-8")
    return harness("run", "specs", "--allow-import", "--no-latency", "--targets", targets)


def test_a_factory_takes_constants_of_forward(harness: Call, spec: Spec) -> None:
    inputs = "inputs: {mask: {shape: [3]}, input_ids: {shape: [2, 3]}}"
    text = f"factory: 'my_nets:Decoder', args: {{scale: 2.0}}, forward: {{return_dict: false, steps: [1, 5]}}, {inputs}"
    ran = run(harness, spec, f"{text}, expect: {{formula: 10 * input_ids + mask}}", "onnx-torchscript@17/ort-cpu")
    assert (ran.code, len({row["index"] for row in ran.only["outputs"]})) == (0, 1)
    weights = "weights: {weight: {values: [1, 2, 3]}}, expect: {formula: 5 * weight * input_ids + mask}"
    assert run(harness, spec, f"{text}, {weights}", "onnx-torchscript@17/ort-cpu").code == 0


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        ("{return_dct: false}", "forward: return_dct: no parameter of forward(input_ids=None, *, mask=None"),
        ("{input_ids: 1}", "forward: input_ids: an input is already bound to it"),
    ],
)
def test_a_constant_that_forward_does_not_take_shows_the_signature(
    harness: Call, spec: Spec, forward: str, message: str
) -> None:
    text = f"factory: 'my_nets:Decoder', forward: {forward}, inputs: {{input_ids: {{shape: [3]}}}}"
    ran = run(harness, spec, text, "trace/torch-cpu")
    assert ran.code == 1
    assert message in ran.only["message"]


NESTED = (
    "factory: 'my_nets:Detector', inputs: {pixel: {shape: [2, 3]}, boxes: [{shape: [3]}, {shape: [3], fill: ones}], "
    "cache: {v: {shape: [3]}, k: {fill: {uniform: [1, 2]}, shape: [3]}}, mask: null}"
)
ALL = (
    "trace/torch-cpu,trace/torch-frozen-cpu,onnx-torchscript@17/ort-cpu,onnx-torchscript@17/reference,"
    "onnx-dynamo@18/ort-cpu"
)


def test_nested_inputs_reach_the_module_and_every_runtime(harness: Call, spec: Spec) -> None:
    ran = run(harness, spec, NESTED, ALL)
    assert ran.code == 0, ran.out
    assert ran.report["summary"]["passed"] == 5


def test_a_mask_that_is_null_is_no_input_and_one_that_is_not_counts(harness: Call, spec: Spec) -> None:
    masked = NESTED.replace("mask: null", "mask: {shape: [3], fill: zeros}")
    ran = run(harness, spec, f"{masked}, expect: {{range: [0, 0]}}", "onnx-torchscript@17/ort-cpu")
    assert ran.code == 0, ran.out
    ran = run(harness, spec, f"{NESTED}, expect: {{range: [0, 0]}}", "onnx-torchscript@17/ort-cpu")
    assert ran.code == 1


def test_axes_of_nested_inputs_can_be_dynamic(harness: Call, spec: Spec) -> None:
    text = (
        "factory: 'my_nets:Detector', inputs: {pixel: {shape: [2, 3]}, boxes: [{shape: [2, 3]}, {shape: [2, 3]}], "
        "cache: {v: {shape: [3]}, k: {shape: [3]}}}, "
        "dynamic: {pixel: {0: N}, boxes.0: {0: N}, boxes.1: {0: N}}"
    )
    ran = run(harness, spec, text, "onnx-torchscript@17/ort-cpu,onnx-dynamo@18/ort-cpu")
    assert ran.code == 0, ran.out
    assert "boxes.0=[3, 3]" in str(ran.report["results"][0]["outputs"])


def test_lstm_takes_its_state_as_a_list(harness: Call, spec: Spec) -> None:
    text = (
        "layer: LSTM, args: {input_size: 3, hidden_size: 2}, "
        "inputs: {input: {shape: [4, 1, 3]}, hx: [{shape: [1, 1, 2]}, {shape: [1, 1, 2]}]}"
    )
    ran = run(harness, spec, text, "trace/torch-cpu,onnx-torchscript@17/ort-cpu")
    assert ran.code == 0, ran.out


def test_nested_samples_and_bundles(harness: Call, spec: Spec, here: Path) -> None:
    path = spec("nets.yaml", "")
    tensors = {"pixel": torch.ones(2, 3), "boxes": [torch.zeros(3), torch.ones(3)]}
    torch.save({**tensors, "cache": {"v": torch.ones(3), "k": torch.ones(3)}}, path.parent / "sample.pt")
    ran = run(harness, spec, f"{NESTED}, samples: '*.pt'", "onnx-torchscript@17/ort-cpu,trace/torch-cpu")
    assert ran.code == 0, ran.out
    assert "sample sample.pt" in str(ran.report["results"][0]["outputs"])
    targets = ("--targets", "onnx-torchscript@17/ort-cpu,trace/torch-cpu", "--allow-import")
    assert harness("pack", "specs", "-o", "bundle", *targets).code == 0
    assert harness("run", "bundle", "--no-latency").report["summary"]["passed"] == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{x: {shpe: [1]}}", "shpe: unknown key; did you mean shape?"),
        ("{x: [1, 2]}", "1 is not a mapping"),
        ("{x: []}", "at least 1"),
        ("{x: {a: {shape: [1]}, b: {shape: [-1]}}}", "-1 is too small"),
        ("{x: [{shape: [1]}, {}]}", "a tensor without values and without a shape"),
        ("{a.b: {shape: [1]}}", "'a.b' is not a label; nest the inputs"),
        ("{x: null}", "the case has no inputs"),
    ],
)
def test_wrong_nested_inputs_are_named_at_their_place(harness: Call, spec: Spec, inputs: str, message: str) -> None:
    ran = run(harness, spec, f"factory: 'my_nets:Detector', inputs: {inputs}", "trace/torch-cpu")
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.startswith("specs/nets.yaml:3:")


def test_a_graph_takes_no_nested_inputs(harness: Call, spec: Spec) -> None:
    text = "graph: [{layer: ReLU, in: x, out: y}], returns: y, inputs: {x: [{shape: [1]}]}"
    ran = run(harness, spec, text, "trace/torch-cpu")
    assert ran.code == 2
    assert "use `layer:` or `factory:`" in ran.err


def test_outputs_of_a_dict_are_named_by_their_paths(harness: Call, spec: Spec) -> None:
    text = "factory: 'my_nets:Decoder', forward: {steps: [1, 2]}, inputs: {input_ids: {shape: [2, 3]}}"
    ran = run(harness, spec, text, "onnx-torchscript@17/ort-cpu")
    assert ran.code == 0, ran.out
    names = dict.fromkeys(row["name"] for row in ran.only["outputs"])
    assert list(names) == ["output_0 (logits)", "output_1 (past.0.key)", "output_2 (past.0.value)"]
    assert (
        harness("pack", "specs", "-o", "bundle", "--allow-import", "--targets", "onnx-torchscript@17/ort-cpu").code == 0
    )
    packed = harness("run", "bundle", "--no-latency").only
    assert list(dict.fromkeys(row["name"] for row in packed["outputs"])) == list(names)
