"""One small net in every form that ``harness compare`` takes, and ONNX files that differ from it in one thing."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


class Net(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(channels, 4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Three numbers for each image."""
        out: torch.Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return out


NET = f"""
import torch
from torch import nn


{inspect.getsource(Net)}

def needs(channels, width):
    return Net(channels)


def number():
    return 3


three = 3
"""


def write_net(folder: Path) -> None:
    """Write ``net.py``, ``weights.pt``, and the net as legacy and dynamo ONNX, ORT, TorchScript and a program."""
    (folder / "net.py").write_text(NET, encoding="utf-8")
    torch.manual_seed(7)
    net = Net().eval()
    x = torch.randn(2, 3, 8, 8)
    torch.save(net.state_dict(), folder / "weights.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, axes in (("net.onnx", {"x": {0: "N"}, "y": {0: "N"}}), ("fixed.onnx", None)):
            torch.onnx.export(
                net, (x,), folder / name, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes
            )
        torch.jit.save(torch.jit.script(net), folder / "net.jit")
        torch.jit.save(torch.jit.trace(net, (x,)), folder / "traced.pt")  # type: ignore[no-untyped-call]
        torch.export.save(torch.export.export(net, (x,)), folder / "net.pt2")
        torch.onnx.export(net, (x,), folder / "dynamo.onnx", dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "net.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"])


def changed(folder: Path, change: Callable[[onnx.ModelProto], None], to: str, of: str = "fixed.onnx") -> str:
    """``change`` the model of ``of``, save it as ``to`` and return its path."""
    model = onnx.load(str(folder / of))
    change(model)
    onnx.save(model, str(folder / to))
    return str(folder / to)


def with_other_weight(model: onnx.ModelProto) -> None:
    """One value of a weight is 1 % larger."""
    tensor = next(each for each in model.graph.initializer if "conv.weight" in each.name)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[values.argmax()] *= 1.01
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def with_input_named(name: str) -> Callable[[onnx.ModelProto], None]:
    """The input has another name."""

    def change(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = [name if each == "x" else each for each in node.input]
        model.graph.input[0].name = name

    return change


def with_extra_output(model: onnx.ModelProto) -> None:
    """A second output, the first doubled."""
    model.graph.node.append(helper.make_node("Add", ["y", "y"], ["debug"]))
    model.graph.output.append(helper.make_tensor_value_info("debug", TensorProto.FLOAT, None))


def with_converted_input(dtype: int) -> Callable[[onnx.ModelProto], None]:
    """The input has another dtype, and is converted to float32 inside."""

    def change(model: onnx.ModelProto) -> None:
        with_input_named("converted")(model)
        model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["converted"], to=TensorProto.FLOAT))
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", dtype, [2, 3, 8, 8]))

    return change


def with_channels_last(model: onnx.ModelProto) -> None:
    """The input is NHWC, and is transposed inside."""
    with_input_named("transposed")(model)
    model.graph.node.insert(0, helper.make_node("Transpose", ["x"], ["transposed"], perm=[0, 3, 1, 2]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8, 8, 3]))


def two_by_two(
    folder: Path, to: str, inputs: tuple[str, str] = ("a", "b"), outputs: tuple[str, str] = ("s", "d")
) -> str:
    """A model of the sum and the difference of two matrices, with these names; return its path."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in inputs]
    returned = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in outputs]
    operators = {"s": "Add", "d": "Sub", "sum": "Add", "difference": "Sub"}
    nodes = [helper.make_node(operators[name], list(inputs), [name]) for name in outputs]
    graph = helper.make_graph(nodes, "two", values, returned)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / to))
    return str(folder / to)


def sigmoid(folder: Path, to: str, shift: float = 0.0) -> str:
    """A model of ``Sigmoid(x) + shift``; return its path."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in ("x", "y")]
    name = f"shift by {shift}"  # weights of one name would be compared
    added = numpy_helper.from_array(np.array(shift, np.float32), name)
    nodes = [helper.make_node("Sigmoid", ["x"], ["s"]), helper.make_node("Add", ["s", name], ["y"])]
    graph = helper.make_graph(nodes, "sigmoid", values[:1], values[1:], [added])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / to))
    return str(folder / to)
