"""Signatures equal those of the installed torch; torch also refuses the arguments that they refuse."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import Location
from harness.spec import signatures
from harness.spec.language import layer_calls
from harness.spec.signatures import NON_LAYERS, Parameter, layer_signatures, non_layers, signatures_from_torch
from harness.spec.yaml.tree import Node

NOWHERE = Node(Location("f"), {})
STORED = json.loads(Path(signatures.__file__).with_suffix(".json").read_text("utf-8"))
SAME_RELEASE = signatures_from_torch()["torch"] == STORED["torch"]


def messages(layer: str, **args: Any) -> list[str]:
    """The messages of the problems with ``args``."""
    problems = [
        *layer_calls.argument_problems(NOWHERE, layer, args, {}),
        *layer_calls.value_problems(NOWHERE, layer, args),
    ]
    return [problem.message for problem in problems]


@pytest.mark.skipif(not SAME_RELEASE, reason=f"the data are of torch {STORED['torch']}")
def test_the_stored_signatures_are_those_of_the_installed_torch() -> None:
    installed = signatures_from_torch()
    for name in sorted(STORED["layers"].keys() | installed["layers"].keys()):
        assert STORED["layers"].get(name) == installed["layers"].get(name), (
            f"{name}: run python -m harness.spec.signatures, and read what changed"
        )
    assert installed == STORED


def test_every_public_class_of_torch_nn_is_a_layer_or_listed_as_none() -> None:
    public = {name for name in nn.modules.__all__ if inspect.isclass(getattr(nn, name, None))}
    classes = {name for name in public if issubclass(getattr(nn, name), nn.Module)}
    if SAME_RELEASE:
        assert classes <= layer_signatures().keys() | non_layers().keys()
    assert set(NON_LAYERS) >= set(non_layers())


def test_signatures_are_read_without_torch() -> None:
    code = "import sys; from harness.spec import signatures as s; s.layer_signatures(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", sorted(layer_signatures()))
def test_required_and_optional_parameters_are_those_of_the_constructor(name: str) -> None:
    if not hasattr(nn, name):
        pytest.skip(f"torch {torch.__version__} has no {name}; the data are of torch {STORED['torch']}")
    signature = layer_signatures()[name]
    required = {each.name for each in signature.parameters.values() if each.required}
    if name in {"RNN", "LSTM", "GRU"}:
        assert required == {"input_size", "hidden_size"}
        return
    parameters = list(inspect.signature(getattr(nn, name).__init__).parameters.values())[1:]
    named = {each.name: each for each in parameters if each.kind not in {each.VAR_POSITIONAL, each.VAR_KEYWORD}}
    assert required == {each.name for each in named.values() if each.default is each.empty}
    if SAME_RELEASE:  # another torch version may have more or fewer parameters
        assert signature.parameters.keys() <= named.keys()


RECURRENT: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {"proj_size": 1}),
    ("RNN", {"nonlinearity": "relu"}),
    ("GRU", {"bidirectional": True}),
]


@pytest.mark.parametrize(("layer", "args"), RECURRENT)
def test_recurrent_layers_have_their_real_parameters(layer: str, args: dict[str, Any]) -> None:
    full = {
        "input_size": 2,
        "hidden_size": 3,
        "num_layers": 2,
        "bias": False,
        "batch_first": True,
        "dropout": 0.5,
        **args,
    }
    assert messages(layer, **full) == []
    getattr(nn, layer)(**full)
    assert messages("GRU", input_size=1, hidden_size=1, proj_size=1) == ["proj_size: GRU has no such argument"]
    with pytest.raises(ValueError, match="proj_size"):
        nn.GRU(1, 1, proj_size=1)


def test_the_tensor_parameters_of_forward() -> None:
    assert layer_signatures()["MaxUnpool2d"].tensor_parameters == ["input", "indices"]
    assert layer_signatures()["MultiheadAttention"].tensor_parameters == ["query", "key", "value", "key_padding_mask"]
    assert layer_signatures()["LSTM"].tensor_parameters == ["input"]
    assert layer_signatures()["GRU"].tensor_parameters == ["input", "hx"]
    assert layer_signatures()["CrossEntropyLoss"].tensor_parameters == ["input", "target"]


TYPES = [
    ("int", 3, True),
    ("int", True, False),
    ("int", 3.0, False),
    ("float", 3, True),
    ("float", 0.5, True),
    ("float", False, False),
    ("bool", True, True),
    ("bool", 1, False),
    ("str", "same", True),
    ("none", None, True),
    ("none", 0, False),
    ("'zeros'", "zeros", True),
    ("'zeros'", "ones", False),
    ("tuple[int, int]", [1, 2], True),
    ("tuple[int, int]", (1, 2), True),
    ("tuple[int, int]", [1], False),
    ("tuple[int, int]", [1, 2.5], False),
    ("tuple[int, ...]", [], True),
    ("tuple[int, ...]", [1, 2, 3], True),
    ("tuple[int, ...]", ["a"], False),
    ("tuple[int?, int?]", [None, 2], True),
    ("tuple[int, int]", [None, 2], False),
    ("tensor", [1.0], False),
    ("object", "relu", False),
    ("any", {"a": 1}, True),
]


@pytest.mark.parametrize(("kind", "value", "accepted"), TYPES)
def test_the_types_of_values(kind: str, value: object, accepted: bool) -> None:
    assert Parameter("p", (kind,), required=True).accepts(value) == accepted


def torch_refuses(layer: str, shape: tuple[int, ...], **args: Any) -> bool:
    """True where torch itself refuses to build or to run the layer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            getattr(nn, layer)(**args)(torch.zeros(shape))
        except (RuntimeError, ValueError, TypeError, AssertionError, ZeroDivisionError):
            return True
    return False


