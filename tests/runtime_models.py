"""Tiny model files for the tests of runtimes, written without an exporter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from harness.exporters import Artifact

FLOAT = int(TensorProto.FLOAT)
Value = tuple[str, int, Sequence[int | str]]


def onnx_file(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    initializers: Sequence[onnx.TensorProto] = (),
    opset: int = 17,
) -> Artifact:
    graph = helper.make_graph(
        list(nodes), "g", [_info(value) for value in inputs], [_info(value) for value in outputs], list(initializers)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return Artifact("onnx", path, "digest", opset)


def relu(folder: Path, output: str = "output_0") -> Artifact:
    node = helper.make_node("Relu", ["x"], [output], name="relu")
    return onnx_file(folder / f"relu_{output}.onnx", [node], [("x", FLOAT, ["N", 3])], [(output, FLOAT, ["N", 3])])


def torchscript_file(path: Path, module: nn.Module, *inputs: torch.Tensor) -> Artifact:
    traced: Any = torch.jit.trace(module, inputs, check_trace=False)  # type: ignore[no-untyped-call]
    traced.save(str(path))
    return Artifact("torchscript", path, "digest")


def scripted_file(path: Path, module: nn.Module) -> Artifact:
    scripted: Any = torch.jit.script(module)
    scripted.save(str(path))
    return Artifact("torchscript", path, "digest")


def _info(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(*value)
