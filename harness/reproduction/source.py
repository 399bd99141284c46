"""Plain values as Python source.

How each exporter and each runtime is called, as Python source.

A model as Python source: what a user would have written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.spec.language.case import Case, GraphModel, GraphNode, LayerModel, Model, SequentialModel
from harness.spec.targets import Target


def literal(value: Any) -> str:
    """``value`` as an expression; lists become tuples, since torch wants them, and NaN is ``float("nan")``."""
    match value:
        case float() if not math.isfinite(value):
            return f'float("{value}")'
        case Mapping():
            return "{" + ", ".join(f"{key!r}: {literal(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            inner = ", ".join(map(literal, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        case _:
            return repr(value)


def keywords(arguments: Mapping[str, Any]) -> str:
    """``arguments`` as they stand between the brackets of a call."""
    return ", ".join(f"{name}={literal(value)}" for name, value in arguments.items())


RUNTIMES = ("torch-cpu", "ort-cpu", "reference")
"""The runtimes that a script can call with nothing but torch, onnx and onnxruntime."""

LEVELS: Mapping[str, str] = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}


def exporting(case: Case, target: Target, outputs: int | None) -> list[str]:
    """Statements that write ``model`` on ``inputs`` to ``path``; ``outputs`` is their number, where it is known."""
    inputs = "tuple(each.clone() for each in inputs)" if _in_place(case) else "inputs"
    match target.exporter:
        case "trace":
            return [f"torch.jit.save(torch.jit.trace(model, {inputs}), path)"]
        case "script":
            return ["torch.jit.save(torch.jit.script(model), path)"]
    given: dict[str, Any] = {"dynamo": target.exporter == "onnx-dynamo"}
    if target.opset is not None:
        given["opset_version"] = target.opset
    given["input_names"] = [spec.label for spec in case.inputs]
    if outputs is not None:
        given["output_names"] = [f"output_{index}" for index in range(outputs)]
    if case.dynamic and target.exporter == "onnx-torchscript":
        given["dynamic_axes"] = {label: dict(axes) for label, axes in case.dynamic.items()}
    elif case.dynamic:
        axes = [dict(case.dynamic[spec.label]) if spec.label in case.dynamic else None for spec in case.inputs]
        given["dynamic_shapes"] = tuple(axes)
    if target.exporter == "onnx-dynamo":
        given["verbose"] = False
    lines = [f"    {name}={_listed(value)}," for name, value in given.items()]
    return ["torch.onnx.export(", "    model,", f"    {inputs},", "    path,", *lines, ")"]


def loading(target: Target, *, bfloat16: bool) -> list[str]:
    """Statements that make ``run``, a function of ``inputs`` that answers with a list of arrays.

    With ``bfloat16``, which NumPy lacks, ONNX Runtime is fed through the script's own ``fed`` and ``fetched``.
    """
    match target.runtime:
        case "torch-cpu":
            return [
                "loaded = torch.jit.load(path)",
                "run = lambda given: [to_numpy(leaf) for leaf in leaves(loaded(*(each.clone() for each in given)))]",
            ]
        case "ort-cpu":
            level = LEVELS[target.options.get("optimization", "all")]
            lines = [
                "options = onnxruntime.SessionOptions()",
                f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}",
                f"options.intra_op_num_threads = {target.options.get('threads', '1')}",
                'session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])',
                "names = [value.name for value in session.get_inputs()]",
            ]
            if bfloat16:
                return [
                    *lines,
                    "outputs = [value.name for value in session.get_outputs()]",
                    "answer_of = lambda given: session.run_with_ort_values(outputs, dict(zip(names, map(fed, given))))",
                    "run = lambda given: list(map(fetched, answer_of(given)))",
                ]
        case _:
            lines = ["session = ReferenceEvaluator(path)", "names = session.input_names"]
    return [*lines, "run = lambda given: session.run(None, dict(zip(names, map(to_numpy, given))))"]


def _in_place(case: Case) -> bool:
    """True where a layer may change the tensors that an exporter is given."""
    return any(part.args.get("inplace", False) for part in parts(case.model.model))


def _listed(value: Any) -> str:
    """Names stand in lists, as everybody writes them."""
    return json.dumps(value) if isinstance(value, list) else literal(value)


@dataclass(frozen=True, slots=True)
class Module:
    """``definition`` is a class for the top of the script, empty where none is needed; ``call`` makes the module."""

    definition: str
    call: str


def module(model: Model, labels: Sequence[str]) -> Module:
    """``model`` for inputs called ``labels``. Raises ``TypeError`` for a model that is not made of torch's layers."""
    match model:
        case LayerModel() if not model.forward:
            return Module("", layer(model))
        case LayerModel():
            return module(GraphModel((GraphNode(model, tuple(labels), ("layer",)),), ("layer",)), labels)
        case SequentialModel(steps):
            inner = [module(step, ["x"]) for step in steps]
            if any(each.definition for each in inner):
                return _sequential(steps)
            return Module("", f"nn.Sequential({', '.join(each.call for each in inner)})")
        case GraphModel():
            return Module(_class(model, labels), "Model()")
    raise TypeError(f"{type(model).__name__} has no source")


def layer(model: LayerModel) -> str:
    """The layer as a call of its class."""
    return f"nn.{model.layer}({keywords(model.args)})"


def parts(model: Model) -> list[LayerModel]:
    """The layers that ``model`` is made of, in order; none where it is not made of torch's layers."""
    match model:
        case LayerModel():
            return [model]
        case SequentialModel(steps):
            return list(steps)
        case GraphModel(nodes):
            return [node.layer for node in nodes]
        case _:
            return []


def weight_name(model: Model, name: str) -> str:
    """What the script's module calls the parameter that a spec calls ``name``."""
    return f"layer.{name}" if isinstance(model, LayerModel) and model.forward else name


def _class(graph: GraphModel, labels: Sequence[str]) -> str:
    names = _names(graph)
    made = [f"        self.{name} = {layer(node.layer)}" for name, node in zip(names, graph.nodes, strict=True)]
    called = [f"        {_call(name, node)}" for name, node in zip(names, graph.nodes, strict=True)]
    return "\n".join(
        [
            "class Model(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *made,
            "",
            f"    def forward(self, {', '.join(labels)}):",
            *called,
            f"        return {', '.join(graph.returns)}",
        ]
    )


def _call(name: str, node: GraphNode) -> str:
    given = ", ".join([*node.inputs, *filter(None, [keywords(node.layer.forward)])])
    return f"{', '.join(node.outputs)} = self.{name}({given})"


def _names(graph: GraphModel) -> list[str]:
    """Each layer is named after its first output, which is how a spec's weights reach it."""
    names: list[str] = []
    for index, node in enumerate(graph.nodes):
        first = node.outputs[0]
        names.append(first if first not in names else f"{first}_{index}")
    return names


def _sequential(steps: Sequence[LayerModel]) -> Module:
    """Steps with arguments of ``forward``, one after another; their weights keep the names of nn.Sequential."""
    numbered = [f'        self.add_module("{index}", {layer(step)})' for index, step in enumerate(steps)]
    called = [
        f'        x = self.get_submodule("{index}")({", ".join(["x", *filter(None, [keywords(step.forward)])])})'
        for index, step in enumerate(steps)
    ]
    lines = ["class Model(nn.Module):", "    def __init__(self):", "        super().__init__()", *numbered]
    return Module("\n".join([*lines, "", "    def forward(self, x):", *called, "        return x"]), "Model()")