@pytest.mark.parametrize("layer", ["MaxPool2d", "AvgPool2d", "MaxPool1d", "AvgPool3d"])
def test_pools_refuse_exactly_what_torch_refuses_on_a_large_input(layer: str) -> None:
    dilations = (1, 2) if layer.startswith("Max") else (1,)
    shape = (1, 1, *[16] * int(layer[-2]))
    for kernel, stride, padding, dilation in product((0, 1, 2, 3), (None, 0, 1), (-1, 0, 1, 2), dilations):
        args = {"kernel_size": kernel, "stride": stride, "padding": padding}
        args |= {"dilation": dilation} if dilation > 1 else {}
        assert bool(messages(layer, **args)) == torch_refuses(layer, shape, **args), args


REFUSED: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("Linear", (1, 2), {"in_features": -1, "out_features": 2}),
    ("Conv2d", (1, 3, 4, 4), {"in_channels": 3, "out_channels": 4, "kernel_size": 1, "groups": 2}),
    ("Conv2d", (1, 4, 4, 4), {"in_channels": 4, "out_channels": 3, "kernel_size": 1, "groups": 2}),
    ("Conv2d", (1, 4, 4, 4), {"in_channels": 4, "out_channels": 4, "kernel_size": 1, "groups": 0}),
    ("Conv2d", (1, 4, 4, 4), {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "stride": 0}),
    ("Conv2d", (1, 4, 4, 4), {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "dilation": 0}),
    ("Conv2d", (1, 4, 4, 4), {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": -1}),
    ("Conv2d", (1, 4, 4, 4), {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding_mode": "zero"}),
    ("GroupNorm", (1, 3), {"num_groups": 2, "num_channels": 3}),
    ("AvgPool2d", (1, 1, 4, 4), {"kernel_size": 2, "divisor_override": 0}),
    ("Dropout", (1,), {"p": 1.5}),
    ("GELU", (1,), {"approximate": "exact"}),
    ("RReLU", (3,), {"lower": 0.5, "upper": 0.1}),
    ("MaxPool2d", (1, 1, 9, 9), {"kernel_size": [2, 2, 2]}),
    ("AdaptiveAvgPool2d", (1, 1, 9, 9), {"output_size": [2, 2, 2]}),
    ("LSTM", (1, 2), {"input_size": 2, "hidden_size": 0}),
    ("PixelShuffle", (1, 4, 2, 2), {"upscale_factor": 0}),
]


@pytest.mark.parametrize(("layer", "shape", "args"), REFUSED)
def test_refused_arguments_are_refused_by_torch_too(layer: str, shape: tuple[int, ...], args: dict[str, Any]) -> None:
    assert messages(layer, **args)
    assert torch_refuses(layer, shape, **args)


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("Upsample", {"scale_factor": 2, "mode": mode})
    for mode in ("nearest", "nearest-exact", "area", "bilinear", "bicubic")
] + [
    ("AdaptiveAvgPool2d", {"output_size": [None, 2]}),
    ("ConstantPad2d", {"padding": -1, "value": 0}),
    ("MaxPool2d", {"kernel_size": 2, "stride": None}),
    ("AvgPool2d", {"kernel_size": 2, "divisor_override": -3}),
    ("Softmax", {"dim": None}),
]


@pytest.mark.parametrize(("layer", "args"), ACCEPTED)
def test_arguments_that_torch_accepts_are_accepted(layer: str, args: dict[str, Any]) -> None:
    assert messages(layer, **args) == []
    assert not torch_refuses(layer, (1, 1, 4, 4), **args)
