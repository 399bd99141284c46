"""What a report says of a case besides its id: the model in one line, the inputs, and the number of draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.result import Result
from harness.spec.language.case import (
    Case,
    FactoryModel,
    GraphModel,
    LayerModel,
    RecordedModel,
    SequentialModel,
    StoredModel,
    TensorSpec,
)
from harness.spec.quoting import format_value

MAX_LENGTH = 200


def with_case(result: Result, case: Case) -> Result:
    """``result`` with what a report says of ``case``."""
    inputs = tuple({"label": each.label, "dtype": each.dtype, "shape": list(each.shape)} for each in case.inputs)
    return replace(
        result,
        case_model=describe_model(case),
        about=case.about or None,
        inputs=inputs,
        draws=case.draws,
        count=case.count,
    )


def describe_model(case: Case) -> str:
    """The model and its arguments in one line, such as ``MaxPool2d(kernel_size=3)``; long ones are cut."""
    model = case.model.model
    match model:
        case SequentialModel(steps):
            text = f"Sequential({', '.join(map(_call, steps))})"
        case GraphModel(nodes):
            text = "; ".join(f"{', '.join(node.outputs)} = {_call(node.layer, *node.inputs)}" for node in nodes)
        case LayerModel():
            text = _call(model)
        case FactoryModel(factory, args):
            text = f"{factory}({_arguments(args)})"
        case RecordedModel():
            text = model.in_one_line
        case StoredModel(path):
            text = path
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."


def _call(layer: LayerModel, *inputs: str) -> str:
    called = f"({', '.join(inputs)})" if inputs else ""
    return f"{layer.layer}({_arguments(layer.args)}){called}"


def _arguments(args: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in args.items())


def _value(value: Any) -> str:
    if isinstance(value, TensorSpec):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value) if isinstance(value, str | bool | None) else format_value(value)
