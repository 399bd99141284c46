"""A model with a known slowdown: a number of equal layers, and one more of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from harness.errors import Location
from harness.spec.language.case import Case, LayerModel, SequentialModel, TensorSpec, WeightedModel

FEATURES, ROWS = 128, 152  # so that 20 layers take about 1 ms on one core of a server
LAYERS = 20
PLANTED = 1 / LAYERS
"""The slowdown: one more layer is 5% more of the same work."""


def chain(*, slowed: bool = False) -> Case:
    """The model as a case; the id is the same with and without the slowdown."""
    layer = LayerModel("Linear", {"in_features": FEATURES, "out_features": FEATURES})
    return Case(
        "chain/model",
        "",
        WeightedModel(SequentialModel((layer,) * (LAYERS + slowed))),
        (TensorSpec("x", "float32", (ROWS, FEATURES)),),
        Location("chain.yaml"),
    )


def module(*, slowed: bool = False) -> torch.nn.Module:
    """The model in torch."""
    torch.manual_seed(0)
    return torch.nn.Sequential(*(torch.nn.Linear(FEATURES, FEATURES) for _ in range(LAYERS + slowed))).eval()


def example() -> torch.Tensor:
    """Its input."""
    return torch.randn(ROWS, FEATURES)


def session(model: torch.nn.Module, x: torch.Tensor) -> tuple[Callable[[], object], Any]:
    """A call with IOBinding, and onnxruntime's session behind it, on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        onnx_session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = onnx_session.io_binding()
    binding.bind_cpu_input(onnx_session.get_inputs()[0].name, x.numpy())
    binding.bind_output(onnx_session.get_outputs()[0].name, "cpu")
    return partial(onnx_session.run_with_iobinding, binding), onnx_session
