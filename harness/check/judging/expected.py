"""The spec's ``expect`` as arrays: its tensors filled, and the answers of the models that it compares with."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from harness.check.judging.judge import Expected, for_expressions
from harness.model.build import Subject, build_module, constructor_arguments
from harness.model.running import eager_outputs
from harness.model.tensors import to_numpy
from harness.model.weights import plain_name
from harness.spec.language.case import Case, LayerModel, WeightedModel
from harness.spec.language.inputs.fills import array

Array = NDArray[Any]


def build_expected(case: Case, subject: Subject) -> Expected:
    """The spec's ``expect`` with its tensors filled, and with the answers of its other models."""
    expect = case.expect
    outputs = None
    if expect.outputs is not None:
        outputs = {f"output_{index}": array(spec) for index, spec in enumerate(expect.outputs)}
    return Expected(
        first=case.inputs[0].label if case.inputs else None,
        outputs=outputs,
        shape=expect.shape,
        range=expect.range,
        formula=expect.formula,
        gradient=expect.gradient,
        gradient_range=expect.gradient_range,
        equals=None if expect.equals is None else _answer_of(expect.equals, case, subject),
        differs_from=None if expect.differs_from is None else _answer_of(expect.differs_from, case, subject),
        names=_expression_names(case, subject) if expect.formula or expect.gradient else {},
    )


def _expression_names(case: Case, subject: Subject) -> dict[str, Any]:
    """The layer's arguments, and the parameters and buffers of the module."""
    model = case.model.model
    arguments: dict[str, Any] = constructor_arguments(model) if isinstance(model, LayerModel) else {}
    tensors = {**dict(subject.module.named_parameters()), **dict(subject.module.named_buffers())}
    arrays = {name: for_expressions(to_numpy(tensor.detach())) for name, tensor in tensors.items()}
    arguments = {
        name: for_expressions(to_numpy(value)) if isinstance(value, torch.Tensor) else value
        for name, value in arguments.items()
    }
    return arguments | {plain_name(name): values for name, values in arrays.items()}


def _answer_of(model: WeightedModel, case: Case, subject: Subject) -> dict[str, Array]:
    """Eager torch's answer for another ``model`` on the same inputs."""
    module = build_module(model, case)
    outputs = eager_outputs(module, list(subject.inputs.values()), case.seed)
    return {f"output_{index}": to_numpy(output) for index, output in enumerate(outputs)}
