"""Python source of a script: plain values, the model, and the calls of each exporter and each runtime."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.exporters import as_arguments
from harness.spec.language.case import Case, GraphModel, GraphNode, LayerModel, Model, Operation, SequentialModel
from harness.spec.language.operations import OPERATIONS
from harness.spec.targets import Target

RUNTIMES = ("torch-cpu", "ort-cpu", "reference")
"""The runtimes that a script can call with only torch, onnx and onnxruntime."""

OPTIMIZATION_LEVELS: Mapping[str, str] = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}


# The model


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """``definition`` is a class for the top of the script, empty if none is needed; ``call`` creates the module."""

    definition: str
    call: str


def module_source(model: Model, labels: Sequence[str]) -> ModuleSource:
    """The source of ``model``, whose inputs are named ``labels``.

    Raises ``TypeError`` if the model does not consist of torch's layers.
    """
    match model:
        case LayerModel() if not model.forward:
            return ModuleSource("", _layer_call(model))
        case LayerModel():
            return module_source(GraphModel((GraphNode(model, tuple(labels), ("layer",)),), ("layer",)), labels)
        case SequentialModel(steps):
            sources = [module_source(step, ["x"]) for step in steps]
            if any(source.definition for source in sources):
                return _sequential_source(steps)
            return ModuleSource("", f"nn.Sequential({', '.join(source.call for source in sources)})")
        case GraphModel():
            return ModuleSource(_graph_class(model, labels), "Model()")
    raise TypeError(f"no source for a {type(model).__name__}")


def layers_of(model: Model) -> list[LayerModel]:
    """The layers of ``model`` in order; empty if it does not consist of torch's layers."""
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
    """The name in the script's module of the weight that a spec calls ``name``."""
    return f"layer.{name}" if isinstance(model, LayerModel) and model.forward else name


def _layer_call(model: LayerModel) -> str:
    return f"nn.{model.layer}({keywords(model.args)})"


def _graph_class(graph: GraphModel, labels: Sequence[str]) -> str:
    names = _submodule_names(graph)
    layers = [
        f"        self.{name} = {_layer_call(node.layer)}"
        for name, node in zip(names, graph.nodes, strict=True)
        if not isinstance(node.layer, Operation)
    ]
    calls = [f"        {_node_call(name, node)}" for name, node in zip(names, graph.nodes, strict=True)]
    return "\n".join(
        [
            "class Model(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *layers,
            "",
            f"    def forward(self, {', '.join(labels)}):",
            *calls,
            f"        return {', '.join(graph.returns)}",
        ]
    )


def _node_call(name: str, node: GraphNode) -> str:
    if isinstance(node.layer, Operation):
        tensors = ", ".join(node.inputs)
        tensors = f"[{tensors}]" if OPERATIONS[node.layer.layer].as_list else tensors
        arguments = ", ".join(filter(None, [tensors, keywords(node.layer.args)]))
        return f"{node.outputs[0]} = torch.{node.layer.layer}({arguments})"
    arguments = ", ".join([*node.inputs, *filter(None, [keywords(node.layer.forward)])])
    return f"{', '.join(node.outputs)} = self.{name}({arguments})"


def _submodule_names(graph: GraphModel) -> list[str]:
    """Each layer is named after its first output, because a spec's weights use that name."""
    names: list[str] = []
    for index, node in enumerate(graph.nodes):
        first = node.outputs[0]
        names.append(first if first not in names else f"{first}_{index}")
    return names


def _sequential_source(steps: Sequence[LayerModel]) -> ModuleSource:
    """A class that calls the steps with their arguments of ``forward``; weights are named as in nn.Sequential."""
    layers = [f'        self.add_module("{index}", {_layer_call(step)})' for index, step in enumerate(steps)]
    calls = [
        f'        x = self.get_submodule("{index}")({", ".join(["x", *filter(None, [keywords(step.forward)])])})'
        for index, step in enumerate(steps)
    ]
    lines = ["class Model(nn.Module):", "    def __init__(self):", "        super().__init__()", *layers]
    return ModuleSource("\n".join([*lines, "", "    def forward(self, x):", *calls, "        return x"]), "Model()")


