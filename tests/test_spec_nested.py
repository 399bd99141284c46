"""What a factory's ``forward`` is called with: constants, keyword inputs, nested inputs and null."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
        y = pixel + boxes[0] - 2 * boxes[1] + 3 * cache["v"] - 5 * cache["k"]["deep"]
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
