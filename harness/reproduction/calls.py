"""How each exporter and each runtime is called, as Python source."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.reproduction.literals import literal
from harness.reproduction.models import parts
from harness.spec.case import Case
from harness.spec.target import Target

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