# Export, load and run


def export_statements(case: Case, target: Target, outputs: int | None) -> list[str]:
    """Statements that export ``model`` with ``inputs`` to ``path``; ``outputs`` is their number, None if unknown."""
    inputs = "tuple(tensor.clone() for tensor in inputs)" if _has_in_place_layer(case) else "inputs"
    match target.exporter:
        case "trace":
            options = "".join(f", {name}={value}" for name, value in as_arguments(target.export_options).items())
            return [f"torch.jit.save(torch.jit.trace(model, {inputs}{options}), path)"]
        case "script":
            return ["torch.jit.save(torch.jit.script(model), path)"]
    arguments: dict[str, Any] = {"dynamo": target.exporter == "onnx-dynamo"}
    if target.opset is not None:
        arguments["opset_version"] = target.opset
    arguments["input_names"] = [spec.label for spec in case.inputs]
    if outputs is not None:
        arguments["output_names"] = [f"output_{index}" for index in range(outputs)]
    if case.dynamic and target.exporter == "onnx-torchscript":
        arguments["dynamic_axes"] = {label: dict(axes) for label, axes in case.dynamic.items()}
    elif case.dynamic:
        axes = [dict(case.dynamic[spec.label]) if spec.label in case.dynamic else None for spec in case.inputs]
        arguments["dynamic_shapes"] = tuple(axes)
    if target.exporter == "onnx-dynamo":
        arguments["verbose"] = False
    own_arguments = as_arguments(target.export_options)
    mode = own_arguments.pop("training", None)
    arguments |= own_arguments
    lines = [f"    {name}={_lists_kept(value)}," for name, value in arguments.items()]
    lines += [] if mode is None else [f"    training=torch.onnx.TrainingMode.{mode},"]
    return ["torch.onnx.export(", "    model,", f"    {inputs},", "    path,", *lines, ")"]


def load_statements(target: Target, *, bfloat16: bool) -> list[str]:
    """Statements that define ``run``, a function from a tuple of tensors to a list of arrays.

    With ``bfloat16``, which NumPy lacks, ONNX Runtime's inputs and outputs are converted by the script's own
    ``to_ort_value`` and ``from_ort_value``.
    """
    match target.runtime:
        case "torch-cpu":
            return [
                "loaded = torch.jit.load(path)",
                "run = lambda tensors: list(map(to_numpy, leaves(loaded(*(each.clone() for each in tensors)))))",
            ]
        case "ort-cpu":
            level = OPTIMIZATION_LEVELS[target.options.get("optimization", "all")]
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
                    "output_names = [value.name for value in session.get_outputs()]",
                    "feeds = lambda tensors: dict(zip(names, map(to_ort_value, tensors)))",
                    "run_ort = lambda tensors: session.run_with_ort_values(output_names, feeds(tensors))",
                    "run = lambda tensors: list(map(from_ort_value, run_ort(tensors)))",
                ]
        case _:
            lines = ["session = ReferenceEvaluator(path)", "names = session.input_names"]
    return [*lines, "run = lambda tensors: session.run(None, dict(zip(names, map(to_numpy, tensors))))"]


def _has_in_place_layer(case: Case) -> bool:
    """True if a layer may change the tensors that the exporter runs the model with."""
    return any(layer.args.get("inplace", False) for layer in layers_of(case.model.model))


def _lists_kept(value: Any) -> str:
    """``value`` as an expression; unlike in :func:`literal`, a list of names stays a list, as in torch's examples."""
    return json.dumps(value) if isinstance(value, list) else literal(value)


# Plain values


def literal(value: Any) -> str:
    """``value`` as an expression. A list becomes a tuple, which torch expects, and NaN becomes ``float("nan")``."""
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
    """``arguments`` as the keyword arguments of a call, without the brackets."""
    return ", ".join(f"{name}={literal(value)}" for name, value in arguments.items())
